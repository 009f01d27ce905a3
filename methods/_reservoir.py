"""Shared by the methods that replay images: a reservoir, which is a uniform sample of all images shown (Vitter 1985, algorithm R)."""

import torch
from torch import Tensor

from clbench.seeding import generator
from clbench.training import Tensors


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
