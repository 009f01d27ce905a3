"""Training that diverges: how it is detected, and the error that says so.

Losses are checked ``CHECKED`` batches at a time, because reading them waits for a GPU. Training diverges if

- a loss is not finite;
- the mean loss of those batches is above ``LIMIT`` times that of guessing, log(classes);
- learned tensors are not finite at the end of a task, whatever the losses were.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.errors import UserError

CHECKED = 100
"""Number of batches whose losses are checked together."""

LIMIT = 1e6
"""A loss this many times that of guessing counts as divergence: in float32, with seven digits, a sum of the two would lose the smaller one.

The limit is well above published penalties at the beginning of a task. Online EWC on split-mnist-raw in GNu, with strength 1e9, reaches
6e3 times the loss of guessing on the mean of 100 batches, and 9e4 times in a single batch.
"""


@dataclass(frozen=True)
class Divergence:
    """Where training diverged: the task and the batch, both counted from 0, and the reason."""

    task: int
    batch: int
    reason: str

    @property
    def sentence(self) -> str:
        """The same as a sentence, counted from 1."""
        return f"The training diverged in task {self.task + 1} at batch {self.batch + 1}: {self.reason}."


class Diverged(UserError):
    """Training was stopped because it diverged."""

    def __init__(self, divergence: Divergence, kept: str = "") -> None:
        """``kept``: a sentence that says what is left of the run."""
        remedy = "Use a smaller rate or strength, or continue and mark the rows with --on-divergence mark."
        super().__init__(" ".join(filter(None, [divergence.sentence, kept, remedy])))
        self.divergence = divergence


class Losses:
    """The losses of ``tasks`` that are taught together, batch by batch. ``divergences`` holds the first one of each task.

    With ``stop`` it raises ``Diverged`` at the first of them.
    """

    def __init__(self, tasks: Sequence[int], classes: int, *, stop: bool) -> None:
        self.tasks = tasks
        self.limit = LIMIT * math.log(max(2, classes))
        self.stop = stop
        self.divergences: dict[int, Divergence] = {}
        self.batches = 0
        self._unchecked: list[tuple[int, Tensor]] = []  # the number of the batch, and its losses
        self._checked: list[Tensor] = []

    def add(self, loss: Tensor | None) -> None:
        """The loss of the next batch, [tasks] or a scalar of one task; None if it is not known."""
        if loss is not None:
            self._unchecked.append((self.batches, loss.view(len(self.tasks))))
        self.batches += 1
        if self.batches % CHECKED == 0:
            self.check()

    def check(self) -> None:
        """Check the losses that were added since the last check."""
        if not self._unchecked:
            return
        batches = [batch for batch, _ in self._unchecked]
        losses = torch.stack([loss for _, loss in self._unchecked]).detach().float().cpu()
        self._unchecked = []
        self._checked.append(losses)
        divergences = []
        for task, column in zip(self.tasks, losses.T, strict=True):
            if (first := self._first_divergent(column)) is not None:
                divergences.append(Divergence(task, batches[first[0]], first[1]))
        for divergence in sorted(divergences, key=lambda each: each.batch):
            self._report(divergence)

    def check_learned(self, learned: Mapping[str, Tensor], task: int) -> None:
        """Check the tensors that were learned by the end of ``task``."""
        for name, tensor in learned.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                self._report(Divergence(task, self.batches - 1, f"the learned tensor {name} is not finite"))
                return

    def means(self, task: int, parts: int) -> tuple[float, ...]:
        """The mean losses of one task in ``parts`` equal parts of its batches."""
        if not self._checked:
            return ()
        losses = torch.cat(self._checked)[:, self.tasks.index(task)].contiguous()
        return tuple(float(part.mean()) for part in losses.chunk(parts))

    def state(self) -> dict[str, Tensor]:
        """All losses so far, to resume: those that were checked, [batches, tasks], and the others with the numbers of their batches."""
        numbers = torch.tensor([batch for batch, _ in self._unchecked], dtype=torch.int64)
        unchecked = [loss.detach().float().cpu()[None] for _, loss in self._unchecked]
        empty = torch.empty(0, len(self.tasks))
        return {"checked": torch.cat([empty, *self._checked]), "unchecked": torch.cat([empty, *unchecked]), "numbers": numbers}

    def restore(self, batches: int, state: Mapping[str, Tensor], divergences: Sequence[Divergence]) -> None:
        """Restore what was added in so many ``batches``, from ``state()``, and the divergences so far."""
        self.batches = batches
        self.divergences = {divergence.task: divergence for divergence in divergences}
        self._checked = [state["checked"]] if len(state["checked"]) else []
        self._unchecked = list(zip(state["numbers"].tolist(), state["unchecked"], strict=True))

    def _first_divergent(self, losses: Tensor) -> tuple[int, str] | None:
        """The index of the first loss of one task that shows divergence, and the reason. None if there is none."""
        finite = losses.isfinite()
        if not finite.all():
            first = int(finite.int().argmin())
            return first, f"the loss is {losses[first]:.3g}"
        if losses.mean() > self.limit:
            first = int((losses > self.limit).int().argmax())
            return first, f"the loss is {losses[first]:.3g}, and the mean of {len(losses)} batches is above {self.limit:,.0f}"
        return None

    def _report(self, divergence: Divergence) -> None:
        if self.stop:
            raise Diverged(divergence)
        self.divergences.setdefault(divergence.task, divergence)
