"""The bytes of a run's tables: CSV files, of which only what the record says counts.

Each table is kept twice, ``NAME.csv`` and ``copies/NAME.csv``. The record knows the length and the digest of what counts, so a reader takes
either file that has it. Rows are appended to the table before the record is replaced, and to the copy after that: at any instant one of
the two is what the record says, and what a crash leaves behind the known length is no part of the table.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from clbench.engine import durable
from clbench.engine.record import COPIES, REMEDY, Damaged, Extent

COLUMNS = {
    "scores": ("learned", "task", "scenario", "ask", "accuracy", "task_accuracy", "images", "seconds"),
    "confusion": ("learned", "ask", "task", "inferred", "images"),
    "tasks": ("learned", "seconds", "components", "stored_bytes", "progress_bytes"),
    "losses": ("learned", "part", "loss"),
    "schedule": ("first_batch", "batches", "task", "images"),
}
"""The columns that readers rely on, of clbench's tables. A method's own tables have ``learned``."""

TEXTS = {"scenario", "ask"}
"""The columns of these that hold texts; all others hold numbers."""

GAPS = {"task_accuracy", "loss", "components"}
"""The columns of these that may be empty."""


def places(folder: Path, name: str) -> tuple[Path, Path]:
    """A table's file and its copy, in a run's folder."""
    return folder / f"{name}.csv", folder / COPIES / f"{name}.csv"


def extent_of(content: bytes) -> Extent:
    """What the record says of a table with this content."""
    return Extent(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def intact(file: Path, extent: Extent) -> bytes | None:
    """The part of a file that counts, None if it is not what the record says or cannot be read."""
    try:
        with file.open("rb") as opened:
            content = opened.read(extent.bytes)
    except OSError:
        return None
    return content if extent_of(content) == extent else None


def read(folder: Path, name: str, extent: Extent) -> bytes:
    """A table's content, from its file or its copy; ``Damaged`` if neither has it."""
    for file in places(folder, name):
        if (content := intact(file, extent)) is not None:
            return content
    file = places(folder, name)[0]
    what = "is not what its run wrote" if file.exists() else "is gone"
    raise Damaged(f"The file {file} {what}, and so is its copy: {REMEDY}.")


def mend(folder: Path, name: str, extent: Extent) -> bytes:
    """A table's content, as ``read`` gives it; afterwards both of its files have it."""
    content = read(folder, name, extent)
    for file in places(folder, name):
        if intact(file, extent) is None:
            with durable.writing(file):
                file.parent.mkdir(exist_ok=True)
            durable.replace(file, content)
    return content


# Runs of schema 1, whose records say nothing of their tables


def unrecorded(folder: Path) -> Iterator[str]:
    """The names of the CSV files in a folder of schema 1 that look like tables: with a column ``learned``, or without a whole line.

    Others were put there by somebody else.
    """
    for file in sorted(folder.glob("*.csv")):
        first, newline, _ = _content(file).partition(b"\n")
        if not newline or file.stem in COLUMNS or b"learned" in first.rstrip(b"\r").split(b","):
            yield file.stem


def read_unrecorded(folder: Path, name: str) -> bytes:
    """A table of schema 1; ``Damaged`` if it ends within a line. Nothing else can tell whether it is whole."""
    file = folder / f"{name}.csv"
    content = _content(file)
    if not content.endswith(b"\n"):
        raise Damaged(f"The file {file} is cut off: {REMEDY}.")
    return content


def whole_lines(folder: Path, name: str) -> bytes:
    """A table of schema 1 without the line in which it was cut off."""
    return _content(folder / f"{name}.csv").rpartition(b"\n")[0] + b"\n"


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Damaged(f"The file {file} cannot be read ({error.strerror or error}): {REMEDY}.") from None


# Frames


def parsed(file: Path, content: bytes) -> pd.DataFrame:
    """A table's rows. ``Damaged`` if they cannot be: columns are missing, numbers are none, or an accuracy is not between 0 and 1."""
    try:
        table = pd.read_csv(io.BytesIO(content))
    except (ValueError, OverflowError) as error:  # pandas' errors, and wrong encodings, are ValueErrors
        raise Damaged(f"The file {file} cannot be read ({' '.join(str(error).split())}): {REMEDY}.") from None
    if wrong := _wrong(file.stem, table):
        raise Damaged(f"The file {file} is damaged ({wrong}): {REMEDY}.")
    return table


def texts(content: bytes) -> pd.DataFrame:
    """A table's rows as the texts that are in it, so that they can be written again without a change."""
    return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)


def written(table: pd.DataFrame, *, header: bool) -> bytes:
    """Rows as CSV."""
    return table.to_csv(index=False, header=header, lineterminator="\n").encode()


def _wrong(name: str, table: pd.DataFrame) -> str:
    """What cannot be in the table of that name; empty if nothing."""
    columns = COLUMNS.get(name, ("learned",))
    if missing := [column for column in columns if column not in table]:
        return f"it has no column {missing[0]}"
    if not isinstance(table.index, pd.RangeIndex):
        return "its lines have more values than its first"
    for column in columns:
        if column not in GAPS and table[column].isna().any():
            return f"the column {column} has gaps"
        if column not in TEXTS and len(table) and not pd.api.types.is_numeric_dtype(table[column]):
            return f"the column {column} does not hold numbers"
    if name == "scores" and not (table["accuracy"].between(0, 1) & table["task_accuracy"].fillna(0).between(0, 1)).all():
        return "an accuracy is not between 0 and 1"
    return ""
