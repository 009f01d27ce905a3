"""Training that diverges is detected by every sign of it. It stops by default and keeps what was learned, or continues with marked rows."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import clbench
from clbench import storage
from clbench.data import Dataset
from clbench.engine import evaluator, execution
from clbench.engine.divergence import CHECKED, LIMIT, Diverged, Divergence, Losses
from clbench.engine.evaluator import Schedule, Taught, evaluate
from clbench.engine.execution import execute
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.saving import SavingClock
from clbench.engine.store import Run
from clbench.errors import Notice, UserError
from clbench.method import Method, Prediction
from clbench.results.frames import frame, over_seeds, summarise
from clbench.results.tables import print_table, table
from clbench.scenarios import GG, GNU, NNS

Make = Callable[..., Any]


class Scripted(Method):
    """Reports the losses that it was given, and has learned what it was given."""

    name = "scripted"
    scenarios = frozenset({GG, GNU, NNS})

    def script(self, losses: list[Any], learned: float = 0.0, at_once: int = 1) -> "Scripted":
        self.losses: Iterator[Any] = iter(losses)
        self.value, self.at_once = learned, at_once
        return self

    @property
    def tasks_at_once(self) -> int:
        return self.at_once

    def begin_tasks(self, tasks: range, updates: int) -> None:
        pass

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        loss = next(self.losses)
        return None if loss is None else torch.tensor(loss)

    observe_tasks = observe

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        return Prediction(torch.zeros(len(inputs), dtype=torch.int64), torch.zeros(len(inputs), dtype=torch.int64))

    def learned(self) -> dict[str, Tensor]:
        return {"weights": torch.tensor([1.0, self.value]), "count": torch.tensor(3)}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        pass


def taught(method: Method, stream: clbench.Stream, updates: int, on_divergence: Any = "mark") -> list[Taught]:
    events = evaluate(method, stream, [], [], Schedule(updates, 4, on_divergence=on_divergence))
    return [event for event in events if isinstance(event, Taught)]


# What shows it


@pytest.mark.parametrize("scenario", [GNU, NNS], ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_loss_that_is_not_finite_is_named_by_task_and_batch(
    value: float, scenario: Any, make_brief: Make, make_stream: Make
) -> None:
    losses = [1.0] * 5 + [1.0, 1.0, None, value, value] + [1.0] * 5
    divergences = [event.diverged for event in taught(Scripted(make_brief(scenario)).script(losses), make_stream(3), 5)]
    assert divergences == [None, Divergence(1, 3, f"the loss is {value}"), None]
    with pytest.raises(
        Diverged, match=f"^The training diverged in task 2 at batch 4: the loss is {value}\\. .*--on-divergence mark"
    ):
        taught(Scripted(make_brief(scenario)).script(losses), make_stream(3), 5, "stop")


def test_a_task_is_stopped_at_the_next_check_and_not_at_its_end(make_brief: Make, make_stream: Make) -> None:
    method = Scripted(make_brief(GNU)).script([1.0] * 120 + [float("nan")] * 500)
    with pytest.raises(Diverged, match="in task 1 at batch 121"):
        taught(method, make_stream(1), 600, "stop")
    assert len(list(method.losses)) == 620 - 2 * CHECKED


def test_a_mean_loss_far_above_that_of_guessing_is_divergence_and_one_high_loss_is_none(
    make_brief: Make, make_stream: Make
) -> None:
    limit = LIMIT * math.log(4)  # the tiny data have four classes
    high = [1.0] * 30 + [1.5 * limit * CHECKED / 60] * 60 + [1.0] * 10
    (event,) = taught(Scripted(make_brief(GNU)).script([1.0] * CHECKED + high), make_stream(1), 2 * CHECKED)
    assert event.diverged is not None
    assert event.diverged.batch == CHECKED + 30
    assert "the mean of 100 batches is above 1,386,294" in event.diverged.sentence
    for fine in ([0.99 * limit] * CHECKED, [1.0] * 99 + [50 * limit]):
        (event,) = taught(Scripted(make_brief(GNU)).script(fine), make_stream(1), CHECKED)
        assert event.diverged is None


@pytest.mark.parametrize("loss", [1.0, None])
def test_learned_tensors_are_checked_too(loss: float | None, make_brief: Make, make_stream: Make) -> None:
    method = Scripted(make_brief(GNU)).script([loss] * 6, learned=float("inf"))
    divergences = [event.diverged for event in taught(method, make_stream(2), 3)]
    assert divergences == [Divergence(task, 2, "the learned tensor weights is not finite") for task in (0, 1)]


def test_of_tasks_taught_at_a_time_the_one_is_named_whose_loss_it_is(make_brief: Make, make_stream: Make) -> None:
    losses = [[1.0, 1.0], [1.0, 1.0], [1.0, float("nan")], [3.0, 1.0]]
    events = taught(Scripted(make_brief(GG)).script(losses, at_once=2), make_stream(2), 4)
    assert [event.diverged for event in events] == [None, Divergence(1, 2, "the loss is nan")]
    assert events[0].losses == (1.0, 1.0, 1.0, 3.0)
    with pytest.raises(Diverged, match="in task 2 at batch 3"):
        taught(Scripted(make_brief(GG)).script(losses, at_once=2), make_stream(2), 4, "stop")


def test_many_losses_take_four_bytes_each_and_their_means_are_those_of_all() -> None:
    losses, values = Losses((0,), 10, stop=True), torch.rand(1234)
    for loss in values:
        losses.add(loss)
    losses.check()
    assert losses.means(0, 10) == tuple(float(part.mean()) for part in values.chunk(10))
    assert len(losses._unchecked) == 0
    assert max(map(len, losses._checked)) == CHECKED


# Runs


@pytest.fixture
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is the tiny one."""
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))


