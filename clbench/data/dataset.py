"""A data set in memory."""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


def normalised(mean: tuple[float, ...], std: tuple[float, ...], images: Tensor) -> Tensor:
    """``(images / 255 - mean) / std`` by channel, in float32: images uint8 ``[..., channels, height, width]``."""
    means, stds = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (mean, std))
    return images.to(torch.float32).div_(255).sub_(means).div_(stds)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, with a fixed split for training and testing.

    Images are uint8 tensors ``[n, channels, height, width]`` as published (0 to 255), labels are int64 tensors
    ``[n]`` from 0 to ``classes - 1``. ``mean`` and ``std`` hold a number per channel, for pixels scaled to 0..1;
    ``inputs`` applies them.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def inputs(self, images: Tensor) -> Tensor:
        """The inputs of a network: ``(images / 255 - mean) / std`` by channel, in float32.

        ``images`` is a uint8 tensor ``[..., channels, height, width]``; the result is a new tensor of that shape on the
        same device.
        """
        return normalised(self.mean, self.std, images)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a SHA-256 over the four tensors, which change with any pixel, label or split."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]


class Watched(Dataset):
    """A data set that records whether its images or labels were used."""

    used = False

    def __getattribute__(self, name: str) -> Any:
        if name.endswith(("_images", "_labels")):
            object.__setattr__(self, "used", True)
        return super().__getattribute__(name)


Watched.__name__ = Dataset.__name__  # for errors in other people's functions, which get a Dataset


def watched(data: Dataset) -> Watched:
    """The same data set, which records its use from now on."""
    return Watched(**{field.name: getattr(data, field.name) for field in fields(data)})
