"""Folders of image files: what is read, and the errors for folders without the layout."""

import os
import signal
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from clbench import registry
from clbench._torchvision import import_torchvision
from clbench.data import DamagedData, MissingData, image_files
from clbench.data.image_files import MEAN, STD, as_rgb, file_split, tree
from clbench.errors import Notice, UserError
from clbench.scenarios._classes import dealt
from clbench.stream import Stream

TRAIN, TEST = 9, 3
DECODE = image_files._Decoded.__getitem__


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty classes of small pictures of different sizes, one of them grey."""
    random = np.random.default_rng(0)
    for half, count in {"train": TRAIN, "val": TEST}.items():
        for name in range(30):
            (tmp_path / half / f"n{name:02}").mkdir(parents=True)
            for number in range(count):
                size = (20 + number, 24, 3) if number else (20, 24)
                picture = Image.fromarray(random.integers(0, 256, size, dtype=np.uint8))
                picture.save(tmp_path / half / f"n{name:02}" / f"{number}.{'png' if number % 2 else 'JPEG'}")
    return tmp_path


def build(folder: Path, tasks: int = 3, seed: int = 0) -> Stream:
    return registry.stream("split-tiny-imagenet").build(folder, tasks=tasks, seed=seed)


def test_tasks_have_ten_classes_each_and_none_in_common(folder: Path) -> None:
    stream = build(folder)
    names = [name for task in stream for name in task.name.removeprefix("classes ").split(", ")]
    assert len(set(names)) == len(names) == 30
    for task in stream:
        assert task.train.labels.bincount().tolist() == [TRAIN] * 10
        assert task.test.labels.bincount().tolist() == [TEST] * 10
    assert names != [name for task in build(folder, seed=1) for name in task.name.removeprefix("classes ").split(", ")]


def test_tiny_imagenet_is_read_as_it_is_published(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    published = tmp_path_factory.mktemp("published")
    lines = []
    for half in ("train", "val"):
        for path in sorted((folder / half).rglob("*.*"), reverse=True):
            name = path.parent.name
            place = published / half / (f"{name}/images/{path.name}" if half == "train" else f"images/{name}_{path.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
            if half == "val":
                lines.append(f"{place.name}\t{name}\t0\t0\t62\t62\n")
    (published / "val" / "val_annotations.txt").write_text("".join(lines))
    for one, other in zip(build(folder), build(published), strict=True):
        assert one.name == other.name
        for half in ("train", "test"):
            (images, labels), (same, alike) = getattr(one, half).whole(), getattr(other, half).whole()
            assert torch.equal(images, same)
            assert torch.equal(labels, alike)


def test_images_are_mixed_by_the_seed(folder: Path) -> None:
    labels = [build(folder, seed=seed)[0].test.labels.tolist() for seed in (0, 0, 1)]
    assert all(sorted(each) != each for each in labels)
    assert labels[0] == labels[1] != labels[2]


def test_images_to_be_asked_about_are_torchvision_s_middles(folder: Path) -> None:
    stream, transforms = build(folder), import_torchvision().transforms
    inputs, labels = stream[1].test.whole()
    assert inputs.shape == (30, 3, 64, 64)
    usual = transforms.Compose(
        [transforms.Resize(73), transforms.CenterCrop(64), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    names = stream[1].name.removeprefix("classes ").split(", ")
    for row in (0, 4, 29):
        files = (folder / "val" / names[int(labels[row])]).iterdir()
        assert sum(torch.equal(inputs[row], usual(Image.open(file).convert("RGB"))) for file in files) == 1
    assert len({image.numpy().tobytes() for image in inputs}) == 30
    few, labels_of_few = stream[1].test.whole(7)
    assert torch.equal(few, inputs[:7])
    assert torch.equal(labels_of_few, labels[:7])


def test_batches_follow_from_the_seed_and_show_each_image_otherwise_each_time(folder: Path) -> None:
    split = build(folder)[0].train

    def batches(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(split.batches(4, 45, torch.Generator().manual_seed(seed)))

    first, again, other = batches(0), batches(0), batches(1)
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert first[0][0].shape == (45, 3, 64, 64)
    labels = torch.cat([labels for _, labels in first])
    assert labels.bincount().tolist() == [2 * TRAIN] * 10  # two whole passes
    state = torch.get_rng_state()
    batches(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_of_a_split_are_a_split(folder: Path) -> None:
    split = build(folder)[0].train
    rows = torch.tensor([3, 50, 7])
    chosen = file_split(split.images[rows].paths, split.labels[rows].tolist(), 64)  # type: ignore[attr-defined]
    whole = split.whole()[0]
    assert torch.equal(chosen.whole()[0], whole[rows])


def test_a_stream_of_files_moves_to_a_device(folder: Path) -> None:
    moved = build(folder).to(torch.device("cpu"))
    assert torch.equal(moved[0].test.whole()[0], build(folder)[0].test.whole()[0])


@pytest.mark.parametrize("few", [False, True], ids=["in this process", "in others"])
def test_a_damaged_image_is_named(folder: Path, few: bool) -> None:
    stream = build(folder)
    damaged = stream[0].train.images.paths[2]  # type: ignore[attr-defined]
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DamagedData, match=rf"^The image {damaged} is damaged \(.*\): replace or remove it\.$"):
        stream[0].train.whole(10 if few else None)


# What pictures hold


def png(values: np.ndarray, colour: int) -> bytes:
    """A PNG file of 16 bits a channel, written by hand: ``values`` [height, width, channels], ``colour`` the type of PNG's header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "RGB", "grey and alpha", "RGBA"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, colour: int, channels: int) -> None:
    """Not cut off at 255, which makes almost every picture white."""
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels))
    values[0, 0], values[0, 1], values[0, 2] = 0, 65535, 255
    (tmp_path / "one.png").write_bytes(png(values, colour))
    with Image.open(tmp_path / "one.png") as picture:
        pixels = np.asarray(as_rgb(picture)).astype(int)
    seen = values[..., :3] if channels > 2 else values[..., :1].repeat(3, axis=2)
    for row in range(9):
        for column in range(7):
            for channel in range(3):
                expected = 255 * int(seen[row, column, channel]) / 65535
                # Pillow itself drops the low bytes of all but grey pictures.
                assert abs(pixels[row, column, channel] - expected) <= (0.5 if channels == 1 else 1)
    assert pixels[0, 0].tolist() == [0] * 3
    assert pixels[0, 1].tolist() == [255] * 3


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bits_in_any_order_of_bytes(mode: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=">u2" if mode == "I;16B" else "<u2")
    picture = Image.frombytes(mode, (4, 1), values.tobytes())
    assert np.asarray(as_rgb(picture))[0].tolist() == [[value] * 3 for value in (0, 1, 128, 255)]


