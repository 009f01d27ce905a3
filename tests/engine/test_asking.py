"""Train once, ask many: new questions to runs on disk, which need no training."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from clbench.engine import store
from clbench.engine.asking import Score
from clbench.engine.execution import execute
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.methods.supsup import SupSup
from tests.engine.runs import Event, Interrupted, job, stop_after

pytestmark = pytest.mark.usefixtures("tiny")


def test_another_ask_is_answered_without_training_as_if_it_had_been_asked_in_time(tmp_path: Path, observed: list[int]) -> None:
    whole = execute(job(ask={"objective": ["H", "G"]}), tmp_path / "whole")
    batches = len(observed)
    execute(job(checkpoints=(3,)), tmp_path / "later")
    events: list[Event] = []
    run = execute(job(ask={"objective": "G"}, checkpoints=(1, 3)), tmp_path / "later", watch=events.append)
    assert [event.learned for event in events] == [1, 3, 3, 3]
    assert all(isinstance(event, Score) for event in events)
    assert len(observed) == 2 * batches
    label = job(ask={"objective": "G"}).asks[0].label
    later, at_once = (
        table[(table["ask"] == label) & table["learned"].isin([1, 3])].drop(columns="seconds").reset_index(drop=True)
        for table in (run.table("scores"), whole.table("scores"))
    )
    pd.testing.assert_frame_equal(later, at_once)
    assert {ask.label for ask in run.asks} == {job().asks[0].label, label}
    assert run.checkpoints == (1, 3)


def test_what_an_earlier_version_answered_is_asked_again_beside_it(
    tmp_path: Path, observed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exhaustive search with G is at its second version: what the first answered is not taken for an answer, nor learned again."""
    wanted = {"algorithm": "exhaustive", "objective": "G"}
    with monkeypatch.context() as patch:
        patch.setattr(SupSup, "ask_version", staticmethod(lambda **parameters: 1))
        execute(job(ask=wanted), tmp_path)
    batches = len(observed)
    run = execute(job(ask=wanted), tmp_path)
    assert len(observed) == batches
    assert [ask.version for ask in run.asks] == [1, 2]
    scores = run.table("scores")
    assert scores["ask"].value_counts().to_dict() == {
        "GNu algorithm=exhaustive evidence=1 group=10 objective=G": 6,
        "GNu algorithm=exhaustive evidence=1 group=10 objective=G version=2": 6,
    }
    assert all(each.version == 1 for each in (*job(ask={"objective": "G"}).asks, *job(ask={"algorithm": "exhaustive"}).asks))


def test_an_interrupted_run_resumes_without_asks_of_an_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = job(ask={"algorithm": "exhaustive", "objective": "G"})
    with monkeypatch.context() as patch:
        patch.setattr(SupSup, "ask_version", staticmethod(lambda **parameters: 1))
        with pytest.raises(Interrupted):
            execute(old.model_copy(update={"asks": (replace(old.asks[0], version=1),)}), tmp_path, watch=stop_after(5))
    run = execute(job(ask={"objective": "H"}), tmp_path)
    scores = run.table("scores")
    assert set(scores[scores["learned"] == 3]["ask"]) == {job().asks[0].label}


def test_without_tasks_only_the_last_state_can_be_asked_later(tmp_path: Path, observed: list[int]) -> None:
    run = execute(job("nns"), tmp_path)
    with pytest.raises(UserError, match="holds no state after 2 of 3 tasks"):
        execute(job("nns", ask={"objective": "G"}, checkpoints=(2, 3)), tmp_path)
    execute(job("nns", ask={"objective": "G"}, checkpoints=(3,)), tmp_path)
    assert len(run.table("scores")) == 1 + 2 + 3 + 3
    assert len(observed) == 3 * 15


def test_gg_gns_and_gnu_share_one_training_and_nns_has_its_own(tmp_path: Path, observed: list[int]) -> None:
    shared = {execute(job(scenario), tmp_path).path for scenario in ("gg", "gns", "gnu")}
    assert len(observed) == 3 * 15
    assert len(shared) == 1
    scores = Run(shared.pop()).table("scores")
    assert scores.groupby("scenario").size().to_dict() == {"GG": 6, "GNs": 6, "GNu": 6}
    execute(job("nns", set={"interval": 100, "epsilon": 0.125}), tmp_path)  # no parameter differs
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert len(observed) == 2 * 3 * 15


def test_g_without_superfluous_outputs_is_refused_before_training(tmp_path: Path, observed: list[int]) -> None:
    with pytest.raises(UserError, match="The objective G needs superfluous outputs"):
        execute(job(set={"outputs": 4}, ask={"objective": "G"}), tmp_path)
    with pytest.raises(UserError, match="outputs=3 is below the 4 classes"):
        execute(job(set={"outputs": 3}), tmp_path)
    assert observed == []
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_run_found_by_the_beginning_of_its_hash(tmp_path: Path) -> None:
    run, other = execute(job(updates=1), tmp_path), execute(job(updates=1, seeds=(1,)), tmp_path)
    first = next(i for i, (a, b) in enumerate(zip(run.path.name, other.path.name, strict=True)) if a != b)
    assert store.find(run.path.name[: first + 1], tmp_path) == run
    assert store.find(str(run.path), tmp_path / "elsewhere") == run
    for name in ("zzz", ""):
        with pytest.raises(UserError, match="There is no run"):
            store.find(name, tmp_path)
    shutil.copytree(run.path, run.path.with_name(run.path.name[:-1] + "x"))
    with pytest.raises(UserError, match="matches 2 runs"):
        store.find(run.path.name[:-1], tmp_path)
