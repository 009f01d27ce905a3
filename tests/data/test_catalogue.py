import gzip
import hashlib
import urllib.error
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from clbench import data
from clbench.data import catalogue
from clbench.errors import UserError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def states(root: Path) -> dict[str, str]:
    return {status.source.name: status.state for status in data.status(root)}


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "import_torchvision", lambda: pytest.fail("torchvision was asked"))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Let torchvision's class Fashion-MNIST call a function with the folder; returns the folders it was called with."""

    def mirror(download: Callable[[Path], object]) -> list[Path]:
        folders = []

        def fashion_mnist(root: str, download_: bool) -> None:
            assert download_
            folders.append(Path(root))
            download(Path(root))

        datasets = SimpleNamespace(FashionMNIST=lambda root, download: fashion_mnist(root, download))
        monkeypatch.setattr(catalogue, "import_torchvision", lambda: SimpleNamespace(datasets=datasets))
        return folders

    return mirror


# Where the data are


def test_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("CLBENCH_DATA", "~/variable")
    assert data.data_root("~/argument") == Path("/home/ada/argument")
    assert data.data_root() == Path("/home/ada/variable")
    monkeypatch.setenv("CLBENCH_DATA", "")
    assert data.data_root() == Path("/cache/clbench/data")
    monkeypatch.delenv("CLBENCH_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.data_root() == Path("/home/ada/.cache/clbench/data")


def test_load_follows_the_variable_and_prefers_the_argument(fashion: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, empty = fashion.write(tmp_path / "full"), tmp_path / "empty"
    monkeypatch.setenv("CLBENCH_DATA", str(full))
    data.load("fashion-mnist")
    with pytest.raises(data.MissingData):
        data.load("fashion-mnist", empty)


# Loading


@pytest.mark.parametrize("packed", [False, True])
def test_load_reads_plain_and_compressed_files(fashion: Any, tmp_path: Path, packed: bool) -> None:
    dataset = data.load("fashion-mnist", fashion.write(tmp_path, packed=packed))
    train_images, train_labels, test_images, test_labels = map(torch.from_numpy, fashion.arrays)
    assert torch.equal(dataset.train_images, train_images.unsqueeze(1))
    assert torch.equal(dataset.train_labels, train_labels.long())
    assert torch.equal(dataset.test_images, test_images.unsqueeze(1))
    assert torch.equal(dataset.test_labels, test_labels.long())
    assert (dataset.name, dataset.classes) == ("fashion-mnist", 10)
    assert (dataset.mean, dataset.std) == ((0.2860,), (0.3530,))


def test_missing_data_say_what_where_and_how(fashion: Any, tmp_path: Path) -> None:
    with pytest.raises(data.MissingData) as missing:
        data.load("fashion-mnist", tmp_path)
    for words in ("fashion-mnist", TRAIN_IMAGES, str(tmp_path / "FashionMNIST" / "raw")):
        assert words in str(missing.value)
    assert "`clbench data get fashion-mnist` or `clbench data add FOLDER`" in str(missing.value)


def test_one_missing_file_is_named_alone(fashion: Any, tmp_path: Path) -> None:
    (fashion.write(tmp_path) / "FashionMNIST" / "raw" / TEST_LABELS).unlink()
    with pytest.raises(data.MissingData, match=f"no {TEST_LABELS} in "):
        data.load("fashion-mnist", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: content[:-1] + b"\xaa", lambda _: b""])
def test_a_damaged_file_is_named_with_both_checksums(
    fashion: Any, tmp_path: Path, packed: bool, damage: Callable[[bytes], bytes]
) -> None:
    fashion.write(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / TEST_LABELS
    published = path.read_bytes()
    path.unlink()
    path = path.with_name(path.name + packed * ".gz")
    path.write_bytes(gzip.compress(damage(published)) if packed else damage(published))
    with pytest.raises(data.DamagedData) as damaged:
        data.load("fashion-mnist", tmp_path)
    for words in (str(path), f"has sha256 {sha256(damage(published))}", f"expected {sha256(published)}"):
        assert words in str(damaged.value)
    assert states(tmp_path)["fashion-mnist"] == "damaged"


def test_one_data_set_never_stands_in_for_another(mnist: Any, fashion: Any, tmp_path: Path) -> None:
    mnist.write(tmp_path)
    (tmp_path / "MNIST").rename(tmp_path / "FashionMNIST")
    with pytest.raises(data.DamagedData, match="fashion-mnist is damaged"):
        data.load("fashion-mnist", tmp_path)
    with pytest.raises(data.MissingData):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize(("name", "meant"), [("mnsit", "mnist"), ("Fashion-MNIST", "fashion-mnist"), ("mnist5k", "mnist-5k")])
def test_misspelt_names_are_answered(name: str, meant: str) -> None:
    for function in (data.load, data.get):
        with pytest.raises(UserError, match=f"Unknown data set '{name}': did you mean {meant}\\?"):
            function(name)


def test_unknown_names_are_answered_with_those_known() -> None:
    with pytest.raises(UserError, match=f"'quux': known are {', '.join(data.SOURCES)}"):
        data.load("quux")


def test_status_of_every_data_set(mnist: Any, fashion: Any, tmp_path: Path) -> None:
    mnist.write(tmp_path, packed=True)
    by_name = {status.source.name: status for status in data.status(tmp_path)}
    assert next(iter(by_name)) == "mnist-5k"  # needs no download
    assert [by_name[name].state for name in ("mnist-5k", "mnist", "fashion-mnist", "cifar-10", "cifar-100")] == [
        *["present"] * 2,
        *["missing"] * 3,
    ]
    assert all(status.source.licence and status.how for status in by_name.values())
    assert by_name["mnist"].problem == ""
    assert by_name["mnist"].where == str(tmp_path / "MNIST" / "raw")
    assert "is missing" in by_name["fashion-mnist"].problem


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-7], lambda packed: b"no gzip", lambda packed: packed[:15] + b"\xff" * 9]
)
def test_a_damaged_wrapper_is_named(fashion: Any, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    fashion.write(tmp_path / "root", packed=True)
    path = tmp_path / "root" / "FashionMNIST" / "raw" / f"{TEST_LABELS}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.DamagedData, match=f"fashion-mnist is damaged: {path} is not a complete gzip file .*; replace it with"):
        data.load("fashion-mnist", tmp_path / "root")
    assert states(tmp_path / "root")["fashion-mnist"] == "damaged"
    with pytest.raises(data.DamagedData, match=f"not added: {path} is not a complete gzip file .*; 3 other files were added"):
        data.add(tmp_path / "root", tmp_path / "new")


# Adding


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_add_finds_files_in_any_layout(fashion: Any, tmp_path: Path, flat: bool, packed: bool) -> None:
    folder, root = fashion.write(tmp_path / "folder" / "deep", flat=flat, packed=packed).parent, tmp_path / "root"
    added = data.add(folder, root)
    assert {file.path for file in added} == {root / path for path in fashion.files}
    assert {file.name for file in added} == {"fashion-mnist"}
    assert all(file.origin.is_relative_to(folder) for file in added)
    assert {path for path in root.rglob("*") if path.is_file()} == {file.path for file in added}
    np.testing.assert_array_equal(data.load("fashion-mnist", root).test_labels.numpy(), fashion.arrays[3])


def test_add_knows_a_file_by_its_content(mnist: Any, fashion: Any, tmp_path: Path) -> None:
    """Both data sets' files have the same names."""
    mnist.write(tmp_path / "FashionMNIST", flat=True)
    fashion.write(tmp_path / "MNIST", flat=True, packed=True)
    data.add(tmp_path, tmp_path / "root")
    assert torch.equal(data.load("mnist", tmp_path / "root").test_labels, torch.from_numpy(mnist.arrays[3]).long())
    assert states(tmp_path / "root")["fashion-mnist"] == "present"


def test_the_same_content_in_another_wrapper_is_the_same_file(fashion: Any, tmp_path: Path) -> None:
    """Debian's Fashion-MNIST was compressed anew: with another time and at another level."""
    fashion.write(tmp_path / "raw", flat=True)
    for path in list((tmp_path / "raw").iterdir()):
        other = gzip.compress(path.read_bytes(), compresslevel=1, mtime=1_500_000_000)
        assert other != gzip.compress(path.read_bytes(), mtime=0)
        path.with_name(f"{path.name}.gz").write_bytes(other)
        path.unlink()
    data.add(tmp_path / "raw", tmp_path / "root")
    in_place = tmp_path / "in place" / "FashionMNIST"
    in_place.mkdir(parents=True)
    (tmp_path / "raw").rename(in_place / "raw")
    for root in (tmp_path / "root", tmp_path / "in place"):
        np.testing.assert_array_equal(data.load("fashion-mnist", root).test_labels.numpy(), fashion.arrays[3])


def test_add_takes_a_single_file_and_its_own_root(fashion: Any, tmp_path: Path) -> None:
    fashion.write(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / TEST_LABELS
    assert [file.path for file in data.add(path, tmp_path)] == [path]
    assert len(data.add(tmp_path, tmp_path)) == 4
    assert states(tmp_path)["fashion-mnist"] == "present"


@pytest.mark.parametrize("packed", [False, True])
def test_add_mends_damaged_data(fashion: Any, tmp_path: Path, packed: bool) -> None:
    root = fashion.write(tmp_path / "root")
    (root / "FashionMNIST" / "raw" / TEST_LABELS).write_bytes(b"damaged")
    data.add(fashion.write(tmp_path / "folder", packed=packed), root)
    assert states(root)["fashion-mnist"] == "present"


@pytest.mark.parametrize("packed", [False, True])
def test_add_refuses_a_damaged_file_and_adds_the_others(mnist: Any, fashion: Any, tmp_path: Path, packed: bool) -> None:
    folder, root = fashion.write(tmp_path / "folder", flat=True, packed=packed), tmp_path / "root"
    path = folder / (TEST_LABELS + packed * ".gz")
    published = fashion.files[f"FashionMNIST/raw/{TEST_LABELS}"]
    path.write_bytes(gzip.compress(published[:-1]) if packed else published[:-1])
    with pytest.raises(data.DamagedData) as refused:
        data.add(folder, root)
    assert f"the content of {path} has sha256 {sha256(published[:-1])}" in str(refused.value)
    assert f"{sha256(published)} (fashion-mnist)" in str(refused.value)
    assert "3 other files were added" in str(refused.value)
    assert {path.name for path in root.rglob("*-ubyte*")} == {Path(path).name for path in fashion.files} - {TEST_LABELS}


def test_add_refuses_a_folder_with_nothing_known(fashion: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"Nothing to add in .*train-images-idx3-ubyte"):
        data.add(tmp_path, tmp_path / "root")
    with pytest.raises(UserError, match="no such folder"):
        data.add(tmp_path / "absent", tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_an_unwritable_root_is_a_sentence(fashion: Any, tmp_path: Path, mirror: Callable[..., list[Path]]) -> None:
    folder, root = fashion.write(tmp_path / "folder"), tmp_path / "file"
    root.write_text("in the way")
    with pytest.raises(UserError, match="Cannot write"):
        data.add(folder, root)
    mirror(lambda folder: pytest.fail("downloaded for nothing"))
    with pytest.raises(UserError, match="Cannot write"):
        data.get("fashion-mnist", root)


# Downloading


def test_get_downloads_what_is_missing_and_leaves_nothing_else(
    fashion: Any, tmp_path: Path, mirror: Callable[..., list[Path]]
) -> None:
    def download(folder: Path) -> None:
        fashion.write(folder)
        fashion.write(folder, packed=True)

    calls = mirror(download)
    root = tmp_path / "new" / "root"
    assert data.get("fashion-mnist", root).state == "present"
    assert {path for path in root.rglob("*") if path.is_file()} == {root / path for path in fashion.files}
    assert data.get("fashion-mnist", root).state == "present"
    assert len(calls) == 1


def test_get_replaces_damaged_data(fashion: Any, tmp_path: Path, mirror: Callable[..., list[Path]]) -> None:
    (fashion.write(tmp_path) / "FashionMNIST" / "raw" / TRAIN_IMAGES).write_bytes(b"damaged")
    mirror(fashion.write)
    assert data.get("fashion-mnist", tmp_path).state == "present"


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Network is unreachable"),
        RuntimeError("Error downloading train-images:\nTried this, got:\n<urlopen error Network is unreachable>\n"),
        TimeoutError("Network is unreachable"),
    ],
)
def test_a_failed_download_is_one_sentence(
    fashion: Any, tmp_path: Path, mirror: Callable[..., list[Path]], error: Exception
) -> None:
    def download(folder: Path) -> None:
        (folder / "partial").write_text("half a file")
        raise error

    mirror(download)
    with pytest.raises(UserError) as failed:
        data.get("fashion-mnist", tmp_path)
    assert "\n" not in str(failed.value)
    for words in ("cannot download fashion-mnist", "Network is unreachable", "`clbench data add FOLDER`"):
        assert words in str(failed.value)
    assert not list(tmp_path.iterdir())


def test_get_has_nothing_to_do_for_embedded_data() -> None:
    assert data.get("mnist-5k").state == "present"
