"""Masks in few bytes: packed bits or coded gaps, whichever is shorter for a layer, without loss.

A mask that selects a share p of n weights needs at least n * H(p) bits. Packed bits take n. If few weights are selected, the gaps between
them are coded as by Rice (1979): a gap g is written as g // 2^r zeros and a one, and the r low bits of g. The ones and zeros of all gaps
come before the low bits of all gaps, so that each half is read and written at once. This takes some 2 % more than n * H(p), while the
16-bit indices of a compressed sparse column take two to three times as much.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]
Bits = NDArray[np.bool_]
COUNTS = np.dtype("<u4")
"""The type of the counts: of selected weights, and of the bytes of the zeros and ones."""
PACKED = 255
"""Instead of r: the mask is stored as packed bits."""


def encode(mask: Bits) -> Bytes:
    """A mask [n] as bytes: r (or ``PACKED``), then the code."""
    packed = np.packbits(mask)
    gaps = np.diff(np.flatnonzero(mask), prepend=-1) - 1
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
    """The mask [size] at the beginning of ``code``."""
    if code[0] == PACKED:
        return np.unpackbits(code[1:], count=size).astype(bool)
    low, (count, length) = int(code[0]), code[1:9].view(COUNTS)
    ends = np.flatnonzero(np.unpackbits(code[9 : 9 + length]))[:count]
    bits = np.unpackbits(code[9 + length :], count=int(count) * low).reshape(count, low)
    gaps = ((np.diff(ends, prepend=-1) - 1) << low) + bits @ (1 << np.arange(low, dtype=np.int64))
    mask = np.zeros(size, bool)
    mask[np.cumsum(gaps + 1) - 1] = True
    return mask


def encoded(mask: Tensor, sizes: Sequence[int]) -> Bytes:
    """A flat mask [sum of sizes] as bytes: the length of each layer's code, then the codes."""
    codes = [encode(layer) for layer in np.split(mask.cpu().numpy().astype(bool), np.cumsum(sizes)[:-1])]
    lengths = np.array([len(code) for code in codes], COUNTS).view(np.uint8)
    return np.concatenate([lengths, *codes])


def decoded(code: Bytes, sizes: Sequence[int]) -> Tensor:
    """The inverse of ``encoded``: booleans [sum of sizes]."""
    head = len(sizes) * COUNTS.itemsize
    lengths = code[:head].view(COUNTS)
    layers = np.split(code[head:], np.cumsum(lengths)[:-1])
    return torch.from_numpy(np.concatenate([decode(layer, size) for layer, size in zip(layers, sizes, strict=True)]))


def joined(codes: Iterable[Bytes]) -> dict[str, Tensor]:
    """The stored form of codes: all of them end to end, uint8, and where each ends, int64 [k]."""
    all_codes = list(codes)
    ends = np.cumsum([len(code) for code in all_codes], dtype=np.int64)
    return {"codes": torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *all_codes])), "ends": torch.from_numpy(ends)}


def parted(stored: dict[str, Tensor]) -> Iterator[Bytes]:
    """The inverse of ``joined``."""
    first = 0
    for last in stored["ends"].tolist():
        yield stored["codes"][first:last].numpy().copy()
        first = last
