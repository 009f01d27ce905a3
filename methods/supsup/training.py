"""Training supermasks: real-valued scores that decide which weights are kept, with the gradient passing straight through the decision.

Scores of 0 or more (Mallya et al. 2018 with threshold 0, as in section 4.2): the effective weights are W * [score >= 0], and the gradient
of the loss with respect to a score is W * dL/dW_eff, as if the threshold were the identity. Or the largest by magnitude of each layer
(Ramanujan et al. 2019, edge-popup, as in section 4.1), as if the mask were the magnitude.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.networks import bare_twin, channels_last
from clbench.training import Optimiser, Step, Tensors, TrainingState

from .layout import Base
from .masking import Kept, flat, mask_of, straight_through

MULTIPLYING: tuple[type, ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class MaskTraining:
    """The training step of all masks on one random network: compiled once, whatever the number of tasks."""

    def __init__(
        self,
        base: Base,
        optimiser: Optimiser,
        *,
        kept: Kept | None = None,
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self.base = base
        self.optimiser = optimiser
        self.kept = kept
        twin = bare_twin(base.network)
        # The tensors that autocast would convert at each use anyway: the weights of layers that only multiply by them.
        multiplied = {f"{name}.weight".lstrip(".") for name, layer in twin.named_modules() if type(layer) in MULTIPLYING}

        def effective(scores: Tensors, given: dict[str, Any]) -> Tensors:
            weights = {name: given["scales"][name] * given["signs"][name] for name in scores}
            masks = {name: straight_through(score, None if kept is None else kept[name]) for name, score in scores.items()}
            masked = {name: weights[name] * masks[name] for name in scores}
            return {name: weight.to(precision) if name in multiplied else weight for name, weight in masked.items()}

        def loss(weights: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
            buffers = {name: buffer.clone() for name, buffer in given["buffers"].items()}
            logits = functional_call(twin, given["fixed"] | weights | buffers, (inputs,))
            return cross_entropy(logits.float(), labels), buffers

        self._loss, self._effective, self._precision = loss, effective, precision
        self.step = Step(loss, optimiser, precision=precision, compiled=compiled, effective=effective)
        self.step_together = Step(loss, optimiser, precision=precision, compiled=compiled, effective=effective, own=("buffers",))
        # A byte for each signed constant instead of four: moving its state takes a large part of a step's time.
        weights = base.layout.split(base.weights)
        self.signs = {name: weight.sign().to(torch.int8) for name, weight in weights.items()}
        self.scales = {name: weight.abs().max() for name, weight in weights.items()}
        self.fixed = {name: value for name, value in base.fixed.items() if value.is_floating_point()}

    def given(self, statistics: Tensor, counters: Tensors) -> dict[str, Any]:
        """What a step needs besides the scores: the random network, and a mask's statistics and counters."""
        buffers = self.base.statistics.split(statistics) | counters
        return {"signs": self.signs, "scales": self.scales, "fixed": self.fixed, "buffers": buffers}

    def fresh_counters(self) -> Tensors:
        """The integer buffers of the network (numbers of batches) as they are before training."""
        return {name: value for name, value in self.base.fixed.items() if not value.is_floating_point()}

    def loss_of(self, mask: Tensor, statistics: Tensor, inputs: Tensor, labels: Tensor) -> float:
        """The loss of a batch under a finished mask (bool [D]) as a step of its training would compute it. Nothing is changed."""
        given = self.given(statistics, self.fresh_counters())
        device, precision = inputs.device.type, self._precision
        with torch.no_grad(), torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
            weights = self._effective(self.base.layout.split(mask.float() - 0.5), given)
            return float(self._loss(weights, given, channels_last(inputs), labels)[0])

    def together(self, input_shape: tuple[int, ...]) -> bool:
        """Whether masks of several tasks can be trained at once, with the same result as one after another.

        This fails if the network draws random numbers (dropout) or if vmap does not support it (a branch on values): then a step raises.
        """
        scores = torch.zeros(2, self.base.layout.size, device=self.base.weights.device)
        statistics = self.base.fresh.expand(2, -1)
        inputs = torch.zeros(2, 2, *input_shape, device=scores.device)
        try:
            with torch.compiler.set_stance("force_eager"):
                LiveMask(self, scores, statistics).update(inputs, torch.zeros(2, 2, dtype=torch.int64, device=scores.device))
        except RuntimeError:
            return False
        return True