def test_what_pillow_once_called_32_bits_is_a_png_of_16() -> None:
    picture = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert picture.mode == "I"
    picture.format = "PNG"
    assert np.asarray(as_rgb(picture))[0].tolist() == [[0] * 3, [255] * 3]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused_by_name(folder: Path, mode: str) -> None:
    stream = build(folder)
    odd = stream[0].train.images.paths[2]  # type: ignore[attr-defined]
    Image.fromarray(np.full((20, 24), 0.5)).convert(mode).save(odd, "TIFF")
    says = rf"^The image {odd} has pixels of 32 bits \(mode {mode}\), of unknown range: save it with 8 or 16 bits\.$"
    with pytest.raises(UserError, match=says):
        stream[0].train.whole(10)


def test_pictures_of_eight_bits_show_the_colours_that_they_had() -> None:
    """Against arithmetic on each pixel's own numbers."""
    random = np.random.default_rng(0)

    def drawn(mode: str, *shape: int, high: int = 256) -> tuple[Image.Image, np.ndarray]:
        values = random.integers(0, high, (5, 6, *shape), dtype=np.uint8)
        return Image.frombytes(mode, (6, 5), values.tobytes()), values.astype(int)

    grey, values = drawn("L")
    assert np.array_equal(as_rgb(grey), values[..., None].repeat(3, 2))
    line = Image.new("1", (2, 1))
    line.putpixel((1, 0), 1)
    assert np.asarray(as_rgb(line))[0].tolist() == [[0] * 3, [255] * 3]
    faint, values = drawn("LA", 2)
    assert np.array_equal(as_rgb(faint), values[..., :1].repeat(3, 2))
    clear, values = drawn("RGBA", 4)
    assert np.array_equal(as_rgb(clear), values[..., :3])
    indexed, values = drawn("P", high=4)
    colours = random.integers(0, 256, (4, 3))
    indexed.putpalette(colours.flatten().tolist())
    assert np.array_equal(as_rgb(indexed), colours[values])
    ink, values = drawn("CMYK", 4)
    assert np.abs(np.asarray(as_rgb(ink)) - (255 - values[..., :3]) * (255 - values[..., 3:]) / 255).max() <= 1


