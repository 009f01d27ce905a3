"""A-GEM, averaged gradient episodic memory (Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", ICLR).

    g~ = g                                   if g . r >= 0
         g - (g . r) / (r . r) r             otherwise

g is the gradient of the present batch's loss, and r the gradient of a batch drawn from the memory of earlier tasks. To first order, a step
along g~ does not raise the mean loss on the memory. Both gradients cover all trained tensors, in GG and GNu the outputs of all tasks; the
loss of an image is that of its own task.

Deviations: the memory of a task is a uniform sample of its training split, of the same size for each task, drawn when the task ends (the
paper keeps the same number of images of each class); the run decides the number of passes over a task (the paper makes one). The projected
gradient goes to the chosen optimiser (the paper's is plain SGD: ``optimiser=sgd``).

Stored to predict: the network, with outputs for each task in GG and GNu. Needed to resume: the images in memory (float32) with their
labels; each task adds the same number. Also the optimiser's averages if ``restart`` is off.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, grad_and_value

from clbench.checks import positive
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._a_gem_table import recipe
from ._check import for_check
from ._one_layer import OneLayerMethod


def project(gradient: Tensors, reference: Tensors) -> Tensors:
    """``gradient`` without its component against ``reference``, if it has one: equation 11 of the paper."""
    along = torch.stack([(gradient[name] * reference[name]).sum() for name in gradient]).sum()
    square = torch.stack([(tensor * tensor).sum() for tensor in reference.values()]).sum()
    # A reference of 0 changes nothing, but the quotient must stay finite.
    share = along.clamp(max=0) / torch.where(square > 0, square, torch.ones_like(square))
    return {name: tensor - share * reference[name] for name, tensor in gradient.items()}


class AGem(OneLayerMethod):
    """A-GEM: gradients that do not raise the mean loss on a memory."""

    name = "a-gem"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Chaudhry, Ranzato, Rohrbach, Elhoseiny: Efficient Lifelong Learning with A-GEM. ICLR 2019"
    recipes = (
        recipe({"learning_rate": 0.1, "memory_per_task": 250, "sample": 256}),
        for_check({"restart": True}),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        memory_per_task: int = 250,
        sample: int = 256,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``memory_per_task``: images kept of each task; ``sample``: images of all earlier tasks that give each step's reference
        gradient; ``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it is re-initialised for each
        task."""
        positive(memory_per_task=memory_per_task, sample=sample)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.memory_per_task = memory_per_task
        self.sample = sample
        self.inputs = torch.empty(0, *brief.input_shape, device=brief.device)
        self.labels = torch.empty(0, dtype=torch.int64, device=brief.device)

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The batch's loss, with the projected gradient: once there is a memory, a linear function of the trained tensors carries it."""
        plain = super().loss
        if "memory" not in given:
            return plain(trained, given, inputs, labels)
        present = {name: tensor.detach() for name, tensor in trained.items()}
        gradient, (value, buffers) = grad_and_value(plain, has_aux=True)(present, given, inputs, labels)
        reference, _ = grad(plain, has_aux=True)(present, given, given["memory"]["inputs"], given["memory"]["labels"])
        projected = project(gradient, reference)
        linear = torch.stack([(projected[name].detach() * tensor).sum() for name, tensor in trained.items()]).sum()
        return linear - linear.detach() + value.detach(), buffers

    def given(self) -> dict[str, Any]:
        if not len(self.labels):
            return {}
        draws = generator(self.brief.seed, "sample", self.task, int(self.state.count))
        rows = torch.randint(len(self.labels), (self.sample,), generator=draws).to(self.labels.device)
        return {"memory": {"inputs": self.inputs[rows], "labels": self.labels[rows]}}

    def end_task(self, data: Split) -> None:
        """Store a sample of the task's images."""
        inputs, labels = data.whole()
        rows = torch.randperm(len(labels), generator=generator(self.brief.seed, "memory", self.task))[: self.memory_per_task]
        rows = rows.to(labels.device)
        self.inputs = torch.cat([self.inputs, inputs[rows]])
        self.labels = torch.cat([self.labels, labels[rows] + self.first_output])

    def progress(self) -> Tensors:
        """The memory, and the optimiser's state."""
        return super().progress() | {"memory.inputs": self.inputs, "memory.labels": self.labels}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        if progress is not None:
            self.inputs = progress["memory.inputs"].to(self.brief.device, copy=True)
            self.labels = progress["memory.labels"].to(self.brief.device, copy=True)
