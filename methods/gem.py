"""GEM, gradient episodic memory (Lopez-Paz & Ranzato 2017): a step must not raise the loss on the memory of any earlier task.

    g~ = g                                      if g . r_k >= 0 for all earlier tasks k
         g + sum_k v_k r_k                      otherwise, with v = argmin 1/2 |g + sum_k v_k r_k|^2 for v_k >= margin

g is the gradient of the present batch's loss, and r_k that of the whole memory of task k (equations 8 to 13; with margin 0, g~ is the
projection of g on the cone of steps that hurt no task, solved in its dual). The dual is a problem of non-negative least squares with one
unknown for each earlier task. Gradients cover all trained tensors, in GG and GNu the outputs of all tasks; the loss of an image is that of
its own task.

Deviations: the memory of a task is a uniform sample of its training split, drawn when the task ends (the paper keeps its last images, in
one pass, which comes to the same); the run decides the number of passes. The optimiser's state passes from task to task, unless ``restart``
is on; the paper's optimiser is plain SGD.

Stored to predict: the network, with outputs for each task in GG and GNu. Needed to resume: the images in memory (float32) with their labels
and the number of each task's; also the optimiser's averages if ``restart`` is off.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor
from torch.func import grad, grad_and_value

from clbench.checks import not_negative, positive
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._a_gem_table import recipe
from ._check import for_check
from ._one_layer import OneLayerMethod

RIDGE = 1e-8
"""Added to the products of the references, relative to their largest, so that equal references have a solution."""


def weights(gradient: NDArray[np.float64], references: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """v [t], which minimises |gradient + v references|^2 / 2 for v >= margin: gradient [p], references [t, p]."""
    products = references @ references.T
    products += RIDGE * max(products.max(), np.finfo(float).tiny) * np.eye(len(products))
    # With products = L L' and v = u + margin, it is |L' u + L^-1 (references gradient + margin products 1)|^2 for u >= 0.
    lower = np.linalg.cholesky(products)
    linear = references @ gradient + margin * products.sum(1)
    solution, _ = nnls(lower.T, -np.linalg.solve(lower, linear))
    return np.asarray(solution + margin)


def project(gradient: Tensor, references: Tensor, margin: float) -> Tensor:
    """The gradient [p], or if it is against one of the references [t, p], the nearest that is not (equation 11 of the paper)."""
    if not (references @ gradient < 0).any():
        return gradient
    found = weights(gradient.double().cpu().numpy(), references.double().cpu().numpy(), margin)
    return gradient + torch.from_numpy(found).to(references) @ references


def flat(tensors: Tensors) -> Tensor:
    """All values in one row."""
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


class Gem(OneLayerMethod):
    """GEM: gradients that raise the loss on the memory of no earlier task."""

    name = "gem"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Lopez-Paz, Ranzato: Gradient episodic memory for continual learning. NeurIPS 2017"
    recipes = (recipe({"learning_rate": 0.1, "memory_per_task": 256}), for_check({"optimiser": "rmsprop", "restart": True}))

    def __init__(
        self,
        brief: Brief,
        *,
        memory_per_task: int = 256,
        margin: float = 0.5,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "sgd",
        learning_rate: float = 0.1,
        restart: bool = False,
    ) -> None:
        """``memory_per_task``: images kept of each task; ``margin``: the least v_k (the paper's gamma); ``optimiser`` with its defaults but
        for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        positive(memory_per_task=memory_per_task)
        not_negative(margin=margin)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.memory_per_task = memory_per_task
        self.margin = margin
        self.memory: list[tuple[Tensor, Tensor]] = []  # inputs and labels of each finished task

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The batch's loss or, with a projected gradient, a linear function of the trained tensors that has this gradient."""
        if "gradient" not in given:
            return super().loss(trained, given, inputs, labels)
        linear = torch.stack([(given["gradient"][name] * tensor).sum() for name, tensor in trained.items()]).sum()
        return linear - linear.detach() + given["value"], given["after"]

    def given(self) -> dict[str, Any]:
        return self.projected if self.memory else {}

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        self.projected = self._projected(inputs, labels) if self.memory else {}
        loss = super().update(inputs, labels)
        self.projected = {}
        return loss

    def _projected(self, inputs: Tensor, labels: Tensor) -> dict[str, Any]:
        """The projected gradient of a batch, its loss, and the buffers after its forward pass."""
        given = {"buffers": self.buffers} | ({"competing": self.competing()} if self.grows else {})
        plain = super().loss
        gradient, (value, after) = grad_and_value(plain, has_aux=True)(self.trained, given, inputs, labels)
        references = [flat(grad(plain, has_aux=True)(self.trained, given, *images)[0]) for images in self.memory]
        row = project(flat(gradient), torch.stack(references), self.margin)
        parts = row.split([tensor.numel() for tensor in self.trained.values()])
        shaped = {name: part.view_as(tensor) for (name, tensor), part in zip(self.trained.items(), parts, strict=True)}
        return {"gradient": shaped, "value": value.detach(), "after": after}

    def end_task(self, data: Split) -> None:
        """Store a sample of the task's images."""
        inputs, labels = data.whole()
        rows = torch.randperm(len(labels), generator=generator(self.brief.seed, "memory", self.task))[: self.memory_per_task]
        rows = rows.to(labels.device)
        self.memory.append((inputs[rows], labels[rows] + self.first_output))

    def progress(self) -> Tensors:
        """The memory, and the optimiser's state."""
        stored = {"inputs": [inputs for inputs, _ in self.memory], "labels": [labels for _, labels in self.memory]}
        sizes = torch.tensor([len(labels) for labels in stored["labels"]])
        memory = {f"memory.{what}": torch.cat(tensors) for what, tensors in stored.items() if tensors}
        return super().progress() | memory | {"memory.sizes": sizes}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        if progress is not None and len(progress["memory.sizes"]):
            sizes = progress["memory.sizes"].tolist()
            parts = (progress[f"memory.{what}"].to(self.brief.device, copy=True).split(sizes) for what in ("inputs", "labels"))
            self.memory = [(inputs.clone(), labels.clone()) for inputs, labels in zip(*parts, strict=True)]
