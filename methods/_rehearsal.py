"""Shared by the methods that learn from stored images of earlier tasks: all tasks' outputs are trained at once.

The weights are those of ``_weights.py``, but in GG the heads lie in one layer, as in GNu: a stored image trains the outputs of its own
task, and in GG its label competes only with the labels of that task.
"""

from typing import Any

import torch
from torch import Tensor

from clbench.method import Brief, Prediction
from clbench.training import Optimiser

from ._weights import WeightMethod


class RehearsalMethod(WeightMethod):
    """A method that trains on images of several tasks at once. Labels are counted over the outputs of all tasks (GG, GNu)."""

    def __init__(self, brief: Brief, *, optimiser: Optimiser) -> None:
        super().__init__(brief, optimiser=optimiser)
        self.own_task_only = self.head_per_task
        self.tasks_compete |= self.head_per_task
        self.head_per_task = False

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        if self.own_task_only:
            tasks = labels // self.brief.classes
            logits = logits.unflatten(1, (-1, self.brief.classes))[torch.arange(len(labels), device=labels.device), tasks]
            labels = labels % self.brief.classes
        return super().objective(logits, labels, given)

    def logits(self, inputs: Tensor, task: int | None = None) -> Tensor:
        outputs = super().logits(inputs)
        return outputs if task is None else outputs.unflatten(1, (-1, self.brief.classes))[:, task]

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        answer = super().predict(inputs, task)
        return answer if task is None else Prediction(answer.labels)
