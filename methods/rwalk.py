"""RWalk, Riemannian walk: a penalty weighted by a moving Fisher information and by how much each parameter lowered the loss on its way.

    loss = cross-entropy + strength * sum_k (F_k + s_k) (theta_k - theta*_k)^2
    every ``interval`` updates: F <- alpha (mean of g^2) + (1 - alpha) F
                                s' <- s' + max(-sum of g * (change of theta), 0) / (F d^2 / 2 + epsilon)
    at a task's end:            s <- (s + s') / 2 (after the first task: s'),  theta* <- theta

(Chaudhry et al. 2018, equations 6 to 9). g is the gradient of the batch's cross-entropy, and d the change of theta in the interval. In
the penalty, F and s are each divided by their largest value, so that both lie between 0 and 1. F moves on from task to task; the penalty
has the values that it had at the last task's end. There is no 1/2 before the strength.

Deviations: as in the authors' code, F moves once an interval, with their decay of 0.9 (alpha = 0.1); it is computed from the gradient of
a batch's mean loss, so that it is cheap and smaller than the Fisher information of single images; the division by the largest value takes
that away. Negative contributions are dropped for each interval. No exemplars (the paper adds some of each class). The optimiser's state
passes from task to task, unless ``restart`` is on.

Stored to predict: the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``). Needed to
resume: F and s, each of the size of the network (in GG: of the trunk), and the optimiser's averages if ``restart`` is off.
"""

from typing import Literal

import torch
from torch import Tensor

from clbench.checks import above_zero, not_negative, positive
from clbench.errors import UserError
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split
from clbench.training import OPTIMISERS, Optimiser, Tensors

from ._a_gem_table import recipe
from ._check import for_check
from ._weights import WeightMethod


def along_the_way(inner: Optimiser, strength: float) -> Optimiser:
    """``inner`` on the loss with the penalty. The slots ``squares`` and ``fall`` are sums; the others are set from outside."""

    def rule(parameter: Tensor, gradient: Tensor, slots: Tensors, step: Tensor, factor: Tensor) -> None:
        before = parameter.clone()
        surrogate = 2 * strength * slots["importance"] * (parameter - slots["anchor"])
        inner.rule(parameter, gradient + surrogate, slots, step, factor)
        slots["fall"].sub_(gradient * (parameter - before))
        slots["squares"].add_(gradient * gradient)

    return Optimiser((*inner.slots, "importance", "anchor", "fisher", "squares", "fall", "since", "score"), rule)


def share_of_largest(tensors: Tensors) -> Tensors:
    """The tensors divided by the largest of all their values (0, if all are 0)."""
    largest = torch.stack([tensor.max() for tensor in tensors.values()]).max()
    return {name: tensor / largest.clamp(min=torch.finfo(tensor.dtype).tiny) for name, tensor in tensors.items()}


class RWalk(WeightMethod):
    """Riemannian walk, a penalty weighted by a moving Fisher information and path scores."""

    name = "rwalk"
    scenarios = frozenset({GG, GNS, GNU})
    citation = (
        "Chaudhry, Dokania, Ajanthan, Torr: Riemannian walk for incremental learning: understanding forgetting and intransigence. "
        "ECCV 2018"
    )
    recipes = (recipe({"strength": 1.0, "learning_rate": 0.1}), for_check({"restart": True, "interval": 10, "strength": 1.0}))

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float = 1.0,
        alpha: float = 0.1,
        interval: int = 50,
        epsilon: float = 1e-3,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``strength``: lambda; ``alpha``: how fast F follows the gradients, above 0 to 1; ``interval``: updates between scores;
        ``epsilon``: bounds the scores of parameters that hardly moved; ``optimiser`` with its defaults but for the ``learning_rate``;
        ``restart``: whether it is re-initialised for each task."""
        not_negative(strength=strength)
        above_zero(epsilon=epsilon)
        positive(interval=interval)
        if not 0 < alpha <= 1:
            raise UserError(f"alpha must be above 0 and at most 1, not {alpha}.")
        inner = OPTIMISERS[optimiser](learning_rate)
        super().__init__(brief, optimiser=along_the_way(inner, strength), restart=restart)
        self.averages = inner.slots
        self.alpha = alpha
        self.interval = interval
        self.epsilon = epsilon
        self.fisher: Tensors = {}
        self.score: Tensors = {}

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.fisher, self.score = self.widened(self.fisher), self.widened(self.score)
        shares = [share_of_largest(tensors) for tensors in (self.fisher, self.score) if tensors]
        for name, slots in self.state.slots.items():
            slots["anchor"].copy_(self.trained[name])
            slots["since"].copy_(self.trained[name])
            if name in self.fisher:
                slots["fisher"].copy_(self.fisher[name])
                slots["importance"].copy_(torch.stack([share[name] for share in shares]).sum(0))

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        loss = super().update(inputs, labels)
        if self.rate.done % self.interval == 0:
            self.measure()
        return loss

    def measure(self) -> None:
        """Move F, and add to the scores what parameters contributed in this interval, for the distance that they moved."""
        for name, slots in self.state.slots.items():
            first = not slots["fisher"].any()  # the moving average begins with the first value
            slots["fisher"].lerp_(slots["squares"] / self.interval, 1.0 if first else self.alpha)
            moved = self.trained[name] - slots["since"]
            slots["score"] += slots["fall"].clamp(min=0) / (slots["fisher"] * moved.square() / 2 + self.epsilon)
            slots["fall"].zero_()
            slots["squares"].zero_()
            slots["since"].copy_(self.trained[name])

    def end_task(self, data: Split) -> None:
        for name in self.lasting:
            slots = self.state.slots[name]
            self.fisher[name] = slots["fisher"].clone()
            self.score[name] = (self.score[name] + slots["score"]) / 2 if name in self.score else slots["score"].clone()

    # State

    def progress(self) -> Tensors:
        measured = {"fisher": self.narrowed(self.fisher), "score": self.narrowed(self.score)}
        return super().progress() | {
            f"{what}.{name}": tensor for what, tensors in measured.items() for name, tensor in tensors.items()
        }

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        for what, tensors in {"fisher.": self.fisher, "score.": self.score}.items():
            tensors |= {
                name.removeprefix(what): tensor.to(self.brief.device, copy=True)
                for name, tensor in (progress or {}).items()
                if name.startswith(what)
            }
