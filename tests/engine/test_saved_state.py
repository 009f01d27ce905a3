"""Saved states: a state of another run, or one that does not fit the method, is refused in one sentence."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench import api, registry, storage
from clbench.check.trial import trials
from clbench.data import Dataset
from clbench.engine import execution, saved_state
from clbench.engine.execution import execute
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.saving import SavingClock
from clbench.engine.store import Run
from clbench.errors import UserError

Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is the tiny one."""
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))


def job(**settings: Any) -> Job:
    usual = {"scenario": "gnu", "network": "mlp-16", "tasks": 2, "updates": 4, "batch_size": 8, "set": {"outputs": 12}}
    (only_job,) = resolve(request({**usual, **settings}))
    return only_job


NAIVE: dict[str, Any] = {"method": "naive", "scenario": "gns", "set": {}}
EWC: dict[str, Any] = {"method": "ewc", "scenario": "gns", "set": {"samples": 8}}


class Interrupted(Exception):
    """As if the process had been killed."""


def interrupted(wanted: Job, results: Path) -> Run:
    """The run after its first task."""

    def stop(event: Any) -> None:
        if getattr(event, "learned", 0) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        execute(wanted, results, watch=stop)
    run = Run(results / "runs" / wanted.learn.hash)
    saved = run.saved()
    assert saved is not None
    assert saved[0] == 1
    return run


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state is saved after each task."""
    monkeypatch.setattr(SavingClock, "due", lambda self, ahead=0.0: True)
    monkeypatch.setattr("clbench.methods.supsup.SupSup.tasks_at_once", 1)


def file_of(run: Run, name: str = "learned") -> Path:
    saved = run.saved()
    assert saved is not None
    return saved[1] / f"{name}.safetensors"


def change(run: Run, edit: Callable[[Tensors], object], name: str = "learned") -> None:
    """Edit the tensors of one of a run's files."""
    tensors = {key: tensor.clone() for key, tensor in storage.load(file_of(run, name)).items()}
    edit(tensors)
    storage.save(tensors, file_of(run, name))


def forget_digests(run: Run) -> None:
    """As if the run had been made before they were recorded."""
    later = ("state", "schema", "tables", "check")
    (run.path / "run.json").write_text(json.dumps({key: value for key, value in run.record.items() if key not in later}))
    shutil.rmtree(run.path / "copies")


