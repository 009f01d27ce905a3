"""Task inference (sections 3.3 and 3.6): which of k masks fits these images?

Every algorithm takes q groups of images at once, [q, e, *input_shape]: the e images of a group are the evidence for one decision. The
superposition of all masks with coefficients alpha gives outputs p(alpha) (equation 2), and an objective of p is differentiated with respect
to alpha. With W the frozen weights, the derivative with respect to alpha_i is <M_i, W * dH/dW_eff>: one backward pass through the
superposed network and one inner product per stored mask, whatever k is.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from clbench.training import Tensors

from .. import _inference
from .._inference import GRADIENT_BYTES, DifferentiableStatistics, Inference, decide
from .._objectives import OBJECTIVES, slope_of
from .bank import MaskBank
from .layout import Base


def superposed_gradient(
    base: Base, masks: Tensor, statistics: Tensor, groups: Tensor, objectives: Sequence[str], classes: int
) -> tuple[Tensor, Tensor]:
    """The gradients of o objectives, averaged over each group's images, with respect to a superposition: [o, q, D] and [o, q, F].

    The superposition is ``masks`` [D] and ``statistics`` [F], shared by all groups, or [q, D] and [q, F], one for each group. The
    gradient with respect to the masks is W * dH/dW_eff. The objectives share the forward pass.
    """

    def of_group(weights: Tensors, statistics: Tensors, images: Tensor) -> list[tuple[Tensors, Tensors]]:
        def values(weights: Tensors, statistics: Tensors) -> Tensor:
            logits = functional_call(base.network, base.fixed | weights | statistics, (images,))
            return torch.stack([slope_of(objective)(logits, classes).mean() for objective in objectives])

        pull_back = vjp(values, weights, statistics)[1]
        return [pull_back(unit) for unit in torch.eye(len(objectives), device=images.device)]

    by_group = None if masks.ndim == 1 else 0
    with DifferentiableStatistics():
        gradients = vmap(of_group, in_dims=(by_group, by_group, 0))(
            base.layout.split(base.weights * masks), base.statistics.split(statistics), groups
        )
    # Multiply by W while copying the layers end to end: one pass over q * D numbers instead of three.
    by_masks = torch.empty(len(objectives), len(groups), base.layout.size, device=groups.device)
    by_statistics = torch.empty(len(objectives), len(groups), base.statistics.size, device=groups.device)
    for place, (by_weights, by_buffers) in enumerate(gradients):
        for (name, place_of_layer), weights in zip(
            base.layout.split(by_masks[place]).items(), base.layout.split(base.weights).values(), strict=True
        ):
            torch.mul(by_weights[name], weights, out=place_of_layer)
        for name, place_of_buffer in base.statistics.split(by_statistics[place]).items():
            place_of_buffer.copy_(by_buffers[name])
    return by_masks, by_statistics


def alpha_gradient(
    base: Base, bank: MaskBank, groups: Tensor, objectives: Sequence[str], classes: int, alpha: Tensor | None
) -> Tensor:
    """The derivatives of o objectives with respect to every alpha, for each group: [o, q, k].

    ``alpha``: [q, k], or None for 1/k everywhere; then the running sum of the masks serves all groups.
    """
    masks, statistics = bank.mean() if alpha is None else bank.superpose(alpha)
    by_masks, by_statistics = superposed_gradient(base, masks, statistics, groups, objectives, classes)
    return bank.inner(by_masks.flatten(0, 1), by_statistics.flatten(0, 1)).unflatten(0, by_masks.shape[:2])


def one_shot(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int) -> Tensor:
    """Equation 4: the mask along which the objective falls most steeply at alpha = 1/k; int64 [q]."""
    return alpha_gradient(base, bank, groups, [objective], classes, None)[0].argmin(1)


def binary(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int) -> Tensor:
    """The Binary algorithm, halving the masks; int64 [q]."""
    return _inference.binary(lambda alpha: alpha_gradient(base, bank, groups, [objective], classes, alpha)[0], groups, len(bank))


def gradient_descent(
    base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int, *, steps: int = 10, step_size: float = 0.1
) -> Tensor:
    """Equation 3: ``steps`` steps down the gradient of alpha, each clipped at 0 and renormalised to sum to 1; the largest wins."""
    alpha = torch.full((len(groups), len(bank)), 1 / len(bank), device=groups.device)
    for _ in range(steps):
        (slope,) = alpha_gradient(base, bank, groups, [objective], classes, alpha)
        moved = (alpha - step_size * slope).clamp(min=0)
        total = moved.sum(1, keepdim=True)
        # If a step takes every coefficient below 0, they cannot be renormalised: that group keeps its alpha.
        alpha = torch.where(total > 0, moved / total.clamp(min=torch.finfo(moved.dtype).tiny), alpha)
    return alpha.argmax(1)


def exhaustive(base: Base, bank: MaskBank, groups: Tensor, objective: str, classes: int) -> Tensor:
    """Try every mask by itself (k forward passes), and take the one with the lowest value of the objective; int64 [q]."""
    value = OBJECTIVES[objective].value
    images = groups.flatten(0, 1)
    best = torch.full((len(groups),), math.inf, device=groups.device)
    best_rows = torch.zeros(len(groups), dtype=torch.int64, device=groups.device)
    with torch.no_grad():
        for row in range(len(bank)):
            state = base.state(base.weights * bank.mask(row), bank.statistics(row))
            values = value(functional_call(base.network, state, (images,)), classes).view(groups.shape[:2]).mean(1)
            best_rows = torch.where(values < best, row, best_rows)
            best = torch.minimum(best, values)
    return best_rows


def values_by_way(base: Base, bank: MaskBank, inputs: Tensor, classes: int) -> dict[str, Tensor]:
    """What three ways to decide compare for each of n inputs alone, [n, k]: the mask with the lowest value is chosen.

    ``one-shot H`` and ``one-shot G``: the derivatives with respect to alpha at 1/k (equation 4); ``exhaustive H``: the entropy under each
    mask.
    """
    slopes = alpha_gradient(base, bank, inputs[:, None], ["H", "G"], classes, None)
    with torch.no_grad():
        states = (base.state(base.weights * bank.mask(row), bank.statistics(row)) for row in range(len(bank)))
        entropies = [OBJECTIVES["H"].value(functional_call(base.network, state, (inputs,)), classes) for state in states]
    return {"one-shot H": slopes[0], "one-shot G": slopes[1], "exhaustive H": torch.stack(entropies, 1)}


Algorithm = Callable[..., Tensor]
ALGORITHMS: dict[str, Algorithm] = {
    "one-shot": one_shot,
    "binary": binary,
    "gradient": gradient_descent,
    "exhaustive": exhaustive,
}


def infer_tasks(base: Base, bank: MaskBank, inputs: Tensor, classes: int, how: Inference, alone: bool = True) -> Tensor:
    """The inferred task of each of n inputs, int64 [n], by groups.

    ``alone``: whether the network takes one image by itself.
    """
    steps = {"steps": how.steps, "step_size": how.step_size} if how.algorithm == "gradient" else {}
    given = {name: value for name, value in steps.items() if value is not None}

    def infer(groups: Tensor) -> Tensor:
        return ALGORITHMS[how.algorithm](base, bank, groups, how.objective, classes, **given)

    return decide(infer, inputs, group=how.group, evidence=how.evidence, at_a_time=at_a_time(base), alone=alone)


def infer_from_one_image(
    base: Base, bank: MaskBank, inputs: Tensor, classes: int, inferences: Sequence[tuple[int, Inference]]
) -> list[Tensor]:
    """One-Shot with one image of evidence, for several asks in one pass: for each the inferred tasks, int64 [count].

    An ask is about the first ``count`` inputs: ``group`` consecutive ones share the task of the first of them.
    Work that asks share is done once: a decision about the same image, and the forward pass of the two objectives.
    """
    asks = [(count, how.objective, min(how.group, count)) for count, how in inferences]
    objectives = sorted({objective for _, objective, _ in asks})
    decided = {objective: torch.full((len(inputs),), -1, device=inputs.device) for objective in objectives}
    pending = {objective: torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device) for objective in objectives}
    for count, objective, group in asks:
        pending[objective][:count:group] = True
    for subset in [subset for number in range(len(objectives)) for subset in combinations(objectives, number + 1)]:
        # The images about which exactly these objectives decide.
        rows = torch.stack([pending[o] == (o in subset) for o in objectives]).all(0).nonzero().squeeze(1)
        for images in rows.split(max(1, at_a_time(base) // len(subset))) if len(rows) else ():
            slopes = alpha_gradient(base, bank, inputs[images][:, None], subset, classes, None)
            for objective, slope in zip(subset, slopes, strict=True):
                decided[objective][images] = slope.argmin(1)
    return [decided[objective][:count:group].repeat_interleave(group)[:count] for count, objective, group in asks]


def at_a_time(base: Base) -> int:
    """The number of groups in one pass."""
    return max(1, GRADIENT_BYTES // (4 * base.layout.size))
