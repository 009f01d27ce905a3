"""The schedule of a run: which images of which task are in which batch. The evaluator reads it, and no learner sees it.

Usually each task has the same number of whole batches, one task after another. A ``Flow`` says how it is otherwise: tasks of random
lengths, boundaries inside a batch, tasks that recur, gradual transitions, images of other tasks in every batch, one pass over the data. A
``Timetable`` is what comes of it, an object to inspect and to draw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from clbench.engine.flow import USUAL_FLOW, Flow
from clbench.engine.settings import USUAL, OnDivergence
from clbench.errors import UserError
from clbench.seeding import generator

Integers = npt.NDArray[np.int64]

MOST_IMAGES = 2**29
"""The limit for images in a timetable whose batches are not all of one task: it is made from one number for each image (2 GB)."""

BATCHES_AT_A_TIME = 4096
"""Number of batches for which random places are drawn together."""


@dataclass(frozen=True)
class Schedule:
    """How tasks are taught: ``updates`` batches of exactly ``batch_size`` images each, in an order drawn from ``seed``.

    ``on_divergence``: if training diverges, ``stop`` raises a ``Diverged``, and ``mark`` continues and marks the task. ``flow``: how the
    tasks follow each other, drawn from ``stream_seed``. ``every``: after every so many batches the asks are put to the method about the
    tasks learned before (0: never).
    """

    updates: int
    batch_size: int = 128
    seed: int = 0
    on_divergence: OnDivergence = USUAL.on_divergence
    flow: Flow = USUAL_FLOW
    stream_seed: int = 0
    every: int = 0

    def timetable(self, tasks: int, images: Sequence[int] | None = None) -> "Timetable":
        """What is taught when, if there are so many tasks (or visits). ``images``: of each, how many make one pass (``Stream.shares``)."""
        follows, size = self.flow, self.batch_size
        updates = self._updates(tasks, images)
        ends = np.cumsum(updates)
        if follows.pure:
            spans = np.stack([ends - updates, ends, np.arange(tasks), np.full(tasks, size)], 1)
            return Timetable(size, ends, ends - updates, spans)
        shifts = np.zeros(tasks, dtype=np.int64)
        if follows.boundaries == "inside":
            if size < 2 or min(updates) < 2:
                raise UserError(
                    "A boundary inside a batch needs batches of 2 images or more and tasks of 2 updates or more: ask for more."
                )
            shifts = torch.randint(1, size, (tasks,), generator=generator(self.stream_seed, "boundaries")).numpy()
            shifts[-1] = 0
        if ends[-1] * size > MOST_IMAGES:
            raise UserError(f"{ends[-1] * size:,} images are too many for such a flow: ask for at most {MOST_IMAGES:,}.")
        image_ends = ends * size - shifts
        visits = np.repeat(np.arange(tasks, dtype=np.int32), np.diff(image_ends, prepend=0))
        windows = self._windows(updates)
        _blend(visits, image_ends, windows, size, generator(self.stream_seed, "transitions"))
        if follows.blurry:
            same = follows.tasks_of(tasks, self.stream_seed)
            _blur(visits.reshape(-1, size), np.array(same), round(follows.blurry * size), generator(self.stream_seed, "blurry"))
        changes = np.r_[0, np.maximum(0, image_ends[:-1] - windows * size // 2)] // size
        return Timetable(size, (2 * image_ends + size) // (2 * size), changes, _spans(visits.reshape(-1, size)))

    def _updates(self, tasks: int, images: Sequence[int] | None) -> Integers:
        """The updates of each task."""
        if self.flow.lengths is not None:
            least, most = self.flow.lengths
            return torch.randint(least, most + 1, (tasks,), generator=generator(self.stream_seed, "lengths")).numpy()
        updates = np.full(tasks, self.updates)
        if self.flow.online:
            if images is None:
                raise ValueError("the timetable of an online flow needs the number of images of each task")
            updates = np.array(images) // self.batch_size
            if min(updates) < 1:
                raise UserError(
                    f"Task {updates.argmin()} has {min(images)} images for one pass, fewer than a batch: ask for a smaller batch size."
                )
        if self.flow.fuzzy is not None:
            updates[0] = self.updates // 2
            updates[-1] = self.updates - updates[0]
            if 2 * self.flow.fuzzy > self.updates:
                raise UserError(
                    f"The flow fuzzy={self.flow.fuzzy} needs at least {2 * self.flow.fuzzy} updates, not {self.updates}."
                )
        return updates

    def _windows(self, updates: Integers) -> Integers:
        """The number of batches of each transition, at most those of the shorter task: int64 [tasks - 1]."""
        follows = self.flow
        if follows.linear is None and follows.beta is None and follows.fuzzy is None:
            return np.zeros(len(updates) - 1, dtype=np.int64)
        if follows.beta is not None:
            wanted = np.round((updates[1:] + updates[:-1]) / follows.beta).astype(np.int64)
        else:
            wanted = np.full(len(updates) - 1, follows.linear or 2 * (follows.fuzzy or 0))
        room = updates.copy()
        room[[0, -1]] *= 2  # of the first and the last task only one side is a transition
        return np.minimum(wanted, np.minimum(room[1:], room[:-1]))


def _blend(visits: npt.NDArray[np.int32], image_ends: Integers, windows: Integers, batch_size: int, draws: torch.Generator) -> None:
    """Draw, in place, the visits of the images in transitions: in batch i of n the next one has the probability (i + 1/2) / n."""
    for visit, (end, window) in enumerate(zip(image_ends[:-1].tolist(), windows.tolist(), strict=True)):
        if window:
            first = max(0, end - window * batch_size // 2)
            of_window = visits[first : first + window * batch_size]
            share = (np.arange(len(of_window)) // batch_size + 0.5) / window
            of_window[:] = visit + (torch.rand(len(of_window), generator=draws).numpy() < share)


def _blur(visits: npt.NDArray[np.int32], tasks: Integers, others: int, draws: torch.Generator) -> None:
    """Replace, in place, ``others`` images of each batch [batches, batch_size] by images of other tasks; ``tasks``: of each visit."""
    different = int(tasks.max()) + 1
    if different < 2:
        return
    first_visit = np.array([int(np.flatnonzero(tasks == task)[0]) for task in range(different)])
    for low in range(0, len(visits), BATCHES_AT_A_TIME):
        some = visits[low : low + BATCHES_AT_A_TIME]
        places = torch.rand(some.shape, generator=draws).argsort(1)[:, :others].numpy()
        drawn = torch.randint(different - 1, places.shape, generator=draws).numpy()
        own = tasks[np.take_along_axis(some, places, 1)]
        np.put_along_axis(some, places, first_visit[drawn + (drawn >= own)].astype(np.int32), 1)


class Part(NamedTuple):
    """So many images of a batch, all of one visit."""

    visit: int
    images: int


@dataclass(frozen=True, eq=False)
class Timetable:
    """Which tasks are in which batches: ``spans`` and, for each task (or visit), the batch before which it ends and that of its boundary.

    ``spans``: int64 [n, 4]. A row (first, end, visit, images) says that each batch from ``first`` to ``end`` - 1 has that many images of
    the visit. Rows that share batches have the same first and end, and rows are ordered by first batch, then by visit. ``ends``: int64
    [visits]. The batches of a visit, between the previous end and its own, are those in which it has most images (in a gradual transition,
    those on its side of the boundary): there, a learner that is told tasks is told this one. ``changes``: int64 [visits], the first batch
    with images of each visit, not counting those that ``blurry`` adds.
    """

    batch_size: int
    ends: Integers
    changes: Integers
    spans: Integers

    def place(self, batch: int) -> float:
        """Where a batch is on the way through the tasks: 0 in the middle of the first task, 0.5 at its end, 1 in the middle of the next."""
        visit = int(np.searchsorted(self.ends, batch, side="right"))
        own = self.batches_of(visit)
        return visit + (batch - own.start + 0.5) / len(own) - 0.5

    def batches_of(self, visit: int) -> range:
        """The batches in which a visit has most images."""
        return range(0 if visit == 0 else int(self.ends[visit - 1]), int(self.ends[visit]))

    def first(self, learned: int) -> int:
        """The batch after so many visits."""
        return 0 if learned == 0 else int(self.ends[learned - 1])

    @cached_property
    def _bounds(self) -> list[int]:
        """The rows of ``spans`` at which another run of equal batches begins, and the number of rows."""
        firsts = self.spans[:, 0]
        return [0, *(np.flatnonzero(np.diff(firsts)) + 1).tolist(), len(firsts)]

    def runs(self, start: int = 0) -> Iterator[tuple[range, tuple[Part, ...]]]:
        """Runs of batches with equal parts, from batch ``start`` on."""
        for low, high in pairwise(self._bounds):
            first, end = (int(value) for value in self.spans[low, :2])
            if end > start:
                parts = tuple(Part(int(visit), int(images)) for visit, images in self.spans[low:high, 2:])
                yield range(max(first, start), end), parts

    def parts(self, batch: int) -> tuple[Part, ...]:
        """The parts of one batch."""
        return next(self.runs(batch))[1]

    def rows(self) -> list[dict[str, int]]:
        """``spans`` as the rows of a table, with ``end`` as the number of ``batches``."""
        names = ("first_batch", "batches", "task", "images")
        return [dict(zip(names, (a, b - a, visit, images), strict=True)) for a, b, visit, images in self.spans.tolist()]


def _spans(visits: npt.NDArray[np.int32]) -> Integers:
    """The spans of a timetable, from the visit of each image: [batches, batch_size]."""
    batch_size = visits.shape[1]
    by_batch = np.sort(visits, axis=1)
    # Where another run of equal batches begins, and in its first batch the places where another visit begins.
    firsts = np.flatnonzero(np.r_[True, (by_batch[1:] != by_batch[:-1]).any(1)])
    ends = np.r_[firsts[1:], len(by_batch)]
    some = by_batch[firsts]
    row, column = np.nonzero(np.concatenate([np.ones((len(some), 1), dtype=bool), some[:, 1:] != some[:, :-1]], axis=1))
    images = np.diff(np.r_[row * batch_size + column, some.size])
    return np.stack([firsts[row], ends[row], some[row, column], images], 1).astype(np.int64)
