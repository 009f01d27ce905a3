"""Asking: put any number of questions to a copy of a method, about every task so far.

Every ask is put to a copy of the learner: asking leaves no trace, and an ask that gives the task reveals nothing to an ask that does not.
If the task is not given in inference, ``predict`` gets no task, and the tasks are asked about in an order that the learner cannot know.
"""

import copy
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from clbench.engine.lesson import Keep
from clbench.engine.matching import match_components
from clbench.errors import UserError
from clbench.method import Method, Prediction
from clbench.scenario import Scenario
from clbench.stream import Split, Stream, Task

MATCHING_IMAGES = 1024
"""Number of training images of each task that decide which of a learner's own components stands for the task."""

ABOUT = ("images", "sample")
"""The settings of an ask that select its test images."""

Answer = TypeVar("Answer")


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


def ask_all(method: Method, stream: Stream, asks: Sequence[Ask], learned: int, keep: Keep | None = None) -> Iterator[Score]:
    """Put every ask to a copy of ``method``, on each of the first ``learned`` tasks."""
    for asks_of_pass in passes(method, asks):
        yield from examine(method, stream, asks_of_pass, learned, keep)


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
