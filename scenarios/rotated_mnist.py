"""RotatedMNIST: task i shows all digits rotated by i * 10 degrees, by nearest neighbour; 36 tasks close the circle (section 4.2).

The stream seed has no effect: the tasks are fixed. With ``--flow drift=true`` the angle changes from batch to batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from clbench._torchvision import import_torchvision
from clbench.data import Dataset
from clbench.stream import Stream

from ._mnist import background, mnist_streams, pixel_map, task_maker

STEP = 10
"""Degrees between neighbouring tasks."""


def rotation(degrees: float, height: int, width: int) -> torch.Tensor:
    """For each pixel, the pixel that it is filled from when torchvision rotates an image by nearest neighbour; -1 if that is outside."""
    functional = import_torchvision().transforms.functional
    numbers = torch.arange(height * width, dtype=torch.float32).view(1, height, width)
    return functional.rotate(numbers, degrees, functional.InterpolationMode.NEAREST, fill=-1).long().flatten()


def rotated(name: str, data: Dataset, *, tasks: int, seed: int) -> Stream:
    """The first ``tasks`` rotations of ``data``."""
    _, channels, height, width = data.train_images.shape
    black, make = background(data), task_maker(data)
    all_tasks = [make(f"{STEP * i}°", pixel_map(rotation(STEP * i, height, width), black)) for i in range(tasks)]

    def between(place: float) -> Callable[[Tensor], Tensor]:
        """The rotation by ``STEP`` * ``place`` degrees."""
        return pixel_map(rotation(STEP * place, height, width), black)

    return Stream(name, all_tasks, data.classes, (channels, height, width), between=between)


STREAMS = mnist_streams(
    "rotated",
    rotated,
    "rotated by 10 degrees more per task",
    most_tasks=360 // STEP,
    fixed="the rotations come in the order of their angles",
)
