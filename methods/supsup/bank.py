"""The mask bank: every task's mask as packed bits, and the two operations that task inference consists of."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .._bits import pack, unpack

CHUNK_BYTES = 64 * 2**20
"""The memory for the masks unpacked at a time, a byte for each bit."""
WORKING_BYTES = 2**30
"""The most memory for the working copy: further masks are unpacked each time they are needed."""
FLOAT_ROWS = 32
"""The number of masks converted to floating point at a time."""
COLUMNS = 2**24
"""The most products of a byte and a bit whose sum fits in 32 bits."""


def multiplies_bytes(device: torch.device) -> bool:
    """Whether products of bytes are the fastest on ``device``: a processor with instructions for them."""
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(able.get("avx512_vnni") or able.get("amx_int8"))


def two_bytes(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients [q, D] in 16 bits, as two bytes: int8 [2q, D], first all high bytes, then all low ones; and the unit of each row, [q, 1].

    A gradient is 256 * high + low in units of a 32,639th of the largest in its row; its error is at most a 65,278th of the largest.
    """
    units = torch.empty(len(gradients), 1)
    both_bytes = torch.empty(2, *gradients.shape, dtype=torch.int8)
    scaled = torch.empty(gradients.shape[1])
    whole, high = (torch.empty(gradients.shape[1], dtype=torch.int16) for _ in range(2))
    for row, gradient in enumerate(gradients):  # a row at a time stays in the processor's cache
        units[row] = torch.abs(gradient, out=scaled).amax().clamp(min=torch.finfo(scaled.dtype).tiny) / 32639
        whole.copy_(torch.div(gradient, units[row], out=scaled).round_())
        torch.add(whole, 128, out=high).bitwise_right_shift_(8)
        both_bytes[0, row] = high
        both_bytes[1, row] = whole.sub_(high.bitwise_left_shift_(8))
    return both_bytes.flatten(0, 1), units


