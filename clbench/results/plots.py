"""Plots of any runs: accuracy against tasks learned, the accuracy matrix R, and true against inferred tasks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clbench.engine.asking import Ask
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.files import write_text
from clbench.registry import scenarios
from clbench.results import renderers, style, tables
from clbench.results.frames import frame, matrix
from clbench.results.lines import LINE, describe, flat, labels, lines_of

ANNOTATED = 10
"""Cells of a heat map show their numbers if it has no more rows and columns than this."""


def plot_runs(runs: Sequence[Run], folder: str | Path) -> list[Path]:
    """Draw everything about some runs into ``folder``: their accuracy curves in one plot, and for each run and ask the accuracy matrix
    and, if tasks are inferred, the confusion of tasks. Returns the files; a .csv holds the points of the curves."""
    folder = Path(folder)
    scores = frame(runs)
    files = list(style.save(accuracy_by_tasks(scores), folder / "accuracy-by-tasks"))
    points = folder / "accuracy-by-tasks.csv"
    write_text(points, renderers.csv(flat(tables.by_tasks(scores))))
    files.append(points)
    for run in runs:
        of_run = scores[scores["path"] == str(run.path)]
        confusion = run.table("confusion")
        names, _ = labels(of_run.drop_duplicates("ask"))
        asks = {ask.label: ask for ask in run.asks}
        for name, label in zip(names, of_run["ask"].unique(), strict=True):
            base = f"{run.path.name}-{re.sub('[^A-Za-z0-9.]+', '-', name)}"
            files += style.save(accuracy_matrix(of_run[of_run["ask"] == label]), folder / f"{base}-matrix")
            if not confusion.empty and (confusion["ask"] == label).any():
                files += style.save(task_confusion(run, asks[label]), folder / f"{base}-tasks")
    return files


@style.house
def accuracy_by_tasks(scores: pd.DataFrame, *, classes: int | None = None, width: float | None = None) -> Figure:
    """Average accuracy over the tasks learned so far against their number: a line for each method, scenario and ask.

    ``scores`` is a frame (``clbench.frame``). Lines are means over runs that differ in their seeds alone, with a band for the
    95 % t interval if there are two or more. ``classes``, the number of classes of a task, adds the lines of chance. ``width`` is in
    inches (by default a column, or a page if the labels of lines need much room).
    """
    points = tables.by_tasks(scores)
    if classes is not None:
        points = with_chance(points, classes)
    lines = points.drop_duplicates(LINE)
    names, common = labels(lines)
    figure = style.new(width or (style.DOUBLE if len(names) > 8 else style.COLUMN), 2.1)
    axes = figure.add_subplot()
    for number, (name, line) in enumerate(zip(names, lines.to_dict("records"), strict=True)):
        curve = points[(points[LINE] == [line[column] for column in LINE]).all(axis=1)]
        draw_line(axes, curve, label=name, **style.line(number))
    if classes is not None:
        draw_chance(axes, points)
    style.accuracy_axis(axes, *accuracy_range(points))
    style.tasks_axis(axes, points["learned"].tolist())
    name_lines(figure, axes)
    style.caption(figure, describe(common, points["n"]))
    return figure


@style.house
def accuracy_matrix(scores: pd.DataFrame, *, width: float = style.COLUMN) -> Figure:
    """The accuracy matrix R of one run and ask as a heat map: after so many tasks learned (rows), on each task (columns).

    ``scores`` are the rows of that run and ask in a frame of ``clbench.results.frames.frame``.
    """
    if scores.empty or scores[["path", "ask"]].drop_duplicates().shape[0] != 1:
        raise UserError("An accuracy matrix is of one run and one ask: give their scores alone.")
    R, learned = matrix(scores)
    figure, axes = heat_map(R, width, "accuracy (%)")
    axes.set_xlabel("task asked about")
    axes.set_ylabel("tasks learned")
    number_axis(axes, "x", list(range(1, R.shape[1] + 1)))
    number_axis(axes, "y", learned)
    style.caption(figure, f"{lines_of(scores.head(1))[0].caption} Run {scores['run'].iloc[0]}.")
    return figure


@style.house
def task_confusion(run: Run, ask: Ask, *, learned: int | None = None, width: float = style.COLUMN) -> Figure:
    """How often images of each task (rows) were assigned to each task (columns), as a heat map: shares of a row, which sum to 100 %.

    After ``learned`` tasks (None: the last checkpoint). If the learner is never told the tasks, the columns are its own components.
    """
    counts = run.table("confusion")
    counts = counts[counts["ask"] == ask.label] if not counts.empty else counts
    counts = counts[counts["learned"] == (counts["learned"].max() if learned is None else learned)] if not counts.empty else counts
    if counts.empty:
        raise UserError(
            f"The run {run.path} holds no inferred tasks for {ask.label!r}: ask a scenario that does not give the task."
        )
    shares = confusion_shares(counts)
    figure, axes = heat_map(shares, width, "share of the task's images (%)")
    told = ask.scenario.task_given_in_training
    axes.set_xlabel("task inferred" if told else "component inferred (numbered by the learner)")
    axes.set_ylabel("true task")
    number_axis(axes, "x", list(range(1, shares.shape[1] + 1)))
    number_axis(axes, "y", list(range(1, shares.shape[0] + 1)))
    scores = frame([run])
    (line,) = lines_of(scores[scores["ask"] == ask.label].head(1))
    after = f"After {counts['learned'].iloc[0]} of {run.learn.tasks} tasks"
    style.caption(figure, f"{line.caption} {after}, run {run.learn.hash}.")
    return figure


# What is drawn


def with_chance(points: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Points with the accuracy of guessing (``chance``) at each: if labels are not shared, the task must be guessed too.

    ``classes``: of a task, for all points; a column ``classes`` gives it for each.
    """
    shared = points["scenario"].map({name: scenario.labels_shared for name, scenario in scenarios().items()})
    of_task = points.get("classes", classes)
    return points.assign(chance=1 / (of_task * points["learned"].where(~shared.astype(bool), 1)))


