"""Folders of image files in the layout of ImageNet, ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``, read when they are needed.

Tiny-ImageNet's own layout, with all of ``val`` in one folder and a list of the classes beside it, is read as it is published.

Several processes transform images of any size to one size. For testing, the shorter side is scaled to 256/224 of it and the middle is cut
out; for training, a random part is scaled, and mirrored at random (torchvision's usual transforms for ImageNet).
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clbench._torchvision import import_torchvision
from clbench.data.source import DamagedData, MissingData
from clbench.errors import UserError, tell
from clbench.stream import Split
from clbench.terminal import shortened

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
HALVES = ("train", "val")
LIST = "val_annotations.txt"
"""Tiny-ImageNet's list. Each line is for one image: file name, class and bounding box, separated by tabs."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKERS = 4
"""The number of processes that read images, but no more than there are processors. The variable CLBENCH_WORKERS sets another number."""
MOST_PIXELS = 50_000_000
"""The limit for an image: 150 MB when it is decoded, in each process."""
AT_A_TIME = 64
"""Number of test images that a process reads as one batch."""


def tree(folder: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """The training and the test files of each class, in order; a ``UserError`` says what is missing."""
    halves = []
    for name in HALVES:
        if not (folder / name).is_dir():
            raise MissingData(
                f"There is no folder {folder / name}: a folder of images needs train/CLASS/ and val/CLASS/ with image files in them."
            )
        halves.append(_by_class(folder / name))
    train, test = halves
    if train.keys() != test.keys():
        (unmatched, *_) = sorted(train.keys() ^ test.keys())
        empty = "val" if unmatched in train else "train"
        raise UserError(f"The class {unmatched} of {folder} has no images in {empty}/: every class needs some in both.")
    return {name: (train[name], test[name]) for name in train}


def _by_class(half: Path) -> dict[str, list[Path]]:
    """The image files of each class of a half, in order: by its list if it has one, else by folders."""
    files: dict[str, list[Path]] = {}
    if (half / LIST).exists():
        for file, name in _listed(half / LIST):
            files.setdefault(name, []).append(half / "images" / file)
        return {name: sorted(files[name]) for name in sorted(files)}
    for folder in sorted(path for path in half.iterdir() if path.is_dir() and not _hidden(path, half)):
        images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _hidden(path, half))
        if images:
            files[folder.name] = images
    return files


def _listed(file: Path) -> Iterator[tuple[str, str]]:
    """The file name and the class of each image in Tiny-ImageNet's list. ``DamagedData`` if it is no such list."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedData(f"The list {file} cannot be read ({error}): replace it.") from None
    for number, line in enumerate(lines, start=1):
        image, tab, rest = line.partition("\t")
        if not tab or image != os.path.basename(image) or image in ("", ".", ".."):
            raise DamagedData(
                f"Line {number} of the list {file} does not begin with the name of a file, a tab and a class "
                f"({shortened(line)!r}): replace the list."
            )
        yield image, rest.partition("\t")[0]


def _hidden(path: Path, half: Path) -> bool:
    """Whether ``path``, or a folder between it and ``half``, begins with a dot, like the files that file managers and editors leave."""
    return any(name.startswith(".") for name in path.relative_to(half).parts)


def manifest(folder: Path) -> str | None:
    """A digest of the names, sizes and times of change of the image files below a folder. None if there is no such folder."""
    if not folder.is_dir():
        return None
    root = os.fspath(folder)
    files = sorted(file for half in HALVES for file in _statuses(os.path.join(root, half)))
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
    """Image files that replace a tensor of images: they have a length, slices and rows, and the device for the inputs."""

    paths: Sequence[Path]
    side: int
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | Tensor) -> "ImageFiles":
        paths = self.paths[rows] if isinstance(rows, slice) else [self.paths[row] for row in rows.tolist()]
        return replace(self, paths=paths)

    def to(self, device: torch.device) -> "ImageFiles":
        """The same files, with inputs on ``device``."""
        return replace(self, device=device)


@dataclass(frozen=True, eq=False)
class FileSplit(Split):
    """Labelled image files of one task: a ``Split`` whose images are read when they are needed."""

    def whole(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """All inputs (the first ``limit``), transformed as for testing, and their labels, in a fixed order."""
        files: Any = self.images[:limit]
        chunks = [list(range(first, min(first + AT_A_TIME, len(files)))) for first in range(0, len(files), AT_A_TIME)]
        inputs = list(_read(files, [[(row, None) for row in chunk] for chunk in chunks]))
        return torch.cat(inputs), self.labels[:limit].clone()

    def _inputs(
        self,
        order: Callable[[torch.Generator], Iterable[Tensor]],
        generator: torch.Generator,
        skip: int,
        augmentation: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As in ``Split``, with a random part of each image, whose seed is drawn with the order."""
        rows = [*order(generator)]
        seeds = torch.randint(2**62, (sum(map(len, rows)),), generator=generator).split([len(part) for part in rows])
        requests = [list(zip(*(tensor.tolist() for tensor in part), strict=True)) for part in zip(rows, seeds, strict=True)]
        for part_rows, inputs in zip(rows[skip:], _read(self.images, requests[skip:]), strict=True):
            yield inputs, self.labels[part_rows.to(self.labels.device)]


