"""Reading runs: tidy frames, accuracy matrices and summaries. Every table and figure is made from these and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_numeric_dtype

from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.results import metrics

PROTOCOL = ["method", "scenario", "ask", "stream", "data", "network", "tasks"]
"""The columns that say what a score is a score of; runs that agree on them and on ``settings`` differ in their seeds alone."""


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """All scores of some runs, a row for each run, ask, number of tasks learned and task.

    Beside the columns of ``scores.csv``: what was run (method, stream, data, network, tasks, settings, seeds) and, after that many tasks,
    the components, the bytes to predict (stored_bytes) and the bytes more to go on (progress_bytes), the training seconds so far, and
    whether the training of one of these tasks diverged (``diverged``).
    """
    frames = [_run_frame(run) for run in runs]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _run_frame(run: Run) -> pd.DataFrame:
    scores, tasks, learn = run.table("scores"), run.table("tasks"), run.learn
    if scores.empty:
        remedy = "its scores.csv is gone: do it again with --overwrite always" if run.complete else "finish it by running it again"
        raise UserError(f"The run {run.path} has no scores: {remedy}.")
    if scores.duplicated(["ask", "learned", "task"]).any():
        raise UserError(f"The file {run.path / 'scores.csv'} has scores twice: do the run again with --overwrite always.")
    if not (is_numeric_dtype(scores["accuracy"]) and set(scores["learned"]) <= set(tasks.get("learned", ()))):
        raise UserError(f"The tables in {run.path} (scores.csv, tasks.csv) are damaged: do the run again with --overwrite always.")
    if "decisions" not in scores:  # written by a version that did not count them
        scores["decisions"] = float("nan")
    tasks["train_seconds"] = tasks["seconds"].cumsum()
    kept = tasks[["learned", "components", "stored_bytes", "progress_bytes", "train_seconds"]]
    scores = scores.rename(columns={"seconds": "eval_seconds"}).merge(kept, on="learned", how="left")
    identity = {
        "run": learn.hash,
        "method": learn.method,
        "stream": learn.stream,
        "data": learn.data,
        "network": learn.network,
        "tasks": learn.tasks,
        "settings": settings(run),
        "stream_seed": learn.seeds.stream,
        "initialisation_seed": learn.seeds.initialisation,
        "training_seed": learn.seeds.training,
        "transductive": run.record["transductive"],
    }
    diverged = run.diverged
    scores["diverged"] = diverged is not None and scores["learned"] > diverged.task
    scores.insert(0, "path", str(run.path))
    for column, value in reversed(identity.items()):
        scores.insert(0, column, value)
    return scores


def settings(run: Run) -> str:
    """A run's learning parameters in one line."""
    learn = run.learn
    shown = learn.parameters | {"updates": learn.updates, "batch_size": learn.batch_size, "precision": learn.precision}
    return " ".join(f"{key}={value}" for key, value in shown.items())


def matrix(scores: pd.DataFrame, value: str = "accuracy") -> tuple[npt.NDArray[np.float64], list[int]]:
    """The matrix R of one run and ask, from its rows of a frame: R[i, j] after ``learned[i]`` tasks, on task j; NaN where not asked.

    Returns R, [checkpoints, tasks], and ``learned``, the number of tasks learned at each row.
    """
    table = scores.pivot(index="learned", columns="task", values=value)
    table = table.reindex(columns=range(int(table.columns.max()) + 1))
    return table.to_numpy(dtype=float), [int(learned) for learned in table.index]


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """One row for each run and ask: metrics after the last task asked about, bytes and seconds. Accuracies run from 0 to 1.

    ``decisions``: how many decisions about the task the accuracy on a task rests on, the fewest of all; NaN if no task is inferred.
    """
    rows = [_summary(part) for _, part in scores.groupby(["path", "ask"], sort=False)]
    return pd.DataFrame(rows)


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    R, learned = matrix(part)
    T, _ = matrix(part, "task_accuracy")
    asked = part[part["learned"] == learned[-1]]
    last = asked.iloc[0]
    kept = ["run", *PROTOCOL, "settings", "stream_seed", "initialisation_seed", "training_seed", "transductive"]
    return {column: last[column] for column in kept} | {
        "diverged": bool(last.get("diverged", False)),
        "learned": learned[-1],
        "accuracy": metrics.average_accuracy(R, learned),
        "task_accuracy": metrics.task_inference_accuracy(T, learned),
        "forgetting": metrics.forgetting(R, learned),
        "backward_transfer": metrics.backward_transfer(R, learned),
        "anytime_accuracy": metrics.anytime_accuracy(R, learned),
        "decisions": asked["decisions"].min(),
        "components": last["components"],
        "stored_bytes": last["stored_bytes"],
        "progress_bytes": last["progress_bytes"],
        "train_seconds": last["train_seconds"],
        "eval_seconds": part["eval_seconds"].sum(),
        "path": last["path"],
    }


def over_seeds(summary: pd.DataFrame, values: Sequence[str] = ("accuracy", "task_accuracy", "forgetting")) -> pd.DataFrame:
    """Summaries of runs that differ in their seeds alone, as mean, half width of the 95 % t interval, and n.

    ``decisions`` are the fewest of a task in any run.
    """
    rows = []
    for key, part in summary.groupby([*PROTOCOL, "settings", "learned"], sort=False):
        row: dict[str, Any] = dict(zip([*PROTOCOL, "settings", "learned"], key, strict=True))
        for value in values:
            interval = metrics.mean_t_interval(part[value].to_numpy())
            row |= {value: interval.mean, f"{value}_interval": interval.half_width}
        for value in ("components", "stored_bytes", "progress_bytes", "train_seconds", "eval_seconds"):
            row[value] = part[value].mean()
        marks = {name: name in part and bool(part[name].any()) for name in ("transductive", "diverged")}
        rows.append(row | {"n": len(part), "decisions": part["decisions"].min()} | marks)
    return pd.DataFrame(rows)
