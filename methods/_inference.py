"""Shared by the methods that infer the task: the settings of an ask, Binary, groups of inputs, derivatives with respect to statistics.

Every algorithm takes q groups of images at once, [q, e, *input_shape]: the e images of a group are the evidence for one decision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import batch_norm
from torch.overrides import TorchFunctionMode

from clbench.checks import above_zero
from clbench.engine.probe import check_one_image
from clbench.errors import UserError
from clbench.method import Brief

from ._objectives import OBJECTIVES, ObjectiveName

GRADIENT_BYTES = 512 * 2**20
"""The most memory for the gradients of the groups in one pass. More groups take several passes."""

Slopes = Callable[[Tensor | None], Tensor]
"""The derivatives of an objective with respect to every alpha, for q groups: ``alpha`` [q, k], or None for 1/k everywhere, to [q, k]."""


ONE_SHOT: Final = "one-shot"
BY_SLOPE = (ONE_SHOT, "binary", "gradient")
"""The algorithms that differentiate the objective with respect to alpha."""


@dataclass(frozen=True)
class Inference:
    """How an ask infers the task, for all methods that infer it: the settings, their defaults and their checks.

    ``group`` consecutive images share one inferred task, which the first ``evidence`` of them decide. ``steps`` and ``step_size`` belong
    to the algorithm ``gradient``, which has defaults of its own.
    """

    algorithm: str = ONE_SHOT
    objective: ObjectiveName = "H"
    group: int = 1
    evidence: int = 1
    steps: int | None = None
    step_size: float | None = None

    def check(self, brief: Brief, outputs: int) -> None:
        """Raise a ``UserError`` if a method with this number of outputs cannot infer the task in this way."""
        if not 1 <= self.evidence <= self.group:
            raise UserError(
                f"evidence must be between 1 and the group of {self.group} images, not {self.evidence}: "
                f"give group={max(1, self.evidence)} or more too."
            )
        check_one_image(brief, self.evidence, "--ask evidence and group")
        if OBJECTIVES[self.objective].needs_superfluous and outputs == brief.classes:
            raise UserError(
                f"The objective {self.objective} needs superfluous outputs, but outputs={outputs} is the number of classes: "
                "learn with more outputs, or use objective=H."
            )
        if OBJECTIVES[self.objective].slope is None and self.algorithm in BY_SLOPE:
            raise UserError(
                f"algorithm={self.algorithm} follows the gradient of the objective, and that of {self.objective} does not say which task "
                "fits: use algorithm=exhaustive, or another objective."
            )
        if self.algorithm != "gradient" and (self.steps is not None or self.step_size is not None):
            raise UserError(f"steps and step_size belong to algorithm=gradient, not to {self.algorithm}.")
        above_zero(steps=self.steps, step_size=self.step_size)


def binary(slopes: Slopes, groups: Tensor, candidates: int) -> Tensor:
    """The Binary algorithm: each round rules out the half of the k candidates along which the objective falls least; int64 [q].

    Candidates are halved by rank, so that ties cannot stop the search: it takes ceil(log2 k) rounds.
    """
    alive = torch.ones(len(groups), candidates, dtype=torch.bool, device=groups.device)
    count = candidates
    while count > 1:
        # While all candidates are alive, alpha is uniform for every group, and one superposition serves all groups.
        slope = slopes(None if count == candidates else alive / count).masked_fill(~alive, math.inf)
        count = -(-count // 2)
        alive = torch.zeros_like(alive).scatter_(1, slope.topk(count, largest=False).indices, True)
    return alive.int().argmax(1)


def decide(
    infer: Callable[[Tensor], Tensor], inputs: Tensor, *, group: int, evidence: int, at_a_time: int, alone: bool = True
) -> Tensor:
    """The inferred task of each of n inputs, int64 [n]: ``group`` consecutive inputs share one, decided by the first ``evidence``.

    ``infer`` gives the tasks of at most ``at_a_time`` groups: [q, e, *input_shape] to int64 [q]. A ``group`` larger than the number of
    inputs means all of them. Unless the network takes one image ``alone``, a single image left over joins the last whole group.
    """
    group = min(group, len(inputs))
    if not alone and len(inputs) % group == 1 < len(inputs):
        tasks = decide(infer, inputs[:-1], group=group, evidence=evidence, at_a_time=at_a_time)
        return torch.cat([tasks, tasks[-1:]])
    whole = len(inputs) // group
    # The last group may be smaller, and then has less evidence.
    evidences = [inputs[: whole * group].unflatten(0, (whole, group))[:, :evidence]] if whole else []
    evidences += [inputs[whole * group :][None, :evidence]] if len(inputs) % group else []
    decisions = [infer(groups) for images in evidences for groups in images.split(max(1, at_a_time))]
    return torch.cat(decisions).repeat_interleave(group)[: len(inputs)]


def answer_by_task(inputs: Tensor, tasks: Tensor, labels_of: Callable[[Tensor, int], Tensor]) -> Tensor:
    """The labels of inputs with known tasks, int64 [n]: ``labels_of(inputs, task)`` gives the labels of one task's inputs."""
    labels = torch.empty_like(tasks)
    for task in tasks.unique().tolist():
        labels[tasks == task] = labels_of(inputs[tasks == task], task)
    return labels


class DifferentiableStatistics(TorchFunctionMode):
    """Makes batch normalisation with given statistics plain arithmetic: PyTorch's has no derivative with respect to the statistics."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_batch_norm if function is batch_norm else function)(*args, **(kwargs or {}))


def _batch_norm(
    inputs: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.batch_norm``, with derivatives with respect to ``mean`` and ``variance`` if they are used."""
    if training or mean is None or variance is None:
        return batch_norm(inputs, mean, variance, weight, bias, training, momentum, eps)
    by_channel = (-1, *[1] * (inputs.ndim - 2))
    outputs = (inputs - mean.view(by_channel)) * (variance + eps).rsqrt().view(by_channel)
    if weight is not None:
        outputs = outputs * weight.view(by_channel)
    return outputs if bias is None else outputs + bias.view(by_channel)
