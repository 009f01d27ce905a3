"""MNIST and data sets in the same format: 60,000 and 10,000 grey images of 28 x 28 pixels, 10 classes, four IDX files.

The checksums are of the uncompressed files. The md5 of MNIST were computed from the ``.gz`` files that have the checksums of torchvision's
own table, those of Fashion-MNIST from Debian's package dataset-fashion-mnist; its public copies agree on them. The SHA-256 were computed
from files that have these md5.
"""

import struct
from pathlib import Path

import torch
from torch import Tensor

from clbench.data.dataset import Dataset
from clbench.data.source import File, Source


def parse_idx(content: bytes) -> Tensor:
    """The uint8 tensor in an IDX file: two zeros, its type (8), the number of dimensions, their sizes, the data.

    The sizes are big-endian int32.
    """
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}i", content, offset=4)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read(source: Source, root: Path) -> Dataset:
    """The data set of ``files``: the images and labels for training, then those for testing."""
    train_images, train_labels, test_images, test_labels = map(parse_idx, source.contents(root))
    return Dataset(
        name=source.name,
        train_images=train_images.unsqueeze(1),
        train_labels=train_labels.long(),
        test_images=test_images.unsqueeze(1),
        test_labels=test_labels.long(),
        classes=source.classes,
        mean=source.mean,
        std=source.std,
    )


MNIST = Source(
    name="mnist",
    title="MNIST",
    description="Handwritten digits, from NIST's special databases 1 and 3.",
    licence="CC BY-SA 3.0 (Y. LeCun and C. Cortes)",
    citation=(
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition, "
        "Proceedings of the IEEE 86(11), 1998"
    ),
    train=60_000,
    test=10_000,
    classes=10,
    mean=(0.1307,),
    std=(0.3081,),
    read=read,
    files=(
        File(
            "MNIST/raw/train-images-idx3-ubyte",
            md5="6bbc9ace898e44ae57da46a324031adb",
            sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        File(
            "MNIST/raw/train-labels-idx1-ubyte",
            md5="a25bea736e30d166cdddb491f175f624",
            sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        File(
            "MNIST/raw/t10k-images-idx3-ubyte",
            md5="2646ac647ad5339dbf082846283269ea",
            sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        File(
            "MNIST/raw/t10k-labels-idx1-ubyte",
            md5="27ae3e4e09519cfbb04c329615203637",
            sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    torchvision="MNIST",
)

FASHION_MNIST = Source(
    name="fashion-mnist",
    title="Fashion-MNIST",
    description="Pictures of clothes, shoes and bags from Zalando's shop.",
    licence="MIT (Zalando SE)",
    citation=(
        "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning "
        "algorithms, arXiv:1708.07747, 2017"
    ),
    train=60_000,
    test=10_000,
    classes=10,
    mean=(0.2860,),
    std=(0.3530,),
    read=read,
    files=(
        File(
            "FashionMNIST/raw/train-images-idx3-ubyte",
            md5="f4a8712d7a061bf5bd6d2ca38dc4d50a",
            sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        File(
            "FashionMNIST/raw/train-labels-idx1-ubyte",
            md5="9018921c3c673c538a1fc5bad174d6f9",
            sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        File(
            "FashionMNIST/raw/t10k-images-idx3-ubyte",
            md5="8181f5470baa50b63fa0f6fddb340f0a",
            sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        File(
            "FashionMNIST/raw/t10k-labels-idx1-ubyte",
            md5="15d484375f8d13e6eb1aabb0c3f46965",
            sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    torchvision="FashionMNIST",
)
