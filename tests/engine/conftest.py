"""Runs as earlier versions of clbench left them."""

import json
import shutil
from collections.abc import Callable

import pytest

from clbench.engine.store import Run


def schema_1(run: Run) -> None:
    """Take from a run what came with schema 2: copies, and what the record says of the tables and of itself."""
    record = {key: value for key, value in run.record.items() if key not in ("schema", "tables", "check")}
    (run.path / "run.json").write_text(json.dumps(record))
    shutil.rmtree(run.path / "copies")


@pytest.fixture(scope="session")
def as_schema_1() -> Callable[[Run], None]:
    return schema_1
