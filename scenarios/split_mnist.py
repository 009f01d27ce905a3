"""SplitMNIST (Zenke et al. 2017): five tasks of two classes each, consecutive ones as in the paper's section 4.2.

The stream seed has no effect: the tasks are fixed.
"""

from torch import Tensor

from clbench.data import Dataset
from clbench.stream import Split, Stream, Task

from ._mnist import mnist_streams

CLASSES = 2
"""Classes of a task."""


def split(name: str, data: Dataset, *, tasks: int, seed: int) -> Stream:
    """The first ``tasks`` pairs of consecutive classes of ``data``, relabelled from 0 within each task."""
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)

    def part(images: Tensor, labels: Tensor, first: int) -> Split:
        rows = ((labels >= first) & (labels < first + CLASSES)).nonzero().squeeze(1)
        return Split(images[rows], labels[rows] - first)

    made = [
        Task(
            part(train, data.train_labels, first),
            part(test, data.test_labels, first),
            f"classes {first} to {first + CLASSES - 1}",
        )
        for first in range(0, tasks * CLASSES, CLASSES)
    ]
    return Stream(name, made, CLASSES, tuple(data.train_images.shape[1:]))


STREAMS = mnist_streams("split", split, "two consecutive classes per task", most_tasks=5)
