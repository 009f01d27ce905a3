"""CIFAR-10 and CIFAR-100: 50,000 and 10,000 colour images of 32 x 32 pixels, as Python pickles.

A pickle can call any function when it is read. clbench reads these files with an unpickler that makes arrays, strings and containers and
nothing else, so that it never executes anything in a file. (torchvision, which downloads the files, reads them with an ordinary unpickler
after their checksums agree.) The md5 are those of torchvision's own tables; a test compares them. The SHA-256 of CIFAR-100 were computed
from files that have these md5; those of CIFAR-10 are the ones that several public programs agree on, one of which names the md5 too.
"""

import _codecs
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench.data.dataset import Dataset
from clbench.data.source import DamagedData, File, Source

SIDE = 32

ARRAY = object()
"""Replaces the class of arrays, which would make an array of any memory if a file called it."""


def _array(kind: object, shape: object, code: object) -> np.ndarray:
    """An empty array, which is filled with its bytes next."""
    if kind is not ARRAY:
        raise DamagedData("makes an object that is no array, and was not loaded")
    return np.empty(0, np.uint8)


def _bytes(name: str, *_: object) -> np.dtype:
    """The type of bytes."""
    if name not in ("u1", "|u1", "uint8"):
        raise DamagedData(f"holds an array of type {name}, and was not loaded")
    return np.dtype(np.uint8)


class _Plain(pickle.Unpickler):
    """Makes arrays of bytes, strings and containers, and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Any] = {"ndarray": ARRAY, "dtype": _bytes, "_reconstruct": _array, "encode": _codecs.encode}
        if name not in known or module not in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs"):
            raise DamagedData(f"holds a foreign object, {module}.{name}, and was not loaded")
        return known[name]


def parse(content: bytes, what: str) -> dict[str, Any]:
    """The dictionary in a pickle, without executing anything. ``DamagedData`` says what is wrong with ``what`` if it is no such file."""
    try:
        table = _Plain(io.BytesIO(content), encoding="latin1").load()
    except DamagedData as error:
        raise DamagedData(f"{what} {error}: replace the file.") from None
    except Exception as error:  # a damaged pickle raises anything
        raise DamagedData(f"{what} is no file of this data set ({type(error).__name__}: {error}): replace the file.") from None
    if not isinstance(table, dict) or not isinstance(table.get("data"), np.ndarray):
        raise DamagedData(f"{what} holds no table of images: replace the file.")
    return table


def read(source: Source, root: Path) -> Dataset:
    """The data set of ``files``, of which the last is for testing and the others are for training."""
    labels = "fine_labels" if source.classes == 100 else "labels"
    tables = [parse(content, file.path) for file, content in zip(source.files, source.contents(root), strict=True)]
    images = [torch.from_numpy(table["data"]).view(-1, 3, SIDE, SIDE) for table in tables]
    truths = [torch.tensor(table[labels]) for table in tables]
    return Dataset(
        source.name,
        torch.cat(images[:-1]),
        torch.cat(truths[:-1]),
        images[-1],
        truths[-1],
        source.classes,
        source.mean,
        source.std,
    )


CITATION = "A. Krizhevsky: Learning multiple layers of features from tiny images, University of Toronto, 2009"
LICENCE = "no licence stated (A. Krizhevsky); for research"

CIFAR_10 = Source(
    name="cifar-10",
    title="CIFAR-10",
    description="Photographs of animals and vehicles, 10 classes.",
    licence=LICENCE,
    citation=CITATION,
    train=50_000,
    test=10_000,
    classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    read=read,
    files=(
        File(
            "cifar-10-batches-py/data_batch_1",
            md5="c99cafc152244af753f735de768cd75f",
            sha256="54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        ),
        File(
            "cifar-10-batches-py/data_batch_2",
            md5="d4bba439e000b95fd0a9bffe97cbabec",
            sha256="766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        ),
        File(
            "cifar-10-batches-py/data_batch_3",
            md5="54ebc095f3ab1f0389bbae665268c751",
            sha256="0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        ),
        File(
            "cifar-10-batches-py/data_batch_4",
            md5="634d18415352ddfa80567beed471001a",
            sha256="3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        ),
        File(
            "cifar-10-batches-py/data_batch_5",
            md5="482c414d41f54cd18b22e5b47cb7c3cb",
            sha256="d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        ),
        File(
            "cifar-10-batches-py/test_batch",
            md5="40351d587109b95175f43aff81a1287e",
            sha256="f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
        ),
    ),
    torchvision="CIFAR10",
)

CIFAR_100 = Source(
    name="cifar-100",
    title="CIFAR-100",
    description="Photographs of animals, plants, people, things and landscapes, 100 classes.",
    licence=LICENCE,
    citation=CITATION,
    train=50_000,
    test=10_000,
    classes=100,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    read=read,
    files=(
        File(
            "cifar-100-python/train",
            md5="16019d7e3df5f24257cddd939b257f8d",
            sha256="735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
        ),
        File(
            "cifar-100-python/test",
            md5="f0ef6b0ae62326f3e7ffdfab6717acfc",
            sha256="4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
        ),
    ),
    torchvision="CIFAR100",
)
