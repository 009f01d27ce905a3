"""Files that a crash leaves whole: written aside and put in their place, or appended to after a known length, and forced to the disk.

A file system that is full, gone or read-only is one sentence, a ``UserError``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from clbench.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system, while ``path`` is written, into a ``UserError``."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} cannot be written ({reason}): all that was saved before is kept; mend the cause and repeat the command to resume."
        ) from None


def replace(path: Path, content: bytes) -> None:
    """Write a file: a crash leaves the earlier one or this one, whole."""
    partial = path.with_name(f"{path.name}.part")
    with writing(path):
        with partial.open("wb") as file:
            _write(file, content)
            _force(file)
        os.replace(partial, path)
        sync_folder(path.parent)


def append(path: Path, length: int, content: bytes, *, force: bool = True) -> None:
    """Write ``content`` after the first ``length`` bytes of a file, and drop what followed them."""
    with writing(path), os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b") as file:
        file.truncate(length)
        file.seek(length)
        _write(file, content)
        if force:
            _force(file)


def sync(folder: Path) -> None:
    """Force a folder, and the files in it, to the disk."""
    with writing(folder):
        for path in folder.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, where the system can (Windows does so by itself)."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _force(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
