"""LwF, learning without forgetting: on the new task's images, the old tasks' outputs should stay what they were before the task.

    loss = cross-entropy + strength * sum over old tasks of -sum_y q'(y) log p'(y)

(Li & Hoiem 2016, equations 1 to 3). q' and p' are the probabilities that the old and the present network give to the old outputs, both at
``temperature`` T (softmax of the logits divided by T). The mean is over the batch's images. Everything is trained, old heads too.

The paper is about GG, where each old head is a distribution. In GNs the shared head is the only one. In GNu there is one distribution
over the outputs of all tasks so far, in which the old network gives the new ones no probability (both as in van de Ven & Tolias 2019, who
however weigh the two terms by 1/t and 1 - 1/t).

LwF assumes that tasks show similar images. If they do not, as with permuted pixels, distillation ties the network to answers that mean
nothing, and it may forget more than naive fine-tuning in GG and GNs (as van de Ven & Tolias 2019 found too).

Deviations: no warm-up of the new head before the joint training; the old network answers each batch as it comes, which is the same as
recording its answers for all images first. The optimiser's state passes from task to task, unless ``restart`` is on.

Stored to predict: the network with outputs for every class of every task (in GNs: with one head). Needed to resume: the
optimiser's averages if ``restart`` is off; the old network is the present one when a task begins.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.checks import above_zero, not_negative
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._one_layer import OneLayerMethod

NEVER = -1e9
"""A logit with probability 0. It is finite, so that a row of such logits alone still has a softmax."""


class LwF(OneLayerMethod):
    """Learning without forgetting, distillation from the network before the task."""

    name = "lwf"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Li, Hoiem: Learning without forgetting. ECCV 2016"
    recipes = (for_check({"restart": True}),)

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float = 1.0,
        temperature: float = 2.0,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``strength``: lambda_o, the weight of the old outputs; ``temperature`` of the distillation; ``optimiser`` with its defaults but
        for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        not_negative(strength=strength)
        above_zero(temperature=temperature)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.strength = strength
        self.temperature = temperature
        self.old: Tensors = {}
        self.targets: Tensor | None = None

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        if task > 0:
            self.old = {name: tensor.clone() for name, tensor in (self.trained | self.buffers).items()}

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        if self.old:
            with torch.no_grad():
                self.targets = functional_call(self.network, self.old, (inputs,))
        return super().observe(inputs, labels)

    def given(self) -> dict[str, Any]:
        if self.targets is None:
            return {}
        task_of_output = torch.arange(len(self.trained[self.head[0]]), device=self.brief.device) // self.brief.classes
        return {"targets": self.targets, "old": task_of_output < self.task if self.grows else task_of_output == 0}

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        loss = cross_entropy(self.only_own_task(logits, labels), labels)
        if "targets" not in given:
            return loss
        return loss + self.strength * self.distillation(logits, given["targets"], given["old"])

    def distillation(self, logits: Tensor, targets: Tensor, old: Tensor) -> Tensor:
        """The cross-entropy between the old network's and the present logits [b, outputs], over the ``old`` outputs (bool [outputs])."""

        def tempered(values: Tensor) -> Tensor:
            groups = (values / self.temperature).view(len(values), -1, self.brief.classes if self.within_task else len(old))
            return groups.log_softmax(2).flatten(1)

        old_probabilities = tempered(targets.masked_fill(~old, NEVER)).exp()
        log_probabilities = tempered(logits.clamp(min=NEVER))
        return -(old_probabilities * log_probabilities).masked_fill(~old, 0.0).sum(1).mean()
