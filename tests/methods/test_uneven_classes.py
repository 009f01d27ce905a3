"""Tasks with fewer classes than the largest task: no answer is a label that the task in question does not have."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clbench import registry
from clbench.engine.evaluator import Schedule, teach
from clbench.method import Brief
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNU
from clbench.stream import Split, Stream, Task

LABELS = [(0, 1, 2, 3), (0,), (0, 1, 2)]
"""The labels of each task."""


@pytest.fixture
def uneven(make_stream: Callable[..., Stream]) -> Stream:
    """The permutations of the tiny data, with images of these labels only."""

    def with_labels(split: Split, labels: tuple[int, ...]) -> Split:
        rows = torch.isin(split.labels, torch.tensor(labels))
        return Split(split.images[rows], split.labels[rows], split.view)

    stream = make_stream(len(LABELS))
    halves = [
        (with_labels(task.train, labels), with_labels(task.test, labels)) for task, labels in zip(stream, LABELS, strict=True)
    ]
    tasks = [Task(train, test, str(labels)) for (train, test), labels in zip(halves, LABELS, strict=True)]
    return Stream("uneven", tasks, stream.classes, stream.input_shape)


@pytest.mark.parametrize(
    "name", ["naive", "ewc", "psp", "batche", "separate-heads", "packnet", "piggyback", "lwf", "replay", "supsup"]
)
def test_labels_are_those_of_the_given_task(name: str, uneven: Stream, make_brief: Callable[..., Brief]) -> None:
    for given, answers, _ in answered(name, GG, uneven, make_brief):
        assert set(answers) <= set(LABELS[given])


def test_labels_are_those_of_the_inferred_task(uneven: Stream, make_brief: Callable[..., Brief]) -> None:
    for _, answers, inferred in answered("supsup", GNU, uneven, make_brief):
        assert inferred is not None
        for label, task in zip(answers, inferred, strict=True):
            assert label in LABELS[task]


def answered(
    name: str, scenario: Scenario, stream: Stream, make_brief: Callable[..., Brief]
) -> list[tuple[int, list[int], list[int] | None]]:
    """The task, and the labels and inferred tasks of its test images, for each task after all were learned."""
    make: Any = registry.method(name)
    learner = make(make_brief(scenario), learning_rate=0.01)
    for index, task in enumerate(stream):
        teach(learner, task, index, Schedule(100, 32))
    answers = []
    for index, task in enumerate(stream):
        inputs, _ = task.test.whole()
        with torch.no_grad():
            prediction = learner.predict(inputs, index if scenario.task_given_in_inference else None)
        answers.append((index, prediction.labels.tolist(), None if prediction.tasks is None else prediction.tasks.tolist()))
    return answers
