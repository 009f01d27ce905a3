"""A figure's table in its files.

``NAME.csv`` holds the points, ``NAME-seeds.csv`` the values by seed, and ``NAME-runs.csv`` what made each run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from clbench.errors import UserError

PAPER, IMAGE = "paper", "image"
"""Protocols: how the paper's figure asks, and each image deciding its own task. A figure may have others (Figure 7's searches)."""

COLUMNS = (
    *("figure", "budget", "line", "protocol", "curve"),
    *("method", "scenario", "ask", "stream", "data", "network", "settings", "tasks", "learned"),
    *("value", "at", "n", "accuracy", "accuracy_interval", "task_accuracy", "task_accuracy_interval", "chance", "paper"),
    *("components", "stored_bytes", "runs"),
)
"""The columns of a figure's table: a row for each point.

``line`` is the line that a point lies on; ``protocol`` how its tasks are inferred; ``curve`` the name of the points that one question to
one training gives; ``value`` the number in which the curves of a line differ (outputs, edges, images that share a mask), if they do.
Accuracies run from 0 to 1 and are means over n seeds, with half widths of their 95 % t intervals. ``at`` is the place of a point that is
not drawn against tasks learned. ``paper`` is the accuracy that the paper gives for it at the paper's budget, if it does (a column
``source`` says where). ``runs`` are the hashes of the runs behind the point."""

REAL = COLUMNS.index("value")
NAMES = (*COLUMNS[:REAL], "n", "runs", "source")
"""The columns of words and counts; all others hold real numbers."""

SEEDED = (
    *("line", "protocol", "curve", "value", "seed", "tasks", "learned", "at"),
    *("accuracy", "task_accuracy", "stored_bytes", "run"),
)
"""The columns of a figure's values by seed: a row for each point and seed, with the run that it comes from. A figure's own columns
(``PaperFigure.measured``) follow."""

ORIGINS = (
    *("run", "method", "scenario", "seed", "commit", "changed", "packages", "machine", "cores", "threads"),
    *("train_seconds", "eval_seconds"),
)
"""The columns of a figure's runs: a row for each run behind its table.

``commit`` of clbench, and whether its files had ``changed`` since; versions of ``packages``; seconds of learning and of answering."""


def single(table: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows of a figure's table say what each image finds by itself."""
    return table["protocol"] == IMAGE


def read(file: Path) -> pd.DataFrame:
    """A figure's table from its file, exact to the last digit: pandas' own reader of numbers may round. ``UserError`` if it is none."""
    try:
        present = set(pd.read_csv(file, nrows=0).columns)
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise UserError(f"{file} cannot be read ({error}): make the figure again.") from None
    if missing := set(COLUMNS) - present:
        raise UserError(
            f"{file} is not a figure's table of this version, because it lacks {', '.join(sorted(missing))}: make the figure again, "
            "with --from-results if its runs are still there."
        )
    real = present - set(NAMES)
    numbers: dict[Any, Callable[[str], float]] = dict.fromkeys(real, lambda text: float(text or "nan"))
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(("tasks", "learned", "n"), int) | {"runs": str}, converters=numbers)
    except ValueError as error:
        raise UserError(f"{file} cannot be read ({error}): make the figure again.") from None
    if table.empty or table[["figure", "budget", "line", "protocol", "curve", "runs"]].isna().any(axis=None):
        raise UserError(f"{file} is cut off: make the figure again.")
    return table


def beside_seeds(file: Path) -> Path:
    """Where the values by seed of a figure's table lie."""
    return file.with_name(f"{file.stem}-seeds.csv")


def beside_runs(file: Path) -> Path:
    """Where the runs of a figure's table, with what made them, are listed."""
    return file.with_name(f"{file.stem}-runs.csv")


def read_seeds(file: Path) -> pd.DataFrame | None:
    """The values by seed of the table ``file``; None if they were not kept, as in tables of earlier versions.

    Raises a ``UserError`` if they are damaged, or come from other runs than the table.
    """
    beside = beside_seeds(file)
    if not beside.exists():
        return None
    try:
        table = pd.read_csv(beside, dtype={"run": str})
        missing = set(SEEDED) - set(table)
    except (OSError, ValueError) as error:
        raise UserError(f"{beside} cannot be read ({error}): make the figure again.") from None
    if missing:
        raise UserError(f"{beside} holds no values by seed, because it lacks {', '.join(sorted(missing))}: make the figure again.")
    if set(table["run"]) != set(" ".join(read(file)["runs"]).split()):
        raise UserError(f"{beside} and {file.name} come from different runs: make the figure again.")
    return table
