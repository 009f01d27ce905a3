"""Reading runs: tidy frames, accuracy matrices and summaries. Every table and figure is made from these and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from clbench.engine.record import REMEDY
from clbench.engine.store import Run, runs_in
from clbench.errors import UserError, tell
from clbench.results import metrics
from clbench.results.columns import MEASURED, Answers, Column
from clbench.results.lines import FACTS, LINE, MARKS, text

SEEDS = ["stream_seed", "initialisation_seed", "training_seed"]
"""The columns of a run's seeds."""


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """All scores of some runs, a row for each run, ask, number of tasks learned and task.

    Beside the columns of ``scores.csv``: what was run (method, stream, data, network, tasks, settings, seeds), the settings of the ask and
    of learning as dictionaries (ask_settings, learn_settings), and after that many tasks the components, the bytes to predict
    (stored_bytes), the bytes needed besides to resume learning (progress_bytes), the training seconds so far, what the learner made of the
    boundaries so far (missed, false_switches, delay), the lowest accuracy so far inside later tasks (lowest), and whether the training of
    one of these tasks diverged (``diverged``). ``unfinished``: whether the run still has tasks to learn.
    """
    frames = [_run_frame(run) for run in runs]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def complete(results: Path) -> list[Run]:
    """The complete runs in a results folder. One that cannot be read is left out, with a notice."""
    runs = []
    for run in runs_in(results):
        try:
            if run.complete:
                _run_frame(run)
                runs.append(run)
        except UserError as problem:
            tell([f"{problem} The run {run.path.name} is left out."])
    return runs


def _run_frame(run: Run) -> pd.DataFrame:
    scores, tasks, record = run.table("scores"), run.table("tasks"), run.record
    learn = run.learn
    if scores.empty:
        remedy = f"its scores.csv is gone: {REMEDY}" if run.complete else "finish it by running it again"
        raise UserError(f"The run {run.path} has no scores: {remedy}.")
    if scores.duplicated(["ask", "learned", "task"]).any():
        raise UserError(f"The file {run.path / 'scores.csv'} has scores twice: {REMEDY}.")
    asks = {ask.label: ask.settings for ask in run.asks}
    if not (set(scores["learned"]) <= set(tasks.get("learned", ())) and set(scores["ask"]) <= asks.keys()):
        raise UserError(f"The tables in {run.path} (scores.csv, tasks.csv) do not fit each other: {REMEDY}.")
    if "decisions" not in scores:  # written by a version that did not count them
        scores["decisions"] = float("nan")
    tasks["train_seconds"] = tasks["seconds"].cumsum()
    sizes = tasks[["learned", "components", "stored_bytes", "progress_bytes", "train_seconds"]]
    scores = scores.rename(columns={"seconds": "eval_seconds"}).merge(sizes, on="learned", how="left")
    scores = scores.merge(_detections(run), on="learned", how="left").merge(_lowest(run), on=["ask", "learned", "task"], how="left")
    learning = settings(run)
    identity = {
        "run": learn.hash,
        "method": learn.method,
        "stream": learn.stream,
        "data": learn.data,
        "network": learn.network,
        "tasks": learn.tasks,
        "settings": text(learning),
        "stream_seed": learn.seeds.stream,
        "initialisation_seed": learn.seeds.initialisation,
        "training_seed": learn.seeds.training,
        "transductive": record["transductive"],
    }
    diverged = run.diverged
    scores["diverged"] = diverged is not None and scores["learned"] > diverged.task
    scores["unfinished"] = record["status"] == "incomplete"
    scores["ask_settings"] = pd.Series([asks[label] for label in scores["ask"]], dtype=object)
    scores["learn_settings"] = pd.Series([learning] * len(scores), dtype=object)
    scores.insert(0, "path", str(run.path))
    for column, value in reversed(identity.items()):
        scores.insert(0, column, value)
    return scores


def _detections(run: Run) -> pd.DataFrame:
    """What the learner made of the boundaries so far, after each number of tasks learned (``learned``).

    ``missed`` boundaries, ``false_switches``, and the mean ``delay`` of those detected, in batches. The beginning of the first task is no
    boundary. No rows if the learner does not choose its component itself.
    """
    boundaries = run.table("boundaries").reindex(columns=["learned", "detected", "delay", "false"]).astype(float)
    later = boundaries["learned"] > 1
    return pd.DataFrame(
        {
            "learned": boundaries["learned"].astype(int),
            "missed": (boundaries["detected"].isna() & later).cumsum(),
            "false_switches": boundaries["false"].cumsum(),
            "delay": boundaries["delay"].where(later).expanding().mean(),
        }
    )


