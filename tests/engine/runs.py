"""Small jobs, runs that are stopped, and what makes two runs the same."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from clbench import storage
from clbench.engine.asking import Score
from clbench.engine.evaluator import Taught
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.store import Run

Event = Taught | Score


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
    (only_job,) = resolve(request({"scenario": scenario, **defaults, **settings}))
    return only_job


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
