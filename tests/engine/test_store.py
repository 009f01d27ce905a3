"""A run's folder: what is read from it and written to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from clbench.engine import store
from clbench.engine.store import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has learned nothing yet."""
    run = Run(tmp_path / "runs" / "0123456789ab")
    store.create(run, {"scenario": "GNu", "status": "incomplete", "asks": [], "checkpoints": [2], "state": {}})
    return run


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read as text."""
    files: list[Path] = []
    read_text = Path.read_text

    def counted(self: Path, *arguments: Any, **keywords: Any) -> str:
        files.append(self)
        return read_text(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "read_text", counted)
    return files


def test_the_record_is_parsed_once(run: Run, files_read: list[Path]) -> None:
    for _ in range(3):
        assert (run.scenario.name, run.complete, run.asks, run.checkpoints, run.notes) == ("GNu", False, (), (2,), ())
        assert Run(run.path).record is run.record
    assert files_read == [run.path / "run.json"]


def test_a_record_that_was_written_is_read_again(run: Run, files_read: list[Path]) -> None:
    store.update(run, status="complete", checkpoints=(1, 2))
    assert run.complete
    assert run.checkpoints == (1, 2)
    (run.path / "run.json").write_text(json.dumps(run.record | {"notes": ["From another process."]}))
    assert run.notes == ("From another process.",)
    assert len(files_read) == 3


def test_an_update_changes_no_record_in_memory(run: Run) -> None:
    before = run.record
    store.update(run, checkpoints=(1,), status="complete")
    assert (before["checkpoints"], before["status"]) == ([2], "incomplete")


def test_a_run_that_is_created_again_loses_its_earlier_results(run: Run) -> None:
    run.table_file("scores").write_text("learned\n1\n")
    assert run.table_files() == [run.path / "scores.csv"]
    store.create(run, run.record)
    assert run.table_files() == []
    assert run.table("scores").empty


def test_the_runs_of_a_results_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "runs" / "without-a-record").mkdir()
    assert not Run(tmp_path / "runs" / "without-a-record").exists
    assert store.runs_in(tmp_path) == [run]
    assert store.runs_in(tmp_path / "elsewhere") == []


def test_the_last_saved_state_is_the_one_after_most_tasks(run: Run) -> None:
    assert run.saved() is None
    for name in ("9", "10", "11.part"):
        (run.path / "state" / name).mkdir(parents=True)
    assert run.saved() == (10, run.path / "state" / "10")
