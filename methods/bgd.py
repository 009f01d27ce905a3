"""Bayesian gradient descent (Zeno, Golan, Hoffer, Soudry 2018, "Task Agnostic Continual Learning Using Online Variational Bayes").

The posterior of every weight is a normal distribution. With theta = mu + sigma * e, e ~ N(0, 1), and L the batch's summed cross-entropy:

    mu    <- mu - eta sigma^2 E[dL/dtheta]
    sigma <- sigma sqrt(1 + (sigma E[dL/dtheta e] / 2)^2) - sigma^2 E[dL/dtheta e] / 2

(the paper's closed form of online variational Bayes). If the data determine a weight, its sigma becomes small, and from then on the weight
hardly moves: this acts against forgetting. The method neither gets nor needs the task.

Expectations are means over Monte Carlo samples, each with one e for the whole batch. Predictions use only the means mu. The means
start at the network's own initialisation, as in the authors' code. Batch-norm statistics, if any, pass from sample to sample.

Stored to predict: the means. Needed to resume: the standard deviations, of the same size, and the number of steps.
"""

from typing import Any

import torch
from torch import Tensor

from clbench.checks import above_zero, positive
from clbench.method import Brief, Recipe
from clbench.scenarios import GNS, NNS
from clbench.seeding import generator
from clbench.training import Optimiser, Tensors, named, part

from ._weights import WeightMethod


def bayesian_descent(rate: float) -> Optimiser:
    """The update of posteriors [2, ...] (means and standard deviations) by the gradient of the expected loss.

    Because theta = mu + sigma e, this gradient is E[dL/dtheta] and E[dL/dtheta e].
    """

    def rule(posterior: Tensor, gradient: Tensor, slots: Tensors, step: Tensor, factor: Tensor) -> None:
        mean, deviation = posterior[0], posterior[1]
        half = deviation * gradient[1] / 2
        mean.sub_(rate * factor * deviation * deviation * gradient[0])
        deviation.mul_((1 + half * half).sqrt() - half)

    return Optimiser((), rule)


DOMAIN = "the authors' code: van de Ven & Tolias's domain scenario"


class BGD(WeightMethod):
    """Bayesian gradient descent: weights that the data determine hardly move."""

    name = "bgd"
    scenarios = frozenset({GNS, NNS})
    citation = "Zeno, Golan, Hoffer, Soudry: Task Agnostic Continual Learning Using Online Variational Bayes. 2018"
    learning_depends_on = frozenset()
    recipes = (
        Recipe(
            "permuted-mnist-32", "*", {"deviation": 0.045}, source=f"{DOMAIN} (permuted MNIST, two layers of 1000)", scenario="GNs"
        ),
        Recipe("split-mnist-raw", "*", {"deviation": 0.02}, source=f"{DOMAIN} (split MNIST, two layers of 400)", scenario="GNs"),
    )

    def __init__(self, brief: Brief, *, deviation: float = 0.06, samples: int = 10, rate: float = 1.0) -> None:
        """``deviation``: the initial sigma (the authors' 0.06 for permuted MNIST without boundaries, 0.02 for ten passes a task);
        ``samples`` of the weights for each step; ``rate``: eta."""
        above_zero(deviation=deviation, rate=rate)
        positive(samples=samples)
        super().__init__(brief, optimiser=bayesian_descent(rate))
        self.samples = samples
        self.steps = 0
        self._set_posterior(self.trained, {name: torch.full_like(mean, deviation) for name, mean in self.trained.items()})

    def _set_posterior(self, means: Tensors, deviations: Tensors) -> None:
        self.posterior = {name: torch.stack([means[name], deviations[name]]) for name in means}
        self.trained = {name: both[0] for name, both in self.posterior.items()}  # views of the posterior: they change with it

    def begin_task(self, task: int, updates: int) -> None:
        """Do nothing: the method learns the same whether tasks are given or not."""

    def loss(self, posterior: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The mean of the batch's summed loss over samples of the weights."""
        total, buffers = torch.zeros((), device=inputs.device), given["buffers"]
        for sample in range(self.samples):
            weights = {name: both[0] + both[1] * given["noise"][name][sample] for name, both in posterior.items()}
            value, buffers = super().loss(weights, given | {"buffers": buffers}, inputs, labels)
            total = total + value * len(labels) / self.samples
        return total, buffers

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        draws = generator(self.brief.seed, "noise", self.steps)
        noise = {name: torch.randn(self.samples, *mean.shape, generator=draws) for name, mean in self.trained.items()}
        given = {"buffers": self.buffers, "noise": {name: drawn.to(inputs.device) for name, drawn in noise.items()}}
        loss, self.buffers = self.step(self.posterior, given, self.state, inputs, labels)
        self.steps += 1
        return loss / len(labels)

    def progress(self) -> Tensors:
        """The standard deviations and the number of steps."""
        return {f"deviation.{name}": both[1] for name, both in self.posterior.items()} | {"steps": torch.tensor(self.steps)}

    def task_progress(self) -> Tensors | None:
        """The posterior, the buffers and the number of steps, also the optimiser's."""
        counts = {"steps": torch.tensor(self.steps)}
        return named(posterior=self.posterior, buffers=self.buffers, optimiser=self.state.tensors(), counts=counts)

    def restore_task(self, progress: Tensors) -> None:
        posterior = part("posterior", progress, self.brief.device)
        self._set_posterior(*({name: posterior[name][which] for name in self.trained} for which in (0, 1)))
        self.buffers = part("buffers", progress, self.brief.device)
        self.state.restore(part("optimiser", progress, self.brief.device))
        self.steps = int(progress["counts/steps"])

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned)
        deviations = {name: both[1] for name, both in self.posterior.items()}
        if progress is not None:
            self.steps = int(progress["steps"])
            deviations = {name: progress[f"deviation.{name}"].to(self.brief.device) for name in deviations}
        self._set_posterior(self.trained, deviations)