def test_what_begins_with_a_dot_is_no_image(folder: Path) -> None:
    before = tree(folder)
    for hidden in ("train/n03/._0.png", "train/n03/.ipynb_checkpoints/0.png", "val/.ipynb_checkpoints/0.png", "train/._n04/0.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"no picture")
    assert tree(folder) == before


def test_a_tree_below_a_hidden_folder_is_read(folder: Path) -> None:
    (folder / ".cache").mkdir()
    for half in ("train", "val"):
        (folder / half).rename(folder / ".cache" / half)
    assert len(tree(folder / ".cache")) == 30


def test_too_few_classes_are_counted(folder: Path) -> None:
    with pytest.raises(UserError, match=r"4 tasks of 10 classes need 40 classes, and .* has 30: ask for fewer tasks"):
        build(folder, tasks=4)


def test_data_with_fewer_classes_than_one_task_has_say_so() -> None:
    """Not to ask for fewer tasks than one."""
    with pytest.raises(UserError, match=r"^A task has 10 classes, and letters has 4 in all: give data with more classes\.$"):
        dealt(4, 10, 1, 0, "letters")


def test_trees_that_are_none_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(MissingData, match=r"There is no folder .*train: a folder of images needs train/CLASS/ and val/CLASS/"):
        tree(empty)
    for file in (folder / "val" / "n05").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"The class n05 of .* has no images in val/"):
        tree(folder)


def header(side: int) -> bytes:
    """The beginning of a PNG of so many pixels a side, which is all that Pillow reads before it decodes one."""
    size = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", size), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )


@pytest.mark.parametrize(
    ("side", "says"),
    [(13_000, "has 13,000 x 13,000 pixels, and at most 50,000,000 are read"), (20_000, "has far more than 50,000,000")],
)
@pytest.mark.filterwarnings("error")
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(folder: Path, side: int, says: str) -> None:
    stream = build(folder)
    path = stream[0].test.images.paths[0]  # type: ignore[attr-defined]
    path.write_bytes(header(side))
    with pytest.raises(DamagedData, match=f"^The image {path} {says}.*: make it smaller\\.$"):
        stream[0].test.whole()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00binary\x9f" * 9, "cannot be read"),
        (b"a line without a tab\n", "Line 1 of the list .* does not begin with the name of a file, a tab and a class"),
        (b"0.png\tn00\n../../../secret.png\tn00\n", "Line 2 of the list .*secret.png"),
        (b"..\tn00\n", "Line 1 of the list"),
    ],
)
def test_a_list_of_images_that_is_none_is_refused(folder: Path, content: bytes, says: str) -> None:
    (folder / "val" / "val_annotations.txt").write_bytes(content)
    with pytest.raises(DamagedData, match=says):
        tree(folder)


def killed_in_a_worker(self: Any, request: tuple[int, int | None]) -> Tensor | str:
    if get_worker_info() is not None and request[0] > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return DECODE(self, request)


def test_a_killed_reader_is_replaced_by_this_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = build(folder)[0].train
    expected, _ = split.whole()  # 90 images: more than one process reads at a time
    monkeypatch.setenv("CLBENCH_WORKERS", "2")
    monkeypatch.setattr(image_files._Decoded, "__getitem__", killed_in_a_worker)
    with pytest.warns(Notice, match="A process that reads images ended .*set CLBENCH_WORKERS=0"):
        inputs, _ = split.whole()
    assert torch.equal(inputs, expected)


def test_the_number_of_readers_is_set_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= image_files.workers() <= image_files.WORKERS
    for given, workers in (("0", 0), ("3", 3)):
        monkeypatch.setenv("CLBENCH_WORKERS", given)
        assert image_files.workers() == workers
    for given in ("many", "-1", "", "1e3", "٣", "99999"):
        monkeypatch.setenv("CLBENCH_WORKERS", given)
        with pytest.raises(UserError, match="CLBENCH_WORKERS must be a number of processes from 0 to 999, not"):
            image_files.workers()
