"""Scores and runs written by hand, of which tables, plots and columns are made."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clbench.engine.store import Run

SEEDS = ("stream", "initialisation", "training")


def scores_of(
    accuracies: Sequence[Sequence[float]],
    *,
    learned: Sequence[int] | None = None,
    scenario: str = "GNu",
    ask: str = "GNu algorithm=one-shot evidence=1 group=128 objective=H",
    method: str = "supsup",
    settings: str = "outputs=500 updates=300",
    seed: int = 0,
    **columns: Any,
) -> pd.DataFrame:
    """A frame as of ``clbench.results.frames.frame``, of one run and ask.

    ``accuracies[i][j]`` is that on task j after ``learned[i]`` tasks, which is i + 1 if it is not given. ``columns``: other values for any
    columns.
    """
    checkpoints = learned or range(1, len(accuracies) + 1)
    rows = [
        {
            "run": f"{method}-{settings.replace(' ', ',')}-{seed}",
            "method": method,
            "stream": "permuted-mnist",
            "data": "mnist-5k",
            "network": "lenet-300-100",
            "tasks": max(checkpoints),
            "settings": settings,
            **{f"{name}_seed": seed for name in SEEDS},
            "transductive": False,
            "path": f"runs/{method}{scenario}{settings}{seed}",
            "learned": after,
            "task": task,
            "scenario": scenario,
            "ask": ask,
            "accuracy": accuracy,
            "task_accuracy": float("nan") if scenario == "GG" else 1.0,
            "images": 1000,
            "decisions": float("nan") if scenario == "GG" else 8,
            "eval_seconds": 0.1,
            "components": after,
            "stored_bytes": 1000 * after,
            "progress_bytes": 16,
            "train_seconds": 2.0 * after,
        }
        | columns
        for after, row in zip(checkpoints, accuracies, strict=True)
        for task, accuracy in enumerate(row)
    ]
    return pd.DataFrame(rows)


def run_in(
    folder: Path,
    accuracies: Sequence[Sequence[float]],
    asks: Sequence[dict[str, Any]],
    *,
    method: str = "naive",
    scenario: str = "GNs",
    parameters: dict[str, Any] | None = None,
    seed: int = 0,
    **columns: Any,
) -> Run:
    """A complete run on disk: ``accuracies[i][j]`` after i + 1 tasks on task j in the answers to every ask.

    ``asks`` are as in run.json; ``columns``: values for columns of the scores.
    """
    tasks = len(accuracies)
    learn = {
        "method": method,
        "version": 1,
        "parameters": parameters or {},
        "scenario": {"task_given_in_training": scenario != "NNs"} if method == "supsup" else {},
        "stream": "permuted-mnist",
        "data": "mnist-5k",
        "tasks": tasks,
        "network": "lenet-300-100",
        "seeds": dict.fromkeys(SEEDS, seed),
        "updates": 300,
        "batch_size": 128,
        "precision": "float32",
    }
    record = {
        "learn": learn,
        "scenario": scenario,
        "asks": asks,
        "checkpoints": list(range(1, tasks + 1)),
        "status": "complete",
        "transductive": False,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    run = Run(folder)
    scores = [
        {"learned": learned, "task": task, "scenario": ask.scenario.name, "ask": ask.label, "accuracy": accuracy}
        | {"task_accuracy": None, "images": 100, "decisions": None, "seconds": 0.5}
        | columns
        for learned, row in enumerate(accuracies, start=1)
        for task, accuracy in enumerate(row)
        for ask in run.asks
    ]
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    costs = [
        {"learned": learned, "seconds": 2.0, "components": learned, "stored_bytes": 1000 * learned, "progress_bytes": 16}
        for learned in range(1, tasks + 1)
    ]
    pd.DataFrame(costs).to_csv(folder / "tasks.csv", index=False)
    return run


@pytest.fixture(scope="session")
def scores() -> Callable[..., pd.DataFrame]:
    return scores_of


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Run]:
    return run_in
