"""What a run writes, what it says, and what stands in its way."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from clbench import storage
from clbench.engine import store
from clbench.engine.asking import Score
from clbench.engine.execution import execute
from clbench.engine.learn import Learn
from clbench.engine.store import Run
from clbench.errors import Notice, UserError
from clbench.results import frames as results
from tests.engine.runs import Event, job

pytestmark = pytest.mark.usefixtures("tiny")


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


def test_a_batch_larger_than_a_task_repeats_its_images_and_says_so(tmp_path: Path) -> None:
    with pytest.warns(Notice, match="Batches of 201 repeat images in 3 of 3 tasks, .* the fewest are the 200 of task 0"):
        run = execute(job(batch_size=201), tmp_path)
    assert run.complete
    assert len(run.notes) == 1
    assert execute(job(batch_size=200), tmp_path).notes == ()


def test_two_processes_do_not_write_to_one_run(tmp_path: Path) -> None:
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
        with pytest.raises(UserError, match=r"\(scores\.csv, tasks\.csv\) do not fit each other"):
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
