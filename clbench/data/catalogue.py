"""The data sets that clbench knows: load one, check which are there, download one, add files from a folder."""

import difflib
import hashlib
import importlib
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from clbench._torchvision import import_torchvision
from clbench.data.dataset import Dataset
from clbench.data.source import DamagedData, File, MissingData, Source, opened
from clbench.errors import UserError


def _sources() -> Iterator[Source]:
    """The data sets that the modules beside this one define."""
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if info.name != Path(__file__).stem:
            module = importlib.import_module(f"clbench.data.{info.name}")
            yield from (value for value in vars(module).values() if isinstance(value, Source))


SOURCES: dict[str, Source] = {
    source.name: source for source in sorted(_sources(), key=lambda source: (bool(source.files), source.name))
}
"""Every data set by name; those that need no download come first."""


@dataclass(frozen=True)
class Status:
    """Whether a data set can be read. ``problem`` is a sentence that says why not (empty if it can)."""

    source: Source
    state: Literal["present", "missing", "damaged"]
    where: str
    how: str
    problem: str = ""


@dataclass(frozen=True)
class Added:
    """A verified file in its place: its data set, where it was found, and where it is now."""

    name: str
    origin: Path
    path: Path


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the data: ``root``, else the variable CLBENCH_DATA, else clbench/data in the cache folder.

    The cache folder is the variable XDG_CACHE_HOME, or ``~/.cache`` if that is not set.
    """
    if root := root or os.environ.get("CLBENCH_DATA"):
        return _expanded(root)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else _expanded("~/.cache")) / "clbench" / "data"


def load(name: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set of that name, verified by checksum; nothing is downloaded. ``root`` is as in ``data_root``.

    Raises ``UserError`` for an unknown name, and its kinds ``MissingData`` and ``DamagedData``.
    """
    source = _find(name)
    return source.read(source, data_root(root))


def status(root: str | os.PathLike[str] | None = None) -> list[Status]:
    """The status of every data set, verified by checksum."""
    return [_status(source, data_root(root)) for source in SOURCES.values()]


def get(name: str, root: str | os.PathLike[str] | None = None) -> Status:
    """Download a data set with torchvision, unless it is there; a damaged one is replaced.

    Raises a ``UserError`` for an unknown name and if the download or the writing fails, and its kinds ``MissingData`` and ``DamagedData``
    for a data set that comes with a Python package instead of a download.
    """
    source, root = _find(name), data_root(root)
    status = _status(source, root)
    if status.state == "present":
        return status
    if source.torchvision:
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
                _download(source, folder)
                add(folder, root)
    source.verify(root)
    return _status(source, root)


def add(folder: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Added]:
    """Copy the files of known data sets from ``folder`` into the data root; returns all that are in their place now.

    Files are searched by name in ``folder`` and below it, compressed or not, and recognised by the checksum of their content, in any layout
    and with any compression; in the data root they are uncompressed. ``folder`` may also be a file. Raises ``DamagedData`` for files that
    have the name of a known file and other content (after all others are added), and ``UserError`` if no file is known.
    """
    folder, root = _expanded(folder), data_root(root)
    if not folder.exists():
        raise UserError(f"Cannot add data from {folder}: there is no such folder.")
    known: dict[str, tuple[Source, File]] = {}  # by sha256
    expected: dict[str, list[str]] = {}  # by the name of the file
    for source in SOURCES.values():
        for file in source.files:
            known[file.sha256] = (source, file)
            for place in file.places():
                expected.setdefault(Path(place).name, []).append(f"{file.sha256} ({source.name})")

    added: dict[File, Added] = {}
    refused = []
    for origin in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if origin.name not in expected or not origin.is_file():
            continue
        try:
            sha256 = _sha256(origin)
        except DamagedData as error:
            refused.append(str(error))
            continue
        if sha256 not in known:
            refused.append(f"the content of {origin} has sha256 {sha256}, expected {' or '.join(expected[origin.name])}")
            continue
        source, file = known[sha256]
        _place(origin, root / file.path, file.sha256)
        added.setdefault(file, Added(source.name, origin, root / file.path))
    if refused:
        others = f"; {len(added)} other files were added" if added else ""
        raise DamagedData(f"damaged or unknown files were not added: {'; '.join(refused)}{others}")
    if not added:
        names = ", ".join(sorted({Path(file.path).name for _, file in known.values()}))
        raise UserError(f"Nothing to add in {folder}: it holds no file of a known data set ({names}; compressed or not).")
    return list(added.values())


def _expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of ``~``."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such person, or nothing says which folder is this one's
        raise UserError(f"There is no home folder for {path}: name another with --data-root or CLBENCH_DATA.") from None


def _find(name: str) -> Source:
    """The data set of that name."""
    if name in SOURCES:
        return SOURCES[name]
    close = difflib.get_close_matches(name.lower(), SOURCES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(f"Unknown data set '{name}': {hint}known are {', '.join(SOURCES)}.")


def _status(source: Source, root: Path) -> Status:
    """The status of a data set."""
    state: Literal["present", "missing", "damaged"] = "present"
    problem = ""
    try:
        source.verify(root)
    except MissingData as error:
        state, problem = "missing", str(error)
    except DamagedData as error:
        state, problem = "damaged", str(error)
    return Status(source, state, source.where(root), source.how(), problem)


def _download(source: Source, folder: str) -> None:
    """Let torchvision download a data set into an empty folder."""
    try:
        getattr(import_torchvision().datasets, source.torchvision)(folder, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        raise UserError(
            f"cannot download {source.name}: {reason}; without a network, copy its files from another machine and add them "
            f"with `clbench data add FOLDER`"
        ) from error


def _sha256(path: Path) -> str:
    """The SHA-256 of a file's uncompressed content, in hexadecimal digits; ``DamagedData`` if it cannot be uncompressed."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error


def _place(origin: Path, path: Path, sha256: str) -> None:
    """Copy a file to its place, uncompressed, completely or not at all, unless it is there."""
    if path.is_file() and _sha256(path) == sha256:
        return
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with opened(origin) as content, partial.open("wb") as copy:
            shutil.copyfileobj(content, copy)
        partial.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a ``UserError``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
