"""DER++, dark experience replay (Buzzega et al. 2020): stored images are replayed with the logits that the network had for them.

    loss = cross-entropy of the batch + alpha * mean of (f(x) - z)^2 over replayed images and outputs + beta * their cross-entropy

(equation 6 of the paper). z are the logits of x when it was stored. The two replayed
batches are drawn independently. With ``beta`` 0 it is DER. The memory is a reservoir (see ``_reservoir.py``), which needs no task: it
serves NNs like the other scenarios.

Deviations: in GG and GNu the logits of outputs that came after an image was stored are not compared (the authors' network has all
outputs from the start); z is computed in evaluation mode; the replayed batch is drawn with replacement. The optimiser's state passes from
task to task, unless ``restart`` is on.

Stored to predict: the network, with outputs for each task in GG and GNu. Needed to resume: the images in memory (float32) with their labels
and logits, the number of images shown, and the optimiser's averages if ``restart`` is off.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from clbench.checks import not_negative, positive
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.training import OPTIMISERS, Tensors, named, part

from ._check import for_check
from ._one_layer import OneLayerMethod
from ._reservoir import Reservoir


class DarkReservoir(Reservoir):
    """A reservoir that also holds the ``logits`` of each image, nan for outputs that did not exist then."""

    def __init__(self, size: int, input_shape: tuple[int, ...], seed: int, device: torch.device) -> None:
        super().__init__(size, input_shape, seed, device)
        self.logits = torch.empty(size, 0, device=device)

    def store(self, inputs: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Show a batch with its logits [n, outputs]."""
        self.logits = self.wide(self.logits, logits.shape[1])
        places, rows = self.add(inputs, labels)
        self.logits[places] = self.wide(logits[rows], self.logits.shape[1])

    def wide(self, logits: Tensor, outputs: int) -> Tensor:
        """Logits [n, ...] with columns of nan up to ``outputs``."""
        return pad(logits, (0, max(0, outputs - logits.shape[1])), value=float("nan"))

    def tensors(self) -> Tensors:
        return super().tensors() | {"logits": self.logits[: len(self)].clone()}

    def restore(self, tensors: Tensors) -> None:
        super().restore(tensors)
        self.logits = self.logits.new_full((len(self.labels), tensors["logits"].shape[1]), float("nan"))
        self.logits[: len(self)] = tensors["logits"].to(self.logits.device)


class DER(OneLayerMethod):
    """Dark experience replay of images, logits and labels."""

    name = "der++"
    scenarios = frozenset({GG, GNS, GNU, NNS})
    citation = (
        "Buzzega, Boschini, Porrello, Abati, Calderara: Dark experience for general continual learning: a strong, simple baseline. "
        "NeurIPS 2020"
    )
    recipes = (for_check({"restart": True}),)

    def __init__(
        self,
        brief: Brief,
        *,
        memory: int = 1000,
        replay_batch: int = 128,
        alpha: float = 1.0,
        beta: float = 0.5,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``memory``: images kept, of all tasks together; ``replay_batch``: images in each of the two replayed batches; ``alpha`` and
        ``beta``: the weights of logits and labels; ``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it
        is re-initialised for each given task."""
        positive(memory=memory, replay_batch=replay_batch)
        not_negative(alpha=alpha, beta=beta)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.memory = DarkReservoir(memory, brief.input_shape, brief.seed, brief.device)
        self.replay_batch = replay_batch
        self.alpha = alpha
        self.beta = beta
        self.targets: Tensor | None = None

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Take one step on the batch with two replayed ones, then show the batch to the memory."""
        memory, replayed = self.memory, list[Tensor]()
        if len(memory):
            replayed = [memory.rows(self.replay_batch, purpose) for purpose in ("replay logits", "replay")]
            width = len(self.trained[self.head[0]])
            self.targets = memory.wide(memory.logits[replayed[0]], width)[:, :width]
        with torch.no_grad():
            logits = self.evaluated(self.trained, inputs)
        together = [
            torch.cat([batch, *(stored[rows] for rows in replayed)])
            for batch, stored in ((inputs, memory.inputs), (labels, memory.labels))
        ]
        loss = super().update(*together)
        memory.store(inputs, labels, logits)
        return loss

    def given(self) -> dict[str, Any]:
        return {} if self.targets is None else {"targets": self.targets}

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        """The loss of a batch, followed by a batch replayed with logits and one replayed with labels."""
        if "targets" not in given:
            return super().objective(logits, labels, given)
        size = len(given["targets"])
        known = ~given["targets"].isnan()
        # Outputs that do not compete are -inf: where a logit is not known, nothing is compared.
        present = torch.where(known, logits[-2 * size : -size], 0.0)
        dark = (present - given["targets"].nan_to_num()).square().sum() / known.sum()
        batch = super().objective(logits[: -2 * size], labels[: -2 * size], given)
        replayed = super().objective(logits[-size:], labels[-size:], given)
        return batch + self.alpha * dark + self.beta * replayed

    def progress(self) -> Tensors:
        """The memory, and the optimiser's state."""
        return super().progress() | {f"memory.{name}": tensor for name, tensor in self.memory.tensors().items()}

    def task_progress(self) -> Tensors | None:
        return (super().task_progress() or {}) | named(memory=self.memory.tensors())

    def restore_task(self, progress: Tensors) -> None:
        super().restore_task(progress)
        self.memory.restore(part("memory", progress, self.brief.device))

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        if progress is not None:
            names = ("inputs", "labels", "shown", "logits")
            self.memory.restore({name: progress[f"memory.{name}"] for name in names})
