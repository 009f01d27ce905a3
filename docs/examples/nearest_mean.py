"""Nearest class mean: an image gets the label and the task of the nearest mean image of a class.

Stored to predict: the mean training image of every class of every task (float32). Needed to resume: nothing else.
"""

import torch
from torch import Tensor

import clbench
from clbench.scenarios import GG, GNS, GNU


class NearestMean(clbench.Method):
    """Nearest class mean."""

    name = "nearest-mean"
    scenarios = frozenset({GG, GNS, GNU})
    learning_depends_on = frozenset({"task_given_in_training"})
    trains_at_end = True  # without it, `clbench check` reports learning at the end of a task as a mistake
    price = 0.05  # the accuracy on a new task may be this much below that of a fine-tuned network

    def __init__(self, brief: clbench.Brief) -> None:
        super().__init__(brief)
        self.means: list[Tensor] = []  # for each task [classes, pixels]

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        """Do nothing: the whole split comes at the end of the task."""

    def end_task(self, data: clbench.Split) -> None:
        inputs, labels = data.whole()
        self.means.append(torch.stack([inputs[labels == c].flatten(1).mean(0) for c in range(self.brief.classes)]))

    def predict(self, inputs: Tensor, task: int | None = None) -> clbench.Prediction:
        candidates = torch.cat(self.means) if task is None else self.means[task]
        nearest = torch.cdist(inputs.flatten(1), candidates).argmin(1)
        return clbench.Prediction(nearest % self.brief.classes, nearest // self.brief.classes)

    def learned(self) -> dict[str, Tensor]:
        return {"means": torch.stack(self.means)}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        self.means = list(learned["means"])
