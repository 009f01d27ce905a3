"""Shared by the variants of elastic weight consolidation: the diagonal Fisher information, and the quadratic penalty that it weights.

    F_k = 1/n sum_x sum_y w(y | x) (d log p(y | x) / d theta_k)^2

is computed on n training images of a task, at the parameters at the task's end. It is the mean of the squared gradients of each image's own
log-likelihood, never the square of a batch's mean gradient, which is smaller by about the batch size. ``fisher`` decides the weights w:

- ``exact``: w(y | x) = p(y | x), the model's own distribution, with one backward pass for each output;
- ``sampled``: one label drawn from p(y | x), which is the same in expectation;
- ``empirical``: the true label, which estimates the Fisher information only if the model is right about its uncertainty;
- ``predicted``: the most probable label. This is far below the exact value if the model is confident (with two outputs, a binary logit and
  probability p of the likelier one, by the factor (1 - p) / p). Van de Ven & Tolias's strengths belong to this estimate.

If outputs of several tasks compete (GNu), y runs over those of all tasks so far.
"""

import abc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, vmap

from clbench.checks import not_negative, positive
from clbench.engine.probe import batch_use
from clbench.errors import UserError
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import Optimiser, Tensors

from ._weights import WeightMethod

Estimator = Literal["exact", "sampled", "empirical", "predicted"]

GRADIENTS_AT_A_TIME = 2**23
"""Elements of the per-sample gradients in memory at once: few enough for the processor's cache."""


def diagonal_fisher(
    logits: Callable[[Tensors, Tensor], Tensor],
    parameters: Tensors,
    inputs: Tensor,
    labels: Tensor,
    estimator: Estimator,
    draws: torch.Generator,
) -> Tensors:
    """The mean over samples of the squared gradients of log p(y | x) with respect to ``parameters``, in their shapes.

    ``logits(parameters, inputs)`` [n, outputs] is a pure function. ``labels`` int64 [n] are used only by ``empirical``, and
    ``draws`` only by ``sampled``.
    """

    def weighted(parameters: Tensors, image: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        likelihoods = logits(parameters, image.unsqueeze(0)).log_softmax(1)
        return weight.sqrt() * likelihoods.gather(1, label.view(1, 1)).squeeze()

    per_sample = vmap(grad(weighted), in_dims=(None, 0, 0, 0))
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    at_a_time = max(1, GRADIENTS_AT_A_TIME // sum(parameter.numel() for parameter in parameters.values()))
    for images, truths in zip(inputs.split(at_a_time), labels.split(at_a_time), strict=True):
        with torch.no_grad():
            probabilities = logits(parameters, images).softmax(1)
        for classes, weights in _weighted_labels(probabilities, truths, estimator, draws):
            for name, gradients in per_sample(parameters, images, classes, weights).items():
                for gradient in gradients:
                    total[name].addcmul_(gradient, gradient)
    return {name: summed / len(inputs) for name, summed in total.items()}


def _weighted_labels(
    probabilities: Tensor, truths: Tensor, estimator: Estimator, draws: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The labels [n] whose likelihood an estimator uses, and their weights [n]: one pair for each backward pass."""
    if estimator == "exact":
        for label in range(probabilities.shape[1]):
            yield torch.full_like(truths, label), probabilities[:, label]
        return
    if estimator == "empirical":
        labels = truths
    elif estimator == "predicted":
        labels = probabilities.argmax(1)
    else:
        labels = torch.multinomial(probabilities.cpu(), 1, generator=draws).squeeze(1).to(truths.device)
    yield labels, torch.ones_like(probabilities[:, 0])


class FisherPenalty(WeightMethod):
    """A method that adds strength/2 * sum_k F_k (theta_k - anchor_k)^2 to the loss. A subclass says how a task
    changes F and anchor.

    The sum is over the parameters that later tasks train: in GG the trunk (finished heads are frozen), in GNs and GNu the outputs too.
    """

    scenarios = frozenset({GG, GNS, GNU})

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float,
        fisher: Estimator,
        samples: int,
        optimiser: Optimiser,
        restart: bool,
    ) -> None:
        not_negative(strength=strength)
        positive(samples=samples)
        super().__init__(brief, optimiser=optimiser, restart=restart)
        if batch_use(brief).mixed:
            raise UserError(
                f"{self.name} needs the gradient of each single image, but the network normalises over the batch: "
                "use the method si, or a network that keeps running statistics."
            )
        self.strength = strength
        self.fisher = fisher
        self.samples = samples
        self.importance: Tensors = {}
        self.anchor: Tensors = {}

    @abc.abstractmethod
    def consolidate(self, fisher: Tensors) -> None:
        """Add a finished task with this Fisher information to ``importance`` and ``anchor``."""

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.importance, self.anchor = self.widened(self.importance), self.widened(self.anchor)

    def given(self) -> dict[str, Any]:
        return {"importance": self.importance, "anchor": self.anchor} if self.importance else {}

    def penalty(self, trained: Tensors, given: dict[str, Any]) -> Tensor | float:
        if "importance" not in given:
            return 0.0
        terms = [(fisher * (trained[k] - given["anchor"][k]).square()).sum() for k, fisher in given["importance"].items()]
        return self.strength / 2 * sum(terms)

    def end_task(self, data: Split) -> None:
        self.consolidate(self.information(data))

    def information(self, data: Split) -> Tensors:
        """The Fisher information of the task in ``data``, at the present parameters. Changes nothing."""
        draws = generator(self.brief.seed, "fisher", self.task)
        inputs, labels = self.sample_of(data, draws)
        return diagonal_fisher(self.logits_of, self.lasting_parameters(), inputs, labels + self.first_output, self.fisher, draws)

    def sample_of(self, data: Split, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """``samples`` images of the task in ``data``, drawn at random, with their labels."""
        rows = torch.randperm(len(data), generator=draws)[: self.samples].to(data.labels.device)
        return replace(data, images=data.images[rows], labels=data.labels[rows]).whole()

    def lasting_parameters(self) -> Tensors:
        """The parameters that later tasks train too."""
        return {name: self.trained[name] for name in self.lasting}

    def logits_of(self, parameters: Tensors, images: Tensor) -> Tensor:
        """The outputs in evaluation mode with these parameters in place of the lasting ones. A pure function."""
        return self.evaluated(self.trained | parameters, images)

    # State

    def progress(self) -> Tensors:
        state = {"importance": self.narrowed(self.importance), "anchor": self.narrowed(self.anchor)}
        return super().progress() | {
            f"{what}.{name}": tensor for what, tensors in state.items() for name, tensor in tensors.items()
        }

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        if progress:
            for what, tensors in {"importance.": self.importance, "anchor.": self.anchor}.items():
                tensors |= {
                    n.removeprefix(what): t.to(self.brief.device, copy=True) for n, t in progress.items() if n.startswith(what)
                }
