"""Trees of image files: what is read, from where, and what is said of trees that are none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clbench import registry
from clbench._torchvision import import_torchvision
from clbench.data import DamagedData, MissingData
from clbench.data.image_files import MEAN, STD, file_split, tree
from clbench.errors import UserError
from clbench.stream import Stream

TRAIN, TEST = 9, 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty classes of small pictures of different sizes, one of them grey."""
    random = np.random.default_rng(0)
    for part, count in {"train": TRAIN, "val": TEST}.items():
        for name in range(30):
            (tmp_path / part / f"n{name:02}").mkdir(parents=True)
            for number in range(count):
                size = (20 + number, 24, 3) if number else (20, 24)
                picture = Image.fromarray(random.integers(0, 256, size, dtype=np.uint8))
                picture.save(tmp_path / part / f"n{name:02}" / f"{number}.{'png' if number % 2 else 'JPEG'}")
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
    own = tmp_path_factory.mktemp("published")
    lines = []
    for part in ("train", "val"):
        for path in sorted((folder / part).rglob("*.*"), reverse=True):
            name = path.parent.name
            place = own / part / (f"{name}/images/{path.name}" if part == "train" else f"images/{name}_{path.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
            if part == "val":
                lines.append(f"{place.name}\t{name}\t0\t0\t62\t62\n")
    (own / "val" / "val_annotations.txt").write_text("".join(lines))
    for one, other in zip(build(folder), build(own), strict=True):
        assert one.name == other.name
        for part in ("train", "test"):
            (images, labels), (same, alike) = getattr(one, part).whole(), getattr(other, part).whole()
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
    few, own = stream[1].test.whole(7)
    assert torch.equal(few, inputs[:7])
    assert torch.equal(own, labels[:7])


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


def test_too_few_classes_are_counted(folder: Path) -> None:
    with pytest.raises(UserError, match=r"4 tasks of 10 classes need 40 classes, and .* has 30: ask for fewer tasks"):
        build(folder, tasks=4)


def test_trees_that_are_none_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(MissingData, match=r"There is no folder .*train: a tree of images needs train/CLASS/ and val/CLASS/"):
        tree(empty)
    for file in (folder / "val" / "n05").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"The class n05 of .* has no images in val/"):
        tree(folder)
