"""CIFAR: read as torchvision reads it, from pickles, without executing anything in them."""

import hashlib
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench import data
from clbench._torchvision import import_torchvision
from clbench.data import SOURCES, DamagedData, File, MissingData, cifar


class Foreign:
    """What, when it is read by an ordinary unpickler, makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def publish(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Small files of random images in the place of a data set's own, in torchvision's layout."""
    source, random, contents = SOURCES[name], np.random.default_rng(0), {}
    label = "fine_labels" if source.classes == 100 else "labels"
    files = []
    for file in source.files:
        content = {"data": random.integers(0, 256, (7, 3072), dtype=np.uint8), label: random.integers(0, 10, 7).tolist()}
        (root / file.path).parent.mkdir(parents=True, exist_ok=True)
        (root / file.path).write_bytes(pickle.dumps(content, protocol=2))
        written = (root / file.path).read_bytes()
        files.append(File(file.path, hashlib.md5(written).hexdigest(), hashlib.sha256(written).hexdigest()))
        contents[file.path] = content
    monkeypatch.setitem(SOURCES, name, replace(source, files=tuple(files)))
    return contents


@pytest.mark.parametrize(("name", "files"), [("cifar-10", 5), ("cifar-100", 1)])
def test_files_are_read_in_their_order(name: str, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = list(publish(name, tmp_path, monkeypatch).values())
    dataset = data.load(name, tmp_path)
    train = np.concatenate([content["data"] for content in contents[:files]])
    assert torch.equal(dataset.train_images, torch.from_numpy(train).view(-1, 3, 32, 32))
    assert torch.equal(dataset.test_images, torch.from_numpy(contents[-1]["data"]).view(-1, 3, 32, 32))
    labels = [content.get("fine_labels", content.get("labels")) for content in contents]
    assert dataset.train_labels.tolist() == [label for part in labels[:files] for label in part]
    assert dataset.test_labels.tolist() == labels[-1]
    assert (dataset.train_images.dtype, dataset.train_labels.dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
def test_checksums_and_layout_are_torchvisions(name: str) -> None:
    source = SOURCES[name]
    published = getattr(import_torchvision().datasets, source.torchvision)
    theirs = {f"{published.base_folder}/{file}": md5 for file, md5 in published.train_list + published.test_list}
    assert {file.path: file.md5 for file in source.files} == theirs


def test_real_cifar_100_reads_as_torchvision_reads_it(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "cifar-100-python.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    dataset = data.load("cifar-100", tmp_path)
    for train, images, labels in (
        (True, dataset.train_images, dataset.train_labels),
        (False, dataset.test_images, dataset.test_labels),
    ):
        theirs = import_torchvision().datasets.CIFAR100(tmp_path, train=train, download=False)
        assert torch.equal(images, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert labels.tolist() == theirs.targets
    pixels = dataset.train_images / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(dataset.mean, abs=1e-4)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(dataset.std, abs=1e-4)


def test_a_pickle_with_foreign_objects_is_refused_and_nothing_in_it_executed(tmp_path: Path) -> None:
    content = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [Foreign(tmp_path / "made")]}, protocol=2)
    with pytest.raises(DamagedData, match=r"data_batch_1 holds a foreign object, posix\.mkdir, and was not loaded: replace"):
        cifar.parse(content, "data_batch_1")
    assert not (tmp_path / "made").exists()
    pickle.loads(content)
    assert (tmp_path / "made").exists()  # the trap is one


class Forged:
    """An array of objects at addresses of one's choice."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((1,), np.dtype("O"), bytes(8))


@pytest.mark.parametrize("data", [Forged(), np.array([None, 1], dtype=object), np.zeros(3, np.float64)])
def test_arrays_of_anything_but_bytes_are_refused(data: Any) -> None:
    content = pickle.dumps({"data": data, "labels": []}, protocol=2)
    with pytest.raises(DamagedData, match=r"^train (holds|makes|is no file).*: replace the file\.$"):
        cifar.parse(content, "train")


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps({"data": "text"}), pickle.dumps({"data": np.zeros(3)})[:40]]
)
def test_other_files_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(DamagedData, match=r"^train (holds|is no file).*: replace the file\.$"):
        cifar.parse(content, "train")


def test_missing_and_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingData, match=r"cifar-100 is missing: no train, test in .*cifar-100-python"):
        data.load("cifar-100", tmp_path)
    publish("cifar-100", tmp_path, monkeypatch)
    (tmp_path / "cifar-100-python" / "test").write_bytes(b"")
    with pytest.raises(DamagedData, match=r"cifar-100 is damaged: .*cifar-100-python/test \(0 bytes\)"):
        data.load("cifar-100", tmp_path)
