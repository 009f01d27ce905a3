"""Shared by the figures that compare methods on one stream: their curves, and one panel of accuracy against tasks learned."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clbench.paper.base import BEYOND, SINGLE, Curve
from clbench.paper.files import single
from clbench.results import plots, style, tables

CLASSES = 10
HIGH = 0.7
"""If all lines lie above this accuracy, the axis is broken between them and chance."""
ONE_SHOT: dict[str, Any] = {"algorithm": "one-shot", "group": 128, "evidence": 1}
"""The paper's protocol: the first image of a batch of 128 decides for all of them."""


def told(line: str, shared: Mapping[str, Any], method: str, **set_: Any) -> Curve:
    """A method that is given the task (GG), all test images asked about."""
    return Curve(line, {**shared, "method": method, "scenario": "GG", "set": set_})


def inferring(line: str, shared: Mapping[str, Any], method: str, set_: Mapping[str, Any], **ask: Any) -> Curve:
    """A method in GNu, asked in that way; without ``ask`` it is told the task, which costs no other training."""
    question = {"scenario": "GNu", **ask} if ask else {"scenario": "GG"}
    return Curve(line, {**shared, "method": method, "scenario": "GNu", "set": dict(set_), "ask": shared.get("ask", {}) | question})


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Average accuracy against tasks learned, with chance and what the paper says.

    If all lines lie high, the axis is broken: otherwise they would lie on each other, far above chance.
    """
    low = float((frame["accuracy"] - frame["accuracy_interval"].fillna(0)).min())
    figure = style.new(style.COLUMN, 2.2 if low < HIGH else 2.6)
    axes, chance = (figure.add_subplot(), None) if low < HIGH else style.broken(figure, frame["chance"].max())
    for number, (name, points) in enumerate(frame.groupby("line", sort=False)):
        plots.draw_line(axes, points, label=str(name), **style.line(number))
    plots.draw_chance(axes, frame)
    draw_reference(axes, frame)
    style.accuracy_axis(axes, 0 if chance is None else plots.nice_below(low, 1.0), 1)
    if chance is not None:
        axes.set_ylabel("average accuracy (%)")  # the break shows that it does not start at 0
        plots.draw_chance(chance, frame)
        for line in chance.get_lines():
            line.set_label("_")
    style.tasks_axis(chance or axes, frame["learned"].tolist())
    plots.name_lines(figure, axes)
    style.caption(figure, caption(frame, heading))
    return figure


def enlarged(frame: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]], without: str, *, bars: bool = False) -> Figure:
    """Two panels: above, the accuracies enlarged (to the range of all lines but ``without``); below, the same from 0 with chance.

    ``looks``: how each line is drawn; ``bars``: intervals as bars, for lines whose bands would lie on each other.
    """
    figure = style.new(style.COLUMN, 3.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    draw_looks(above, frame, looks, bars=bars)
    draw_looks(below, frame, looks, bars=bars, scale=0.65)
    inside = frame[frame["line"] != without]
    widths = inside["accuracy_interval"].fillna(0)
    low, high = float((inside["accuracy"] - widths).min()), float((inside["accuracy"] + widths).max())
    room = 0.12 * (high - low) + 0.004
    style.accuracy_axis(above, plots.nice_below(low, high), min(1.0, high + room))
    plots.draw_chance(below, frame)
    style.accuracy_axis(below, 0, 1)
    style.tasks_axis(below, frame["learned"].tolist())
    above.tick_params(labelbottom=False)
    figure.align_ylabels()
    named = [line for line in above.get_lines() if not str(line.get_label()).startswith("_")]
    chance = [line for line in below.get_lines() if str(line.get_label()).startswith("chance")]
    figure.legend(handles=[*named, *chance], loc="outside upper left", ncols=2)
    return figure


def draw_looks(
    axes: Axes, frame: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]], *, bars: bool = False, scale: float = 1.0
) -> None:
    """The lines, each in its own look, with widths and markers of that scale."""
    for name, points in frame.groupby("line", sort=False):
        look: dict[str, Any] = {"linewidth": 1.2, "markersize": 0, "markerfacecolor": "none", **looks[str(name)]}
        look |= {size: scale * look[size] for size in ("linewidth", "markersize")}
        plots.draw_line(axes, points, label=str(name), bars=bars, **look)


@style.house
def draw_beside(
    frame: pd.DataFrame, heading: str, across: str = "learned", looks: Mapping[str, Mapping[str, Any]] | None = None
) -> Figure:
    """What the paper leaves out: tasks inferred correctly, and what is stored to predict, against tasks learned (or ``across``).

    Tasks are inferred by the paper's protocol and by each image by itself. ``looks``: those of the lines in the figure that this
    belongs to.
    """
    figure = style.new(style.COLUMN, 3.4)
    above, below = figure.subplots(2, 1, sharex=True)
    points, alone = frame[~single(frame)], frame[single(frame)]
    names = [str(name) for name in points["line"].unique()]
    for number, name in enumerate(names):
        look: dict[str, Any] = {"markerfacecolor": "none", "clip_on": False, **looks[name]} if looks else style.line(number)
        line_points = points[points["line"] == name]
        draw_inferred(above, line_points, across, look)
        draw_inferred(above, alone[alone["line"] == name], across, of_single(look))
        below.plot(
            line_points[across], line_points["stored_bytes"] / 1e6, label=name, markevery=max(1, len(line_points) // 8), **look
        )
    if len(alone):
        below.plot([], [], label=SINGLE, **of_single({"color": style.GREY, "marker": "o"}))
        names.append(SINGLE)
    low = float(frame["task_accuracy"].min())
    style.accuracy_axis(above, 0.0 if low < 0.5 else plots.nice_below(low, 1.0), 1.0, "tasks inferred correctly (%)")
    if frame["stored_bytes"].max() > 20 * frame["stored_bytes"].min():
        below.set_yscale("log")
    else:
        below.set_ylim(bottom=0)
    below.set_ylabel("stored to predict (MB)")
    if across == "learned":
        style.tasks_axis(below, frame["learned"].tolist())
    columns = plots.columns(names, figure)
    figure.set_size_inches(style.COLUMN, 3.4 + style.LEGEND_ROW * -(-len(names) // columns))
    figure.legend(loc="outside upper left", ncols=columns)
    figure.align_ylabels()
    what = f"{caption(points, heading)}{about_single(alone, across)}"
    before = "" if heading == BEYOND else "Beside "
    style.caption(figure, f"{before}{what} Only methods that infer the task have a line above.")
    return figure


def draw_inferred(axes: Axes, points: pd.DataFrame, across: str, look: Mapping[str, Any], label: str = "_") -> None:
    """A line's share of tasks that were inferred correctly, if it infers any."""
    right = points.assign(accuracy=points["task_accuracy"], accuracy_interval=points["task_accuracy_interval"])
    right = right.dropna(subset="accuracy")
    if len(right):
        plots.draw_line(axes, right, label=label, across=across, **look)


