"""The one loop: teach a method every task of a stream once, and ask it any number of questions at chosen checkpoints.

The taxonomy is enforced by construction. If the task is not given in inference, ``predict`` gets no task, and the tasks are asked about in
an order that the learner cannot know. If it is not given in training, the learner sees batches and nothing else. Every ask is put to a copy
of the learner: asking leaves no trace, and an ask that gives the task reveals nothing to an ask that does not.
"""

import copy
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from clbench import storage
from clbench.engine.boundaries import Switch, Switches
from clbench.engine.divergence import Divergence, Losses
from clbench.engine.lesson import Keep, Lesson, Midway
from clbench.engine.matching import match_components
from clbench.engine.schedule import USUAL_FLOW, Draws, Schedule, Sizes, batches, source
from clbench.engine.stream_check import checked
from clbench.errors import UserError
from clbench.method import Method, Prediction
from clbench.scenario import Scenario
from clbench.stream import Split, Stream, Task

LOSSES_PER_TASK = 10
"""Number of mean training losses that are recorded for each task."""

MATCHING_IMAGES = 1024
"""Number of training images of each task that decide which of a learner's own components stands for the task."""

ABOUT = ("images", "sample")
"""The settings of an ask that select its test images."""

Answer = TypeVar("Answer")
Drawn = TypeVar("Drawn")
Batch = tuple[Tensor, Tensor]
"""The inputs and labels of a batch."""


@dataclass(frozen=True)
class Ask:
    """A question to a trained method: the inference side of a scenario, and keyword parameters of the method's ``predict``.

    ``images``: the number of test images of each task, from the first on (None: all). ``sample``: instead, that many images, different ones
    for each task, taken in turn from all of them, so that tasks that share images are not all asked about the same few. ``version``: the
    version of the method's answers (``Method.ask_version``); an ask to an earlier version is another ask.
    """

    scenario: Scenario
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    sample: int | None = None
    version: int = 1

    @property
    def label(self) -> str:
        """The ask in one line, equal for equal asks: the key of its rows in a run's tables."""
        return " ".join([self.scenario.name, *(f"{key}={value}" for key, value in self.settings.items())])

    @property
    def settings(self) -> dict[str, str]:
        """All that it says except its scenario, as texts ordered by name. What is not set is left out."""
        about = {key: getattr(self, key) for key in ABOUT if getattr(self, key) is not None}
        given = {**self.parameters, **about, **({} if self.version == 1 else {"version": self.version})}
        return {key: str(given[key]) for key in sorted(given)}


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


@dataclass(frozen=True, eq=False)
class Score:
    """The answers to one ask about one task after ``learned`` tasks. Accuracies run from 0 to 1.

    ``task_accuracy`` and ``decisions`` (the number of decisions about the task, ``Method.decisions``) are None if no task is inferred.
    ``inferred`` counts images by their inferred task; in NNs, by the component of the learner. There, ``task_accuracy`` counts as correct
    the component to which most training images of the task go, a different one for each task. ``seconds`` is the time of the answer, or an
    equal share of it if several asks were answered in one pass (``Method.shared_pass``). ``batch``: the number of batches after which it
    was asked, if that was while task number ``learned`` was taught, about the tasks before it.
    """

    learned: int
    task: int
    ask: Ask
    accuracy: float
    task_accuracy: float | None
    images: int
    decisions: int | None
    seconds: float
    inferred: Mapping[int, int] = field(default_factory=dict)
    batch: int | None = None


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
            for asks_of_pass in passes(method, asks):
                for score in examine(method, stream, asks_of_pass, learned):
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


def ask_all(method: Method, stream: Stream, asks: Sequence[Ask], learned: int, keep: Keep | None = None) -> Iterator[Score]:
    """Put every ask to a copy of ``method``, on each of the first ``learned`` tasks."""
    for asks_of_pass in passes(method, asks):
        yield from examine(method, stream, asks_of_pass, learned, keep)


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


def passes(method: Method, asks: Sequence[Ask]) -> list[tuple[Ask, ...]]:
    """The asks by pass: those that share a pass (``Method.shared_pass``) and their images together, every other alone."""
    groups: dict[Any, list[Ask]] = {}
    for number, ask in enumerate(asks):
        name = None if ask.scenario.task_given_in_inference else method.shared_pass(**ask.parameters)
        groups.setdefault(number if name is None else (name, ask.sample), []).append(ask)
    return [tuple(group) for group in groups.values()]


