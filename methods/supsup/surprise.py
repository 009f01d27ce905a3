"""Learning without a given task, by surprise: a batch with an unusual loss belongs to another mask. This rule is not in the paper.

In training there are labels, so the loss of a batch before it is learned says whether the mask in training knows it. The step is done in
two halves, the loss with its gradients and the update, so that a batch is seen first and learned only if it fits: nothing has to be
undone, and it costs nothing more. If the loss is surprising, One-Shot by H names a few other masks, and the one with the lowest loss is
trained again if it knows the batch. If none does, the batch is not learned: it may be of two tasks. If the next batch fits no mask
either, a new mask begins.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Literal

import torch
from torch import Tensor

from .allocation import Choices
from .bank import MaskBank
from .inference import alpha_gradient
from .layout import Base
from .training import MaskTraining

SPAN = 20
"""The number of batches over which a mask's usual loss is averaged, and which a new mask learns before anything surprises it."""
DEVIATIONS = 6.0
"""A loss is surprising only if it is this many standard deviations above the usual one: chance must not stop learning."""
SHARE = 0.25
"""And only if it is as high as if at least this share of the images were guessed: a lower loss is not worth another mask."""
SHORTLIST = 5
"""The number of other masks whose losses are compared: One-Shot by itself may err, and each loss takes a forward pass."""

WhenFull = Literal["refuse", "reuse"]
"""What is done with a new task if there are no more masks: it is not learned, or the mask with the lowest loss learns it too."""


@dataclass(frozen=True)
class Usual:
    """The losses of the batches that a mask learned: how many, their running mean and variance, mostly of the last ``SPAN``.

    The variance is twice the mean square of what is above the mean before: the fall of a new mask's loss does not count as scatter.
    ``lowest``: the lowest mean since the first ``SPAN`` batches. What is usual can only fall: if another task comes bit by bit, no batch is
    far above the mean, and a limit that rose with the mean would let the mask forget its task.
    """

    batches: int = 0
    mean: float = 0.0
    variance: float = 0.0
    lowest: float = math.inf

    def after(self, loss: float) -> "Usual":
        """The same after one more batch. Up to ``SPAN`` batches all count equally."""
        batches, rise = self.batches + 1, max(0.0, loss - self.mean) if self.batches else 0.0
        rate = 1 / min(batches, SPAN)
        mean = self.mean + rate * (loss - self.mean)
        lowest = min(self.lowest, mean) if batches >= SPAN else math.inf
        return Usual(batches, mean, self.variance + rate * (2 * rise**2 - self.variance), lowest)

    def limit(self, guessing: float) -> float:
        """The highest loss that is not surprising; ``guessing`` is the loss of a guess. A new mask's first losses say nothing yet."""
        return self.lowest + max(DEVIATIONS * math.sqrt(self.variance), SHARE * guessing)

    def known(self, guessing: float) -> float:
        """The highest loss of a batch that a mask out of training knows: not surprising, and clearly below that of a guess."""
        return min(self.limit(guessing), (1 - SHARE) * guessing)


def shortlist(base: Base, bank: MaskBank, training: int | None, inputs: Tensor, classes: int) -> list[int]:
    """The rows of at most ``SHORTLIST`` masks other than the one in training: those that One-Shot by H on the whole batch likes best."""
    others = [row for row in range(len(bank)) if row != training]
    if len(others) <= SHORTLIST:
        return others
    slopes = alpha_gradient(base, bank, inputs[None], ["H"], classes, None)[0, 0]
    return [row for row in slopes.argsort().tolist() if row != training][:SHORTLIST]


def other_losses(
    masks: MaskTraining, bank: MaskBank, training: int | None, batch: tuple[Tensor, Tensor], classes: int
) -> dict[int, float]:
    """The losses of a batch (inputs, labels) under the masks of the shortlist, by row."""
    rows = shortlist(masks.base, bank, training, batch[0], classes)
    return {row: masks.loss_of(bank.mask(row), bank.statistics(row), *batch) for row in rows}


class Surprise(Choices):
    """The usual losses of every mask, and the rule.

    ``usual``: those of each mask by row. ``unknown``: the number of batches in a row, up to the last one, that no mask knew.
    """

    def __init__(self, classes: int, budget: int, when_full: WhenFull) -> None:
        super().__init__()
        self.guessing = math.log(max(2, classes))
        self.budget = budget
        self.when_full = when_full
        self.usual: list[Usual] = []
        self.unknown = 0

    def surprising(self, loss: float) -> bool:
        """Whether the mask in training does not know a batch of that loss."""
        return self.training is None or not loss <= self.usual[self.training].limit(self.guessing)

    def learned(self, loss: float) -> None:
        """The mask in training learned a batch that had that loss."""
        assert self.training is not None
        self.usual[self.training] = self.usual[self.training].after(loss)
        self.unknown = 0

    def decide(self, loss: float, others: Mapping[int, float]) -> bool:
        """Choose ``training`` because of a surprising batch, and whether it learns this batch.

        ``others``: the losses of the batch under the masks of the shortlist, by row.

        A mask that is trained again begins with the next batch: this one may still contain images of the task before, and they, not its
        own images, would have a gradient.
        """
        before, allocated = self.training, len(self.usual)
        best = min(others, key=lambda row: others[row], default=None)
        limit = math.nan if before is None else self.usual[before].limit(self.guessing)
        self.unknown += 1
        if best is not None and others[best] <= self.usual[best].known(self.guessing):
            decision, self.training, self.unknown = "again", best, 0
        elif self.unknown == 1 and before is not None:
            decision = "skipped"
        elif allocated < self.budget:
            decision, self.training = "new", allocated
            self.usual.append(Usual())
        elif self.when_full == "reuse":
            decision, self.training = "reused", best if best is not None and others[best] < loss else before
            assert self.training is not None
            self.usual[self.training] = Usual()
        else:
            decision = "refused"
        trained = decision in ("new", "reused")
        self.rows.append(
            {
                "first_batch": self.step,
                "loss": loss,
                "limit": limit,
                "candidates": len(others),
                "winner": best,
                "lowest": math.nan if best is None else others[best],
                "decision": decision,
                "allocated": decision == "new",
                "trained": trained,
                "mask": self.training,
            }
        )
        return trained

    def progress(self) -> dict[str, Tensor]:
        usual = torch.tensor([astuple(each) for each in self.usual], dtype=torch.float64).view(-1, 4)
        return super().progress() | {"usual": usual, "unknown": torch.tensor(self.unknown)}

    def restore(self, progress: dict[str, Tensor]) -> None:
        super().restore(progress)
        self.usual = [Usual(int(batches), *losses) for batches, *losses in progress["usual"].tolist()]
        self.unknown = int(progress["unknown"])
