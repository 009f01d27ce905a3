"""Runs on disk: interrupted runs resume with the same result, and nothing is computed twice."""

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clbench import storage
from clbench.data import Dataset
from clbench.engine import store
from clbench.engine.execution import execute
from clbench.engine.saving import SavingClock
from clbench.engine.store import Run
from clbench.errors import Notice, UserError
from tests.engine.runs import Event, Interrupted, assert_same, job, stop_after

pytestmark = pytest.mark.usefixtures("tiny")


# Notes


def test_notes_are_recorded_and_are_warnings_whenever_a_run_is_done_or_read(tmp_path: Path) -> None:
    wanted = job("nns", set={"interval": 10})
    for _ in range(2):
        with pytest.warns(Notice, match="every 10 batches, and a task has 15") as notices:
            run = execute(wanted, tmp_path)
        assert [str(notice.message) for notice in notices] == list(run.notes) == run.record["notes"]
    assert execute(job("nns", set={"interval": 5}), tmp_path).notes == ()


def test_a_note_is_kept_once_and_a_run_from_before_there_were_any_has_none(tmp_path: Path) -> None:
    run = execute(job(), tmp_path)
    assert "notes" not in run.record
    store.add_notes(run, ["One."])
    with pytest.warns(Notice) as notices:
        store.add_notes(run, ["One.", "Two.", "Three.", "Two."])
    assert [str(notice.message) for notice in notices] == ["Two.", "Three."]
    assert run.notes == ("One.", "Two.", "Three.")


# Interrupted runs


@pytest.mark.parametrize("scenario", ["gnu", "nns"])
@pytest.mark.parametrize("saving", [True, False], ids=["saved often", "saved at the end"])
def test_a_run_stopped_anywhere_resumes_with_the_same_result(
    scenario: str, saving: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SavingClock, "due", lambda self, ahead=0.0: saving)
    wanted = job(scenario, ask={"objective": ["H", "G"]}, checkpoints=(1, 3))
    events: list[Event] = []
    whole = execute(wanted, tmp_path / "whole", watch=events.append)
    assert len(events) == 3 + 2 * (1 + 3)
    for stop in range(len(events)):
        results = tmp_path / str(stop)
        with pytest.raises(Interrupted):
            execute(wanted, results, watch=stop_after(stop))
        assert Run(results / "runs" / wanted.learn.hash).record["status"] == "incomplete"
        assert_same(execute(wanted, results), whole)


