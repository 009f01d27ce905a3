"""Training that diverges: how it is noticed, and what is said of it.

Losses are looked at ``CHECKED`` batches at a time, as looking at them waits for a GPU. Divergence is

- a loss that is not finite;
- a mean loss of those batches above ``LIMIT`` times that of guessing, log(classes);
- learned tensors that are not finite at a task's end, whatever the losses were.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from clbench.engine.settings import OnDivergence
from clbench.errors import UserError

CHECKED = 100
"""So many batches are looked at together."""

LIMIT = 1e6
"""So many times the loss of guessing is divergence: beside such a loss a float32, with its seven digits, hardly holds that of guessing.

It lies well above what published penalties come to as a task begins: online EWC on split-mnist-raw in GNu, with its strength of 1e9, to
6e3 times the loss of guessing on the mean of 100 batches, and to 9e4 times in one.
"""

ON_DIVERGENCE: tuple[str, ...] = get_args(OnDivergence)


@dataclass(frozen=True)
class Divergence:
    """Where training was seen to diverge: the task and the batch, both from 0, and how."""

    task: int
    batch: int
    reason: str

    @property
    def sentence(self) -> str:
        """The same in words, counted from 1."""
        return f"The training diverged in task {self.task + 1} at batch {self.batch + 1}: {self.reason}."


class Diverged(UserError):
    """Training was stopped where it diverged."""

    def __init__(self, found: Divergence, kept: str = "") -> None:
        """``kept``: a sentence that says what is left of the run."""
        remedy = "Give a smaller rate or strength, or have it learned all the same, and its rows marked, by --on-divergence mark."
        super().__init__(" ".join(filter(None, [found.sentence, kept, remedy])))
        self.found = found


class Losses:
    """The losses of ``tasks`` that are taught at a time, batch by batch, and where they diverged first: ``found``, by task.

    With ``stop`` it raises ``Diverged`` as soon as one does.
    """

    def __init__(self, tasks: Sequence[int], classes: int, *, stop: bool) -> None:
        self.tasks = tasks
        self.limit = LIMIT * math.log(max(2, classes))
        self.stop = stop
        self.found: dict[int, Divergence] = {}
        self.batches = 0
        self._numbers: list[int] = []
        self._recent: list[Tensor] = []
        self._parts: list[Tensor] = []

    def add(self, loss: Tensor | None) -> None:
        """The loss of the next batch, [tasks] or a scalar of one task; None where it is not known."""
        if loss is not None:
            self._numbers.append(self.batches)
            self._recent.append(loss)
        self.batches += 1
        if self.batches % CHECKED == 0:
            self.look()

    def look(self) -> None:
        """Look at the losses since the last time."""
        if not self._recent:
            return
        values = torch.stack(self._recent).detach().float().cpu().view(len(self._recent), len(self.tasks))
        self._parts.append(values)
        strange = {task: self._strange(own) for task, own in zip(self.tasks, values.T, strict=True)}
        found = [Divergence(task, self._numbers[each[0]], each[1]) for task, each in strange.items() if each is not None]
        self._numbers, self._recent = [], []
        for each in sorted(found, key=lambda divergence: divergence.batch):
            self._report(each)

    def look_at(self, learned: Mapping[str, Tensor], task: int) -> None:
        """Look at what was learned at the end of ``task``."""
        for name, tensor in learned.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                self._report(Divergence(task, self.batches - 1, f"{name} of what was learned is not finite"))
                return

    def means(self, task: int, parts: int) -> tuple[float, ...]:
        """The mean losses of one task in ``parts`` equal parts of its batches."""
        if not self._parts:
            return ()
        own = torch.cat(self._parts)[:, self.tasks.index(task)].contiguous()
        return tuple(float(part.mean()) for part in own.chunk(parts))

    def _strange(self, own: Tensor) -> tuple[int, str] | None:
        """The place of the first loss that shows divergence, and how. None if there is none."""
        finite = own.isfinite()
        if not finite.all():
            first = int(finite.int().argmin())
            return first, f"the loss is {own[first]:.3g}"
        if own.mean() > self.limit:
            first = int((own > self.limit).int().argmax())
            return first, f"the loss is {own[first]:.3g}, and above {self.limit:,.0f} on the mean of {len(own)} batches"
        return None

    def _report(self, found: Divergence) -> None:
        if self.stop:
            raise Diverged(found)
        self.found.setdefault(found.task, found)