def job(method: str = "naive", scenario: str = "gg", **settings: Any) -> Job:
    usual: dict[str, Any] = {"network": "mlp-16", "tasks": 4, "updates": 6, "batch_size": 16}
    (only_job,) = resolve(request({"method": method, "scenario": scenario, **usual, **settings}))
    return only_job


def spoil(monkeypatch: pytest.MonkeyPatch, task: int) -> None:
    """From ``task`` on the images are not numbers, and no check of the stream says so: the tasks before it learn as usual."""
    monkeypatch.setattr(evaluator, "checked", lambda stream: stream)
    build = execution.build_stream

    def spoilt(learn: Any, *where: Any) -> clbench.Stream:
        stream = build(learn, *where)
        for number, each in enumerate(stream.tasks):
            if number >= task:
                object.__setattr__(each.train, "view", lambda images: images * float("nan"))
        return stream

    monkeypatch.setattr(execution, "build_stream", spoilt)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("saving", [True, False], ids=["saved often", "not yet saved"])
@pytest.mark.parametrize(
    ("method", "scenario", "spoilt", "kept"),
    [("naive", "gg", 2, 2), ("si", "gnu", 2, 2), ("supsup", "gnu", 3, 2), ("naive", "nns", 1, 1), ("naive", "gg", 0, 0)],
)
def test_a_run_that_diverges_stops_and_keeps_what_was_learned_before(
    method: str, scenario: str, spoilt: int, kept: int, saving: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SupSup learns two tasks at a time, and is kept as it was before the two of which one diverges."""
    wanted = job(method, scenario)
    whole = execute(wanted, tmp_path / "whole")
    short = execute(job(method, scenario, tasks=max(1, kept)), tmp_path / "short")
    monkeypatch.setattr(SavingClock, "due", lambda self, ahead=0.0: saving)
    spoil(monkeypatch, spoilt)
    with pytest.raises(Diverged, match=rf"^The training diverged in task {spoilt + 1} at batch 1: the loss is nan\.") as first:
        execute(wanted, tmp_path / "stopped")
    run = Run(tmp_path / "stopped" / "runs" / wanted.learn.hash)
    assert run.record["status"] == "diverged"
    assert run.record["diverged"] == {"task": spoilt, "batch": 0, "reason": "the loss is nan"}
    saved = run.saved()
    assert (0 if saved is None else saved[0]) == kept
    if saved is not None:
        assert f"{kept} of 4 tasks are kept in {run.path}" in str(first.value)
        scores = whole.table("scores")
        earlier = scores[scores["learned"] <= kept].reset_index(drop=True)
        assert run.table("scores").drop(columns="seconds").equals(earlier.drop(columns="seconds"))
        saved_by_short = short.saved()
        assert saved_by_short is not None
        for name in ("learned", "progress", "generator"):
            kept_tensors, expected = (storage.load(folder / f"{name}.safetensors") for folder in (saved[1], saved_by_short[1]))
            assert all(torch.equal(kept_tensors[key], expected[key]) for key in expected)
    with pytest.raises(Diverged) as again:
        execute(wanted, tmp_path / "stopped")
    assert str(again.value) == str(first.value)


@pytest.mark.usefixtures("tiny")
def test_a_run_with_marked_rows_continues_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 2)
    request_job = job(seeds=(0,))
    with pytest.raises(UserError):
        execute(request_job, tmp_path)
    sentence = "The training diverged in task 3 at batch 1: the loss is nan. Rows from this task on are marked."
    for _ in range(2):  # done, and read; once, though the fourth task diverges too
        with pytest.warns(Notice) as notices:
            run = execute(request_job, tmp_path, on_divergence="mark")
        assert [str(notice.message) for notice in notices] == [sentence] == list(run.notes)
    assert run.complete
    assert execute(request_job, tmp_path).complete  # what is there is read, however it came to be
    scores = frame([run])
    assert scores.groupby("learned")["diverged"].unique().map(list).to_dict() == {1: [False], 2: [False], 3: [True], 4: [True]}
    fine = frame([execute(job(seeds=(1,), tasks=2), tmp_path / "fine")])
    averages = over_seeds(summarise(clbench.results.frames.pd.concat([scores, fine])))
    assert averages["diverged"].tolist() == [True, False]
    assert table(averages)["method"].tolist() == ["naive (diverged)", "naive"]


@pytest.mark.usefixtures("tiny")
def test_a_table_with_a_mark_says_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    averages = over_seeds(summarise(frame([execute(job(tasks=2), tmp_path)])))
    for diverged in (True, False):
        print_table(averages.assign(diverged=diverged))
        assert ("(diverged): the training of one of the tasks diverged" in capsys.readouterr().out) == diverged


@pytest.mark.usefixtures("tiny")
def test_old_runs_and_old_frames_have_nothing_marked(tmp_path: Path) -> None:
    run = execute(job(), tmp_path)
    assert "diverged" not in run.record
    old = frame([run]).drop(columns="diverged")
    assert not over_seeds(summarise(old))["diverged"].any()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("naive", {"learning_rate": 1e10}),
        ("ewc", {"strength": 1e30}),
        ("lwf", {"strength": 1e30}),
        ("si", {"c": 1e30, "optimiser": "sgd"}),
    ],
)
def test_rates_and_strengths_beyond_reason_diverge(method: str, setting: dict[str, Any], tmp_path: Path) -> None:
    wanted = job(method, "gns", set={"learning_rate": 1e-2} | setting)
    with pytest.raises(Diverged):
        execute(wanted, tmp_path)
    record = json.loads((tmp_path / "runs" / wanted.learn.hash / "run.json").read_text())
    assert record["status"] == "diverged"
