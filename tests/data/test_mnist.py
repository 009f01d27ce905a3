"""MNIST against real files, and against torchvision's own tables and reader."""

import gzip
import hashlib
import re
import shutil
from pathlib import Path

import pytest
import torch

from clbench import data
from clbench._torchvision import import_torchvision


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_lie_where_torchvision_looks_for_them(name: str) -> None:
    source = data.SOURCES[name]
    published = getattr(import_torchvision().datasets, source.torchvision)
    folder = Path(published.__name__, "raw")
    assert [f"{file.path}.gz" for file in source.files] == [str(folder / name) for name, _ in published.resources]


def test_no_two_files_of_the_catalogue_share_a_checksum() -> None:
    files = [file for source in data.SOURCES.values() for file in source.files]
    assert len({file.md5 for file in files}) == len({file.sha256 for file in files}) == len(files) == 16
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)


@pytest.mark.parametrize(("name", "as_published"), [("mnist", True), ("fashion-mnist", False)])
def test_checksums_are_those_of_what_the_published_files_hold(shared_data: Path, name: str, as_published: bool) -> None:
    """MNIST's compressed files are torchvision's to the byte. Fashion-MNIST's are Debian's, which compressed the same content itself."""
    source = data.SOURCES[name]
    wrappers = dict(getattr(import_torchvision().datasets, source.torchvision).resources)
    for file in source.files:
        packed = shared_data / name / f"{Path(file.path).name}.gz"
        assert (hashlib.md5(packed.read_bytes()).hexdigest() == wrappers[packed.name]) == as_published
        content = gzip.decompress(packed.read_bytes())
        assert hashlib.md5(content).hexdigest() == file.md5
        assert hashlib.sha256(content).hexdigest() == file.sha256


def test_debians_fashion_mnist_is_added_and_read(shared_data: Path, tmp_path: Path) -> None:
    assert len(data.add(shared_data / "fashion-mnist", tmp_path)) == 4
    dataset = data.load("fashion-mnist", tmp_path)
    oracle = import_torchvision().datasets.FashionMNIST(tmp_path, train=False, download=False)
    assert torch.equal(dataset.test_images, oracle.data.unsqueeze(1))
    assert torch.equal(dataset.test_labels, oracle.targets)


def test_real_mnist_reads_as_torchvision_reads_it(shared_data: Path, tmp_path: Path) -> None:
    data.add(shared_data / "mnist", tmp_path)
    for file in data.SOURCES["mnist"].files:
        assert hashlib.sha256((tmp_path / file.path).read_bytes()).hexdigest() == file.sha256
    dataset = data.load("mnist", tmp_path)
    oracle = import_torchvision().datasets.MNIST
    for train, images, labels in (
        (True, dataset.train_images, dataset.train_labels),
        (False, dataset.test_images, dataset.test_labels),
    ):
        theirs = oracle(tmp_path, train=train, download=False)
        assert torch.equal(images, theirs.data.unsqueeze(1))
        assert torch.equal(labels, theirs.targets)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    pixels = dataset.train_images / 255
    assert (pixels.mean().item(), pixels.std().item()) == pytest.approx((dataset.mean[0], dataset.std[0]), abs=1e-4)


def test_real_mnist_is_read_from_compressed_files(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "mnist", tmp_path / "MNIST" / "raw")
    dataset = data.load("mnist", tmp_path)
    assert len(dataset.train_images) == data.SOURCES["mnist"].train
    assert len(dataset.test_images) == data.SOURCES["mnist"].test
    assert dataset.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
