"""The mask bank: every task's mask as packed bits, and the two operations that task inference is made of."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CHUNK_BYTES = 64 * 2**20
"""The memory of the masks that are unpacked at a time."""
WORKING_BYTES = 2**30
"""The most memory that the working copy may take: further masks are unpacked each time that they are needed."""
COLUMNS = 2**24
"""So many products of a byte and a bit add up in 32 bits at most."""


def pack(mask: Tensor) -> Tensor:
    """Booleans [D] as bits: uint8 [ceil(D / 8)] on the CPU, the first boolean in the highest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def unpack(bits: Tensor, size: int) -> Tensor:
    """The inverse of ``pack``: bits uint8 [..., ceil(D / 8)] as 0 and 1 in uint8 [..., D]."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), axis=-1, count=size))


def mask_type(device: torch.device) -> torch.dtype:
    """The type in which products with masks are fastest: int8 where a processor multiplies bytes, else float32."""
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return torch.int8 if able.get("avx512_vnni") or able.get("amx_int8") else torch.float32


def two_bytes(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients [q, D] in 16 bits, as two numbers of 8: int8 [2q, D], first all high bytes, then all low ones; and what 1 is worth, [q, 1].

    A gradient is 256 * high + low in units of a 32,639th of the largest in its row, and so off by at most a 65,278th of that.
    """
    units = torch.empty(len(gradients), 1)
    parts = torch.empty(2, *gradients.shape, dtype=torch.int8)
    scaled = torch.empty(gradients.shape[1])
    whole, high = (torch.empty(gradients.shape[1], dtype=torch.int16) for _ in range(2))
    for row, gradient in enumerate(gradients):  # a row at a time stays in the processor's cache
        units[row] = torch.abs(gradient, out=scaled).amax().clamp(min=torch.finfo(scaled.dtype).tiny) / 32639
        whole.copy_(torch.div(gradient, units[row], out=scaled).round_())
        torch.add(whole, 128, out=high).bitwise_right_shift_(8)
        parts[0, row] = high
        parts[1, row] = whole.sub_(high.bitwise_left_shift_(8))
    return parts.flatten(0, 1), units