class RowBlocks:
    """Rows of equal length in a few large blocks of memory instead of many small ones. Copies share blocks until one writes."""

    def __init__(self, length: int, rows_per_block: int, device: torch.device, dtype: torch.dtype = torch.uint8) -> None:
        self.length = length
        self.rows_per_block = rows_per_block
        self.device = device
        self.dtype = dtype
        self.filled = 0
        self.blocks: list[Tensor] = []  # [rows_per_block, length]
        self._shared: set[int] = set()  # blocks that another copy may hold too

    def __len__(self) -> int:
        return self.filled

    def __getitem__(self, row: int) -> Tensor:
        return self.blocks[row // self.rows_per_block][row % self.rows_per_block]

    def __deepcopy__(self, memo: dict[int, Any]) -> "RowBlocks":
        twin = copy.copy(self)
        twin.blocks = list(self.blocks)
        self._shared = set(range(len(self.blocks)))
        twin._shared = set(self._shared)
        return twin

    def write(self, first: int, rows: Tensor) -> None:
        """Write ``rows`` [n, length] from row ``first`` on, over earlier rows or after the last. They must lie in one block."""
        number, place = divmod(first, self.rows_per_block)
        if number == len(self.blocks):
            self.blocks.append(torch.empty(self.rows_per_block, self.length, dtype=self.dtype, device=self.device))
        elif number in self._shared:
            self.blocks[number] = self.blocks[number].clone()
            self._shared.remove(number)
        self.blocks[number][place : place + len(rows)] = rows
        self.filled = max(self.filled, first + len(rows))

    def block(self, number: int) -> Tensor:
        """The filled rows of a block."""
        return self.blocks[number][: self.filled - number * self.rows_per_block]

    def all(self) -> Tensor:
        """All rows, in new memory."""
        return torch.cat([self.block(number) for number in range(len(self.blocks))]) if self.blocks else self._none()

    def _none(self) -> Tensor:
        return torch.empty(0, self.length, dtype=self.dtype, device=self.device)


class MaskBank:
    """k binary masks of D bits, each with F floats of statistics, and the running sum of the masks.

    It grows by one row a task and copies nothing: copies of a bank share what neither changes. The sum of the masks is exact (it counts),
    and the sum of the statistics is computed when it is needed, so a bank gives the same results whatever its history.

    Up to ``working_bytes``, unpacked masks stay in a working copy with a byte for each bit; the bits remain the reference. Products with it
    are computed in float32 or, with ``integers``, exactly on gradients of 16 bits: as fast as in bfloat16, in half the memory, and some
    twenty times more precise than bfloat16, which rounds products to 8 bits.
    """

    def __init__(self, size: int, statistics: int, device: torch.device, *, integers: bool = False, working_bytes: int = 0) -> None:
        self.size = size
        self.width = statistics
        self.device = device
        self.integers = integers
        rows = max(1, CHUNK_BYTES // size)
        self._kept_blocks = working_bytes // (rows * size)
        self._bits = RowBlocks(-(-size // 8), rows, torch.device("cpu"))
        self._working = RowBlocks(size, rows, device)
        self._statistics = RowBlocks(statistics, rows, torch.device("cpu"), torch.float32)
        self._mask_sum = torch.zeros(size, device=device)

    def __len__(self) -> int:
        return len(self._bits)

    def __deepcopy__(self, memo: dict[int, Any]) -> "MaskBank":
        twin = copy.copy(self)
        twin._bits, twin._working = copy.deepcopy(self._bits), copy.deepcopy(self._working)
        twin._statistics = copy.deepcopy(self._statistics)
        twin._mask_sum = self._mask_sum.clone()
        return twin

    def append(self, mask: Tensor, statistics: Tensor) -> None:
        """Add a mask (bool [D]) and its statistics (float [F]) as the last row."""
        row = len(self)
        self._bits.write(row, pack(mask)[None])
        self._statistics.write(row, statistics.detach()[None])
        self._mask_sum += mask

    def replace(self, row: int, mask: Tensor, statistics: Tensor) -> None:
        """Replace the mask and the statistics of ``row``."""
        self._mask_sum += mask.float() - self.mask(row).float()
        self._bits.write(row, pack(mask)[None])
        self._statistics.write(row, statistics.detach()[None])
        if row < len(self._working):
            self._working.write(row, mask[None])

    def mask(self, row: int) -> Tensor:
        """One mask as booleans [D]."""
        return unpack(self._bits[row], self.size).to(self.device, torch.bool)

    def statistics(self, row: int) -> Tensor:
        """One row of statistics, float [F]."""
        return self._statistics[row].to(self.device, copy=True)

    def mean(self) -> tuple[Tensor, Tensor]:
        """The superposition of all rows with equal alpha: masks [D] and statistics [F]."""
        return self._mask_sum / len(self), self._all_statistics().mean(0)

    def inner(self, mask_gradients: Tensor, statistics_gradients: Tensor) -> Tensor:
        """Inner products of q gradients with every row: [q, D] and [q, F] give [q, k].

        With the gradients of an objective with respect to the superposed mask and statistics, these are its derivatives with respect
        to every alpha.
        """
        by_masks = self._integer_inner(mask_gradients) if self.integers else self._float_inner(mask_gradients)
        return by_masks + statistics_gradients @ self._all_statistics().T

    def _float_inner(self, gradients: Tensor) -> Tensor:
        return torch.cat([gradients @ masks.float().T for masks in self._few_at_a_time()], dim=1)

    def _integer_inner(self, gradients: Tensor) -> Tensor:
        both_bytes, units = two_bytes(gradients)
        gradient_columns = both_bytes.split(COLUMNS, dim=1)

        def products(chunk: Tensor) -> Tensor:
            mask_columns = chunk.view(torch.int8).split(COLUMNS, dim=1)
            sums = [torch._int_mm(columns, masks.T) for columns, masks in zip(gradient_columns, mask_columns, strict=True)]
            return torch.stack(sums).sum(0, dtype=torch.float64)

        high, low = torch.cat([products(chunk) for chunk in self._chunks()], dim=1).chunk(2)
        return ((256 * high + low) * units).to(gradients.dtype)

    def superpose(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The superpositions for coefficients [q, k]: masks [q, D] and statistics [q, F]."""
        masks = torch.zeros(len(alpha), self.size, device=self.device)
        first = 0
        for few in self._few_at_a_time():
            masks.addmm_(alpha[:, first : first + len(few)], few.float())
            first += len(few)
        return masks, alpha @ self._all_statistics()

    def packed(self) -> Tensor:
        """All masks as bits, uint8 [k, ceil(D / 8)]."""
        return self._bits.all()

    def all_statistics(self) -> Tensor:
        """All statistics, float [k, F] on the CPU."""
        return self._statistics.all()

    def _all_statistics(self) -> Tensor:
        return self.all_statistics().to(self.device)

    def _chunks(self) -> Iterator[Tensor]:
        """All masks, uint8 [rows, D], a block of rows at a time."""
        rows = self._bits.rows_per_block
        for number, first in enumerate(range(0, len(self), rows)):
            last = min(first + rows, len(self))
            if number >= self._kept_blocks:
                yield self._unpack(first, last)
                continue
            if len(self._working) < last:
                new = max(first, len(self._working))
                self._working.write(new, self._unpack(new, last))
            yield self._working.block(number)

    def _few_at_a_time(self) -> Iterator[Tensor]:
        for chunk in self._chunks():
            yield from chunk.split(FLOAT_ROWS)

    def _unpack(self, first: int, last: int) -> Tensor:
        rows = self._bits.block(first // self._bits.rows_per_block)[first % self._bits.rows_per_block :]
        return unpack(rows[: last - first], self.size).to(self.device)


def restored_bank(empty: MaskBank, masks: Iterable[Tensor], statistics: Tensor) -> MaskBank:
    """``empty`` filled with masks (bool [D]) and their statistics [k, F]."""
    for mask, row in zip(masks, statistics, strict=True):
        empty.append(mask.to(empty.device, torch.bool), row.to(empty.device))
    return empty
