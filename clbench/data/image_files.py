"""Trees of image files, as of ImageNet: ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``, read when they are needed.

Tiny-ImageNet's own tree, with all of ``val`` in one folder and the classes in a list beside it, is read as it is published.

Images of any size are brought to one, in several processes: for testing the shorter side is scaled to 256/224 of it and the middle is cut
out, for training a random part is scaled and mirrored at random (torchvision's usual transforms for ImageNet).
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clbench._torchvision import import_torchvision
from clbench.data.source import DamagedData, MissingData
from clbench.errors import UserError
from clbench.stream import Split

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
PARTS = ("train", "val")
LIST = "val_annotations.txt"
"""Tiny-ImageNet's list: a line an image, the file's name, its class and a box around it, with tabs between them."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKERS = 4
"""At most so many processes read images, and no more than there are processors."""
AT_A_TIME = 64
"""Images that a process reads for testing before it hands them over."""


def tree(folder: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """The training and the test files of each class, in order; a ``UserError`` says what is missing."""
    parts = []
    for name in PARTS:
        if not (folder / name).is_dir():
            raise MissingData(
                f"There is no folder {folder / name}: a tree of images needs train/CLASS/ and val/CLASS/ with image files in them."
            )
        parts.append(_by_class(folder / name))
    train, test = parts
    if train.keys() != test.keys():
        (odd, *_) = sorted(train.keys() ^ test.keys())
        lacking = "val" if odd in train else "train"
        raise UserError(f"The class {odd} of {folder} has no images in {lacking}/: every class needs some in both.")
    return {name: (train[name], test[name]) for name in train}


def _by_class(part: Path) -> dict[str, list[Path]]:
    """The image files of each class of a half of a tree, in order: by its list where it has one, else by folders."""
    found: dict[str, list[Path]] = {}
    if (part / LIST).exists():
        for line in (part / LIST).read_text().splitlines():
            file, _, rest = line.partition("\t")
            found.setdefault(rest.partition("\t")[0], []).append(part / "images" / file)
        return {name: sorted(found[name]) for name in sorted(found)}
    for each in sorted(path for path in part.iterdir() if path.is_dir() and not _hidden(path, part)):
        files = sorted(path for path in each.rglob("*") if path.suffix.lower() in SUFFIXES and not _hidden(path, part))
        if files:
            found[each.name] = files
    return found


def _hidden(path: Path, part: Path) -> bool:
    """Whether the name of ``path``, or of a folder between it and ``part``, begins with a dot, as what file managers and editors leave."""
    return any(name.startswith(".") for name in path.relative_to(part).parts)


def manifest(folder: Path) -> str | None:
    """A digest of the image files of a tree, by their names in it, sizes and times of change. None if there is no such folder."""
    if not folder.is_dir():
        return None
    root = os.fspath(folder)
    files = sorted(file for part in PARTS for file in _statuses(os.path.join(root, part)))
    lines = (f"{path.removeprefix(root).replace(os.sep, '/')} {size} {time}\n" for path, size, time in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def _statuses(folder: str) -> Iterator[tuple[str, int, int]]:
    """The path, size and time of change of each image file and list below a folder. ``Path.rglob`` takes five times as long."""
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _statuses(entry.path)
            elif entry.name == LIST or os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files in the place of a tensor of images: ``len``, a slice or rows of it, and the device that they are to be on."""

    paths: Sequence[Path]
    side: int
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | Tensor) -> "ImageFiles":
        chosen = self.paths[rows] if isinstance(rows, slice) else [self.paths[row] for row in rows.tolist()]
        return replace(self, paths=chosen)

    def to(self, device: torch.device) -> "ImageFiles":
        """The same files, to be read to ``device``."""
        return replace(self, device=device)


@dataclass(frozen=True, eq=False)
class FileSplit(Split):
    """Labelled image files of one task: a ``Split`` whose images are read when they are needed."""

    def whole(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """All inputs, as for testing, and labels in a fixed order; the first ``limit`` of them."""
        files: Any = self.images[:limit]
        chunks = [list(range(first, min(first + AT_A_TIME, len(files)))) for first in range(0, len(files), AT_A_TIME)]
        inputs = list(_read(files, [[(row, None) for row in chunk] for chunk in chunks]))
        return torch.cat(inputs), self.labels[:limit].clone()

    def batches(self, updates: int, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """As ``Split.batches``, each image a random part of itself."""
        rows = torch.stack(list(self.order(updates, batch_size, generator)))
        seeds = torch.randint(2**62, rows.shape, generator=generator)
        wanted = [list(zip(some.tolist(), own.tolist(), strict=True)) for some, own in zip(rows, seeds, strict=True)]
        for some, inputs in zip(rows, _read(self.images, wanted), strict=True):
            yield inputs, self.labels[some.to(self.labels.device)]


class _Decoded(Dataset):
    """Inputs by (row, seed of the random part, or None for the middle); a sentence where a file cannot be read."""

    def __init__(self, files: ImageFiles) -> None:
        transforms = import_torchvision().transforms
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.files = files
        self.middle = transforms.Compose(
            [transforms.Resize(round(files.side * 256 / 224)), transforms.CenterCrop(files.side), *last]
        )
        self.part = transforms.Compose([transforms.RandomResizedCrop(files.side), transforms.RandomHorizontalFlip(), *last])

    def __getitem__(self, wanted: tuple[int, int | None]) -> Tensor | str:
        from PIL import Image

        row, seed = wanted
        try:
            with Image.open(self.files.paths[row]) as picture:
                image = as_rgb(picture)
        except UserError as error:
            return f"The image {self.files.paths[row]} {error}."
        except Exception as error:  # a damaged file raises anything
            return f"The image {self.files.paths[row]} is damaged ({error}): replace or remove it."
        if seed is None:
            return self.middle(image)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.part(image)


def as_rgb(picture: Any) -> Any:
    """A picture of Pillow's with three channels of 8 bits; a ``UserError`` where it is not known how bright its values are.

    Grey values of 16 bits are scaled to 8, where Pillow would cut them off at 255. Transparency is left out, as torchvision does.
    """
    from PIL import Image

    # Older releases of Pillow give the 16 bits of a PNG the mode of 32.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UserError(f"has pixels of 32 bits (mode {picture.mode}), of unknown range: save it with 8 or 16 bits")
    return picture.convert("RGB")


def _read(files: Any, wanted: list[list[tuple[int, int | None]]]) -> Iterator[Tensor]:
    """The inputs [n, 3, side, side] of each list of rows, read ahead by other processes."""
    total = sum(map(len, wanted))
    workers = min(WORKERS, os.cpu_count() or 1, len(wanted)) if total > AT_A_TIME else 0
    loader = DataLoader(
        _Decoded(files), batch_sampler=wanted, num_workers=workers, collate_fn=_gathered, generator=torch.Generator()
    )
    for inputs in loader:
        if isinstance(inputs, str):
            raise DamagedData(inputs)
        yield inputs.to(files.device, non_blocking=True)


def _gathered(samples: list[Tensor | str]) -> Tensor | str:
    """A batch of inputs, or the first sentence about a file that could not be read."""
    problem = next((sample for sample in samples if isinstance(sample, str)), None)
    return problem or torch.stack([sample for sample in samples if isinstance(sample, Tensor)])


def file_split(files: Sequence[Path], labels: Sequence[int], side: int) -> FileSplit:
    """Image files as a split."""
    return FileSplit(ImageFiles(files, side), torch.tensor(labels), _as_they_are)  # type: ignore[arg-type]


def _as_they_are(images: Any) -> Any:
    return images
