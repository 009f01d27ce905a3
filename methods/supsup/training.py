"""Training one supermask: real-valued scores, thresholded at 0, with the gradient passed straight through the threshold.

Mallya et al. 2018 with threshold 0, as in section 4.2. The effective weights are W * [score >= 0]; the gradient of the loss with respect
to a score is W * dL/dW_eff, as if the threshold were the identity.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .layout import Base


class LiveMask:
    """The mask in training: its scores [D], the statistics [F] that it gathers, and the optimiser's state. Others keep only bits."""

    def __init__(self, base: Base, scores: Tensor, statistics: Tensor, learning_rate: float, precision: torch.dtype) -> None:
        self.base = base
        self.precision = precision
        self.scores = nn.Parameter(scores.to(base.weights.device))
        self.statistics = statistics.clone()
        self.counters = {name: value.clone() for name, value in base.fixed.items() if not value.is_floating_point()}
        self.optimiser = torch.optim.RMSprop([self.scores], lr=learning_rate)

    def mask(self) -> Tensor:
        """The present mask, booleans [D]."""
        return self.scores.detach() >= 0

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """One step of the optimiser on one batch. Returns the loss before it."""
        base = self.base
        effective = (base.weights * self.mask()).requires_grad_()
        state = base.state(effective, self.statistics) | self.counters
        base.network.train()
        with torch.autocast(inputs.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            logits = functional_call(base.network, state, (inputs,))
        base.network.eval()
        loss = nn.functional.cross_entropy(logits.float(), labels)
        (gradient,) = torch.autograd.grad(loss, effective)
        self.scores.grad = base.weights * gradient
        self.optimiser.step()
        return loss.detach()

    def progress(self) -> dict[str, Tensor]:
        """What is needed to go on training this mask, as copies: scores, statistics and counters, and the optimiser's state."""
        kept = {"scores": self.scores.detach(), "statistics": self.statistics}
        kept |= {f"counter.{name}": value for name, value in self.counters.items()}
        kept |= {f"rmsprop.{name}": value for name, value in self.optimiser.state_dict()["state"].get(0, {}).items()}
        return {name: value.clone() for name, value in kept.items()}

    def restore(self, progress: dict[str, Tensor]) -> None:
        """Take up the counters and the optimiser's state that ``progress`` gave, beside the scores and statistics given already."""
        self.counters = {name: progress[f"counter.{name}"].to(value.device).clone() for name, value in self.counters.items()}
        kept = {name.removeprefix("rmsprop."): value.clone() for name, value in progress.items() if name.startswith("rmsprop.")}
        if kept:
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": {0: kept}})
