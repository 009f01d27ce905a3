"""Saving inside tasks and asks: nothing that was saved is computed again, and the result is that of a run that nobody stopped."""

import json
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.engine import saving
from clbench.engine.answers import KeptAnswers
from clbench.engine.divergence import Diverged, Losses
from clbench.engine.evaluator import teach
from clbench.engine.execution import execute
from clbench.engine.lesson import Lesson
from clbench.engine.request import request, resolve
from clbench.engine.saved_state import newest_inside
from clbench.engine.saving import Saver, SavingClock
from clbench.engine.schedule import Schedule
from clbench.engine.store import Run, run_at, update
from clbench.errors import Notice
from clbench.method import Method, Prediction
from clbench.methods.naive import Naive
from clbench.methods.supsup import SupSup
from clbench.scenarios import GG
from clbench.stream import Split
from tests.engine.runs import Interrupted, assert_same, job

pytestmark = pytest.mark.usefixtures("tiny")


def stop_at_batch(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the run after it saved that batch (counted from 1)."""
    after, left = Saver.after_batch, [number]

    def after_batch(self: Saver, lesson: Lesson) -> None:
        after(self, lesson)
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted

    monkeypatch.setattr(Saver, "after_batch", after_batch)


# Inside a task


@pytest.mark.parametrize("scenario", ["gnu", "nns"])
@pytest.mark.parametrize("batch", [1, 8, 15, 17])
def test_a_run_stopped_inside_a_task_learns_no_batch_twice(
    scenario: str,
    batch: int,
    tmp_path: Path,
    observed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Masks of two tasks at a time in GNu; counters, allocation and optimiser in NNs."""
    wanted = job(scenario, tasks=4, checkpoints=(1, 4))
    whole = execute(wanted, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at_batch(batch, patch)
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path / "stopped", save_every=0)
    stopped = run_at(tmp_path / "stopped", wanted.learn)
    at_once = 2 if scenario == "gnu" else 1
    inside = newest_inside(stopped.inside)
    assert inside is not None
    assert inside[:2] == (at_once * ((batch - 1) // 15), (batch - 1) % 15 + 1)
    assert_same(execute(wanted, tmp_path / "stopped"), whole)
    assert len(observed) == 2 * 4 * 15
    assert not list(stopped.inside.glob("*"))


def test_a_method_that_cannot_resume_inside_a_task_begins_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Naive, "task_progress", Method.task_progress)
    (wanted,) = resolve(request({"method": "naive", "scenario": "gns", "network": "mlp-8", "tasks": 3, "updates": 15}))
    whole = execute(wanted, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at_batch(20, patch)
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path / "stopped", save_every=0)
    stopped = run_at(tmp_path / "stopped", wanted.learn)
    assert stopped.saved() == (1, stopped.path / "state" / "1")
    assert newest_inside(stopped.inside) is None
    assert_same(execute(wanted, tmp_path / "stopped"), whole)


@pytest.mark.parametrize("damage", ["cut off", "of another run"])
def test_a_state_inside_a_task_that_is_not_the_run_s_is_left_out(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, other = job(), job(seeds=(1,))
    whole = execute(wanted, tmp_path / "whole")
    for each in (wanted, other):
        with monkeypatch.context() as patch:
            stop_at_batch(5, patch)
            with pytest.raises(Interrupted):
                execute(each, tmp_path / "stopped", save_every=0)
    files = [next(run_at(tmp_path / "stopped", each.learn).inside.glob("*")) for each in (wanted, other)]
    content = files[1].read_bytes() if damage == "of another run" else files[0].read_bytes()[:-1]
    files[0].unlink()
    (files[0].parent / (files[1].name if damage == "of another run" else files[0].name)).write_bytes(content)
    with pytest.warns(Notice, match=r"is damaged or of another run: what it holds of a task is learned again\."):
        assert_same(execute(wanted, tmp_path / "stopped"), whole)


@pytest.mark.parametrize("augment", [True, False])
def test_skipped_batches_are_not_computed_and_the_others_are_the_same(augment: bool) -> None:
    computed: list[int] = []

    def view(images: Tensor) -> Tensor:
        computed.append(len(images))
        return images.clone()

    def noisy(images: Tensor, draws: torch.Generator) -> Tensor:
        return images + torch.rand(images.shape, generator=draws)

    split = Split(torch.arange(20.0).view(20, 1), torch.arange(20), view, noisy if augment else None)
    draws, states, whole = torch.Generator().manual_seed(3), [], []
    for batch in split.batches(7, 6, draws):
        whole.append(batch)
        states.append(draws.get_state())
    computed.clear()
    rest = list(split.parts([6] * 7, torch.Generator().manual_seed(3), 4, states[3]))
    assert computed == [6] * 3
    for one, other in zip(rest, whole[4:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("stop_after", [1, 99, 100, 150])
def test_losses_are_checked_in_the_same_hundreds_after_resuming(stop_after: int) -> None:
    """A single high loss is no divergence, and would be one if it were checked alone."""
    values = torch.ones(250)
    values[150] = 1.2e8
    losses = Losses((0,), 4, stop=True)
    for number, value in enumerate(values):
        losses.add(value)
        if number + 1 == stop_after:
            state, before = {name: tensor.clone() for name, tensor in losses.state().items()}, losses
            losses = Losses((0,), 4, stop=True)
            losses.restore(before.batches, state, ())
    losses.check()
    assert losses.batches == 250
    assert losses.means(0, 1) == (float(values.mean()),)
    alone = Losses((0,), 4, stop=True)
    alone.add(values[150])
    with pytest.raises(Diverged):
        alone.check()


# Inside an ask


@pytest.mark.parametrize("scenario", ["gnu", "nns"])
def test_an_ask_goes_on_at_the_task_that_it_had_reached(scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the tasks before it were not saved and are learned again; and again for a new question to the complete run."""
    asked: list[int] = []
    predict = SupSup.predict

    @wraps(predict)
    def counted(self: SupSup, inputs: Tensor, task: int | None = None, **how: Any) -> Prediction:
        asked.append(len(inputs))
        if len(asked) == stop:
            raise Interrupted
        return predict(self, inputs, task, **how)

    monkeypatch.setattr(SupSup, "predict", counted)
    stop = 0
    for ask in ({"algorithm": "binary"}, {"algorithm": "exhaustive"}):
        wanted = job(scenario, tasks=4, checkpoints=(4,), ask=ask)
        asked.clear()
        stop = 0
        whole = execute(wanted, tmp_path / "whole")
        once = len(asked)
        assert once == (8 if scenario == "nns" else 4)
        asked.clear()
        for interrupted in range(2, once + 2, 2):  # two calls further each time, of which one is interrupted
            stop = interrupted
            with pytest.raises(Interrupted):
                execute(wanted, tmp_path / "stopped")
        stop = 0
        assert_same(execute(wanted, tmp_path / "stopped"), whole)
        assert len(asked) == once + once // 2
        assert not run_at(tmp_path / "stopped", wanted.learn).answers_file.exists()


def test_answers_that_were_cut_off_are_left_out_wherever_they_end(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    answers = {"3 scores of GG 0": [{"accuracy": 0.1, "inferred": [[0, 5]]}], "é\n": 0.07, "last": 112}
    kept = KeptAnswers(file)
    for question, answer in answers.items():
        kept[question] = answer
    content = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        file.write_bytes(content[:length])
        whole = sum(end - 1 <= length for end in ends)  # the newline itself says nothing
        again = KeptAnswers(file)
        assert dict(again) == dict(list(answers.items())[:whole])
        again["more"] = 1
        assert dict(KeptAnswers(file)) == dict(again)


# Under other conditions


def test_a_run_that_is_resumed_under_other_conditions_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = job()
    with monkeypatch.context() as patch:
        stop_at_batch(5, patch)
        with pytest.raises(Interrupted):
            execute(wanted, tmp_path, save_every=0)
    run = run_at(tmp_path, wanted.learn)
    environment = run.record["environment"]
    assert environment["instructions"]
    update(run, environment=environment | {"instructions": "ABACUS", "packages": environment["packages"] | {"torch": "0.1"}})
    with pytest.warns(Notice, match="resumed under other conditions"):
        execute(wanted, tmp_path)
    (note,) = run.notes
    assert (
        f"the instructions of the processor: {environment['instructions']} instead of ABACUS; PyTorch: {torch.__version__}" in note
    )
    assert note.endswith("instead of 0.1): it may differ from a whole run by rounding.")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_masks_are_the_same_on_one_thread_and_on_two(precision: torch.dtype, make_brief: Any, make_stream: Any) -> None:
    """docs/crash-safety.md says for which networks and methods."""
    learned = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            method = SupSup(make_brief(GG, precision=precision), outputs=20)
            teach(method, make_stream(1)[0], 0, Schedule(30, 64))
            learned.append(method.learned())
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(tensor, learned[1][name]) for name, tensor in learned[0].items())


# When


class Time:
    """A clock to set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(saving, "time", made)
    return made


def test_a_state_is_saved_when_so_much_work_is_at_risk(clock: Time) -> None:
    saves = SavingClock(60)
    clock.now += 59
    assert not saves.due()
    assert saves.due(ahead=1)
    clock.now += 1
    assert saves.due()
    saves.time(lambda: None)
    assert not saves.due()


def test_saving_takes_at_most_its_share_of_the_time(clock: Time) -> None:
    saves = SavingClock(1)
    for _ in range(3):
        clock.now += 100
        while not saves.due():
            clock.now += 1
        saves.time(lambda: setattr(clock, "now", clock.now + 4))
    assert (clock.now - 1000 - 3 * 4) * saving.SAVING_SHARE >= 2 * 4 - 1


def test_by_default_a_short_run_saves_nothing_but_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = saving.save_state
    monkeypatch.setattr(
        saving, "save_state", lambda method, learned, tables: (saved.append(learned), save(method, learned, tables))
    )
    execute(job(), tmp_path)
    assert saved == [3]


def test_the_interval_is_an_option(tmp_path: Path) -> None:
    import clbench

    tiny_run = {"network": "mlp-8", "tasks": 1, "updates": 2, "set": {"outputs": 8}, "results": tmp_path}
    with pytest.raises(clbench.UserError, match=r"Invalid value save_every=-1: input should be greater than or equal to 0\."):
        clbench.run(save_every=-1, **tiny_run)
    assert len(clbench.run(save_every=0, **tiny_run)) == 1


def test_a_saved_state_is_of_one_run_and_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder holds one state inside a task, and none when the next task is saved."""
    wanted, seen = job("nns"), []
    after = Saver.after_batch

    def after_batch(self: Saver, lesson: Lesson) -> None:
        after(self, lesson)
        seen.append([file.name.partition("-")[0] for file in self.run.inside.glob("*")])

    monkeypatch.setattr(Saver, "after_batch", after_batch)
    run: Run = execute(wanted, tmp_path, save_every=0)
    assert seen == [[f"{task}+{batch}"] for task in range(3) for batch in range(1, 16)]
    assert [entry.name for entry in (run.path / "state").iterdir()] == ["3"]
    assert json.loads((run.path / "run.json").read_text())["state"].keys() == {"3"}
