"""The tiny data set in the place of every other, a count of what SupSup is taught, and runs as earlier versions of clbench left them."""

import json
import shutil
from collections.abc import Callable

import pytest
import torch

from clbench.data import Dataset
from clbench.engine.store import Run
from clbench.methods.supsup import SupSup


@pytest.fixture
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is the tiny one, and nothing waits for the disk."""
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each batch of a task that SupSup is taught."""
    batches: list[int] = []
    observe, observe_tasks = SupSup.observe, SupSup.observe_tasks

    def one(self: SupSup, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        batches.append(len(inputs))
        return observe(self, inputs, labels)

    def several(self: SupSup, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        batches.extend(map(len, inputs))
        return observe_tasks(self, inputs, labels)

    monkeypatch.setattr(SupSup, "observe", one)
    monkeypatch.setattr(SupSup, "observe_tasks", several)
    return batches


def schema_1(run: Run) -> None:
    """Take from a run what came with schema 2: copies, and what the record says of the tables and of itself."""
    record = {key: value for key, value in run.record.items() if key not in ("schema", "tables", "check")}
    (run.path / "run.json").write_text(json.dumps(record))
    shutil.rmtree(run.path / "copies")


@pytest.fixture(scope="session")
def as_schema_1() -> Callable[[Run], None]:
    return schema_1
