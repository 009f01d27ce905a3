"""SplitCIFAR100 (the paper's section 4.1): 20 tasks of 5 classes, which the stream seed draws at random. CIFAR-10 works the same way.

Training images are shifted by up to four pixels and mirrored, whole batches at a time. If CIFAR is not available, ``split-tinted-digits``
tests the same code: the embedded digits in ten colours, on 32 x 32 pixels, make 100 classes.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from clbench.data import Dataset
from clbench.stream import Stream, StreamBuilder

from ._classes import photographs, split_classes

TINTS = torch.tensor(
    [
        [255, 255, 255],
        [255, 60, 60],
        [60, 255, 60],
        [80, 80, 255],
        [255, 255, 60],
        [255, 60, 255],
        [60, 255, 255],
        [255, 150, 60],
        [150, 60, 255],
        [130, 130, 130],
    ]
)
"""Red, green and blue of each colour, out of 255."""


def split_photographs(name: str, per_task: int, data: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` tasks of ``per_task`` classes each, with the usual augmentation."""
    return split_classes(name, data, tasks=tasks, seed=seed, per_task=per_task, augment=photographs(data))


def tinted(digits: Dataset) -> Dataset:
    """The digits in ten colours: image i of each digit has colour i modulo ten, and its class is ten times the digit plus the colour."""

    def in_colours(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        earlier = one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1
        colours = earlier % len(TINTS)
        wide = pad(images, (2, 2, 2, 2)).float() / 255
        return (wide * TINTS[colours].view(-1, 3, 1, 1)).round().to(torch.uint8), labels * len(TINTS) + colours

    mean, std = digits.mean * 3, digits.std * 3
    train = in_colours(digits.train_images, digits.train_labels)
    test = in_colours(digits.test_images, digits.test_labels)
    return Dataset(digits.name, *train, *test, digits.classes * len(TINTS), mean, std)


def split_tinted(digits: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` tasks of five of the hundred classes of coloured digits."""
    return split_photographs("split-tinted-digits", 5, tinted(digits), tasks=tasks, seed=seed)


STREAMS = (
    StreamBuilder(
        "split-cifar100",
        partial(split_photographs, "split-cifar100", 5),
        "five classes of CIFAR-100 per task, drawn at random",
        data=("cifar-100",),
        full_data="cifar-100",
        most_tasks=20,
    ),
    StreamBuilder(
        "split-cifar10",
        partial(split_photographs, "split-cifar10", 2),
        "two classes of CIFAR-10 per task, drawn at random",
        data=("cifar-10",),
        full_data="cifar-10",
        most_tasks=5,
    ),
    StreamBuilder(
        "split-tinted-digits",
        split_tinted,
        "five of a hundred classes of coloured digits per task: like split-cifar100, but with embedded data",
        data=("mnist-5k", "mnist"),
        most_tasks=20,
    ),
)