def _lowest(run: Run) -> pd.DataFrame:
    """The lowest accuracy so far on each task while later ones were learned (``lowest``), by ask, tasks learned and task.

    No rows if nothing was asked inside tasks.
    """
    inside = run.table("inside").reindex(columns=["ask", "learned", "task", "accuracy"])
    lowest = inside.groupby(["ask", "task", "learned"])["accuracy"].min().reset_index()
    lowest["lowest"] = lowest.groupby(["ask", "task"])["accuracy"].cummin()
    for name in ("learned", "task"):
        lowest[name] = lowest[name].astype(int)
    return lowest.drop(columns="accuracy")


def settings(run: Run) -> dict[str, str]:
    """A run's learning parameters, updates, batch size and precision, as texts."""
    learn = run.learn
    shown = learn.parameters | {"updates": learn.updates, "batch_size": learn.batch_size, "precision": learn.precision}
    shown |= learn.flow.model_dump(mode="json", exclude_defaults=True)
    return {key: str(value) for key, value in shown.items()}


def matrix(scores: pd.DataFrame, value: str = "accuracy") -> tuple[npt.NDArray[np.float64], list[int]]:
    """The matrix R of one run and ask, from its rows of a frame: R[i, j] after ``learned[i]`` tasks, on task j; NaN if not asked.

    Returns R, [checkpoints, tasks], and ``learned``, the number of tasks learned at each row.
    """
    table = scores.pivot(index="learned", columns="task", values=value)
    # A task that recurs is asked about under the number of its first visit only.
    table = table.reindex(columns=range(max(int(table.columns.max()) + 1, int(table.index.max()))))
    return table.to_numpy(dtype=float), [int(learned) for learned in table.index]


def summarise(scores: pd.DataFrame, columns: Sequence[Column] = MEASURED) -> pd.DataFrame:
    """One row for each run and ask: the measured columns after the last task asked about. Accuracies run from 0 to 1."""
    rows = [_summary(answers, columns) for _, answers in scores.groupby(["path", "ask"], sort=False)]
    return pd.DataFrame(rows)


def _summary(scores: pd.DataFrame, columns: Sequence[Column]) -> dict[str, Any]:
    R, learned = matrix(scores)
    T, _ = matrix(scores, "task_accuracy")
    answers = Answers(R, T, learned, scores)
    last = answers.last.iloc[0]
    names = ["run", *LINE, *SEEDS, "transductive"]
    return (
        {name: last[name] for name in names}
        | {name: bool(last.get(name, False)) for name in ("diverged", "unfinished")}
        | {"learned": learned[-1]}
        | {column.name: column.measure(answers) for column in _metrics_first(columns)}
        | {"path": last["path"]}
        | _facts(last)
    )


def over_seeds(summary: pd.DataFrame, columns: Sequence[Column] = MEASURED) -> pd.DataFrame:
    """Summaries of runs that differ in their seeds alone, as means over n runs.

    Metrics have the half width of their 95 % t interval (``_interval``); ``decisions`` are the fewest of a task in any run. ``columns`` are
    those of the summary.
    """
    rows = []
    for key, runs in summary.groupby([*LINE, "learned"], sort=False):
        row: dict[str, Any] = dict(zip([*LINE, "learned"], key, strict=True))
        fewest = {}
        for column in _metrics_first(columns):
            if column.interval:
                interval = metrics.mean_t_interval(runs[column.name].to_numpy())
                row |= {column.name: interval.mean, column.interval_name: interval.half_width}
            elif column.fewest:
                fewest[column.name] = runs[column.name].min()
            else:
                row[column.name] = runs[column.name].mean()
        marked = {name: name in runs and bool(runs[name].any()) for name in MARKS}
        rows.append(row | {"n": len(runs)} | fewest | marked | _facts(runs.iloc[0]))
    return pd.DataFrame(rows)


def _metrics_first(columns: Sequence[Column]) -> list[Column]:
    """The order of columns in CSV and JSON: metrics, then the others."""
    return sorted(columns, key=lambda column: not column.interval)


def _facts(row: "pd.Series[Any]") -> dict[str, Any]:
    """The columns of dictionaries of a row that has them."""
    return {name: row[name] for name in FACTS if name in row}