def examine(method: Method, stream: Stream, asks: Sequence[Ask], learned: int, keep: Keep | None = None) -> list[Score]:
    """Put asks that share a pass to a copy of ``method``, on each of the first ``learned`` tasks, in an order unknown to it.

    A task that recurs is asked about once, under the number of its first visit. The scores are ordered by ask, then by task. The asks
    share the time of the pass equally. Answers that ``keep`` holds are not computed again.
    """
    keep, tasks = keep or Keep(), stream.seen(learned)
    about = f"{learned} scores of {' and '.join(ask.label for ask in asks)}"
    by_task = _of_each_task(method, tasks, about, lambda examinee, task: _answers(examinee, stream, task, asks), keep)
    return [
        score
        for number, ask in enumerate(asks)
        for score in _with_task_accuracy(method, stream, ask, [_score(learned, t, ask, by_task[t][number]) for t in tasks], keep)
    ]


def _with_task_accuracy(method: Method, stream: Stream, ask: Ask, scores: Sequence[Score], keep: Keep) -> Sequence[Score]:
    """The scores of one ask on all tasks so far. If the learner numbers its components itself, they are matched to tasks."""
    if ask.scenario.task_given_in_training or not any(score.inferred for score in scores):
        return scores
    # Other images decide which component stands for which task, and another copy is asked about them in another order: each call of
    # ``predict`` is about one task, so a learner that only numbered its calls would otherwise have one component for each task.
    images = min(ask.images or ask.sample or MATCHING_IMAGES, MATCHING_IMAGES)
    tasks, about = [score.task for score in scores], f"{scores[0].learned} components of {ask.label}"
    seen = _of_each_task(method, tasks, about, lambda examinee, task: _components(examinee, stream[task], ask, images), keep)
    return _with_matched_tasks(scores, [dict(seen[task]) for task in tasks])


def _of_each_task(
    method: Method, tasks: Sequence[int], about: str, question: Callable[[Method, int], Answer], keep: Keep
) -> dict[int, Answer]:
    """The answers of a copy of ``method`` to ``question`` about each task. It is asked in an order unknown to it."""
    missing = [task for task in tasks if f"{about} {task}" not in keep.answers]
    random.SystemRandom().shuffle(missing)
    examinee = copy.deepcopy(method)
    for task in missing:
        keep.answers[f"{about} {task}"] = question(examinee, task)
        keep.after_answer()
    return {task: keep.answers[f"{about} {task}"] for task in tasks}


def _answers(method: Method, stream: Stream, index: int, asks: Sequence[Ask]) -> list[dict[str, Any]]:
    """The answers about one task, by ask: what a ``Score`` says of them, plain enough for JSON."""
    all_images = any(ask.images is None for ask in asks)
    test = _asked_about(stream[index].test, index, asks[0].sample)
    inputs, labels = test.whole(None if all_images else max(ask.images or 0 for ask in asks))
    given = index if asks[0].scenario.task_given_in_inference else None
    began = time.perf_counter()
    predictions = _predict(method, inputs, given, asks)
    seconds = (time.perf_counter() - began) / len(asks)
    return [
        _answer(method, ask, _of_identities(prediction, stream, ask), labels[: ask.images], index) | {"seconds": seconds}
        for ask, prediction in zip(asks, predictions, strict=True)
    ]


def _score(learned: int, task: int, ask: Ask, answer: dict[str, Any]) -> Score:
    return Score(learned, task, ask, **answer | {"inferred": dict(answer["inferred"])})


def _of_identities(prediction: Prediction, stream: Stream, ask: Ask) -> Prediction:
    """``prediction`` with each inferred visit of a task that recurs replaced by the first one, if the learner was told the visits."""
    tasks = prediction.tasks
    if stream.identities is None or tasks is None or not ask.scenario.task_given_in_training:
        return prediction
    known = (tasks >= 0) & (tasks < len(stream))
    first = torch.tensor(stream.identities, device=tasks.device)[torch.where(known, tasks, 0).long()]
    return prediction._replace(tasks=torch.where(known, first, tasks))


