"""Task inference (sections 3.3 and 3.6): which of k masks fits these images?

Every algorithm looks at q groups of images at once, [q, e, *input_shape]: the e images of a group are evidence for one decision. The
superposition of all masks with coefficients alpha gives outputs p(alpha) (equation 2); an objective of p is differentiated with respect
to alpha. With W the frozen weights, the derivative with respect to alpha_i is <M_i, W * dH/dW_eff>: one backward pass through the
superposed network and one inner product per stored mask, whatever k is.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.functional import batch_norm
from torch.overrides import TorchFunctionMode

from clbench.training import Tensors

from .bank import MaskBank
from .layout import Base

GRADIENT_BYTES = 512 * 2**20
"""The most memory that the gradients of the groups in hand take: more groups are looked at one part after another."""

Objective = Callable[[Tensor, int], Tensor]


def entropy(logits: Tensor, classes: int) -> Tensor:
    """H, the entropy of the softmax outputs in nats: logits [..., s] give [...]."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def superfluous(logits: Tensor, classes: int) -> Tensor:
    """G of section 3.6: logsumexp of all logits, with the gradient masked for the first ``classes``: [..., s] give [...].

    For a superfluous output its derivative is the softmax probability, which is also the derivative of the cross-entropy (Lemma 1).
    """
    return torch.cat([logits[..., :classes].detach(), logits[..., classes:]], -1).logsumexp(-1)


def superfluous_value(logits: Tensor, classes: int) -> Tensor:
    """What G means as a value to compare between masks: logsumexp of the superfluous outputs alone.

    The value of ``superfluous`` itself contains the true class's logit, which the right mask makes large.
    """
    return logits[..., classes:].logsumexp(-1)


GRADIENT_OBJECTIVES: dict[str, Objective] = {"H": entropy, "G": superfluous}
VALUE_OBJECTIVES: dict[str, Objective] = {"H": entropy, "G": superfluous_value}


class _DifferentiableStatistics(TorchFunctionMode):
    """Inside it, batch normalisation with given statistics is plain arithmetic: PyTorch's own has no derivative by the statistics."""

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
    """``torch.nn.functional.batch_norm``, with derivatives by ``mean`` and ``variance`` where they are used."""
    if training or mean is None or variance is None:
        return batch_norm(inputs, mean, variance, weight, bias, training, momentum, eps)
    by_channel = (-1, *[1] * (inputs.ndim - 2))
    outputs = (inputs - mean.view(by_channel)) * (variance + eps).rsqrt().view(by_channel)
    if weight is not None:
        outputs = outputs * weight.view(by_channel)
    return outputs if bias is None else outputs + bias.view(by_channel)


