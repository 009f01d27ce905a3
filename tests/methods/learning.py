"""What the tests of methods measure: how well each task is known after each task."""

import torch
from torch import Tensor

from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import evaluate
from clbench.engine.schedule import Schedule
from clbench.method import Method
from clbench.stream import Stream


def accuracies(method: Method, stream: Stream, updates: int = 60) -> Tensor:
    """R [i, j]: after task i, on task j, with so many updates of 32 images for each task."""
    matrix = torch.full((len(stream), len(stream)), float("nan"))
    for event in evaluate(method, stream, [Ask(method.brief.scenario)], range(1, len(stream) + 1), Schedule(updates, 32)):
        if isinstance(event, Score):
            matrix[event.learned - 1, event.task] = event.accuracy
    return matrix
