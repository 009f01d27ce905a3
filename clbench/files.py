"""Files that are written as a whole, text as UTF-8 whatever the locale."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clbench.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Replace a file by ``text`` (``replacing``)."""
    content = text.encode(errors="backslashreplace")  # the name of a file may be no text
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write the new content of a file, which takes its place at the end: after an error the earlier content is still there.

    The folder of the file is made if it is missing. An error of the file system becomes a ``UserError``.
    """
    partial = path.parent / (f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path.resolve())
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): name another place.") from None
