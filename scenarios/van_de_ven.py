"""The two streams of van de Ven & Tolias 2019, as in their code: inputs are grey values from 0 to 1, not normalised.

``permuted-mnist-32``: images are padded with black to 32 x 32, then each task permutes all 1024 pixels. ``split-mnist-raw``: the stream
seed assigns the ten digits at random to five tasks of two.
"""

from dataclasses import replace

from torch.nn.functional import pad

from clbench.data import Dataset
from clbench.stream import Stream, StreamBuilder

from .permuted_mnist import permuted
from .split_mnist import shuffled

BORDER = (2, 2, 2, 2)
"""Pixels added left, right, above and below: from 28 to 32."""


def raw(data: Dataset) -> Dataset:
    """The same images with inputs from 0 to 1."""
    return replace(data, mean=(0.0,) * len(data.mean), std=(1.0,) * len(data.std))


def permuted_padded(data: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` permutations of the pixels of ``data`` with a black border."""
    padded = replace(raw(data), train_images=pad(data.train_images, BORDER), test_images=pad(data.test_images, BORDER))
    return permuted("permuted-mnist-32", padded, tasks=tasks, seed=seed)


def split_dealt(data: Dataset, *, tasks: int, seed: int) -> Stream:
    """The first ``tasks`` pairs of the classes of ``data`` in an order drawn from ``seed``."""
    return shuffled("split-mnist-raw", raw(data), tasks=tasks, seed=seed)


STREAMS = (
    StreamBuilder(
        "permuted-mnist-32",
        permuted_padded,
        "permuted-mnist padded to 32 x 32 and not normalised (van de Ven & Tolias 2019)",
        data=("mnist-5k", "mnist"),
    ),
    StreamBuilder(
        "split-mnist-raw",
        split_dealt,
        "split-mnist not normalised, the digits drawn at random (van de Ven & Tolias 2019)",
        data=("mnist-5k", "mnist"),
        most_tasks=5,
    ),
)
