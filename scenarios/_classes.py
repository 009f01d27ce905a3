"""Shared by the streams that assign the classes of a data set to tasks at random, and by those that augment photographs."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from clbench.data import Dataset
from clbench.data.dataset import normalised
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Split, Stream, Task

BORDER = 4
"""Black pixels added on each side before an image is cropped to its original size."""


def dealt(classes: int, per_task: int, tasks: int, seed: int, what: str) -> list[list[int]]:
    """``per_task`` classes for each of ``tasks`` tasks, no class twice, drawn from ``seed``; ``UserError`` if there are too few."""
    if per_task > classes:
        raise UserError(f"A task has {per_task} classes, and {what} has {classes} in all: give data with more classes.")
    if tasks * per_task > classes:
        raise UserError(
            f"{tasks} tasks of {per_task} classes need {tasks * per_task} classes, and {what} has {classes}: ask for fewer tasks."
        )
    order = torch.randperm(classes, generator=generator(seed, "classes"))
    return order[: tasks * per_task].view(tasks, per_task).tolist()


def split_classes(
    name: str,
    data: Dataset,
    *,
    tasks: int,
    seed: int,
    per_task: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Stream:
    """``tasks`` tasks of ``per_task`` classes of ``data`` each, drawn at random and relabelled from 0 in the order drawn.

    Images stay bytes in memory, and each batch is normalised.
    """
    view = partial(normalised, data.mean, data.std)

    def split(images: Tensor, labels: Tensor, classes: list[int], augment: Callable[..., Tensor] | None = None) -> Split:
        new_labels = torch.full((data.classes,), -1)
        new_labels[classes] = torch.arange(len(classes))
        rows = (new_labels[labels] >= 0).nonzero().squeeze(1)
        return Split(images[rows], new_labels[labels[rows]], view, augment)

    all_tasks = [
        Task(
            split(data.train_images, data.train_labels, classes, augment),
            split(data.test_images, data.test_labels, classes),
            f"classes {', '.join(map(str, classes))}",
        )
        for classes in dealt(data.classes, per_task, tasks, seed, data.name)
    ]
    return Stream(name, all_tasks, per_task, tuple(data.train_images.shape[1:]))


def crop_and_flip(black: tuple[float, ...], images: Tensor, draws: torch.Generator) -> Tensor:
    """Shift each image by up to ``BORDER`` pixels along both axes, fill with black, and mirror it with probability one half.

    ``black``: the input value of a black pixel by channel. Works on all images [n, channels, height, width] at once.
    """
    count, _, height, width = images.shape
    below = torch.tensor(black, device=images.device).view(1, -1, 1, 1)
    padded = pad(images - below, (BORDER,) * 4) + below
    tops, lefts = torch.randint(0, 2 * BORDER + 1, (2, count, 1), generator=draws)
    mirrored = torch.randint(0, 2, (count, 1), generator=draws)
    across = torch.arange(width)
    rows = tops + torch.arange(height)
    columns = lefts + torch.where(mirrored == 1, across.flip(0), across)
    rows, columns = rows.to(images.device), columns.to(images.device)
    picture = torch.arange(count, device=images.device)[:, None, None]
    # Channels last, so that each pixel is one copy.
    moved = padded.permute(0, 2, 3, 1).contiguous()[picture, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def photographs(data: Dataset) -> Callable[[Tensor, torch.Generator], Tensor]:
    """The usual augmentation of small photographs, for inputs from ``data``."""
    black = data.inputs(torch.zeros(1, len(data.mean), 1, 1, dtype=torch.uint8)).flatten().tolist()
    return partial(crop_and_flip, tuple(black))
