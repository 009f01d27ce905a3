"""How the tasks of a stream follow each other, if not one after another in whole batches: the settings of ``--flow``."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

from clbench.engine.settings import Strict, checked
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Stream


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