def _asked_about(test: Split, index: int, sample: int | None) -> Split:
    """The test images of task ``index``: all, or a sample that begins where the sample of the previous task ends."""
    if sample is None:
        return test
    rows = (index * sample + torch.arange(min(sample, len(test)), device=test.labels.device)) % len(test)
    return replace(test, images=test.images[rows], labels=test.labels[rows])


def _answer(method: Method, ask: Ask, prediction: Prediction, labels: Tensor, index: int) -> dict[str, Any]:
    correct = prediction.labels.to(labels.device) == labels
    inferred = None if ask.scenario.task_given_in_inference else prediction.tasks
    # If the task is given, shared and unshared labels are scored in the same way (section 2).
    if not ask.scenario.labels_shared and not ask.scenario.task_given_in_inference:
        if inferred is None:
            raise UserError(f"{method.name} infers no task, but {ask.scenario.name} asks for one: a Prediction needs tasks there.")
        correct &= inferred.to(labels.device) == index
    counts = _counts(inferred)
    return {
        "accuracy": correct.double().mean().item(),
        "task_accuracy": None if inferred is None else dict(counts).get(index, 0) / len(labels),
        "images": len(labels),
        "decisions": None if inferred is None else method.decisions(len(labels), **ask.parameters),
        "inferred": counts,
    }


def _components(method: Method, task: Task, ask: Ask, images: int) -> list[tuple[int, int]]:
    """The number of images that go to each component of the learner, of the first training images of ``task``."""
    inputs, _ = task.train.whole(images)
    (prediction,) = _predict(method, inputs, None, [replace(ask, images=None, sample=None)])
    return _counts(prediction.tasks)


def _predict(method: Method, inputs: Tensor, given: int | None, asks: Sequence[Ask]) -> list[Prediction]:
    """The method's answers to asks that share a pass, checked; a ``UserError`` if they are not valid."""
    counts = [len(inputs) if ask.images is None else min(ask.images, len(inputs)) for ask in asks]
    # Fork the global generator: a method that draws from it in ``predict`` must not change what is learned later.
    with torch.random.fork_rng(), torch.no_grad():
        if len(asks) == 1:
            predictions = [method.predict(inputs[: counts[0]], given, **asks[0].parameters)]
        else:
            predictions = method.predict_together(inputs, [(n, ask.parameters) for n, ask in zip(counts, asks, strict=True)])
            if len(predictions) != len(asks):
                raise UserError(f"{method.name}.predict_together must return {len(asks)} predictions, one for each ask.")
    for prediction, count in zip(predictions, counts, strict=True):
        _check(method, prediction, count)
    return predictions


def _check(method: Method, prediction: Prediction, count: int) -> None:
    if not isinstance(prediction, Prediction):
        raise UserError(f"{method.name}.predict must return a clbench.Prediction, not a {type(prediction).__name__}.")
    for what, values in prediction._asdict().items():
        if values is None and what == "tasks":
            continue
        if not isinstance(values, Tensor) or values.shape != (count,):
            raise UserError(f"{method.name}.predict must return one of {what} for each of its {count} inputs.")


def _counts(inferred: Tensor | None) -> list[tuple[int, int]]:
    """Each task, or component, that was inferred, and the number of times."""
    if inferred is None:
        return []
    return [(int(which), int(count)) for which, count in zip(*np.unique(inferred.cpu().numpy(), return_counts=True), strict=True)]


def _with_matched_tasks(scores: Sequence[Score], seen: Sequence[Mapping[int, int]]) -> list[Score]:
    """Task accuracies for a learner that numbers its components itself: each task is matched to at most one component.

    The matching is the one-to-one assignment with the most matching images, as for clusterings. ``seen`` has, for each task, the number of
    images by component that decide the matching.
    """
    components = sorted({component for counts in seen for component in counts})
    matrix = np.array([[counts.get(component, 0) for component in components] for counts in seen], dtype=np.int64)
    tasks = dict(enumerate(score.task for score in scores))
    task_of = {which: tasks.get(row) for which, row in zip(components, match_components(matrix).tolist(), strict=True)}

    def accuracy(score: Score) -> float:
        return sum(count for which, count in score.inferred.items() if task_of.get(which) == score.task) / score.images

    return [replace(score, task_accuracy=accuracy(score)) for score in scores]
