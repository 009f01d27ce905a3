"""The objectives of task inference, by name: what is small for the outputs of the right task.

To add one, write one entry in ``OBJECTIVES``. All functions take logits [..., s], of which the first ``classes`` carry labels and the
others are superfluous, and give [...].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

Function = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Objective:
    """``value`` is compared between tasks, each by itself: the lowest wins. ``slope`` is the function of the superposition's outputs whose
    derivative with respect to alpha says which task fits (equation 4); None if that derivative does not."""

    value: Function
    slope: Function | None
    needs_superfluous: bool = False


def entropy(logits: Tensor, classes: int) -> Tensor:
    """H, the entropy of the softmax outputs in nats."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def superfluous(logits: Tensor, classes: int) -> Tensor:
    """G of section 3.6, the logsumexp of all logits, without a gradient for the first ``classes``.

    For a superfluous output its derivative is the softmax probability, which is also the derivative of the cross-entropy (Lemma 1).
    """
    return torch.cat([logits[..., :classes].detach(), logits[..., classes:]], -1).logsumexp(-1)


def superfluous_value(logits: Tensor, classes: int) -> Tensor:
    """G as a value to compare between tasks: the logarithm of the probability of a superfluous output.

    It is the logsumexp of the superfluous outputs minus that of all outputs. The value of ``superfluous`` itself cannot be compared: it
    contains the true class's logit, which the right task makes large, and it changes if a number is added to all logits, which means
    nothing to a softmax.
    """
    return logits[..., classes:].logsumexp(-1) - logits.logsumexp(-1)


def largest_logit(logits: Tensor, classes: int) -> Tensor:
    """Minus the largest logit of a class (Hendrycks et al. 2022)."""
    return -logits[..., :classes].amax(-1)


def energy(logits: Tensor, classes: int) -> Tensor:
    """Minus the logsumexp of the classes' logits (Liu et al. 2020)."""
    return -logits[..., :classes].logsumexp(-1)


def margin(logits: Tensor, classes: int) -> Tensor:
    """Minus the difference of the two largest logits, of all outputs; 0 for one output."""
    largest = logits.topk(min(2, logits.shape[-1])).values
    return largest[..., -1] - largest[..., 0]


OBJECTIVES: dict[str, Objective] = {
    "H": Objective(entropy, entropy),
    "G": Objective(superfluous_value, superfluous, needs_superfluous=True),
    "logit": Objective(largest_logit, largest_logit),
    "energy": Objective(energy, energy),
    "margin": Objective(margin, None),
}

if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[*OBJECTIVES]


def slope_of(name: str) -> Function:
    """The function of the superposition's outputs to differentiate. The objective must have one."""
    function = OBJECTIVES[name].slope
    assert function is not None
    return function