def test_a_run_stopped_again_and_again_is_finished_in_the_end(
    tmp_path: Path, observed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt sees a few events more; nothing that was saved is learned again."""
    monkeypatch.setattr(SavingClock, "due", lambda self, ahead=0.0: True)
    wanted = job("nns")
    whole = execute(wanted, tmp_path / "whole")
    assert len(observed) == 3 * 15
    for learned in (2, 3):
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path / "stopped", watch=stop_after(4))
        saved = Run(tmp_path / "stopped" / "runs" / wanted.learn.hash).saved()
        assert saved is not None
        assert saved[0] == learned
    assert_same(execute(wanted, tmp_path / "stopped"), whole)
    assert len(observed) == 2 * 3 * 15


def test_of_tasks_that_are_taught_at_a_time_the_first_ends_again_if_they_did_not_all_end(
    tmp_path: Path, observed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SavingClock, "due", lambda self, ahead=0.0: True)
    wanted = job(tasks=5, checkpoints=(3, 5))
    whole = execute(wanted, tmp_path / "whole")
    assert len(observed) == 5 * 15
    for events, tasks_saved in ((4, 2), (2, 2), (5, 4)):  # the events: 1 2 3 s s, then 3 s s, then 3 s s s 4 5
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path / "stopped", watch=stop_after(events))
        saved = Run(tmp_path / "stopped" / "runs" / wanted.learn.hash).saved()
        assert saved is not None
        assert saved[0] == tasks_saved
    assert_same(execute(wanted, tmp_path / "stopped"), whole)
    assert len(observed) == 2 * 5 * 15


@pytest.mark.parametrize("what", ["storage.save", "shutil.rmtree", "os.replace", "pd.DataFrame.to_csv"])
def test_a_run_stopped_while_saving_resumes(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the tables were written and before the state, between old and new state, and so on: at every call of each."""
    monkeypatch.setattr(SavingClock, "due", lambda self, ahead=0.0: True)
    wanted = job(tasks=5, updates=3, checkpoints=(3, 5))
    whole = execute(wanted, tmp_path / "whole")
    holder: Any = {"storage.save": storage, "shutil.rmtree": shutil, "os.replace": os, "pd.DataFrame.to_csv": pd.DataFrame}[what]
    original = getattr(holder, what.rpartition(".")[2])
    for stop in range(200):
        left = [stop]

        def call(*arguments: Any, left: list[int] = left, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise Interrupted
            return original(*arguments, **keywords)

        results = tmp_path / str(stop)
        with monkeypatch.context() as patch:
            patch.setattr(holder, what.rpartition(".")[2], call)
            try:
                execute(wanted, results)
            except Interrupted:
                pass
            else:
                assert stop > 2
                break
        assert_same(execute(wanted, results), whole)
    else:
        pytest.fail("it never came to an end")


def test_a_run_stopped_while_answering_answers_the_rest(tmp_path: Path, observed: list[int]) -> None:
    execute(job(), tmp_path / "once")
    whole = execute(job(ask={"objective": "G"}), tmp_path / "once")
    execute(job(), tmp_path / "twice")
    with pytest.raises(Interrupted):
        execute(job(ask={"objective": "G"}), tmp_path / "twice", watch=stop_after(3))
    assert_same(execute(job(ask={"objective": "G"}), tmp_path / "twice"), whole)
    assert len(observed) == 2 * 3 * 15


def test_a_run_stopped_and_asked_something_more_answers_both(tmp_path: Path) -> None:
    whole = execute(job(ask={"objective": ["H", "G"]}), tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(job(), tmp_path / "stopped", watch=stop_after(4))
    assert_same(execute(job(ask={"objective": "G"}), tmp_path / "stopped"), whole)


# Nothing twice


def test_nothing_is_computed_twice(tmp_path: Path, observed: list[int]) -> None:
    run, events = execute(job(), tmp_path), []
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    for overwrite in ("missing", "never"):
        assert execute(job(), tmp_path, overwrite=overwrite, watch=events.append) == run
    assert events == []
    assert len(observed) == 3 * 15
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_overwrite_always_begins_again(tmp_path: Path, observed: list[int]) -> None:
    execute(job(ask={"objective": "G"}), tmp_path)
    run = execute(job(), tmp_path, overwrite="always")
    assert len(observed) == 2 * 3 * 15
    assert set(run.table("scores")["ask"]) == {job().asks[0].label}
    assert_same(run, execute(job(), tmp_path / "other"))


def test_overwrite_never_adds_nothing(tmp_path: Path, observed: list[int]) -> None:
    with pytest.raises(UserError, match=r"There is no run .* to read: use --overwrite missing"):
        execute(job(), tmp_path, overwrite="never")
    run = execute(job(), tmp_path)
    with pytest.raises(UserError, match="lacks some of these answers"):
        execute(job(ask={"objective": "G"}), tmp_path, overwrite="never")
    with pytest.raises(Interrupted):
        execute(job(seeds=(1,)), tmp_path, watch=stop_after(1))
    with pytest.raises(UserError, match="lacks some of these answers"):
        execute(job(seeds=(1,)), tmp_path, overwrite="never")
    assert len(observed) == (3 + 2) * 15  # the first two tasks are taught at a time
    assert len(run.asks) == 1


def test_an_unknown_way_to_overwrite_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Invalid value overwrite=allways: input should be 'missing', 'always' or 'never'"):
        execute(job(), tmp_path, overwrite="allways")


def test_overwrite_removes_nothing_for_a_request_that_cannot_be_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = execute(job(set={"outputs": 4}), tmp_path)
    with pytest.raises(UserError, match="superfluous"):
        execute(job(set={"outputs": 4}, ask={"objective": "G"}), tmp_path, overwrite="always")

    def missing(name: str, root: str | None = None) -> Dataset:
        raise UserError("There is no data.")

    monkeypatch.setattr("clbench.data.load", missing)
    with pytest.raises(UserError, match="no data"):
        execute(job(set={"outputs": 4}), tmp_path, overwrite="always")
    assert run.complete
    assert len(run.table("scores")) == 1 + 2 + 3
