"""Tables for people: means over seeds with their intervals, formatted, and what must be said below them.

The numbers come from ``clbench.results.frames``, their headings and formats from ``clbench.results.columns``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from clbench import terminal
from clbench.errors import UserError
from clbench.files import write_text
from clbench.results.columns import ALWAYS, MEASURED, Column, find
from clbench.results.formats import NONE, bytes_, measure, number, percent, seconds
from clbench.results.frames import over_seeds, summarise
from clbench.results.lines import (
    LINE,
    MARKS,
    Facts,
    describe,
    flat,
    label,
    labels,
    lines_of,
    read_settings,
    seeds,
    text,
    without_shared,
)
from clbench.results.renderers import RENDERERS, csv, is_number, with_line_below

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "COLUMNS",
    "LINE",
    "NONE",
    "WIDE",
    "below",
    "by_tasks",
    "bytes_",
    "describe",
    "few_decisions",
    "figure_table",
    "labels",
    "measure",
    "mixed_precision",
    "number",
    "percent",
    "print_table",
    "read_settings",
    "rich_table",
    "seconds",
    "seeds",
    "table",
    "text",
    "without_shared",
    "write",
]

COLUMNS = (
    *("method", "scenario", "ask", "stream", "data", "network", "tasks", "n"),
    *(column.heading for column in MEASURED if column.default),
)
"""The columns of a table. ``settings`` follows the network if rows differ in them."""

IMPORTANCE = {"data": 7, "settings": 8, "network": 10}
"""As ``Column.importance``, of the columns that say what was run; a terminal shows the others of them always."""

FEW = 20
"""With fewer decisions about a task the accuracy on it says little."""

WIDE = 250
"""The width of a table that is not printed to a terminal."""


# Frames


def by_tasks(scores: pd.DataFrame) -> pd.DataFrame:
    """The curves of accuracy against tasks learned: a row for each line (``LINE``) and number of tasks learned.

    ``scores`` is a frame (``clbench.frame``). accuracy and task_accuracy are means over runs (seeds) of the average over the
    tasks learned so far, with the half widths of their t intervals (accuracy_interval, task_accuracy_interval) and n runs; ``runs``
    names the runs by their hashes.
    """
    columns = [column for column in MEASURED if not column.interval or column.name in ("accuracy", "task_accuracy")]
    summary = pd.concat([summarise(after, columns) for _, after in scores.groupby("learned")], ignore_index=True)
    points = over_seeds(summary, columns)
    runs = summary.groupby([*LINE, "learned"])["run"].agg(" ".join).rename("runs").reset_index()
    points = points.merge(runs, on=[*LINE, "learned"])
    marks = ["diverged", "unfinished"]
    return points.assign(**points.groupby(LINE)[marks].transform("any"))


def table(averages: pd.DataFrame, columns: Sequence[Column] = MEASURED) -> pd.DataFrame:
    """A table of runs, formatted: ``averages`` is a frame of ``clbench.results.frames.over_seeds``, of the same ``columns``.

    It shows what was run, and those of ``columns`` that are shown by default. Accuracies are in percent, with the half width of the 95 %
    t interval if there are two runs (n) or more. The settings of a row are shown if rows differ in them. Bytes are decimal, as in the
    paper: 1 MB is 1,000,000 bytes.
    """
    shown = [column for column in columns if column.default]
    lines = lines_of(averages)
    settings, _ = without_shared(line.learning for line in lines)
    rows = [
        {
            "method": line.place["method"],
            "scenario": row["scenario"],
            "ask": text(line.ask),
            "stream": row["stream"],
            "data": row["data"],
            "network": row["network"],
            "settings": text(differing),
            "tasks": str(row["tasks"]) if row["learned"] == row["tasks"] else f"{row['learned']} of {row['tasks']}",
            "n": str(row["n"]),
        }
        | {column.heading: column.text(row[column.name], row.get(column.interval_name, float("nan"))) for column in shown}
        for row, line, differing in zip(averages.to_dict("records"), lines, settings, strict=True)
    ]
    formatted = pd.DataFrame(rows)
    return formatted if formatted["settings"].any() else formatted.drop(columns="settings")


def figure_table(points: pd.DataFrame, measured: Sequence[str] = ()) -> pd.DataFrame:
    """A figure's table (``clbench.paper.files.COLUMNS``), formatted: a row for each point, without columns that hold nothing.

    ``measured`` are the figure's own columns, some with another of half widths (``_interval``).
    """
    accuracy, task_accuracy, stored = map(find, ("accuracy", "task_accuracy", "stored_bytes"))
    rows = [
        {
            "curve": row["curve"],
            "tasks": str(row["learned"]),
            "at": NONE if pd.isna(row["at"]) else f"{row['at']:.4g}",
            "n": str(row["n"]),
        }
        | {column.heading: column.text(row[column.name], row[column.interval_name]) for column in (accuracy, task_accuracy)}
        | {
            stored.heading: stored.text(row["stored_bytes"]),
            "the paper %" if row["budget"] == "paper" else "the paper %, at its budget": percent(row["paper"]),
            "source": row["source"] if isinstance(row.get("source"), str) else NONE,
        }
        | {name: measure(row[name], row.get(f"{name}_interval", float("nan"))) for name in measured}
        for row in points.to_dict("records")
    ]
    formatted = pd.DataFrame(rows)
    return formatted.drop(columns=[name for name in formatted.columns if (formatted[name] == NONE).all()])


# Renderers


def write(averages: pd.DataFrame, path: str | Path, columns: Sequence[Column] = MEASURED) -> Path:
    """Write a table of runs: to .csv as numbers, not rounded (accuracies from 0 to 1, bytes), to .md or .tex as it is shown."""
    path = Path(path)
    if path.suffix not in (".csv", *RENDERERS):
        raise UserError(f"A table is written to a .csv, .md or .tex file, not to {path.name}.")
    if path.suffix == ".csv":
        written = csv(flat(averages))
    else:
        written = with_line_below(RENDERERS[path.suffix](table(averages, columns)), below(averages), path.suffix)
    write_text(path, written)
    return path


def print_table(averages: pd.DataFrame, columns: Sequence[Column] = MEASURED) -> None:
    """Show a table of runs on standard output. In a narrow terminal columns are left out, and named, rather than numbers cut."""
    console = terminal.console()
    if not console.is_terminal:
        console = terminal.console(width=WIDE)
    shown, left_out = table(averages, columns), []
    asks = [line.ask for line in lines_of(averages)]
    unlimited = terminal.console(width=10 * WIDE)  # a console measures nothing wider than itself
    for name in dispensable(columns):
        if unlimited.measure(rich_table(shown, asks)).minimum <= console.width:
            break
        if name in shown:
            shown = shown.drop(columns=name)
            left_out.append(name)
    console.print(rich_table(shown, asks))
    if words := below(averages):
        console.print(words, highlight=False)
    if left_out:
        console.print(f"The terminal is too narrow for: {', '.join(left_out)} (clbench table --out FILE.md has all).", style="dim")


def dispensable(columns: Sequence[Column]) -> list[str]:
    """The headings of columns that a narrow terminal leaves out, the first first."""
    importance = {column.heading: column.importance for column in columns if column.importance < ALWAYS} | IMPORTANCE
    return sorted(importance, key=importance.__getitem__)


def below(averages: pd.DataFrame) -> str:
    """What is said below a table: marks, lines that rest on few decisions, and precisions that differ."""
    marked = [name for name in ("diverged", "unfinished") if name in averages and averages[name].any()]
    return "\n".join(
        filter(None, [*(f"({name}): {MARKS[name]}." for name in marked), few_decisions(averages), mixed_precision(averages)])
    )


def mixed_precision(averages: pd.DataFrame) -> str:
    """A sentence for below a table if runs on the same stream and network were trained in several precisions; else empty."""
    precision = pd.Series([line.learning.get("precision", "") for line in lines_of(averages)], index=averages.index)
    if (precision.groupby([averages[name] for name in ("stream", "data", "network", "tasks")]).nunique() < 2).all():
        return ""
    counts = ", ".join(f"{name} ({count} lines)" for name, count in precision.value_counts().sort_index().items())
    return f"Trained in several precisions: {counts}. Give --precision to compare within one."


def few_decisions(averages: pd.DataFrame) -> str:
    """A sentence for below a table: which of its lines rest on fewer than ``FEW`` decisions about a task; empty if none does."""
    few = averages[averages["decisions"] < FEW]
    if few.empty:
        return ""
    fewest = few.groupby(["method", "scenario"], sort=False)["decisions"].min().reset_index()
    named = ", ".join(f"{row['method']} {row['scenario']} ({row['decisions']:.0f})" for row in fewest.to_dict("records"))
    return (
        f"Fewer than {FEW} decisions about each task: {named}. Such an accuracy is largely luck: ask about more images, or let each "
        "decide about its own task (--ask protocol=image)."
    )


def rich_table(shown: pd.DataFrame, asks: Sequence[Facts]) -> "Table":
    """A formatted table for the terminal, with the settings of the ask of each row.

    What all rows share of their protocol stands in its title, so that there is room for the rest.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    differing, common = without_shared(asks)
    shown = shown.assign(ask=[label(ask) for ask in differing])
    shared = [
        name for name in ("method", "stream", "data", "network", "tasks", "n") if name in shown and shown[name].nunique() == 1
    ]
    wording = {"tasks": "{} tasks", "n": "n = {}"}
    title = [wording.get(name, "{}").format(shown[name].iloc[0]) for name in shared] + ([text(common)] if common else [])
    heading = " · ".join(title) if title else None
    rich = Table(
        title=heading, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0
    )
    narrow = {column.heading: column.narrow for column in MEASURED if column.narrow}
    rest = [name for name in shown.columns.drop(shared) if shown[name].ne("").any()]
    last = "settings" if "settings" in rest else None
    rest = [name for name in rest if name != last] + ([last] if last else [])
    for name in rest:
        whole = is_number(shown[name]) or name not in ("ask", "settings")
        longest = max(len(cell) for cell in shown[name])
        width = longest if whole else min(16, longest)
        justify: Literal["left", "right"] = "right" if is_number(shown[name]) else "left"
        rich.add_column(narrow.get(name, name), justify=justify, no_wrap=whole, min_width=width, overflow="fold")
    for row in shown[rest].to_numpy():
        rich.add_row(*row)
    return rich