def confusion_shares(counts: pd.DataFrame) -> npt.NDArray[np.float64]:
    """From rows (task, inferred, images) the shares [tasks, inferred] of each task's images; every row sums to 1."""
    square = 1 + int(max(counts["task"].max(), counts["inferred"].max()))
    images = np.zeros((1 + int(counts["task"].max()), square))
    np.add.at(images, (counts["task"].to_numpy(), counts["inferred"].to_numpy()), counts["images"].to_numpy())
    return images / images.sum(axis=1, keepdims=True)


def accuracy_range(points: pd.DataFrame) -> tuple[float, float]:
    """Where the y axis of these points begins and ends: at 0, unless all lie high and chance is not shown."""
    widths = points["accuracy_interval"].fillna(0)
    low, high = float((points["accuracy"] - widths).min()), float((points["accuracy"] + widths).max())
    if low < 0.5 or "chance" in points:
        return 0.0, 1.0
    return nice_below(low, high), min(1.0, high + 0.1 * (high - low) + 0.005)


def nice_below(low: float, high: float) -> float:
    """A whole percentage below ``low``, with some room."""
    return max(0.0, np.floor(100 * (low - 0.1 * (high - low) - 0.005)) / 100)


def draw_line(axes: Axes, points: pd.DataFrame, *, label: str, across: str = "learned", bars: bool = False, **kwargs: Any) -> None:
    """Accuracy against tasks learned (or ``across``), with its interval if there is one: a band, or bars (always for a single point)."""
    points = points.sort_values(across)
    learned, accuracy, width = (points[c].to_numpy(float) for c in (across, "accuracy", "accuracy_interval"))
    axes.plot(learned, accuracy, label=style.literal(label), markevery=max(1, len(points) // 8), **kwargs)
    if np.isfinite(width).any():
        colour, order = kwargs.get("color"), kwargs.get("zorder", 2) - 0.5
        if bars or len(points) == 1:
            drawn: ErrorbarContainer = axes.errorbar(learned, accuracy, width, color=colour, capsize=2, linewidth=0.8, zorder=order)
            drawn.set_label("")
        else:
            axes.fill_between(learned, accuracy - width, accuracy + width, color=colour, alpha=0.18, linewidth=0, zorder=order)


def draw_chance(axes: Axes, points: pd.DataFrame) -> None:
    """The accuracy of guessing (the column ``chance``) against tasks learned; scenarios in which it is the same share a line."""
    levels: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for scenario, of_scenario in points.groupby("scenario", sort=False):
        curve = of_scenario.drop_duplicates("learned").sort_values("learned")
        levels.setdefault(tuple(zip(curve["learned"], curve["chance"], strict=True)), []).append(str(scenario))
    for number, (level, names) in enumerate(levels.items()):
        learned, shares = zip(*level, strict=True)
        falls = shares[-1] < shares[0]
        rule = f"{100 * shares[0] * learned[0]:.3g} % / tasks" if falls else f"{100 * shares[0]:.3g} %"
        look: dict[str, Any] = {
            "color": style.GREY,
            "linewidth": 1,
            "linestyle": ((0, (1, 1.5)), (0, (4, 1.5)))[number % 2],
            "zorder": 1,
        }
        axes.plot(learned, shares, label=f"chance {', '.join(names)}: {rule}", **look)


def name_lines(figure: Figure, axes: Axes) -> None:
    """Name the labelled lines: at their right ends if they are few and their names are short, else in a legend above the axes.

    Names at the ends stand beside their line's marker, moved up or down if they would overlap.
    """
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    names = [str(line.get_label()) for line in lines]
    if len(names) > 8 or max(style.text_width(name, 7.5) for name in names) > 0.3 * figure.get_size_inches()[0]:
        across = columns(names, figure)
        figure.set_size_inches(
            figure.get_size_inches()[0], figure.get_size_inches()[1] + style.LEGEND_ROW * -(-len(names) // across)
        )
        figure.legend(loc="outside upper left", ncols=across)
        return
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    gap = 9.5 / 72 / (axes.get_position().height * figure.get_size_inches()[1]) * (high - low)
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in lines]
    order = sorted(range(len(lines)), key=lambda i: (ends[i], -i))
    for i, height in zip(order, spread([ends[i] for i in order], gap, low, high), strict=True):
        # A sample of the line with its marker stands before the name: in grey, colour alone is not enough.
        (key,) = axes.plot([1.02, 1.06, 1.1], [height] * 3, transform=axes.get_yaxis_transform(), clip_on=False, markevery=[1])
        key.update_from(lines[i])
        key.set(transform=axes.get_yaxis_transform(), clip_on=False, markevery=[1], label="_key")
        place = (1.1, height)
        axes.annotate(
            names[i], place, (3, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center", size=7.5
        )


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Increasing ``values`` moved as little as simple shifting does, so that neighbours are ``gap`` apart and all lie in the range.

    >>> [round(v, 2) for v in spread([0.5, 0.9, 0.9], 0.1, 0.0, 1.0)]
    [0.5, 0.9, 1.0]
    >>> [round(v, 2) for v in spread([0.95, 0.95, 0.95], 0.1, 0.0, 1.0)]
    [0.8, 0.9, 1.0]
    """
    placed: list[float] = []
    for value in values:
        placed.append(max(value, placed[-1] + gap) if placed else max(value, low))
    ceiling = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def columns(names: Sequence[str], figure: Figure) -> int:
    """How many columns a legend with these names may have in the figure's width."""
    widest = max(style.text_width(name, 7.5) for name in names) + 0.55
    return max(1, min(len(names), int(figure.get_size_inches()[0] / widest)))


def heat_map(shares: npt.NDArray[np.float64], width: float, label: str) -> tuple[Figure, Axes]:
    """A matrix of shares in colours from 0 to 100 %, with the scale beside it; few cells show their numbers."""
    rows, across = shares.shape
    # Few rows in a wide matrix still get room for their labels, and a square matrix is drawn with square cells.
    height = float(np.clip(0.72 * width * rows / across, 0.9, 0.8 * width)) + 0.35
    figure = style.new(width, height)
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, aspect="equal" if rows == across else "auto")
    axes.grid(False)
    axes.patch.set(hatch="//////", edgecolor="0.85")  # shows where nothing was measured
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.9 if rows == across else 1.0, aspect=18, pad=0.02)
    bar.ax.spines[:].set_linewidth(0.4)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1])
    style.percent(bar.ax.yaxis)
    bar.set_label(label)
    if max(shares.shape) <= ANNOTATED:
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share) and share > 0:
                # Numbers are dark on light cells and light on dark ones.
                text, colour = f"{100 * share:.1f}".replace("100.0", "100"), "white" if share > 0.55 else "black"
                axes.text(column, row, text, ha="center", va="center", size=style.SMALL, color=colour)
    return figure, axes


def number_axis(axes: Axes, which: str, numbers: Sequence[int]) -> None:
    """Number the rows or columns of a heat map: each if they are few, else at whole steps."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if len(numbers) <= 12:
        shown = list(range(len(numbers)))
    else:
        ticks = MaxNLocator(6, integer=True).tick_values(0, len(numbers))
        # Tasks are counted from 1, so the tick of task 20 is at column 19.
        shown = sorted({max(0, int(tick) - 1) for tick in ticks if tick <= len(numbers)})
    axis.set_ticks(shown, [str(numbers[i]) for i in shown])
