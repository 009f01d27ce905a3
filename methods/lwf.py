"""LwF, learning without forgetting: on the new task's images the old tasks' outputs should stay what the old network made of them.

    loss = cross-entropy + strength * sum over old tasks of -sum_y q'(y) log p'(y)

(Li & Hoiem 2016, equations 1 to 3), where q' and p' are the old network's and the present probabilities of the old outputs, both at
``temperature`` T (softmax of the logits divided by T), and the mean is over the batch's images. Everything is trained, old heads too.

The paper is about GG: there each old head is a distribution. In GNs the shared head is the only one; in GNu there is one distribution
over the outputs of all tasks so far, in which the old network gives the new ones no probability (both as in van de Ven & Tolias 2019, who
however weigh the two terms by 1/t and 1 - 1/t).

It presupposes that tasks show like images: where they do not, as with permuted pixels, distillation holds the network to answers about
nothing, and it may forget more than naive fine-tuning in GG and GNs (as van de Ven & Tolias 2019 found too).

Deviations: no warm-up of the new head before the joint training; the old network answers each batch as it comes, which is the same as
recording its answers for all images first. The optimiser begins afresh with each task.

Stores, to predict: the network with outputs for every class of every task (in GNs: with one head). To go on: nothing, for the old network
is the present one when a task begins.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.checks import above_zero, not_negative
from clbench.method import Brief, Prediction
from clbench.scenarios import GG, GNS, GNU
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._weights import WeightMethod

NEVER = -1e9
"""A logit that has no probability, but with which a row of nothing else still has a softmax."""


class LwF(WeightMethod):
    """Learning without forgetting, distillation from the network before the task."""

    name = "lwf"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Li, Hoiem: Learning without forgetting. ECCV 2016"
    recipes = (for_check(),)

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float = 1.0,
        temperature: float = 2.0,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
    ) -> None:
        """``strength``: lambda_o, the weight of the old outputs; ``temperature`` of the distillation; ``optimiser`` with its defaults but
        for the ``learning_rate``, begun afresh with each task."""
        not_negative(strength=strength)
        above_zero(temperature=temperature)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate))
        self.strength = strength
        self.temperature = temperature
        self.separate = self.head_per_task
        # All heads are trained together, so that in GG too they lie in one layer.
        self.head_per_task, self.tasks_compete = False, self.head_per_task or self.tasks_compete
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
        given: dict[str, Any] = {}
        task = torch.arange(len(self.trained[self.head[0]]), device=self.brief.device) // self.brief.classes
        if self.separate:
            given["present"] = task == self.task
        if self.targets is not None:
            given |= {"targets": self.targets, "old": task < self.task if self.tasks_compete else task == 0}
        return given

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        new = logits.masked_fill(~given["present"], float("-inf")) if "present" in given else logits
        loss = cross_entropy(new, labels)
        if "targets" not in given:
            return loss
        return loss + self.strength * self.distillation(logits, given["targets"], given["old"])

    def distillation(self, logits: Tensor, targets: Tensor, old: Tensor) -> Tensor:
        """The cross-entropy of the present logits [b, outputs] with the old network's on its ``old`` outputs [outputs], both tempered."""

        def tempered(values: Tensor) -> Tensor:
            groups = (values / self.temperature).view(len(values), -1, self.brief.classes if self.separate else len(old))
            return groups.log_softmax(2).flatten(1)

        wanted, found = tempered(targets.masked_fill(~old, NEVER)).exp(), tempered(logits.clamp(min=NEVER))
        return -(wanted * found).masked_fill(~old, 0.0).sum(1).mean()

    # Answering

    def logits(self, inputs: Tensor, task: int | None = None) -> Tensor:
        outputs = super().logits(inputs)
        if not self.separate or task is None:
            return outputs
        return outputs[:, task * self.brief.classes : (task + 1) * self.brief.classes]

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        prediction = super().predict(inputs, task)
        return Prediction(prediction.labels) if self.separate else prediction