class Look(NamedTuple):
    """The loss of a batch before learning from it, a scalar; the buffers after its forward pass; the gradients."""

    loss: Tensor
    buffers: Tensors
    gradients: Tensors


class LiveMask:
    """The mask in training: its scores [D], its statistics [F] and the optimiser's state. Of other masks only the bits are stored.

    Or the masks of t tasks that are trained at once: scores [t, D], statistics [t, F].
    """

    def __init__(self, training: MaskTraining, scores: Tensor, statistics: Tensor) -> None:
        base = training.base
        self.training = training
        self.scores = scores.detach().to(base.weights.device, copy=True)
        self.statistics = statistics.clone()
        counters = training.fresh_counters()
        self.counters = {name: value.expand(scores.shape[:-1] + value.shape).clone() for name, value in counters.items()}
        self._named = base.layout.split(self.scores)  # views: changing them changes the scores
        self.optimiser = TrainingState(training.optimiser, self._named)

    def mask(self) -> Tensor:
        """The present mask, booleans [D] or [t, D]."""
        return flat(mask_of(self._named, self.training.kept)) if self.training.kept else self.scores >= 0

    def finished(self) -> list[tuple[Tensor, Tensor]]:
        """For each task its mask [D] and its statistics [F]."""
        return list(zip(torch.atleast_2d(self.mask()), torch.atleast_2d(self.statistics), strict=True))

    def update(self, inputs: Tensor, labels: Tensor, factor: float = 1.0) -> Tensor:
        """One step of the optimiser on one batch, or on one for each task. Returns the loss before it, a scalar or [t]."""
        training, together = self.training, self.scores.ndim == 2
        given = training.given(self.statistics, self.counters)
        step = training.step_together if together else training.step
        loss, buffers = step(self._named, given, self.optimiser, inputs, labels, factor)
        self._keep(buffers, together)
        return loss

    def look(self, inputs: Tensor, labels: Tensor) -> Look:
        """The loss of one batch, and what ``learn`` needs to learn from it. Nothing is changed."""
        given = self.training.given(self.statistics, self.counters)
        return Look(*self.training.step.look(self._named, given, self.optimiser, inputs, labels))

    def learn(self, look: Look) -> None:
        """Learn from the batch of the last ``look``: the two together are ``update``."""
        given = self.training.given(self.statistics, self.counters)
        self.training.step.learn(self._named, given, self.optimiser, look.gradients)
        self._keep(look.buffers, together=False)

    def _keep(self, buffers: Tensors, together: bool) -> None:
        """Keep the buffers after a forward pass."""
        statistics = self.training.base.statistics
        if buffers:
            self.statistics = statistics.join(buffers, batched=together) if statistics.shapes else self.statistics
            self.counters = {name: buffers[name] for name in self.counters}

    def progress(self) -> Tensors:
        """The tensors needed to resume training this mask, as copies: scores, statistics, counters and the optimiser's state."""
        state = {"scores": self.scores, "statistics": self.statistics}
        state |= {f"counter.{name}": value for name, value in self.counters.items()}
        state |= {f"optimiser.{name}": value for name, value in self.optimiser.tensors().items()}
        return {name: value.clone() for name, value in state.items()}

    def restore(self, progress: Tensors) -> None:
        """Restore the counters and the optimiser's state from ``progress()``; the scores and statistics were given to ``__init__``."""
        self.counters = {name: progress[f"counter.{name}"].to(value.device).clone() for name, value in self.counters.items()}
        prefix = "optimiser."
        self.optimiser.restore({name.removeprefix(prefix): value for name, value in progress.items() if name.startswith(prefix)})
