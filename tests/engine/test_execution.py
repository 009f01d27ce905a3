"""Runs on disk: interrupted runs resume with the same result, new questions need no training, nothing is computed twice."""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from clbench import storage
from clbench.data import Dataset
from clbench.engine import run_files, store
from clbench.engine.evaluator import Score, Taught
from clbench.engine.execution import execute
from clbench.engine.learn import Job, Learn
from clbench.engine.request import request, resolve
from clbench.engine.store import Run
from clbench.errors import Notice, UserError
from clbench.methods.supsup import SupSup
from clbench.results import frames as results

Make = Callable[..., Any]
Event = Taught | Score


@pytest.fixture(autouse=True)
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is the tiny one."""
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))


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


def job(scenario: str = "gnu", **settings: Any) -> Job:
    learning = {"outputs": 20, "learning_rate": 0.01} | ({"interval": 10, "epsilon": 0.5} if scenario == "nns" else {})
    defaults: dict[str, Any] = {
        "network": "mlp-32",
        "tasks": 3,
        "updates": 15,
        "batch_size": 16,
        "set": learning | settings.pop("set", {}),
        "ask": ({} if scenario == "gg" else {"group": 10}) | settings.pop("ask", {}),
    }
    (made,) = resolve(request({"scenario": scenario, **defaults, **settings}))
    return made


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Everything in a run's tables but the seconds."""
    names = sorted(file.stem for file in run.path.glob("*.csv"))
    return {name: run.table(name).drop(columns="seconds", errors="ignore") for name in names}


def state(run: Run) -> dict[str, torch.Tensor]:
    saved = run.saved()
    assert saved is not None
    return {f"{file.name} {name}": tensor for file in saved[1].iterdir() for name, tensor in storage.load(file).items()}


def assert_same(mine: Run, its: Run) -> None:
    assert mine.complete
    assert its.complete
    left, right = tables(mine), tables(its)
    assert left.keys() == right.keys()
    for name in left:
        key = [column for column in ("learned", "ask", "task", "inferred", "part", "first_batch") if column in left[name]]
        assert not left[name].duplicated(key).any()
        ordered = [frame[name].sort_values(key).reset_index(drop=True) for frame in (left, right)]
        pd.testing.assert_frame_equal(*ordered, check_exact=True)
    mine_state, its_state = state(mine), state(its)
    assert mine_state.keys() == its_state.keys()
    assert all(torch.equal(mine_state[name], its_state[name]) for name in mine_state)


class Interrupted(Exception):
    """What stops a run in these tests."""


def stop_after(events: int) -> Callable[[Event], None]:
    """Looks on, and stops the run at that event."""
    left = [events]

    def watch(event: Event) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted

    return watch


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
    monkeypatch.setattr(run_files.SavingClock, "due", lambda self: saving)
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
    """Each attempt sees a few events more; learning goes on from the last task that was saved."""
    monkeypatch.setattr(run_files.SavingClock, "due", lambda self: True)
    wanted = job("nns")
    whole = execute(wanted, tmp_path / "whole")
    assert len(observed) == 3 * 15
    for learned in (1, 2):
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path / "stopped", watch=stop_after(4))
        saved = Run(tmp_path / "stopped" / "runs" / wanted.learn.hash).saved()
        assert saved is not None
        assert saved[0] == learned
    assert_same(execute(wanted, tmp_path / "stopped"), whole)
    assert len(observed) == (3 + 2 + 2 + 1) * 15


def test_tasks_that_are_taught_at_a_time_are_taught_again_if_they_did_not_all_end(
    tmp_path: Path, observed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files.SavingClock, "due", lambda self: True)
    wanted = job(tasks=5, checkpoints=(3, 5))
    whole = execute(wanted, tmp_path / "whole")
    assert len(observed) == 5 * 15
    for events, tasks_saved in ((4, 2), (2, 2), (5, 4)):  # five tasks and eight scores: 1 2 3 s s s 4 5 s s s s s
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path / "stopped", watch=stop_after(events))
        saved = Run(tmp_path / "stopped" / "runs" / wanted.learn.hash).saved()
        assert saved is not None
        assert saved[0] == tasks_saved
    assert_same(execute(wanted, tmp_path / "stopped"), whole)
    assert len(observed) == (5 + 4 + 2 + 3 + 1) * 15