class MaskBank:
    """k binary masks of D bits, each with F floats of statistics, and the running sum of the masks.

    Grows by one row a task and copies nothing: rows are never changed in place, so that copies of a bank share them. The sum is exact
    (it counts), and that of the statistics is made when it is needed: a bank computes the same whatever its history.

    Up to ``working_bytes``, masks that were unpacked stay so in a working copy in ``dtype``, of which bits stay the truth. Products with
    it are computed in float32, or, with int8, exactly on gradients of 16 bits: as fast as in bfloat16, in half the memory, and some
    twenty times more precise than that, whose products are rounded to 8 bits.
    """

    def __init__(
        self, size: int, statistics: int, device: torch.device, *, dtype: torch.dtype = torch.float32, working_bytes: int = 0
    ) -> None:
        self.size = size
        self.width = statistics
        self.device = device
        self.dtype = dtype
        self.working_bytes = working_bytes
        self._bits: list[Tensor] = []
        self._statistics: list[Tensor] = []
        self._mask_sum = torch.zeros(size, device=device)
        self._blocks: list[Tensor] = []  # the working copy, [CHUNK_BYTES' worth of rows, D] each
        self._unpacked = 0  # rows of it that are filled
        self._shared: set[int] = set()  # blocks that another bank may hold too

    def __len__(self) -> int:
        return len(self._bits)

    def __deepcopy__(self, memo: dict) -> "MaskBank":
        twin = copy.copy(self)
        twin._bits, twin._statistics, twin._blocks = list(self._bits), list(self._statistics), list(self._blocks)
        twin._mask_sum = self._mask_sum.clone()
        self._shared = set(range(len(self._blocks)))
        twin._shared = set(self._shared)
        return twin

    def append(self, mask: Tensor, statistics: Tensor) -> None:
        """Add a mask (bool [D]) and its statistics (float [F]) as the last row."""
        self._bits.append(pack(mask))
        self._statistics.append(statistics.detach().cpu().clone())
        self._mask_sum += mask

    def replace(self, row: int, mask: Tensor, statistics: Tensor) -> None:
        """Put another mask and statistics in the place of ``row``."""
        self._mask_sum += mask.float() - self.mask(row).float()
        self._bits[row] = pack(mask)
        self._statistics[row] = statistics.detach().cpu().clone()
        if row < self._unpacked:
            block, place = divmod(row, self._rows_of_a_block)
            self._own_block(block)[place] = mask.to(self.dtype)

    def mask(self, row: int) -> Tensor:
        """One mask as booleans [D]."""
        return unpack(self._bits[row], self.size).to(self.device, torch.bool)

    def statistics(self, row: int) -> Tensor:
        """One row of statistics, float [F]."""
        return self._statistics[row].to(self.device)

    def mean(self) -> tuple[Tensor, Tensor]:
        """The superposition of all rows with equal alpha: masks [D] and statistics [F]."""
        return self._mask_sum / len(self), self._all_statistics().mean(0)

    def inner(self, mask_gradients: Tensor, statistics_gradients: Tensor) -> Tensor:
        """Inner products of q gradients with every row: [q, D] and [q, F] give [q, k].

        With the gradients of an objective with respect to the superposed mask and statistics, these are its derivatives with respect
        to every alpha.
        """
        by_masks = self._integer_inner(mask_gradients) if self.dtype == torch.int8 else self._float_inner(mask_gradients)
        return by_masks + statistics_gradients @ self._all_statistics().T

    def _float_inner(self, gradients: Tensor) -> Tensor:
        return torch.cat([gradients @ masks.to(gradients.dtype).T for masks in self._chunks()], dim=1)

    def _integer_inner(self, gradients: Tensor) -> Tensor:
        parts, units = two_bytes(gradients)
        pieces = parts.split(COLUMNS, dim=1)

        def products(chunk: Tensor) -> Tensor:
            each = [torch._int_mm(some, masks.T) for some, masks in zip(pieces, chunk.split(COLUMNS, dim=1), strict=True)]
            return torch.stack(each).sum(0, dtype=torch.float64)

        high, low = torch.cat([products(chunk) for chunk in self._chunks()], dim=1).chunk(2)
        return ((256 * high + low) * units).to(gradients.dtype)

    def superpose(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The superpositions for coefficients [q, k]: masks [q, D] and statistics [q, F]."""
        masks = torch.zeros(len(alpha), self.size, device=self.device)
        first = 0
        for chunk in self._chunks():
            masks.addmm_(alpha[:, first : first + len(chunk)], chunk.float())
            first += len(chunk)
        return masks, alpha @ self._all_statistics()

    def packed(self) -> Tensor:
        """All masks as bits, uint8 [k, ceil(D / 8)]."""
        return torch.stack(self._bits) if self._bits else torch.empty(0, -(-self.size // 8), dtype=torch.uint8)

    def all_statistics(self) -> Tensor:
        """All statistics, float [k, F] on the CPU."""
        return torch.stack(self._statistics) if self._statistics else torch.empty(0, self.width)

    def _all_statistics(self) -> Tensor:
        return self.all_statistics().to(self.device)

    @property
    def _rows_of_a_block(self) -> int:
        return max(1, CHUNK_BYTES // (self.dtype.itemsize * self.size))

    def _chunks(self) -> Iterator[Tensor]:
        """All masks in ``dtype``, [rows, D], a block of rows at a time."""
        rows = self._rows_of_a_block
        kept = self.working_bytes // CHUNK_BYTES
        for number, first in enumerate(range(0, len(self), rows)):
            last = min(first + rows, len(self))
            if number >= kept:
                yield self._unpack(first, last)
                continue
            if self._unpacked < last:
                new = max(first, self._unpacked)
                self._own_block(number)[new - first : last - first] = self._unpack(new, last)
                self._unpacked = last
            yield self._blocks[number][: last - first]

    def _unpack(self, first: int, last: int) -> Tensor:
        return unpack(torch.stack(self._bits[first:last]), self.size).to(self.device).to(self.dtype)

    def _own_block(self, number: int) -> Tensor:
        """A block to write to: a new one, or one of this bank alone."""
        if number == len(self._blocks):
            self._blocks.append(torch.empty(self._rows_of_a_block, self.size, dtype=self.dtype, device=self.device))
        elif number in self._shared:
            self._blocks[number] = self._blocks[number].clone()
            self._shared.remove(number)
        return self._blocks[number]


def restored_bank(empty: MaskBank, bits: Tensor, statistics: Tensor) -> MaskBank:
    """``empty`` filled, so that its ``packed`` and ``all_statistics`` are these."""
    for row, own in zip(bits, statistics, strict=True):
        empty.append(unpack(row, empty.size).to(empty.device, torch.bool), own.to(empty.device))
    return empty