def refusal(function: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(f": {saved_state.REMEDY}.")
    return message


def ask(run: Run) -> Callable[[], Any]:
    return lambda: api.ask(run.path, images=3)


# A run's own files


def test_the_state_of_another_seed_is_not_restored(tmp_path: Path) -> None:
    run, other = (execute(job(seeds=(seed,)), tmp_path) for seed in (0, 1))
    shutil.copy(file_of(other), file_of(run))
    scores = run.table("scores")
    for use in (ask(run), lambda: execution.learner(run)):
        assert refusal(use).startswith(f"The file {file_of(run)} is not the one that its run saved")
    assert run.table("scores").equals(scores)


@pytest.mark.parametrize("name", ["learned", "progress", "generator"])
def test_a_run_resumes_from_its_own_files_only(name: str, tmp_path: Path, saving: None) -> None:
    whole = execute(job(**EWC), tmp_path / "whole")
    run = interrupted(job(**EWC), tmp_path / "stopped")
    content = file_of(run, name).read_bytes()
    shutil.copy(file_of(whole, name), file_of(run, name))  # after both tasks, not after the first
    if name == "generator":  # which nothing drew from
        change(run, lambda tensors: tensors["state"].add_(1), name)
    message = refusal(lambda: execute(job(**EWC), tmp_path / "stopped"))
    assert message.startswith(f"The file {file_of(run, name)} is not the one that its run saved")
    file_of(run, name).write_bytes(content)
    assert execute(job(**EWC), tmp_path / "stopped").complete


def test_weights_that_are_not_finite_are_not_restored(tmp_path: Path) -> None:
    run = execute(job(**NAIVE), tmp_path)
    change(run, lambda tensors: tensors["fc1.weight"].fill_(float("nan")))
    assert "is not the one that its run saved" in refusal(ask(run))


def test_a_state_that_no_run_recorded_is_not_restored(tmp_path: Path) -> None:
    run = execute(job(), tmp_path)
    file_of(run).parent.rename(run.path / "state" / "1")
    with pytest.raises(UserError, match=r"has lost its saved state, the folder .*2: put it back, or look with"):
        execution.learner(run)


def test_whichever_state_a_crash_leaves_is_known(tmp_path: Path, saving: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at each of the renamings of files and folders, of which some are the record's and some the state's."""
    whole = execute(job(), tmp_path / "whole").table("scores").drop(columns="seconds")
    replace = os.replace
    for stop in range(60):
        left = [stop]

        def call(path: Path, target: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Interrupted
            replace(path, target)

        results = tmp_path / str(stop)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", call)
            try:
                execute(job(), results)
            except Interrupted:
                run = Run(results / "runs" / job().learn.hash)
                for name, digests in run.record["state"].items() if run.exists else ():
                    assert digests
                    assert (run.path / "state" / name).is_dir()
            else:
                assert stop > 6
                break
        assert execute(job(), results).table("scores").drop(columns="seconds").equals(whole)
    else:
        pytest.fail("it never came to an end")


def test_a_run_from_before_digests_resumes_and_has_them_afterwards(tmp_path: Path, saving: None) -> None:
    run = interrupted(job(), tmp_path)
    forget_digests(run)
    execute(job(), tmp_path)
    assert set(run.record["state"]["2"]) == {"learned", "progress", "generator"}
    change(run, lambda tensors: tensors["seed"].add_(1))
    assert "is not the one that its run saved" in refusal(ask(run))


# Files without digests


def test_runs_of_before_digests_can_be_asked(tmp_path: Path) -> None:
    for settings in ({}, NAIVE, EWC):
        run = execute(job(**settings), tmp_path)
        forget_digests(run)
        assert len(api.ask(run.path, images=3)) >= 2


def drop(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: make(tensors[name]).contiguous()})


def spoil(tensors: Tensors) -> None:
    tensors["fc1.weight"][3, 5] = float("inf")


@pytest.mark.parametrize(
    ("settings", "edit", "says"),
    [
        ({}, put("masks", lambda masks: masks[:, :-1]), "masks has the shape|does not fit its run"),
        ({}, put("masks", lambda masks: torch.cat([masks, masks], 1)), "masks has the shape|does not fit its run"),
        ({}, put("masks", lambda masks: masks.float()), "masks has the type torch.float32|does not fit its run"),
        ({}, drop("masks"), "does not fit its run .KeyError: 'masks'"),
        ({}, lambda tensors: tensors.update(more=torch.zeros(2)), "more is no tensor of this method"),
        (NAIVE, spoil, "holds values in fc1.weight that are not finite"),
        (NAIVE, put("fc1.weight", lambda weight: weight[:, :-1]), "fc1.weight has the shape .16, 63. and not .16, 64."),
        (NAIVE, put("fc1.weight", lambda weight: weight.double()), "fc1.weight has the type torch.float64 and not torch.float32"),
        (NAIVE, drop("fc2.bias"), "does not fit its run"),
    ],
)
def test_what_cannot_be_the_method_s_is_not_restored(
    settings: dict[str, Any], edit: Callable[[Tensors], object], says: str, tmp_path: Path
) -> None:
    run = execute(job(**settings), tmp_path)
    forget_digests(run)
    change(run, edit)
    tasks = run.table("tasks").assign(stored_bytes=file_of(run).stat().st_size)  # the size alone would tell most of them
    tasks.to_csv(run.path / "tasks.csv", index=False)
    scores = run.table("scores")
    for use in (ask(run), lambda: execution.learner(run)):
        assert re.search(says, refusal(use))
    assert run.table("scores").equals(scores)


def test_another_method_s_state_is_not_restored(tmp_path: Path, saving: None) -> None:
    other = execute(job(**NAIVE), tmp_path)
    run = execute(job(), tmp_path)
    forget_digests(run)
    shutil.copy(file_of(other), file_of(run))
    assert "bytes, and its run saved" in refusal(ask(run))
    stopped = interrupted(job(**EWC), tmp_path / "stopped")
    forget_digests(stopped)
    shutil.copy(file_of(other, "progress"), file_of(stopped, "progress"))  # which lacks all importances
    assert "bytes, and its run saved" in refusal(lambda: execute(job(**EWC), tmp_path / "stopped"))


@pytest.mark.parametrize("name", ["supsup", "ewc", "psp", "wsn", "replay", "packnet", "bgd"])
def test_the_state_of_every_method_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every scenario that it serves, after no task, one and two: a false refusal would end a run of before digests."""
    monkeypatch.undo()  # real digits
    for trial in trials(registry.method(name), {}):
        for tasks in (1, 2):
            learner = trial.taught(tasks)
            saved = learner.learned(), learner.progress()
            saved_state.restore(trial.fresh(), Path("state"), None, *saved)
            saved_state.restore(trial.fresh(), Path("state"), None, saved[0])
