"""Masks as few bytes: of packed bits and coded gaps, whichever is shorter for a layer. Nothing is lost.

A mask that keeps a share p of n weights needs at least n * H(p) bits. Packed bits take n. Where few are kept, the gaps between them are
coded as by Rice (1979): a gap g is g // 2^r zeros and a one, and the r low bits of g. The ones and zeros of all gaps lie before the low
bits of all, so that both are read and written at once. That takes some 2 % more than n * H(p), where the 16-bit indices of a compressed
sparse column take two to three times as much.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]
Bits = NDArray[np.bool_]
COUNTS = np.dtype("<u4")
"""Of weights kept, and of the bytes that the zeros and ones take."""
PACKED = 255
"""In the place of r: the mask is packed bits."""


def encode(mask: Bits) -> Bytes:
    """A mask [n] as bytes: r (or ``PACKED``), and what follows from it."""
    packed = np.packbits(mask)
    kept = np.flatnonzero(mask)
    gaps = np.diff(kept, prepend=-1) - 1
    bits, low = min((int((gaps >> r).sum()) + len(gaps) * (1 + r), r) for r in range(32))
    if bits // 8 + 10 >= len(packed):
        return np.concatenate([np.array([PACKED], np.uint8), packed])
    ends = np.cumsum((gaps >> low) + 1) - 1
    unary = np.zeros(ends[-1] + 1 if len(ends) else 0, bool)
    unary[ends] = True
    high = np.packbits(unary)
    counts = np.array([len(gaps), len(high)], COUNTS).view(np.uint8)
    return np.concatenate([np.array([low], np.uint8), counts, high, np.packbits((gaps[:, None] >> np.arange(low)) & 1)])


def decode(code: Bytes, size: int) -> Bits:
    """The mask [size] of which ``code`` is the beginning."""
    if code[0] == PACKED:
        return np.unpackbits(code[1:], count=size).astype(bool)
    low, (kept, length) = int(code[0]), code[1:9].view(COUNTS)
    ends = np.flatnonzero(np.unpackbits(code[9 : 9 + length]))[:kept]
    bits = np.unpackbits(code[9 + length :], count=int(kept) * low).reshape(kept, low)
    gaps = ((np.diff(ends, prepend=-1) - 1) << low) + bits @ (1 << np.arange(low, dtype=np.int64))
    mask = np.zeros(size, bool)
    mask[np.cumsum(gaps + 1) - 1] = True
    return mask


def encoded(mask: Tensor, sizes: Sequence[int]) -> Bytes:
    """A flat mask [sum of sizes], layer by layer, each after the number of its bytes."""
    codes = [encode(part) for part in np.split(mask.cpu().numpy().astype(bool), np.cumsum(sizes)[:-1])]
    lengths = np.array([len(code) for code in codes], COUNTS).view(np.uint8)
    return np.concatenate([lengths, *codes])


def decoded(code: Bytes, sizes: Sequence[int]) -> Tensor:
    """The inverse of ``encoded``: booleans [sum of sizes]."""
    head = len(sizes) * COUNTS.itemsize
    lengths = code[:head].view(COUNTS)
    parts = np.split(code[head:], np.cumsum(lengths)[:-1])
    return torch.from_numpy(np.concatenate([decode(part, size) for part, size in zip(parts, sizes, strict=True)]))


def joined(codes: Iterable[Bytes]) -> dict[str, Tensor]:
    """Codes end to end, uint8, and where each ends, int64 [k]: as they are stored."""
    each = list(codes)
    ends = np.cumsum([len(code) for code in each], dtype=np.int64)
    return {"codes": torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *each])), "ends": torch.from_numpy(ends)}


def parted(stored: dict[str, Tensor]) -> Iterator[Bytes]:
    """The inverse of ``joined``."""
    first = 0
    for last in stored["ends"].tolist():
        yield stored["codes"][first:last].numpy().copy()
        first = last
