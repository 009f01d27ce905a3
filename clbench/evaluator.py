"""The one loop: teach a method every task of a stream once, and ask it any number of questions at chosen checkpoints.

The taxonomy is enforced by construction. Where the task is not given in inference, ``predict`` gets none, and the tasks are asked in
an order that the learner cannot know; where it is not given in training, the learner sees batches and nothing else. Every ask is put
to a copy of the learner, so that asking leaves no trace and an ask that gives the task tells nothing to one that withholds it.
"""

import copy
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.errors import UserError
from clbench.method import Method, Prediction
from clbench.metrics import match_components
from clbench.scenario import Scenario
from clbench.seeding import generator
from clbench.stream import Stream, Task

LOSSES_PER_TASK = 10
"""Training losses are kept as this many means a task."""


@dataclass(frozen=True)
class Ask:
    """A question put to what was learned: a scenario's inference side, and keyword parameters of the method's ``predict``.

    ``images``: how many test images of each task are asked about, from the first on (None: all of them).
    """

    scenario: Scenario
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None

    @property
    def label(self) -> str:
        """The ask in one line, the same for equal asks: the key of its rows in a run's tables."""
        settings = dict(self.parameters) | ({} if self.images is None else {"images": self.images})
        return " ".join([self.scenario.name, *(f"{key}={settings[key]}" for key in sorted(settings))])


@dataclass(frozen=True)
class Schedule:
    """How a task is taught: ``updates`` batches of exactly ``batch_size`` images, in an order drawn from ``seed``."""

    updates: int
    batch_size: int = 128
    seed: int = 0


@dataclass(frozen=True)
class Taught:
    """A task was taught: the number of tasks learned so far, the seconds it took, and the mean losses of each tenth of it."""

    learned: int
    seconds: float
    losses: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Score:
    """The answers to one ask about one task after ``learned`` tasks. Accuracies run from 0 to 1.

    ``task_accuracy`` is None where no task is inferred. ``inferred`` counts the images by the task (in NNs: by the component of the
    learner) that was inferred for them. ``seconds`` is the time that ``predict`` took.
    """

    learned: int
    task: int
    ask: Ask
    accuracy: float
    task_accuracy: float | None
    images: int
    seconds: float
    inferred: Mapping[int, int] = field(default_factory=dict)


def evaluate(
    method: Method, stream: Stream, asks: Sequence[Ask], checkpoints: Sequence[int], schedule: Schedule, *, start: int = 0
) -> Iterator[Taught | Score]:
    """Teach ``method`` every task of ``stream`` in turn; at each checkpoint put every ask to it on all tasks so far.

    ``checkpoints`` are numbers of tasks learned. ``start`` tasks are taken as learned already (a restored method goes on from there).
    Yields a ``Taught`` after each task and a ``Score`` for each (checkpoint, ask, task).
    """
    for learned, task in enumerate(stream, start=1):
        if learned <= start:
            continue
        yield teach(method, task, learned - 1, schedule)
        if learned in checkpoints:
            for ask in asks:
                yield from examine(method, stream, ask, learned)


def teach(method: Method, task: Task, index: int, schedule: Schedule) -> Taught:
    """Teach one task; its beginning, number and end are told only where the scenario gives the task in training."""
    told = method.brief.scenario.task_given_in_training
    began = time.perf_counter()
    if told:
        method.begin_task(index, schedule.updates)
    order = generator(schedule.seed, "batches", index)
    batches = task.train.batches(schedule.updates, schedule.batch_size, order)
    losses = [method.observe(inputs, labels) for inputs, labels in batches]
    if told:
        method.end_task(replace(task.train, augment=None))
    known = [loss for loss in losses if loss is not None]
    means = [float(part.mean()) for part in torch.stack(known).float().chunk(LOSSES_PER_TASK)] if known else []
    return Taught(index + 1, time.perf_counter() - began, tuple(means))


def examine(method: Method, stream: Stream, ask: Ask, learned: int) -> list[Score]:
    """Put ``ask`` to a copy of ``method`` on each of the first ``learned`` tasks, in an order unknown to it; scores in task order."""
    examinee = copy.deepcopy(method)
    order = list(range(learned))
    random.SystemRandom().shuffle(order)
    scores = sorted((_score(examinee, stream[task], task, ask, learned) for task in order), key=lambda s: s.task)
    return scores if ask.scenario.task_given_in_training else _with_matched_tasks(scores)


def _score(method: Method, task: Task, index: int, ask: Ask, learned: int) -> Score:
    inputs, labels = task.test.whole(ask.images)
    given = index if ask.scenario.task_given_in_inference else None
    began = time.perf_counter()
    # Fork the global generator: a method that draws from it while predicting must not change what is learned later.
    with torch.random.fork_rng(), torch.no_grad():
        prediction = _checked(method.predict(inputs, given, **ask.parameters), method, len(labels))
    seconds = time.perf_counter() - began
    right = prediction.labels.to(labels.device) == labels
    inferred = None if ask.scenario.task_given_in_inference else prediction.tasks
    if not ask.scenario.labels_shared:
        if inferred is None:
            raise UserError(f"{method.name} infers no task, but {ask.scenario.name} asks for one: a Prediction needs tasks there.")
        right &= inferred.to(labels.device) == index
    counts = dict(zip(*np.unique(inferred.cpu().numpy(), return_counts=True), strict=True)) if inferred is not None else {}
    counts = {int(which): int(count) for which, count in counts.items()}
    return Score(
        learned=learned,
        task=index,
        ask=ask,
        accuracy=right.double().mean().item(),
        task_accuracy=None if inferred is None else counts.get(index, 0) / len(labels),
        images=len(labels),
        seconds=seconds,
        inferred=counts,
    )


def _checked(prediction: Prediction, method: Method, images: int) -> Prediction:
    for what, values in zip(Prediction._fields, prediction, strict=True):
        if values is None and what == "tasks":
            continue
        if not isinstance(values, Tensor) or values.shape != (images,):
            raise UserError(f"{method.name}.predict must return one of {what} for each of its {images} inputs.")
    return prediction


def _with_matched_tasks(scores: Sequence[Score]) -> list[Score]:
    """Task accuracies for a learner that numbers its components itself: each task is matched to at most one component.

    The matching is the one-to-one assignment with the most images in place, as for clusterings.
    """
    if not any(score.inferred for score in scores):
        return list(scores)
    counts = np.zeros((len(scores), 1 + max(max(score.inferred, default=0) for score in scores)), dtype=np.int64)
    for row, score in enumerate(scores):
        for component, count in score.inferred.items():
            counts[row, component] = count
    task_of = match_components(counts)
    hits = np.where(task_of[None, :] == np.arange(len(scores))[:, None], counts, 0).sum(axis=1)
    return [replace(score, task_accuracy=float(hit) / score.images) for score, hit in zip(scores, hits, strict=True)]
