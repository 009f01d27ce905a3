"""The one loop: teach a method every task of a stream once, and ask it any number of questions at chosen checkpoints.

The taxonomy is enforced by construction. If the task is not given in inference, ``predict`` gets no task, and the tasks are asked about in
an order that the learner cannot know. If it is not given in training, the learner sees batches and nothing else. Every ask is put to a copy
of the learner: asking leaves no trace, and an ask that gives the task reveals nothing to an ask that does not.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from clbench import storage
from clbench.engine.asking import Ask, Score, ask_all
from clbench.engine.batches import Draws, Sizes, batches, source
from clbench.engine.boundaries import Switch, Switches
from clbench.engine.divergence import Divergence, Losses
from clbench.engine.flow import USUAL_FLOW
from clbench.engine.lesson import Keep, Lesson, Midway
from clbench.engine.schedule import Schedule
from clbench.engine.stream_check import checked
from clbench.method import Method
from clbench.stream import Stream, Task

LOSSES_PER_TASK = 10
"""Number of mean training losses that are recorded for each task."""

Drawn = TypeVar("Drawn")
Batch = tuple[Tensor, Tensor]
"""The inputs and labels of a batch."""


@dataclass(frozen=True)
class Taught:
    """The event that a task was taught: the number of tasks learned so far, its seconds, and the mean loss of each tenth of its updates.

    Tasks that are taught together share their seconds equally. ``stored_bytes``: the size in bytes of a file with everything learned so
    far; ``diverged``: where the training of the task diverged, or None. ``switches``: when the learner began to train another component
    than before, if it is told no tasks (``Method.in_training``).
    """

    learned: int
    seconds: float
    losses: tuple[float, ...]
    stored_bytes: int
    diverged: Divergence | None = None
    switches: tuple[Switch, ...] = ()


def evaluate(
    method: Method,
    stream: Stream,
    asks: Sequence[Ask],
    checkpoints: Sequence[int],
    schedule: Schedule,
    *,
    start: int = 0,
    midway: Midway | None = None,
    keep: Keep | None = None,
) -> Iterator[Taught | Score]:
    """Teach ``method`` every task of ``stream`` in turn; at each checkpoint put every ask to it on all tasks so far.

    ``checkpoints`` are numbers of tasks learned. ``start``: the number of tasks that the method has learned already (a restored method);
    ``midway``: the state from which the next task, or group of tasks, is resumed. Yields a ``Taught`` after each task and a ``Score`` for
    each (checkpoint, ask, task). Between the tasks of a group that is taught together (``Method.tasks_at_once``) the method can be asked,
    but training cannot be resumed there. What is asked inside tasks (``Schedule.every``) goes to ``Keep.scored_inside``.
    """
    stream = checked(stream)
    keep = keep or Keep()
    at_once = tasks_at_once(method, schedule)
    timetable = schedule.timetable(len(stream), stream.shares())
    learned = start
    draws, switches = _draws(midway), Switches(method.in_training)
    done = timetable.first(start) + _batches_done(midway)
    drawn = batches(timetable, stream, schedule.seed, done, draws, drift=schedule.flow.drift)

    def after_batch(lesson: Lesson) -> None:
        """Ask about the tasks learned before, after every so many batches."""
        number = timetable.first(learned) + lesson.batches
        if schedule.every and learned and number % schedule.every == 0:
            for score in ask_all(method, stream, asks, learned):
                keep.scored_inside(replace(score, learned=learned + 1, batch=number))
        keep.after_batch(lesson)

    asking = replace(keep, after_batch=after_batch)
    while learned < len(stream):
        # Groups are counted from the first task, so that results depend neither on ``start`` nor on checkpoints.
        group = range(learned, min(learned + at_once - learned % at_once, len(stream)))
        if at_once == 1:
            lesson = _lesson(method, stream, group, schedule, draws, switches)
            numbers = timetable.batches_of(learned)
            taught_now: Iterable[Taught] = [_teach(method, stream[learned], lesson, drawn, numbers, midway, asking)]
        else:
            taught_now = teach_together(method, stream, group, schedule, midway, keep)
        for taught in taught_now:
            yield taught
            learned = taught.learned
            if learned in checkpoints:
                yield from ask_all(method, stream, asks, learned, keep)
        midway = None


def tasks_at_once(method: Method, schedule: Schedule) -> int:
    """The number of tasks that are taught together: one, unless the scenario gives the task in training and the schedule allows more."""
    allowed = schedule.flow == USUAL_FLOW and not schedule.every
    return method.tasks_at_once if method.brief.scenario.task_given_in_training and allowed else 1


def teach(method: Method, task: Task, index: int, schedule: Schedule) -> Taught:
    """Teach one task alone, as a stream without a ``Flow`` does."""
    group = range(index, index + 1)
    lesson = Lesson(group, _losses(method, group, schedule), Draws(), Switches(None))
    drawn = _batches(task, index, schedule, None, lesson.draws)
    return _teach(method, task, lesson, drawn, range(schedule.updates), None, Keep())


def _teach(
    method: Method, task: Task, lesson: Lesson, drawn: Iterator[Batch], numbers: range, midway: Midway | None, keep: Keep
) -> Taught:
    """Teach the task of a lesson, whose batches have these ``numbers``; they, or those left after ``midway``, are ``drawn`` next.

    The method learns its number, beginning and end only if the scenario gives the task in training.
    """
    task_given = method.brief.scenario.task_given_in_training
    (index,) = lesson.group
    began = time.perf_counter()
    if task_given:
        method.begin_task(index, len(numbers))
    lesson.seconds = time.perf_counter() - began
    if midway is not None:
        midway.restore(method, lesson)

    def observe(batch: Batch) -> Tensor | None:
        loss = method.observe(*batch)
        lesson.switches.after(numbers[lesson.batches], method.in_training)
        return loss

    _practise(lesson, islice(drawn, len(numbers) - lesson.batches), observe, keep)
    began = time.perf_counter()
    if task_given:
        method.end_task(replace(task.train, augment=None))
    taught = _taught(method, index, lesson.seconds + time.perf_counter() - began, lesson.losses)
    return replace(taught, switches=lesson.switches.take())


def teach_together(
    method: Method, stream: Stream, group: range, schedule: Schedule, midway: Midway | None = None, keep: Keep | None = None
) -> Iterator[Taught]:
    """Teach the tasks of ``group``: together if their number is ``tasks_at_once``, else one by one. They end one after another.

    ``midway``: the state from which their training, or that of the first of them, is resumed.
    """
    keep = keep or Keep()
    if not len(group) == tasks_at_once(method, schedule) > 1:
        for index in group:
            resumed = midway if index == group.start else None
            lesson = _lesson(method, stream, range(index, index + 1), schedule, _draws(resumed), Switches(None))
            drawn = _batches(stream[index], index, schedule, resumed, lesson.draws)
            yield _teach(method, stream[index], lesson, drawn, range(schedule.updates), resumed, keep)
        return
    began = time.perf_counter()
    method.begin_tasks(group, schedule.updates)
    lesson = _lesson(method, stream, group, schedule, _draws(midway), Switches(None))
    lesson.seconds = time.perf_counter() - began
    if midway is not None:
        midway.restore(method, lesson)

    def observe(batch: tuple[Batch, ...]) -> Tensor | None:
        inputs, labels = (torch.stack(tensors) for tensors in zip(*batch, strict=True))
        return method.observe_tasks(inputs, labels)

    drawn_by_task = (_batches(stream[index], index, schedule, midway, lesson.draws) for index in group)
    _practise(lesson, zip(*drawn_by_task, strict=True), observe, keep)
    share = lesson.seconds / len(group)
    for index in group:
        began = time.perf_counter()
        method.end_task(replace(stream[index].train, augment=None))
        yield _taught(method, index, share + time.perf_counter() - began, lesson.losses)


def _losses(method: Method, group: range, schedule: Schedule) -> Losses:
    return Losses(group, method.brief.classes, stop=schedule.on_divergence == "stop")


def _lesson(method: Method, stream: Stream, group: range, schedule: Schedule, draws: Draws, switches: Switches) -> Lesson:
    """The lesson of ``group`` before its first batch."""
    augmented = tuple(stream.identity(index) for index in group if stream[index].train.augment)
    return Lesson(group, _losses(method, group, schedule), draws, switches, augmented)


def _practise(lesson: Lesson, drawn: Iterable[Drawn], observe: Callable[[Drawn], Tensor | None], keep: Keep) -> None:
    """Train on the batches ``drawn``."""
    began = time.perf_counter() - lesson.seconds
    for batch in drawn:
        lesson.losses.add(observe(batch))
        lesson.seconds = time.perf_counter() - began
        keep.after_batch(lesson)
        began = time.perf_counter() - lesson.seconds  # saving is not training
    lesson.losses.check()


def _draws(midway: Midway | None) -> Draws:
    """The generators of the batches, with their states inside a task."""
    return Draws() if midway is None else Draws({int(task): state for task, state in midway.part("draws").items()})


def _batches_done(midway: Midway | None) -> int:
    return 0 if midway is None else midway.batches


def _taught(method: Method, index: int, seconds: float, losses: Losses) -> Taught:
    learned = method.learned()  # called once, because it may copy large tensors
    losses.check_learned(learned, index)
    size = storage.file_bytes(learned)
    return Taught(index + 1, seconds, losses.means(index, LOSSES_PER_TASK), size, losses.divergences.get(index))


def _batches(task: Task, index: int, schedule: Schedule, midway: Midway | None, draws: Draws) -> Iterator[Batch]:
    """The batches of a task that is taught alone, or those after ``midway``."""
    sizes = Sizes(schedule.updates, [schedule.batch_size])
    return source(task, index, schedule.seed, sizes, _batches_done(midway), draws)
