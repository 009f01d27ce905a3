"""Learning without a given task: when to allocate a new mask (section 3.4)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .bank import MaskBank
from .inference import superposed_gradient
from .layout import Base


@dataclass(frozen=True)
class Doubt:
    """The outcome of one check: the winner of k candidates (the last is the untrained spare), and k * max(nu)."""

    candidates: int
    winner: int
    statistic: float


def uncertainty(base: Base, bank: MaskBank, spare: Tensor, inputs: Tensor, classes: int) -> Doubt:
    """One-Shot by H on a whole training batch [b, *input_shape] over the bank's masks and an untrained ``spare`` (bool [D]).

    nu = softmax(-dH/dalpha) at alpha = 1/k, k counting the spare. Without a spare, the paper's rule would allocate at every check
    while there is one mask, because k * max(nu) is then always 1.
    """
    count = len(bank) + 1
    if count == 1:
        return Doubt(candidates=1, winner=0, statistic=1.0)
    masks, statistics = bank.mean()
    masks = (masks * len(bank) + spare) / count
    statistics = (statistics * len(bank) + base.fresh) / count
    by_masks, by_buffers = superposed_gradient(base, masks, statistics, inputs[None], ["H"], classes)
    (by_mask,), (by_statistics,) = by_masks, by_buffers
    of_spare = by_mask @ spare.float()[:, None] + by_statistics @ base.fresh[:, None]
    slope = torch.cat([bank.inner(by_mask, by_statistics), of_spare], dim=1)[0]
    nu = (-slope).softmax(0)
    winner = int(nu.argmax())
    return Doubt(count, winner, float(count * nu[winner]))


class Choices:
    """What every rule that chooses masks keeps: ``step`` counts batches, ``training`` is the row of the mask in training or None."""

    def __init__(self) -> None:
        self.step = 0
        self.training: int | None = None
        self.rows: list[dict[str, Any]] = []

    def take_rows(self) -> list[dict[str, Any]]:
        """The choices since the last call."""
        rows, self.rows = self.rows, []
        return rows

    def progress(self) -> dict[str, Tensor]:
        """The state of the rule as tensors; -1 if no mask is in training."""
        return {
            "step": torch.tensor(self.step),
            "training": torch.tensor(-1 if self.training is None else self.training),
        }

    def restore(self, progress: dict[str, Tensor]) -> None:
        """Restore the state from ``progress()``."""
        self.step = int(progress["step"])
        self.training = int(progress["training"]) if int(progress["training"]) >= 0 else None


class Allocation(Choices):
    """The paper's rule: every ``interval`` batches, the mask for the next ones is chosen.

    No mask is in training while a new task is not learned, because the mask budget is used up.
    """

    def __init__(self, interval: int, offset: int, epsilon: float, budget: int) -> None:
        super().__init__()
        self.interval = interval
        self.offset = offset
        self.epsilon = epsilon
        self.budget = budget

    def due(self) -> bool:
        """Whether to choose a mask before the present batch: before the first one, and if ``step`` mod interval is the offset."""
        return self.step == 0 or self.step % self.interval == self.offset

    def decide(self, doubt: Doubt, allocated: int) -> int | None:
        """The row to train next: an earlier one, ``allocated`` for a new one, or None if a new one is needed but the budget is used up."""
        new = doubt.winner == allocated or doubt.statistic < 1 + self.epsilon
        self.training = doubt.winner if not new else allocated if allocated < self.budget else None
        self.rows.append(
            {
                "first_batch": self.step,
                "next_choice": self.step + 1 + (self.offset - self.step - 1) % self.interval,
                "candidates": doubt.candidates,
                "statistic": doubt.statistic,
                "winner": doubt.winner,
                "spare_won": doubt.winner == allocated,
                "allocated": new and self.training is not None,
                "mask": self.training,
            }
        )
        return self.training