def superposed_gradient(
    base: Base, masks: Tensor, statistics: Tensor, groups: Tensor, objective: str, classes: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """The gradient of the objective, averaged over each group's images, with respect to a superposition: [q, D] and [q, F].

    The superposition is ``masks`` [D] and ``statistics`` [F], shared by all groups, or [q, D] and [q, F], one for each. The gradient with
    respect to the masks is W * dH/dW_eff, given in ``dtype``.
    """
    value = GRADIENT_OBJECTIVES[objective]

    def of_group(weights: Tensors, statistics: Tensors, images: Tensor) -> Tensor:
        logits = functional_call(base.network, base.fixed | weights | statistics, (images,))
        return value(logits, classes).mean()

    each = None if masks.ndim == 1 else 0
    with _DifferentiableStatistics():
        by_weights, by_statistics = vmap(grad(of_group, argnums=(0, 1)), in_dims=(each, each, 0))(
            base.layout.split(base.weights * masks), base.statistics.split(statistics), groups
        )
    # W is multiplied in where the pieces are laid end to end: one pass over q * D numbers instead of three.
    by_masks = torch.empty(len(groups), base.layout.size, dtype=dtype, device=groups.device)
    for (name, part), weights in zip(base.layout.split(by_masks).items(), base.layout.split(base.weights).values(), strict=True):
        torch.mul(by_weights[name], weights, out=part)
    return by_masks, base.statistics.join(by_statistics, batched=True) if by_statistics else by_masks.new_empty(
        len(groups), 0
    ).float()


def alpha_gradient(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int, alpha: Tensor | None) -> Tensor:
    """The derivative of the objective with respect to every alpha, for each group: [q, k].

    ``alpha``: [q, k], or None for 1/k everywhere, where the running sum of the masks serves all groups.
    """
    masks, statistics = bank.mean() if alpha is None else bank.superpose(alpha)
    return bank.inner(*superposed_gradient(base, masks, statistics, groups, objective, classes, bank.dtype))


def one_shot(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int) -> Tensor:
    """Equation 4: the mask along which the objective falls most steeply at alpha = 1/k; int64 [q]."""
    return alpha_gradient(base, bank, groups, objective, classes, None).argmin(1)


def binary(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int) -> Tensor:
    """The Binary algorithm: each round rules out the half of the candidates along which the objective falls least; int64 [q].

    Candidates are halved by rank, so that ties cannot stall it: ceil(log2 k) rounds.
    """
    alive = torch.ones(len(groups), len(bank), dtype=torch.bool, device=groups.device)
    count = len(bank)
    while count > 1:
        # Where all are alive alpha is uniform for every group, and one superposition serves them all.
        alpha = None if count == len(bank) else alive / count
        slope = alpha_gradient(base, bank, groups, objective, classes, alpha).masked_fill(~alive, math.inf)
        count = -(-count // 2)
        alive = torch.zeros_like(alive).scatter_(1, slope.topk(count, largest=False).indices, True)
    return alive.int().argmax(1)


def gradient_descent(
    base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int, *, steps: int, step_size: float
) -> Tensor:
    """Equation 3: ``steps`` steps down the gradient of alpha, each clipped at 0 and renormalised to sum to 1; the largest wins."""
    alpha = torch.full((len(groups), len(bank)), 1 / len(bank), device=groups.device)
    for _ in range(steps):
        slope = alpha_gradient(base, bank, groups, objective, classes, alpha)
        moved = (alpha - step_size * slope).clamp(min=0)
        total = moved.sum(1, keepdim=True)
        # A step so long that every coefficient falls below 0 has no renormalisation: that group stays where it was.
        alpha = torch.where(total > 0, moved / total.clamp(min=torch.finfo(moved.dtype).tiny), alpha)
    return alpha.argmax(1)


def exhaustive(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int) -> Tensor:
    """Every mask tried by itself (k forward passes): the one with the lowest value of the objective; int64 [q]."""
    value = VALUE_OBJECTIVES[objective]
    images = groups.flatten(0, 1)
    best = torch.full((len(groups),), math.inf, device=groups.device)
    chosen = torch.zeros(len(groups), dtype=torch.int64, device=groups.device)
    with torch.no_grad():
        for row in range(len(bank)):
            state = base.state(base.weights * bank.mask(row), bank.statistics(row))
            values = value(functional_call(base.network, state, (images,)), classes).view(groups.shape[:2]).mean(1)
            chosen = torch.where(values < best, row, chosen)
            best = torch.minimum(best, values)
    return chosen


Algorithm = Callable[..., Tensor]
ALGORITHMS: dict[str, Algorithm] = {
    "one-shot": one_shot,
    "binary": binary,
    "gradient": gradient_descent,
    "exhaustive": exhaustive,
}


def infer_tasks(
    base: Base,
    bank: MaskBank,
    inputs: Tensor,
    classes: int,
    *,
    algorithm: str,
    objective: str,
    group: int,
    evidence: int,
    **how: float,
) -> Tensor:
    """The inferred task of each of n inputs, int64 [n]: ``group`` consecutive inputs share one, decided by the first ``evidence``."""
    infer = ALGORITHMS[algorithm]
    whole = len(inputs) // group
    # The last group may be smaller, and then has fewer images to offer as evidence.
    parts = [inputs[: whole * group].unflatten(0, (whole, group))[:, :evidence]] if whole else []
    parts += [inputs[whole * group :][None, :evidence]] if len(inputs) % group else []
    at_a_time = max(1, GRADIENT_BYTES // (4 * base.layout.size))
    decisions = [infer(base, bank, some, objective, classes, **how) for part in parts for some in part.split(at_a_time)]
    return torch.cat(decisions).repeat_interleave(group)[: len(inputs)]
