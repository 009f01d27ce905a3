"""MNIST and what is published in its form: 60,000 and 10,000 grey images of 28 x 28 pixels, 10 classes, four IDX files.

The checksums of the ``.gz`` files are those of torchvision's own tables (a test compares them). Those of the
uncompressed files were computed from the ``.gz`` files for MNIST; for Fashion-MNIST they are the ones that its public
copies agree on.
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
    """The data set whose ``files`` are the images and labels for training, then those for testing."""
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
            packed_md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        File(
            "MNIST/raw/train-labels-idx1-ubyte",
            md5="a25bea736e30d166cdddb491f175f624",
            packed_md5="d53e105ee54ea40749a09fcbcd1e9432",
        ),
        File(
            "MNIST/raw/t10k-images-idx3-ubyte",
            md5="2646ac647ad5339dbf082846283269ea",
            packed_md5="9fb629c4189551a2d022fa330f9573f3",
        ),
        File(
            "MNIST/raw/t10k-labels-idx1-ubyte",
            md5="27ae3e4e09519cfbb04c329615203637",
            packed_md5="ec29112dd5afa0611ce80d1b7f02629c",
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
            packed_md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        File(
            "FashionMNIST/raw/train-labels-idx1-ubyte",
            md5="9018921c3c673c538a1fc5bad174d6f9",
            packed_md5="25c81989df183df01b3e8a0aad5dffbe",
        ),
        File(
            "FashionMNIST/raw/t10k-images-idx3-ubyte",
            md5="8181f5470baa50b63fa0f6fddb340f0a",
            packed_md5="bef4ecab320f06d8554ea6380940ec79",
        ),
        File(
            "FashionMNIST/raw/t10k-labels-idx1-ubyte",
            md5="15d484375f8d13e6eb1aabb0c3f46965",
            packed_md5="bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    torchvision="FashionMNIST",
)
