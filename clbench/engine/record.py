"""A run's record, ``run.json``: what it holds, how it is checked, and how it is replaced.

The record is the one place that says what belongs to a run: the length and digest of each table, and the digests of the saved state. It
is replaced whole, so each of its versions is a whole run; what is on disk beside it does not count. It holds its own digest (``check``),
and a copy of it is in ``copies/``.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from clbench.engine import durable
from clbench.engine.learn import Learn
from clbench.errors import UserError

RECORD = "run.json"
COPIES = "copies"
SCHEMA = 2
"""The version of the form of run folders. 1, which no record names, had tables without lengths and digests."""

REMEDY = "look with `clbench runs verify`, or repeat the run with --overwrite always"


class Extent(BaseModel, frozen=True, strict=True):
    """A table's first ``bytes``, which are all that counts of it, and their SHA-256."""

    bytes: int
    sha256: str


class _AskFields(BaseModel, strict=True):
    scenario: str
    parameters: dict[str, Any]
    images: int | None
    sample: int | None = None
    version: int = 1


class _DivergenceFields(BaseModel, strict=True):
    task: int
    batch: int
    reason: str


class _Fields(BaseModel, strict=True):
    """What readers of a record rely on. It may hold more."""

    learn: dict[str, Any]
    scenario: str
    asks: list[_AskFields]
    checkpoints: list[int]
    status: Literal["incomplete", "complete", "diverged"]
    transductive: bool
    started: str = ""
    environment: dict[str, Any] = {}
    notes: list[str] = []
    diverged: _DivergenceFields | None = None
    state: dict[str, dict[str, str] | None] | None = None
    tables: dict[str, Extent] | None = None


def exists(folder: Path) -> bool:
    """Whether a folder holds a record, or the copy of one."""
    return any((folder / name).exists() for name in (RECORD, f"{COPIES}/{RECORD}"))


def read(folder: Path) -> dict[str, Any]:
    """The record in a run's folder, not to be changed; its copy if it is damaged. A ``UserError`` if both are.

    It is parsed once, and again only after it was written.
    """
    file = folder / RECORD
    try:
        status = file.stat()
        return _checked(file, (status.st_ino, status.st_mtime_ns, status.st_size))
    except (OSError, Damaged):
        try:
            return check(folder / COPIES / RECORD)
        except Damaged:
            return check(file)  # says what is wrong with it


@lru_cache(maxsize=4096)
def _checked(file: Path, version: tuple[int, int, int]) -> dict[str, Any]:
    """``version`` is in the key of the cache: a file that was written since is read again."""
    return check(file)


class Damaged(UserError):
    """A file of a run is not what the run wrote."""


def check(file: Path) -> dict[str, Any]:
    """The contents of a record's file; ``Damaged`` if they are not a record, or not the one that was written."""
    try:
        contents = json.loads(file.read_bytes())
        if isinstance(contents, dict) and isinstance(contents.get("schema"), int) and contents["schema"] > SCHEMA:
            raise UserError(f"The run {file.parent} was made by a later version of clbench: update clbench to read it.")
        _Fields.model_validate(contents)
        Learn(**contents["learn"])
    except UserError:
        raise
    except OSError as error:
        raise Damaged(f"The file {file} cannot be read ({error.strerror or error}): {REMEDY}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Damaged(f"The file {file} is damaged ({where + ': ' if where else ''}{first['msg']}): {REMEDY}.") from None
    except (ValueError, TypeError, RecursionError):  # not JSON, not UTF-8, too deep
        raise Damaged(f"The file {file} is damaged: {REMEDY}.") from None
    if "schema" in contents and contents.get("check") != _digest(contents):
        raise Damaged(f"The file {file} was changed after its run wrote it: {REMEDY}.")
    return dict(contents)


def write(folder: Path, record: dict[str, Any]) -> None:
    """Replace the record: this is the one instant at which what a run adds begins to count. Then its copy is replaced."""
    record = record | {"check": _digest(record)} if "schema" in record else record
    content = (json.dumps(record, indent=2) + "\n").encode()
    durable.replace(folder / RECORD, content)
    with durable.writing(folder / COPIES):
        (folder / COPIES).mkdir(exist_ok=True)
    durable.replace(folder / COPIES / RECORD, content)


def _digest(record: dict[str, Any]) -> str:
    rest = {key: value for key, value in record.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