class _Decoded(Dataset):
    """Inputs by (row, seed of the random part, or None for the middle); an error message if a file cannot be read."""

    def __init__(self, files: ImageFiles) -> None:
        transforms = import_torchvision().transforms
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.files = files
        self.middle = transforms.Compose(
            [transforms.Resize(round(files.side * 256 / 224)), transforms.CenterCrop(files.side), *last]
        )
        self.part = transforms.Compose([transforms.RandomResizedCrop(files.side), transforms.RandomHorizontalFlip(), *last])

    def __getitem__(self, request: tuple[int, int | None]) -> Tensor | str:
        from PIL import Image

        row, seed = request
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is stricter
                with Image.open(self.files.paths[row]) as picture:
                    image = as_rgb(picture)
        except UserError as error:
            return f"The image {self.files.paths[row]} {error}."
        except Image.DecompressionBombError:
            return f"The image {self.files.paths[row]} has far more than {MOST_PIXELS:,} pixels: make it smaller."
        except Exception as error:  # a damaged file raises anything
            return f"The image {self.files.paths[row]} is damaged ({error}): replace or remove it."
        if seed is None:
            return self.middle(image)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.part(image)


def as_rgb(picture: Any) -> Any:
    """A picture of Pillow with three channels of 8 bits; a ``UserError`` if it is too large, or the range of its values is unknown.

    Grey values of 16 bits are scaled to 8 bits (Pillow would cut them off at 255). Transparency is dropped, as in torchvision.
    """
    from PIL import Image

    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise UserError(f"has {width:,} x {height:,} pixels, and at most {MOST_PIXELS:,} are read: make it smaller")
    # Older releases of Pillow give the 16 bits of a PNG the mode of 32.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UserError(f"has pixels of 32 bits (mode {picture.mode}), of unknown range: save it with 8 or 16 bits")
    return picture.convert("RGB")


def _read(files: Any, batches: list[list[tuple[int, int | None]]]) -> Iterator[Tensor]:
    """The inputs [n, 3, side, side] of each batch of rows and seeds, read ahead by other processes."""
    count, done = workers(), 0
    if sum(map(len, batches)) > AT_A_TIME and count:
        try:
            for inputs in _loaded(files, batches, min(count, len(batches))):
                yield inputs
                done += 1
        except (RuntimeError, OSError) as error:  # a process was killed, or has no shared memory to put its images into
            tell(
                [
                    f"A process that reads images ended ({shortened(' '.join(str(error).split()))}): this process reads the others itself, "
                    "with the same result but more slowly. Give more shared memory (/dev/shm), or set CLBENCH_WORKERS=0."
                ]
            )
    yield from _loaded(files, batches[done:], 0)


def _loaded(files: Any, batches: list[list[tuple[int, int | None]]], processes: int) -> Iterator[Tensor]:
    """The inputs of each batch, read by so many other processes, or by this one."""
    loader = DataLoader(
        _Decoded(files), batch_sampler=batches, num_workers=processes, collate_fn=_gathered, generator=torch.Generator()
    )
    for inputs in loader:
        if isinstance(inputs, str):
            raise DamagedData(inputs)
        yield inputs.to(files.device, non_blocking=True)


def workers() -> int:
    """The number of processes that read images: CLBENCH_WORKERS, or else ``WORKERS``, but no more than there are processors."""
    given = os.environ.get("CLBENCH_WORKERS")
    if given is None:
        return min(WORKERS, os.cpu_count() or 1)
    if not given.isascii() or not given.isdigit() or len(given) > 3:
        raise UserError(f"CLBENCH_WORKERS must be a number of processes from 0 to 999, not {shortened(given)!r}.")
    return int(given)


def _gathered(samples: list[Tensor | str]) -> Tensor | str:
    """A batch of inputs, or the first error message about a file that cannot be read."""
    problem = next((sample for sample in samples if isinstance(sample, str)), None)
    return problem or torch.stack([sample for sample in samples if isinstance(sample, Tensor)])


def file_split(files: Sequence[Path], labels: Sequence[int], side: int) -> FileSplit:
    """Image files as a split."""
    return FileSplit(ImageFiles(files, side), torch.tensor(labels), _identity)  # type: ignore[arg-type]


def _identity(images: Any) -> Any:
    return images
