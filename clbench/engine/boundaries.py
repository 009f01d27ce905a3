"""What a learner that is told no tasks made of their boundaries: which component it trained when, against the timetable."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from clbench.engine.schedule import Timetable


class Switch(NamedTuple):
    """From this batch on, counted from 0, the learner trained this component."""

    batch: int
    component: int


class Switches:
    """The switches of a learner, from the component that it trains at first (None: none yet)."""

    def __init__(self, component: int | None) -> None:
        self.component = component
        self.seen: list[Switch] = []

    def after(self, batch: int, component: int | None) -> None:
        """After ``batch`` was learned, this component is in training. None is no component, and no switch."""
        if component is not None and component != self.component:
            self.component = component
            self.seen.append(Switch(batch, component))

    def take(self) -> tuple[Switch, ...]:
        """Those since the last call."""
        seen, self.seen = tuple(self.seen), []
        return seen


class Boundary(NamedTuple):
    """What a learner made of the beginning of a task (or visit).

    ``learned``: the number of the visit, from 1; ``task``: its task, numbered by its first visit; ``change``: its first batch (with a
    gradual transition, the first of that). ``detected``: the batch of the first switch from there on and before the next change, or None;
    ``delay``: the number of batches from change to switch. ``false``: the number of further switches. ``component``: the one in training
    for most of these batches.
    """

    learned: int
    task: int
    change: int
    detected: int | None
    delay: int | None
    false: int
    component: int | None


def boundaries(timetable: Timetable, tasks: Sequence[int], switches: Sequence[Switch]) -> list[Boundary]:
    """What a learner with these switches made of each visit; ``tasks``: the task of each visit."""
    end = int(timetable.ends[-1])
    rows = []
    for visit, (change, next_change) in enumerate(pairwise([*timetable.changes.tolist(), end])):
        inside = [switch for switch in switches if change <= switch.batch < next_change]
        before = [switch for switch in switches if switch.batch < change]
        batches: Counter[int] = Counter()
        runs = [*(Switch(change, switch.component) for switch in before[-1:]), *inside, Switch(next_change, -1)]
        for switch, later in pairwise(runs):
            batches[switch.component] += later.batch - switch.batch
        detected = inside[0].batch if inside else None
        delay = None if detected is None else detected - change
        most = max(batches, key=lambda component: batches[component], default=None)
        rows.append(Boundary(visit + 1, tasks[visit], change, detected, delay, max(0, len(inside) - 1), most))
    return rows
