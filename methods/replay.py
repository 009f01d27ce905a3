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
from clbench.seeding import generator
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._one_layer import OneLayerMethod


class Reservoir:
    """A uniform sample of ``size`` of the images shown so far. ``seed`` and the number of images shown determine its draws."""

    def __init__(self, size: int, input_shape: tuple[int, ...], seed: int, device: torch.device) -> None:
        self.inputs = torch.empty(size, *input_shape, device=device)
        self.labels = torch.empty(size, dtype=torch.int64, device=device)
        self.seed = seed
        self.shown = 0

    def __len__(self) -> int:
        return min(self.shown, len(self.labels))

    def add(self, inputs: Tensor, labels: Tensor) -> tuple[list[int], list[int]]:
        """Show a batch: image number n replaces a random one with probability size / n (Vitter's algorithm R).

        Returns the places that changed, and the rows of the batch that are now there.
        """
        size = len(self.labels)
        numbers = torch.arange(self.shown, self.shown + len(labels), dtype=torch.float64)
        uniform = torch.rand(len(labels), generator=generator(self.seed, "reservoir", self.shown), dtype=torch.float64)
        slots = torch.where(numbers < size, numbers, uniform * (numbers + 1)).long().tolist()
        # If two images of a batch get the same slot, the later one stays: a dictionary keeps the last.
        placed = {slot: row for row, slot in enumerate(slots) if slot < size}
        self.shown += len(labels)
        places, rows = list(placed), list(placed.values())
        self.inputs[places] = inputs[rows]
        self.labels[places] = labels[rows]
        return places, rows

    def rows(self, images: int, purpose: str = "replay") -> Tensor:
        """Draw that many places, int64 [images], uniformly with replacement."""
        draws = generator(self.seed, purpose, self.shown)
        return torch.randint(len(self), (images,), generator=draws).to(self.labels.device)

    def draw(self, images: int) -> tuple[Tensor, Tensor]:
        """Draw that many images, with their labels, uniformly with replacement."""
        rows = self.rows(images)
        return self.inputs[rows], self.labels[rows]

    def tensors(self) -> Tensors:
        """The content by name, to store on disk."""
        shown = torch.tensor(self.shown)
        return {"inputs": self.inputs[: len(self)].clone(), "labels": self.labels[: len(self)].clone(), "shown": shown}

    def restore(self, tensors: Tensors) -> None:
        """Restore the content from ``tensors()``."""
        self.shown = int(tensors["shown"])
        self.inputs[: len(self)] = tensors["inputs"].to(self.inputs.device)
        self.labels[: len(self)] = tensors["labels"].to(self.labels.device)


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

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        if progress is not None:
            self.memory.restore({name: progress[f"memory.{name}"] for name in ("inputs", "labels", "shown")})
