"""Figure 7, HopSupSup: how a stored mask is found by gradient descent; and, beyond the paper, how long masks last in the memory.

Both searches are traced for each task right after it was learned, with as many masks stored as tasks were learned: the authors', each of
whose steps sees the next 64 of the task's training images, and the search for 64 of them alone. ``groups`` asks the same runs about fewer
and about more images at a time, and ``hopfield`` teaches more permutations than a small Hopfield network can hold.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench import networks
from clbench.paper.base import Curve, Done, PaperFigure, points
from clbench.paper.comparison import caption, draw_inferred, what_was_run
from clbench.paper.published import HOPSUPSUP
from clbench.results import plots, style, tables
from clbench.results.metrics import mean_t_interval

TRACED = ("distance", "entropy", "energy")
GOAL = "goal"
"""The entropy with the true mask."""
STEPS = 30
"""The paper finds a mask in fewer steps than that."""
PLACES = {"output (equation 5)": "output", "normalised (the authors' code)": "normalised"}
"""The lines, and where their masks apply (``masked``)."""
AUTHORS, RECALLED, GROUP = "task", "recall", "group"
"""The ways to find a mask (``search``): these are the protocols of the figure."""
SEARCHES = {AUTHORS: "authors' search", RECALLED: "recalled", GROUP: "groups of 64"}
PROTOCOL = f"normalised (the authors' code), {SEARCHES[AUTHORS]}"
"""The curve of the paper's Figure 7, as the authors' scripts draw it."""
# 12,000 images a task are 94 batches of 128: one pass.
SPLIT: dict[str, dict[str, Any]] = {
    "smoke": {"network": "swish-256x256", "updates": 40, "data": "mnist-5k"},
    "laptop": {"network": "swish-2048x2048", "updates": 94, "data": "mnist-5k"},
    "paper": {"network": "swish-2048x2048", "updates": 94, "data": "mnist"},
}
GROUPS = {"smoke": (2, 8, 32), "laptop": (2, 4, 16, 64), "paper": (2, 4, 16, 64, 256)}
IMAGES = {"smoke": 192, "laptop": 192, "paper": 256}
"""Test images of each task that groups are made of: all groups are of the same size."""
RULES = {"Hebb's rule": "hebb", "Storkey's rule": "storkey"}
PERMUTED: dict[str, dict[str, Any]] = {
    "smoke": {"network": "swish-16x16", "tasks": 20, "updates": 5},
    "laptop": {"network": "swish-100x100", "tasks": 120, "updates": 20},
    "paper": {"network": "swish-100x100", "tasks": 120, "updates": 100},
}


def curves(budget: str) -> Sequence[Curve]:
    """HopSupSup on SplitMNIST in GNu, its masks at either place, found by either search."""
    shared = {"method": "hopsupsup", "scenario": "GNu", "stream": "split-mnist", "tasks": 5, "checkpoints": (5,)}
    return [
        Curve(
            line,
            shared | SPLIT[budget] | {"set": {"masked": masked}, "ask": {"scenario": "GNu", "search": search}},
            detail=f", {words}",
            protocol=search,
        )
        for line, masked in PLACES.items()
        for search, words in SEARCHES.items()
    ]


def recovery(done: Done) -> pd.DataFrame:
    """A row for each curve, task (from 1) and step (``at``): what was traced, over seeds; the accuracies are those after the last task.

    Masks that are recalled have an accuracy, but no descent.
    """
    rows: list[dict[Any, Any]] = []
    for end in points(done).to_dict("records"):
        if end["protocol"] == RECALLED:
            rows.append(end)
            continue
        traced = pd.concat([run.table("recovery") for run in done.of(end["curve"])])
        traced = traced[traced["search"] == end["protocol"]]
        for place, place_rows in traced.groupby(["learned", "step"]):
            intervals = {name: mean_t_interval(place_rows[name].to_numpy()) for name in (*TRACED, GOAL)}
            means = {name: interval.mean for name, interval in intervals.items()}
            means |= {f"{name}_interval": interval.half_width for name, interval in intervals.items()}
            rows.append({**end, **dict(zip(("task", "at"), place, strict=True)), **means})
    return pd.DataFrame(rows)


def before_the_last_step(done: Done) -> pd.DataFrame:
    """The rows of ``recovery`` by which the paper's claim is judged: the point of the descent just before step ``STEPS``."""
    rows = recovery(done)
    return rows[rows["at"] == min(STEPS - 1, rows["at"].max())]


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Distance, entropy and energy by step, a line for each task; searches and places of the masks side by side."""
    figure = style.new(style.DOUBLE, 4.0)
    ends = frame.drop_duplicates("curve")
    traced = frame.dropna(subset="at")
    columns = [(search, line) for search in (AUTHORS, GROUP) for line in PLACES]
    panels = figure.subplots(len(TRACED), len(columns), sharex=True, sharey="row")
    labels = {"distance": "units that differ (%)", "entropy": "entropy (nats)", "energy": "energy"}
    for column, (search, line) in enumerate(columns):
        of_panel = traced[(traced["line"] == line) & (traced["protocol"] == search)]
        for row, measured in enumerate(TRACED):
            axes = panels[row, column]
            for number, (task, line_points) in enumerate(of_panel.groupby("task")):
                look = style.line(number)
                axes.plot(line_points["at"], line_points[measured], label=f"task {task:.0f}", markevery=5, **look)
                low, high = (line_points[measured] + sign * line_points[f"{measured}_interval"] for sign in (-1, 1))
                axes.fill_between(line_points["at"], low, high, color=look["color"], alpha=0.18, linewidth=0)
                if measured == "entropy":
                    axes.plot(
                        line_points["at"].max() + 1,
                        line_points[GOAL].iloc[-1],
                        "o",
                        color=look["color"],
                        markerfacecolor="none",
                        markersize=4,
                    )
            if column == 0:
                axes.set_ylabel(labels[measured])
            if measured == "distance":
                axes.set_title(f"{SEARCHES[search]}\nmasked: {PLACES[line]}")
                axes.set_ylim(0, 0.5)
                style.percent(axes.yaxis)
            if measured == "entropy":
                axes.set_ylim(bottom=0)
        panels[-1, column].set_xlabel("gradient steps")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=5)
    reached = "; ".join(
        f"{row['curve']}: {tables.percent(row['accuracy'], row['accuracy_interval'])}" for row in ends.to_dict("records")
    )
    text = (
        f" Accuracy (%): {reached} (published: {HOPSUPSUP.shown}, {HOPSUPSUP.cited}). "
        "Traced on training images of a task right after it was learned, when as many masks are stored: in the authors' search each "
        "step sees the next 64, else the same 64. Circles: the entropy with the true mask."
    )
    style.caption(figure, caption(ends, heading) + text)
    return figure


def grouped(budget: str) -> Sequence[Curve]:
    """The runs of Figure 7, asked for one mask for every 2, 4, … images: a single image has no batch statistics."""
    question = {"scenario": "GNu", "search": GROUP, "images": IMAGES[budget]}
    return [
        replace(
            curve, settings={**curve.settings, "ask": question | {"group": size}}, detail=f", {size} images", value=size, at=size
        )
        for curve in curves(budget)
        if curve.protocol == GROUP
        for size in GROUPS[budget]
    ]


@style.house
def draw_groups(frame: pd.DataFrame, heading: str) -> Figure:
    """Tasks inferred correctly, and accuracy, against the number of images that share a mask."""
    figure = style.new(style.COLUMN, 3.4)
    above, below = figure.subplots(2, 1, sharex=True)
    for number, (name, line_points) in enumerate(frame.groupby("line", sort=False)):
        draw_inferred(above, line_points, "at", style.line(number))
        plots.draw_line(below, line_points, label=f"masked: {name}", across="at", **style.line(number))
    for axes, chance in ((above, 1 / frame["learned"].iloc[0]), (below, frame["chance"].iloc[0])):
        axes.axhline(chance, label="chance", **style.CHANCE)
    style.accuracy_axis(above, 0, 1, "tasks inferred correctly (%)")
    style.accuracy_axis(below, 0, 1)
    style.sizes_axis(above, frame["at"])
    style.sizes_axis(below, frame["at"], "images that share a mask")
    figure.legend(*below.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    style.caption(figure, f"{what_was_run(frame, heading)} A single image has no batch statistics, and so no mask.")
    return figure


def forgetful(budget: str) -> Sequence[Curve]:
    """HopSupSup on more permutations than its memory holds, written by either rule; asked only once, because the answers are not used."""
    shared = PERMUTED[budget] | {"stream": "permuted-mnist", "data": "mnist-5k", "checkpoints": (1,)}
    shared |= {"method": "hopsupsup", "scenario": "GNu"}
    return [
        Curve(name, shared | {"set": {"storage": rule, "outputs": 10 * PERMUTED[budget]["tasks"]}}) for name, rule in RULES.items()
    ]


def retention(done: Done) -> pd.DataFrame:
    """A row for each curve and number of masks stored (``at``): how much of the first is lost, over seeds."""
    rows = []
    for end in points(done).to_dict("records"):
        retention = pd.concat([run.table("retention") for run in done.of(end["curve"])])
        for stored, stored_rows in retention.groupby("stored"):
            interval = mean_t_interval(stored_rows["lost"].to_numpy())
            rows.append({**end, "at": stored, "lost": interval.mean, "lost_interval": interval.half_width})
    return pd.DataFrame(rows)


@style.house
def draw_retention(frame: pd.DataFrame, heading: str) -> Figure:
    """The share of the first mask's units that is lost, against masks stored, with the capacity of Hebb's rule for random strings."""
    figure = style.new(style.COLUMN, 2.0)
    axes = figure.add_subplot()
    for number, (name, line_points) in enumerate(frame.groupby("line", sort=False)):
        look = style.line(number)
        axes.plot(line_points["at"], line_points["lost"], label=str(name), markevery=max(1, len(line_points) // 8), **look)
        low, high = (line_points["lost"] + sign * line_points["lost_interval"] for sign in (-1, 1))
        axes.fill_between(line_points["at"], low, high, color=look["color"], alpha=0.18, linewidth=0)
    units = sum(networks.widths(frame["network"].iloc[0], "swish"))
    axes.axvline(0.138 * units, label=f"0.138 d = {0.138 * units:.0f} (random strings)", **style.CHANCE)
    axes.set_xlabel("masks stored")
    axes.set_ylabel("units of the first mask lost (%)")
    axes.set_ylim(0, max(0.1, 1.1 * float((frame["lost"] + frame["lost_interval"].fillna(0)).max())))
    style.percent(axes.yaxis)
    plots.name_lines(figure, axes)
    memory = f" The memory of d = {units} units takes {tables.bytes_(frame['stored_bytes'].iloc[0])}, however many masks it holds."
    style.caption(figure, what_was_run(frame, heading) + memory)
    return figure


FIG7 = PaperFigure(
    "fig7",
    "HopSupSup finds masks in a Hopfield network of fixed size",
    2,
    curves,
    draw,
    rows=recovery,
    measured=("task", *TRACED, GOAL),
    by_seed=before_the_last_step,
    seeds=20,
    heading="Figure 7 as run by clbench",
)
BY_GROUP = PaperFigure("groups", "HopSupSup finds a mask from fewer and from more images", 2, grouped, draw_groups, seeds=5)
HOPFIELD = PaperFigure(
    "hopfield", "Past the capacity of the Hopfield network", 10, forgetful, draw_retention, rows=retention, measured=("lost",)
)