@pytest.mark.parametrize("what", ["storage.save", "shutil.rmtree", "os.replace", "pd.DataFrame.to_csv"])
def test_a_run_stopped_while_saving_resumes(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the tables were written and before the state, between old and new state, and so on: at every call of each."""
    monkeypatch.setattr(run_files.SavingClock, "due", lambda self: True)
    wanted = job(checkpoints=(2, 3))
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


# Train once, ask many


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


# What is written


def test_the_record_is_complete_by_itself(tmp_path: Path) -> None:
    wanted, records = job(), []
    path = tmp_path / "runs" / wanted.learn.hash
    run = execute(wanted, tmp_path, watch=lambda event: records.append(Run(path).record))
    assert run.path == path
    assert {record["status"] for record in records} == {"incomplete"}
    record = run.record
    assert record["status"] == "complete"
    assert Learn(**record["learn"]) == run.learn == wanted.learn
    assert run.learn.hash == path.name
    assert run.asks == wanted.asks
    assert run.checkpoints == (1, 2, 3)
    assert run.scenario == wanted.scenario
    assert record["transductive"] is False
    assert record["started"] <= record["finished"]
    assert record["environment"]["packages"]["torch"] == torch.__version__
    assert {"python", "packages", "git_commit", "git_changed", "machine", "processor", "cores", "threads"} <= set(
        record["environment"]
    )
    assert record["learn"]["parameters"] == {
        "outputs": 20,
        "density": None,
        "edges": None,
        "optimiser": "rmsprop",
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "schedule": "constant",
        "start": "random",
        "interval": 100,
        "offset": 0,
        "epsilon": 0.125,
        "budget": 2500,
    }


@pytest.mark.parametrize("scenario", ["gnu", "nns"])
def test_the_tables_hold_a_row_for_everything_that_was_measured(scenario: str, tmp_path: Path) -> None:
    events: list[Event] = []
    run = execute(job(scenario), tmp_path, watch=events.append)
    scores = [event for event in events if isinstance(event, Score)]
    table = run.table("scores")
    assert table[["learned", "task", "accuracy", "task_accuracy", "images", "decisions"]].to_numpy().tolist() == [
        [s.learned, s.task, s.accuracy, s.task_accuracy, s.images, s.decisions] for s in scores
    ]
    counts = {(s.learned, s.task, which): count for s in scores for which, count in s.inferred.items()}
    confusion = run.table("confusion")
    keys = zip(confusion["learned"], confusion["task"], confusion["inferred"], strict=True)
    assert dict(zip(keys, confusion["images"], strict=True)) == counts
    tasks = run.table("tasks")
    assert tasks["learned"].tolist() == [1, 2, 3]
    saved = run.saved()
    assert saved is not None
    assert (saved[1] / "learned.safetensors").stat().st_size == tasks["stored_bytes"].iloc[-1]
    assert (saved[1] / "progress.safetensors").stat().st_size == tasks["progress_bytes"].iloc[-1]
    losses = run.table("losses")
    assert losses.groupby("learned").size().gt(0).all()
    assert losses["loss"].notna().all()
    if scenario == "nns":
        trace = run.table("allocation")
        assert trace["first_batch"].tolist() == list(range(0, 45, 10))
        assert tasks["components"].iloc[-1] == trace["allocated"].sum() == trace["mask"].max() + 1
    else:
        assert tasks["components"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_results_folder_that_cannot_be_written_is_named(where: str, tmp_path: Path, observed: list[int]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Nothing can be written to the results folder .*: name another with --results"):
        execute(job(), tmp_path / where)
    assert observed == []


# What stands in the way


def test_a_batch_larger_than_a_task_repeats_its_images_and_says_so(tmp_path: Path, tiny: None) -> None:
    with pytest.warns(Notice, match="Batches of 201 repeat images in 3 of 3 tasks, .* the fewest are the 200 of task 0"):
        run = execute(job(batch_size=201), tmp_path)
    assert run.complete
    assert len(run.notes) == 1
    assert execute(job(batch_size=200), tmp_path).notes == ()


def test_two_processes_do_not_write_to_one_run(tmp_path: Path, tiny: None) -> None:
    run = Run(store.writable(tmp_path) / "runs" / job().learn.hash)
    with store.alone(run), pytest.raises(UserError, match="Another process is working on the run"):
        execute(job(), tmp_path)
    assert execute(job(), tmp_path).complete


def test_answers_that_were_cut_off_as_they_were_written_are_asked_again(
    tmp_path: Path, tiny: None, as_schema_1: Callable[[Run], None]
) -> None:
    run = execute(job(), tmp_path)
    as_schema_1(run)
    scores = run.table("scores")
    last = scores.index[-1]
    scores.drop(index=last).to_csv(run.path / "scores.csv", index=False)
    ask, learned = scores.loc[last, ["ask", "learned"]]
    assert [(each.label, at) for each, at in run.unanswered(job().asks, job().checkpoints)] == [(ask, learned)]
    key = ["ask", "learned", "task"]
    again = execute(job(), tmp_path).table("scores")
    columns = [*key, "accuracy", "task_accuracy", "images"]
    whole, mended = (frame.sort_values(key)[columns].reset_index(drop=True) for frame in (scores, again))
    pd.testing.assert_frame_equal(mended, whole)


def test_decisions_are_counted_where_the_task_is_inferred(tmp_path: Path) -> None:
    run = execute(job(ask={"scenario": ["gnu", "gg"]}, checkpoints=(3,)), tmp_path)  # groups of 10
    execute(job(ask={"group": 1, "images": 7}, checkpoints=(3,)), tmp_path)
    scores = run.table("scores")
    images = scores.loc[0, "images"]
    by_ask = scores.groupby("ask")["decisions"].unique().map(list)
    assert by_ask["GNu algorithm=one-shot evidence=1 group=10 objective=H"] == [math.ceil(images / 10)]
    assert by_ask["GNu algorithm=one-shot evidence=1 group=1 images=7 objective=H"] == [7]
    assert scores.loc[scores["scenario"] == "GG", "decisions"].isna().all()
    whole_numbers = pd.read_csv(run.path / "scores.csv", dtype=str, keep_default_na=False)["decisions"]
    assert set(whole_numbers) == {"", str(math.ceil(images / 10)), "7"}
    frame = results.frame([run])
    assert results.summarise(frame).set_index("scenario")["decisions"].isna()["GG"]


def test_a_run_of_a_version_without_the_column_takes_new_answers(tmp_path: Path, as_schema_1: Callable[[Run], None]) -> None:
    run = execute(job(checkpoints=(3,)), tmp_path)
    as_schema_1(run)
    file = run.path / "scores.csv"
    old = pd.read_csv(file, dtype=str).drop(columns="decisions")
    old.to_csv(file, index=False)
    assert results.frame([run])["decisions"].isna().all()
    execute(job(ask={"group": 1, "images": 7}, checkpoints=(3,)), tmp_path)
    both = pd.read_csv(file, dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(both[: len(old)][old.columns], old)
    assert both["decisions"].tolist() == [""] * 3 + ["7"] * 3


def test_damaged_files_of_an_earlier_version_are_named(tmp_path: Path, tiny: None, as_schema_1: Callable[[Run], None]) -> None:
    run = execute(job(), tmp_path)
    as_schema_1(run)
    scores, record = run.path / "scores.csv", run.path / "run.json"
    whole = scores.read_text()
    scores.write_text(whole + whole.partition("\n")[2])
    with pytest.raises(UserError, match=r"scores\.csv has scores twice"):
        results.frame([run])
    scores.write_text(whole)
    no_number = run.table("scores").assign(accuracy="much").to_csv(index=False)
    for text in ("", no_number):
        scores.write_text(text)
        with pytest.raises(
            UserError, match=r"scores\.csv is cut off|scores\.csv is damaged .the column accuracy does not hold numbers"
        ):
            results.frame([run])
    scores.unlink()
    with pytest.raises(UserError, match=r"has no scores: its scores\.csv is gone"):
        results.frame([run])
    scores.write_text(whole)
    tasks = run.path / "tasks.csv"
    tasks.write_text("".join(tasks.read_text().splitlines(keepends=True)[:2]))
    for _ in range(2):
        with pytest.raises(UserError, match=r"\(scores\.csv, tasks\.csv\) are damaged"):
            results.frame([run])
        tasks.unlink(missing_ok=True)
    state = run.path / "state" / "3" / "learned.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UserError, match=r"learned\.safetensors is damaged or missing"):
        storage.load(state)
    record.write_text(record.read_text()[:50])
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        _ = run.record


def test_a_path_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no run '/nowhere/at/all'"):
        store.find("/nowhere/at/all", tmp_path)
