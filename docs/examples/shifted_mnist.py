"""A stream in one file: task i shows all digits shifted i pixels to the right, around the edge."""

from functools import partial

import torch

import clbench
from clbench.data import Dataset


def shift(pixels: int, images: torch.Tensor) -> torch.Tensor:
    """A view turns a batch of images, [n, channels, height, width], into inputs, in new memory."""
    return images.roll(pixels, dims=-1)


def shifted(data: Dataset, *, tasks: int, seed: int) -> clbench.Stream:
    """Digits shifted by one pixel more per task."""
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)
    all_tasks = [
        clbench.Task(
            train=clbench.Split(train, data.train_labels, partial(shift, i)),
            test=clbench.Split(test, data.test_labels, partial(shift, i)),
            name=f"shifted by {i}",
        )
        for i in range(tasks)
    ]
    return clbench.Stream("shifted-mnist", all_tasks, data.classes, tuple(train.shape[1:]))
