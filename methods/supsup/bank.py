"""The mask bank: every task's mask as packed bits, and the two operations that task inference is made of."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CHUNK_BYTES = 256 * 2**20
"""The most memory that unpacked masks take at a time."""


def pack(mask: Tensor) -> Tensor:
    """Booleans [D] as bits: uint8 [ceil(D / 8)] on the CPU, the first boolean in the highest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def unpack(bits: Tensor, size: int) -> Tensor:
    """The inverse of ``pack``: bits uint8 [..., ceil(D / 8)] as 0 and 1 in uint8 [..., D]."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), axis=-1, count=size))


class MaskBank:
    """k binary masks of D bits, each with F floats of statistics, and the running sum of the masks.

    Grows by one row a task and copies nothing: rows are never changed in place, so that copies of a bank share them. The sum is exact
    (it counts), and that of the statistics is made when it is needed: a bank computes the same whatever its history.
    """

    def __init__(self, size: int, statistics: int, device: torch.device) -> None:
        self.size = size
        self.width = statistics
        self.device = device
        self._bits: list[Tensor] = []
        self._statistics: list[Tensor] = []
        self._mask_sum = torch.zeros(size, device=device)

    def __len__(self) -> int:
        return len(self._bits)

    def __deepcopy__(self, memo: dict) -> "MaskBank":
        twin = MaskBank(self.size, self.width, self.device)
        twin._bits, twin._statistics = list(self._bits), list(self._statistics)
        twin._mask_sum = self._mask_sum.clone()
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
        parts = [mask_gradients @ masks.T for masks in self._chunks()]
        return torch.cat(parts, dim=1) + statistics_gradients @ self._all_statistics().T

    def superpose(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The superpositions for coefficients [q, k]: masks [q, D] and statistics [q, F]."""
        masks = torch.zeros(len(alpha), self.size, device=self.device)
        first = 0
        for chunk in self._chunks():
            masks.addmm_(alpha[:, first : first + len(chunk)], chunk)
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

    def _chunks(self) -> Iterator[Tensor]:
        """All masks as floats [rows, D], as many rows at a time as ``CHUNK_BYTES`` holds."""
        rows = max(1, CHUNK_BYTES // (4 * self.size))
        for first in range(0, len(self), rows):
            bits = torch.stack(self._bits[first : first + rows])
            yield unpack(bits, self.size).to(self.device, torch.float32)


def restored_bank(bits: Tensor, statistics: Tensor, size: int, device: torch.device) -> MaskBank:
    """The bank whose ``packed`` and ``all_statistics`` these are."""
    bank = MaskBank(size, statistics.shape[1], device)
    for row, own in zip(bits, statistics, strict=True):
        bank.append(unpack(row, size).to(device, torch.bool), own.to(device))
    return bank
