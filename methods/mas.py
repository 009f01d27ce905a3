"""MAS, memory aware synapses: the more a parameter changes the network's outputs, the more its later changes cost.

    loss = cross-entropy + strength * sum_k Omega_k (theta_k - theta*_k)^2
    after each task:  Omega <- Omega + 1/n sum_x | d |f(x)|^2 / d theta |,  theta* <- theta

(Aljundi et al. 2018, equations 3 to 5, in the form with the gradient of the squared norm of the outputs). The mean is over the absolute
gradients of single images, at the parameters at the task's end, without labels. There is no 1/2 before the strength. f are the logits that
the task's images may get: in GG of its head, in GNu of all tasks so far.

Deviations: Omega is a sum over tasks, as in equation 5; implementations with a moving average differ. The optimiser's state passes from
task to task, unless ``restart`` is on.

The default strength is A-GEM's (Chaudhry et al. 2019, appendix G) for permuted MNIST.

Stored to predict: the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``). Needed to
resume: Omega and theta*, each of the size of the network (in GG: of the trunk), and the optimiser's averages if ``restart`` is off.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad, vmap

from clbench.method import Brief
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._a_gem_table import recipe
from ._check import for_check
from ._fisher import GRADIENTS_AT_A_TIME, FisherPenalty


def sensitivity(logits: Callable[[Tensors, Tensor], Tensor], parameters: Tensors, inputs: Tensor) -> Tensors:
    """The mean over images [n, ...] of the absolute gradients of the squared norm of the outputs, in the shapes of ``parameters``.

    ``logits(parameters, inputs)`` [n, outputs] is a pure function.
    """

    def square(parameters: Tensors, image: Tensor) -> Tensor:
        return logits(parameters, image.unsqueeze(0)).square().sum()

    per_image = vmap(grad(square), in_dims=(None, 0))
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    at_a_time = max(1, GRADIENTS_AT_A_TIME // sum(parameter.numel() for parameter in parameters.values()))
    for images in inputs.split(at_a_time):
        for name, gradients in per_image(parameters, images).items():
            total[name] += gradients.abs().sum(0)
    return {name: summed / len(inputs) for name, summed in total.items()}


class MAS(FisherPenalty):
    """Memory aware synapses, a penalty weighted by how much parameters change the outputs."""

    name = "mas"
    citation = "Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars: Memory aware synapses: learning what (not) to forget. ECCV 2018"
    recipes = (recipe({"strength": 0.1, "learning_rate": 0.1}), for_check({"restart": True}))

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float = 0.1,
        samples: int = 500,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``strength``: lambda, without a 1/2; Omega is measured on ``samples`` training images of a task (all, if it has fewer);
        ``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        super().__init__(
            brief,
            strength=2 * strength,
            fisher="exact",  # not used: ``information`` is MAS's own
            samples=samples,
            optimiser=OPTIMISERS[optimiser](learning_rate),
            restart=restart,
        )

    def information(self, data: Split) -> Tensors:
        """The sensitivity of the outputs for the task in ``data``, at the present parameters. Changes nothing."""
        inputs, _ = self.sample_of(data, generator(self.brief.seed, "sensitivity", self.task))
        return sensitivity(self.logits_of, self.lasting_parameters(), inputs)

    def consolidate(self, fisher: Tensors) -> None:
        """Add a finished task's sensitivity."""
        for name, new in fisher.items():
            self.importance[name] = self.importance.get(name, 0.0) + new
            self.anchor[name] = self.trained[name].clone()
