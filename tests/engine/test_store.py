"""A run's folder: what is read from it and written to it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clbench.engine import store
from clbench.engine.learn import Learn, Seeds
from clbench.engine.run_files import Tables
from clbench.engine.store import Run
from clbench.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has learned nothing yet."""
    run = Run(tmp_path / "runs" / "0123456789ab")
    learn = Learn(
        method="naive",
        version=1,
        parameters={},
        scenario={},
        stream="permuted-mnist",
        data="mnist-5k",
        tasks=2,
        network="mlp-8",
        seeds=Seeds(stream=0, initialisation=0, training=0),
        updates=1,
        batch_size=1,
        precision="float32",
    )
    about = {"scenario": "GNu", "transductive": False, "started": store.now(), "environment": {}}
    first = {"learn": learn.model_dump(mode="json"), **about, "status": "incomplete", "asks": [], "checkpoints": [2]}
    store.create(run, first)
    return run


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read whole."""
    files: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(self: Path) -> bytes:
        files.append(self)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
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
    store.update(Run(run.path), notes=["From another process."])
    assert run.notes == ("From another process.",)
    assert len(files_read) == 3


def test_an_update_changes_no_record_in_memory(run: Run) -> None:
    before = run.record
    store.update(run, checkpoints=(1,), status="complete")
    assert (before["checkpoints"], before["status"]) == ([2], "incomplete")


def test_a_run_that_is_created_again_loses_its_earlier_results(run: Run) -> None:
    tables = Tables(run)
    tables.add("allocation", learned=1, mask=0)
    tables.commit()
    assert run.table_names() == ["allocation"]
    assert run.table("allocation").to_dict("records") == [{"learned": 1, "mask": 0}]
    store.create(run, run.record)
    assert run.table_names() == []
    assert run.table("allocation").empty
    assert not run.table_file("allocation").exists()


def test_the_runs_of_a_results_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "runs" / "without-a-record").mkdir()
    assert not Run(tmp_path / "runs" / "without-a-record").exists
    assert store.runs_in(tmp_path) == [run]
    assert store.runs_in(tmp_path / "elsewhere") == []


def test_the_last_saved_state_is_the_one_in_the_record(run: Run) -> None:
    assert run.saved() is None
    for name in ("9", "10"):
        (run.path / "state" / name).mkdir(parents=True)
    assert run.saved() is None
    store.update(run, state={"9": {}})
    assert run.saved() == (9, run.path / "state" / "9")
    (run.path / "state" / "9").rmdir()
    with pytest.raises(UserError, match="has lost its saved state"):
        run.saved()


def test_the_last_saved_state_of_an_earlier_version_is_the_one_after_most_tasks(
    run: Run, as_schema_1: Callable[[Run], None]
) -> None:
    as_schema_1(run)
    for name in ("9", "10", "11.part"):
        (run.path / "state" / name).mkdir(parents=True)
    assert run.saved() == (10, run.path / "state" / "10")
