"""MNIST and data sets in the same format: 60,000 and 10,000 grey images of 28 x 28 pixels, 10 classes, four IDX files.

The checksums are of the uncompressed files. Those of MNIST were computed from the ``.gz`` files that have the checksums of torchvision's
own table, those of Fashion-MNIST from Debian's package dataset-fashion-mnist; its public copies agree on them.
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
        File("MNIST/raw/train-images-idx3-ubyte", md5="6bbc9ace898e44ae57da46a324031adb"),
        File("MNIST/raw/train-labels-idx1-ubyte", md5="a25bea736e30d166cdddb491f175f624"),
        File("MNIST/raw/t10k-images-idx3-ubyte", md5="2646ac647ad5339dbf082846283269ea"),
        File("MNIST/raw/t10k-labels-idx1-ubyte", md5="27ae3e4e09519cfbb04c329615203637"),
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
        File("FashionMNIST/raw/train-images-idx3-ubyte", md5="f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        File("FashionMNIST/raw/train-labels-idx1-ubyte", md5="9018921c3c673c538a1fc5bad174d6f9"),
        File("FashionMNIST/raw/t10k-images-idx3-ubyte", md5="8181f5470baa50b63fa0f6fddb340f0a"),
        File("FashionMNIST/raw/t10k-labels-idx1-ubyte", md5="15d484375f8d13e6eb1aabb0c3f46965"),
    ),
    torchvision="FashionMNIST",
)
