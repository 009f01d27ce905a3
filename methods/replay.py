"""Experience replay with a reservoir (Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning"; Rolnick et al. 2019).

    loss = mean cross-entropy of the present batch and a batch drawn from the memory, taken together

The memory is a reservoir (Vitter 1985, algorithm R): each of the n images shown so far is in it with probability memory / n, whatever the
tasks are and wherever they end. The method therefore needs no task, and serves NNs like the other scenarios. A stored image keeps its
task's label: it is replayed with its task's head (GG) or outputs (GNu).

Deviations: several passes over a task's data are made, and an image that is shown twice counts twice; the replayed batch is drawn with
replacement, so that its size is the same from the second batch on.

Stored to predict: the network, with outputs for each task in GG and GNu. Needed to resume: the images in memory as the network saw them
(float32) with their labels, the number of images shown, and the optimiser's averages if ``restart`` is off.
"""

from typing import Literal

import torch
from torch import Tensor

from clbench.checks import positive
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.training import OPTIMISERS, Tensors, named, part

from ._check import for_check
from ._one_layer import OneLayerMethod
from ._reservoir import Reservoir


class Replay(OneLayerMethod):
    """Experience replay from a reservoir of images."""

    name = "replay"
    scenarios = frozenset({GG, GNS, GNU, NNS})
    citation = "Chaudhry et al.: On Tiny Episodic Memories in Continual Learning. 2019"
    recipes = (for_check({"restart": True}),)

    def __init__(
        self,
        brief: Brief,
        *,
        memory: int = 1000,
        replay_batch: int = 128,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``memory``: images kept, of all tasks together; ``replay_batch``: images replayed with each batch; ``optimiser`` with its
        defaults but for the ``learning_rate``; ``restart``: whether it is re-initialised for each given task."""
        positive(memory=memory, replay_batch=replay_batch)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.memory = Reservoir(memory, brief.input_shape, brief.seed, brief.device)
        self.replay_batch = replay_batch

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Take one step on the batch together with one from memory, then show the batch to the memory."""
        replayed = [self.memory.draw(self.replay_batch)] if len(self.memory) else []
        both_inputs, both_labels = (torch.cat(tensors) for tensors in zip((inputs, labels), *replayed, strict=True))
        loss = super().update(both_inputs, both_labels)
        self.memory.add(inputs, labels)
        return loss

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
            self.memory.restore({name: progress[f"memory.{name}"] for name in ("inputs", "labels", "shown")})
