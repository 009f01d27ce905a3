"""The schedule of a run: which images of which task are in which batch. The evaluator reads it, and no learner sees it.

Usually each task has the same number of whole batches, one task after another. A ``Flow`` says how it is otherwise: tasks of random
lengths, boundaries inside a batch, tasks that recur, gradual transitions, images of other tasks in every batch, one pass over the data. A
``Timetable`` is what comes of it, an object to inspect and to draw.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator
from torch import Tensor

from clbench.engine.settings import USUAL, OnDivergence, Strict, checked
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Stream, Task, unchanged

Integers = npt.NDArray[np.int64]

MOST_IMAGES = 2**29
"""The limit for images in a timetable whose batches are not all of one task: it is made from one number for each image (2 GB)."""

BATCHES_AT_A_TIME = 4096
"""Number of batches for which random places are drawn together."""


class Flow(Strict):
    """How the tasks of a stream follow each other. The defaults are the paper's: equal lengths, boundaries between batches.

    ``lengths``: the updates of each task are drawn from this range (both ends are possible). ``boundaries``: ``inside`` moves each
    boundary into the last batch of the earlier task. ``visits``: the number of the task at each visit, such as 0, 1, 0, 2, 1.
    ``different``: instead, the number of different tasks; all other visits are to a task already seen, never to the present one.
    ``online``: a task has as many updates as make one pass over its training images, of which its visits have equal shares.

    In a gradual transition the share of images of the next task grows linearly. ``linear``: it takes so many updates, half of them before
    the boundary. ``beta``: it takes 2 / beta of a task's updates (Zeno et al. 2018, continuous permuted MNIST). ``fuzzy``: it takes so many
    updates on each side, and the first task has half of its updates at the beginning and half at the end (``FuzzyBoundaryStream`` of van de
    Ven's repository continual-learning).
    ``blurry``: this share of every batch is of other tasks, each equally likely (as in Si-Blurry, Moon et al. 2023).

    ``drift``: the task changes a little with every batch, and is the stream's own only in the middle of its updates. This needs a stream
    with a continuous space of tasks (``Stream.between``).

    All draws come from the stream seed.
    """

    lengths: tuple[int, int] | None = None
    boundaries: Literal["between", "inside"] = "between"
    visits: tuple[int, ...] | None = None
    different: int | None = None
    online: bool = False
    linear: int | None = Field(default=None, ge=1)
    beta: float | None = Field(default=None, ge=2)
    fuzzy: int | None = Field(default=None, ge=1)
    blurry: float = Field(default=0, ge=0, lt=1)
    drift: bool = False

    @property
    def recurs(self) -> bool:
        """Whether a task comes more than once."""
        return self.visits is not None or self.different is not None or self.fuzzy is not None

    @property
    def pure(self) -> bool:
        """Whether every batch is of one task."""
        return self.boundaries == "between" and not (self.linear or self.beta or self.fuzzy or self.blurry)

    @field_validator("lengths", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        """A range from text such as 200..1500; a single number is both of its ends."""
        if not isinstance(value, str | int):
            return value
        ends = str(value).split("..")
        return ends * 2 if len(ends) == 1 else ends

    @field_validator("visits", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        """A list from text such as 0,1,0,2,1."""
        return value.split(",") if isinstance(value, str) else value

    def most_updates(self, updates: int) -> int:
        """The most updates that a task may have, if ``updates`` are usual."""
        return self.lengths[1] if self.lengths else updates

    def tasks_of(self, visits: int, seed: int) -> tuple[int, ...]:
        """The task of each of ``visits`` visits: numbers from 0, new ones in order."""
        if self.visits is not None:
            return self.visits
        if self.fuzzy is not None:
            return (*range(visits - 1), 0)
        if self.different is None:
            return tuple(range(visits))
        draws = generator(seed, "visits")
        # The second visit is new too if any other is: the present task never comes again at once.
        fixed = min(self.different, 2)
        new = set(range(fixed)) | set((fixed + torch.randperm(visits - fixed, generator=draws)[: self.different - fixed]).tolist())
        tasks: list[int] = []
        for visit in range(visits):
            seen = len(set(tasks))
            others = [task for task in range(seen) if task != tasks[-1]] if tasks else []
            tasks.append(seen if visit in new else others[int(torch.randint(len(others), (), generator=draws))])
        return tuple(tasks)

    def expanded(self, stream: Stream, visits: int, seed: int) -> Stream:
        """``stream`` with a task for each visit, and their identities; a ``UserError`` if it cannot flow so."""
        if self.drift and stream.between is None:
            raise UserError(
                f"The stream {stream.name} has no tasks between its tasks, so that it cannot drift: use rotated-mnist, say."
            )
        if not self.recurs:
            return stream
        tasks = self.tasks_of(visits, seed)
        return Stream(
            stream.name,
            [stream[task] for task in tasks],
            stream.classes,
            stream.input_shape,
            stream.notes,
            tuple(tasks.index(task) for task in tasks),
        )


USUAL_FLOW = Flow()
"""The paper's."""


EXCLUSIVE = {
    ("lengths", "online", "fuzzy"): "decide how many updates a task has",
    ("visits", "different", "fuzzy"): "decide which tasks recur",
    ("linear", "beta", "fuzzy"): "decide how a task begins",
} | {("drift", name): "exclude each other" for name in ("visits", "different", "linear", "beta", "fuzzy", "blurry")}
"""Settings of a flow that exclude each other, and what they decide."""


def flow(values: Mapping[str, Any], tasks: int | None = None) -> Flow:
    """A ``Flow`` from settings, which may be text; a ``UserError`` for the first wrong one. ``tasks``: the number of visits asked for."""
    made = checked(Flow, values, "a flow")
    if made.lengths and not 1 <= made.lengths[0] <= made.lengths[1]:
        raise UserError(f"The lengths {made.lengths[0]}..{made.lengths[1]} are no range of updates: write one such as 200..1500.")
    for group, what in EXCLUSIVE.items():
        if len(both := [name for name in group if name in made.model_fields_set]) > 1:
            raise UserError(f"The settings {' and '.join(both)} of a flow {what}: leave out all but one.")
    if made.visits is not None:
        new = list(dict.fromkeys(made.visits))
        if new != list(range(len(new))) or any(one == next_ for one, next_ in pairwise(made.visits)):
            raise UserError(
                f"The visits {','.join(map(str, made.visits))} are not valid: number the tasks from 0 in the order in which they come "
                "first, and name no task twice in a row."
            )
    if tasks is not None and made.visits is not None and len(made.visits) != tasks:
        raise UserError(
            f"There are {len(made.visits)} visits and {tasks} tasks: leave out the number of tasks, or make them equal."
        )
    if tasks is not None and made.different is not None and not (2 if tasks > 1 else 1) <= made.different <= tasks:
        raise UserError(f"There cannot be {made.different} different tasks in {tasks} visits: ask for 2 to {tasks}.")
    return made


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


class Draws(dict[int, torch.Generator]):
    """The generators of the tasks' batches by task, as far as their batches have begun.

    ``states``: the states that generators had when a task was interrupted, from which its augmentation continues.
    """

    def __init__(self, states: Mapping[int, Tensor] | None = None) -> None:
        super().__init__()
        self.states = states or {}


def batches(
    timetable: Timetable, stream: Stream, seed: int, start: int = 0, draws: Draws | None = None, *, drift: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and labels of each batch from number ``start`` on. Images of earlier batches are not computed.

    Each task has shuffled passes over its data of its own, drawn from ``seed``; a task that recurs continues with them. The images of a
    batch with several tasks are in random order. ``draws`` gets the generators. With ``drift`` they are seen as at the place of the batch
    between the stream's tasks.
    """
    if drift:
        assert stream.between is not None
        unseen = [replace(task, train=replace(task.train, view=unchanged)) for task in stream]
        originals = batches(timetable, replace(stream, tasks=unseen), seed, start, draws)
        for number, (inputs, labels) in enumerate(originals, start):
            yield stream.between(timetable.place(number))(inputs), labels
        return
    sources: dict[int, Iterator[tuple[Tensor, Tensor]]] = {}
    for run, parts in timetable.runs(start):
        for batch in run:
            drawn = []
            for visit, _ in parts:
                task = stream.identity(visit)
                if task not in sources:
                    before, sizes = _sizes(timetable, stream, task, start)
                    sources[task] = source(stream[task], task, seed, sizes, before, draws)
                drawn.append(next(sources[task]))
            if len(drawn) == 1:
                yield drawn[0]
                continue
            order = torch.randperm(timetable.batch_size, generator=generator(seed, "mixed", batch))
            inputs, labels = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
            order = order.to(labels.device)
            yield inputs[order], labels[order]


class Sizes(NamedTuple):
    """The number of parts that a task has in the batches of a stream, and their sizes; a single size stands for all."""

    parts: int
    each: Sequence[int]


def _sizes(timetable: Timetable, stream: Stream, task: int, start: int) -> tuple[int, Sizes]:
    """The number of parts that ``task`` has before batch ``start``, and the sizes of all its parts."""
    visits = timetable.spans[:, 2]
    of_task = visits == task if stream.identities is None else np.array(stream.identities)[visits] == task
    firsts, ends, _, images = timetable.spans[of_task].T
    before = int((np.minimum(ends, start) - np.minimum(firsts, start)).sum())
    count = int((ends - firsts).sum())
    if (images == images[0]).all():
        return before, Sizes(count, [int(images[0])])
    batches = np.concatenate([np.arange(first, end) for first, end in zip(firsts, ends, strict=True)])
    in_order = np.argsort(batches, kind="stable")  # visits of one task may share a batch
    return before, Sizes(count, np.repeat(images, ends - firsts)[in_order].tolist())


def source(
    task: Task, index: int, seed: int, sizes: Sizes, skip: int = 0, draws: Draws | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts of a task from number ``skip`` on. A ``UserError`` if a split with its own order does not give what the run needs."""
    draws = Draws() if draws is None else draws
    draws[index] = generator(seed, "batches", index)
    alike = len(sizes.each) == 1
    if alike and not skip:
        given = task.train.batches(sizes.parts, sizes.each[0], draws[index])
    else:
        each = list(sizes.each) * sizes.parts if alike else sizes.each
        given = task.train.parts(each, draws[index], skip, draws.states.get(index))
    given, number = iter(given), skip
    for inputs, labels in given:
        number += 1
        part = _counted(task, number, inputs, labels, sizes)
        if number == sizes.parts:
            for more in given:  # a split that gives more than is needed is wrong too
                _counted(task, number + 1, *more, sizes)
        yield part
    if number != sizes.parts:
        raise UserError(
            f"The task {task.name} gave {number} batches, and the run needs {sizes.parts}: correct the order or batches of its "
            "training split."
        )


def _counted(task: Task, number: int, inputs: Tensor, labels: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Part ``number`` of a task (from 1), if the run needs it; otherwise a ``UserError``."""
    size = sizes.each[min(number, len(sizes.each)) - 1]
    if len(inputs) == len(labels) == size and number <= sizes.parts:
        return inputs, labels
    raise UserError(
        f"Batch {number} of the task {task.name} has {len(inputs)} images and {len(labels)} labels, and the run needs "
        f"{sizes.parts} batches of {size}: correct the order or batches of its training split."
    )