def of_single(look: Mapping[str, Any]) -> dict[str, Any]:
    """The look of a line asked with each image by itself: dotted, with small filled markers."""
    marker = look.get("marker", "o")
    filled = "X" if marker == "x" else marker
    marks = {"linestyle": (0, (1, 1.2)), "linewidth": 0.8, "marker": filled, "markersize": 3, "markerfacecolor": look["color"]}
    return {**look, **marks}


def about_single(alone: pd.DataFrame, across: str) -> str:
    """For a caption: how many images decided by themselves, and, against tasks learned, what share of tasks they found at the end."""
    if not len(alone):
        return ""
    images = tables.read_settings(alone["ask"].iloc[0])["images"]
    shares = f": {inferred(alone, 'line')}" if across == "learned" else ""
    return f" Filled, dotted: {SINGLE}, {images} test images of each task{shares}."


def draw_reference(axes: Axes, frame: pd.DataFrame) -> None:
    """Stars where the paper gives a number, at its budget."""
    known = frame[frame["budget"] == "paper"].dropna(subset="paper")
    if len(known):
        axes.plot(known["learned"], known["paper"], "*", color=style.BLACK, markersize=6, clip_on=False, label="the paper's number")


def what_was_run(frame: pd.DataFrame, heading: str) -> str:
    """The beginning of a caption: ``heading``, the budget, and what the curves have in common."""
    _, common = tables.labels(frame.drop_duplicates("curve"))
    return f"{heading}, budget {frame['budget'].iloc[0]}: {tables.describe(common, frame['n'])}"


def caption(frame: pd.DataFrame, heading: str) -> str:
    """What was run, and how well tasks were inferred at the end."""
    shares = f" Tasks inferred correctly at the end (%): {inferred(frame)}." if frame["task_accuracy"].notna().any() else ""
    return f"{what_was_run(frame, heading)}{shares}"


def inferred(frame: pd.DataFrame, name: str = "curve") -> str:
    """The tasks inferred correctly at the end, in percent, each with the ``name`` of its curve."""
    last = frame[frame["learned"] == frame["learned"].max()].dropna(subset="task_accuracy")
    return "; ".join(f"{row[name]}: {100 * row['task_accuracy']:.1f}" for row in last.to_dict("records"))
