"""Real files and torchvision's own tables and reader as oracles."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from clbench import data
from clbench._torchvision import import_torchvision


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_packed_checksums_and_layout_are_torchvisions(name: str) -> None:
    source = data.SOURCES[name]
    published = getattr(import_torchvision().datasets, source.torchvision)
    folder = Path(published.__name__, "raw")
    assert {f"{file.path}.gz": file.packed_md5 for file in source.files} == {
        str(folder / name): md5 for name, md5 in published.resources
    }


def test_no_two_files_of_the_catalogue_share_a_checksum() -> None:
    sums = [md5 for source in data.SOURCES.values() for file in source.files for md5 in file.copies().values()]
    assert len(set(sums)) == len(sums) == 24


def test_real_mnist_reads_as_torchvision_reads_it(shared_data: Path, tmp_path: Path) -> None:
    data.add(shared_data / "mnist", tmp_path)
    for file in data.SOURCES["mnist"].files:
        assert hashlib.md5((tmp_path / file.path).read_bytes()).hexdigest() == file.md5
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
