"""SplitMNIST (Zenke et al. 2017): five tasks of two classes each, consecutive ones as in the paper's section 4.2.

In ``split-mnist`` the stream seed has no effect: the tasks are fixed. In ``split-mnist-shuffled`` it draws the order of the classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from clbench.data import Dataset
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Split, Stream, Task

from ._mnist import mnist_streams

CLASSES = 2
"""Classes of a task."""


def in_order(name: str, data: Dataset, order: Sequence[int], *, tasks: int) -> Stream:
    """The first ``tasks`` pairs of the classes of ``data`` in the given order, relabelled from 0 in that order within each task."""
    if sorted(order) != list(range(data.classes)):
        raise UserError(f"The order of classes {list(order)} must name each of 0 to {data.classes - 1} once.")
    position = torch.tensor(order).argsort()
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)

    def pair(images: Tensor, labels: Tensor, first: int) -> Split:
        positions = position[labels]
        rows = ((positions >= first) & (positions < first + CLASSES)).nonzero().squeeze(1)
        return Split(images[rows], positions[rows] - first)

    all_tasks = [
        Task(
            pair(train, data.train_labels, first),
            pair(test, data.test_labels, first),
            f"classes {' and '.join(map(str, order[first : first + CLASSES]))}",
        )
        for first in range(0, tasks * CLASSES, CLASSES)
    ]
    return Stream(name, all_tasks, CLASSES, tuple(data.train_images.shape[1:]))


def split(name: str, data: Dataset, *, tasks: int, seed: int) -> Stream:
    """The first ``tasks`` pairs of consecutive classes of ``data``."""
    return in_order(name, data, range(data.classes), tasks=tasks)


def shuffled(name: str, data: Dataset, *, tasks: int, seed: int) -> Stream:
    """The first ``tasks`` pairs of the classes of ``data`` in an order drawn from ``seed``."""
    order = torch.randperm(data.classes, generator=generator(seed, "classes"))
    return in_order(name, data, order.tolist(), tasks=tasks)


STREAMS = (
    *mnist_streams(
        "split",
        split,
        "two consecutive classes per task",
        most_tasks=5,
        fixed="the classes come in their own order (use {name}-shuffled for an order drawn from the seed)",
    ),
    *mnist_streams("split", shuffled, "two classes per task, drawn at random", most_tasks=5, suffix="-shuffled"),
)
