"""Shared by the methods that train the outputs of several tasks at once: in GG too, the heads of all tasks lie in one layer, as in GNu.

In GG an image's label competes only with the labels of its own task, in training and in prediction.
"""

from typing import Any

import torch
from torch import Tensor

from clbench.method import Brief, Prediction
from clbench.training import Optimiser

from ._weights import WeightMethod


class OneLayerMethod(WeightMethod):
    """A method whose last layer has the outputs of all tasks so far (GG, GNu), over which labels are counted.

    ``within_task``: True in GG, where only the outputs of an image's own task compete.
    """

    heads_in_one_layer = True

    def __init__(self, brief: Brief, *, optimiser: Optimiser, restart: bool = True) -> None:
        super().__init__(brief, optimiser=optimiser, restart=restart)
        self.within_task = brief.scenario.task_given_in_inference

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        if self.within_task:
            tasks = labels // self.brief.classes
            logits = logits.unflatten(1, (-1, self.brief.classes))[torch.arange(len(labels), device=labels.device), tasks]
            labels = labels % self.brief.classes
        return super().objective(logits, labels, given)

    def only_own_task(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits [b, outputs] without those of other tasks than each image's own, if these do not compete.

        The cross-entropy of these is the ``objective``, rounded differently: a method keeps to one of the two so that its runs repeat.
        """
        if not self.within_task:
            return logits
        task_of_output = torch.arange(logits.shape[1], device=logits.device) // self.brief.classes
        return logits.masked_fill(task_of_output != (labels // self.brief.classes)[:, None], float("-inf"))

    def logits(self, inputs: Tensor, task: int | None = None) -> Tensor:
        """The outputs in evaluation mode: the given task's in GG, otherwise those of all tasks so far."""
        outputs = super().logits(inputs)
        return outputs.unflatten(1, (-1, self.brief.classes))[:, task] if self.within_task and task is not None else outputs

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        prediction = super().predict(inputs, task)
        return Prediction(prediction.labels) if self.within_task else prediction
