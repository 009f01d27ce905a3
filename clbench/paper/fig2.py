"""Figure 2: scenario GG at image scale, accuracy against bytes. Left SplitImageNet with ResNet-50, right SplitCIFAR100 with ResNet-18.

SupSup's masks keep the largest scores, for several densities (``edges``), with and without Transfer. What the baselines store, they store
for all tasks at once; the upper bound is the paper's, sequential fine-tuning with each task scored right after it was learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clbench.paper import published
from clbench.paper.base import Curve, Done, PaperFigure, Reference, points
from clbench.paper.comparison import caption, told
from clbench.results import frames as results
from clbench.results import plots, style
from clbench.results.frames import SEEDS
from clbench.results.metrics import mean_t_interval

EMBEDDED = {"stream": "split-tinted-digits", "data": "mnist-5k"}
# 2,500 images a task are 20 batches of 128 an epoch: 6 and 250 epochs.
CIFAR: dict[str, dict[str, Any]] = {
    "smoke": EMBEDDED | {"network": "resnet-18-8", "tasks": 3, "updates": 40, "batch_size": 64, "checkpoints": (3,)},
    "laptop": {"stream": "split-cifar100", "network": "resnet-18-20", "tasks": 20, "updates": 120, "checkpoints": (20,)},
    "paper": {"stream": "split-cifar100", "network": "resnet-18-20", "tasks": 20, "updates": 5000, "checkpoints": (20,)},
}
DENSITIES = {"smoke": (1.0, 4.0), "laptop": (4.0, 16.0), "paper": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)}
# 13,000 images a task are 51 batches of 256 an epoch: 100 epochs.
IMAGENET: dict[str, dict[str, Any]] = {
    "smoke": EMBEDDED | {"network": "resnet-50", "tasks": 2, "updates": 3, "batch_size": 16, "checkpoints": (2,)},
    "laptop": {"stream": "split-tiny-imagenet", "tasks": 4, "updates": 120, "checkpoints": (4,), "network": "resnet-50"},
    "paper": {"stream": "split-imagenet", "tasks": 100, "updates": 5100, "batch_size": 256, "checkpoints": (100,)},
}
IMAGENET["paper"] |= {"network": "resnet-50"}
BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "BatchE": ("batche", {}),
    "BatchE, Rand W": ("batche", {"trunk": "random"}),
    "separate heads": ("separate-heads", {}),
    "separate heads, Rand W": ("separate-heads", {"trunk": "random"}),
    "upper bound": ("upper-bound", {}),
    "lower bound": ("lower-bound", {}),
}


RANDOM, TRANSFERRED = "SupSup", "SupSup Transfer"
"""The lines whose masks start at random, and from earlier scores."""


def sparse(line: str, edges: float, shared: Mapping[str, Any], **set_: Any) -> Curve:
    """SupSup with masks of that density."""
    return replace(told(line, shared, "supsup", edges=edges, **set_), detail=f"; edges {edges:g}", value=edges)


def right(budget: str) -> Sequence[Curve]:
    """SupSup and SupSup with Transfer for each density, and the baselines."""
    shared = CIFAR[budget]
    ours = [
        sparse(line, edges, shared, start=start)
        for line, start in {RANDOM: "random", TRANSFERRED: "transfer"}.items()
        for edges in DENSITIES[budget]
    ]
    return ours + [told(name, shared, method, **set_) for name, (method, set_) in BASELINES.items()]


def left(budget: str) -> Sequence[Curve]:
    """SupSup for three densities, BatchE, and the upper bound."""
    shared = IMAGENET[budget]
    outputs = 5 if budget == "smoke" else 10
    ours = [sparse(RANDOM, edges, shared, outputs=outputs) for edges in (4.0, 8.0, 16.0)]
    return ours + [told(name, shared, BASELINES[name][0]) for name in ("BatchE", "upper bound")]


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Average accuracy after the last task against the bytes of what is needed to predict on all."""
    figure = style.new(style.COLUMN, 2.2)
    axes = figure.add_subplot()
    frame = frame.assign(megabytes=frame["stored_bytes"] / 1e6)
    for number, (name, line_points) in enumerate(frame.groupby("line", sort=False)):
        plots.draw_line(axes, line_points, label=str(name), across="megabytes", **style.line(number))
    axes.axhline(frame["chance"].iloc[0], label=f"chance: {100 * frame['chance'].iloc[0]:.3g} %", **style.CHANCE)
    known = frame[frame["budget"] == "paper"].dropna(subset="paper")
    if len(known):
        place = known["curve"].map(published.SIZES).fillna(known["megabytes"])  # the paper gives no bytes of Figure 2 right
        axes.plot(place, known["paper"], "*", color=style.BLACK, label="the paper's number")
    axes.set_xscale("log")
    axes.set_xlabel("stored for all tasks (MB)")
    style.accuracy_axis(axes, 0, 1)
    plots.name_lines(figure, axes)
    style.caption(figure, caption(frame, heading))
    return figure


LEFT = PaperFigure(
    "fig2-left",
    "SplitImageNet in GG: accuracy against bytes",
    {"smoke": 5, "laptop": 10, "paper": 10},
    left,
    draw,
    tuple(Reference(curve, 100, number) for curve, number in published.IMAGENET_ACCURACY.items()),
    seeds=1,
    heading="Figure 2 left as run by clbench",
)


def transfer(budget: str) -> Sequence[Curve]:
    """SupSup with and without Transfer, for each density: trainings of ``right``."""
    return [curve for curve in right(budget) if curve.line in (RANDOM, TRANSFERRED)]


def by_task(done: Done) -> pd.DataFrame:
    """A row for each curve and task (``at``, from 1): the accuracy on it after the last, and what Transfer adds to that, over seeds."""
    ends = points(done).to_dict("records")
    last = {}
    for end in ends:
        scores = results.frame(done.of(end["curve"]))
        last[end["line"], end["value"]] = scores[(scores["ask"] == end["ask"]) & (scores["learned"] == end["learned"])]
    rows = []
    for end in ends:
        scores, without = last[end["line"], end["value"]], last[RANDOM, end["value"]]
        for task, task_rows in scores.merge(without, on=[*SEEDS, "task"], suffixes=("", "_without")).groupby("task"):
            accuracy = mean_t_interval(task_rows["accuracy"].to_numpy())
            place = {"at": float(str(task)) + 1, "accuracy": accuracy.mean, "accuracy_interval": accuracy.half_width}
            if end["line"] == TRANSFERRED:
                gain = mean_t_interval((task_rows["accuracy"] - task_rows["accuracy_without"]).to_numpy())
                place |= {"gain": gain.mean, "gain_interval": gain.half_width}
            rows.append(end | place)
    return pd.DataFrame(rows)


@style.house
def draw_by_task(frame: pd.DataFrame, heading: str) -> Figure:
    """What Transfer adds to the accuracy on each task, against its number, with straight lines fitted: whether later tasks gain more."""
    figure = style.new(style.COLUMN, 2.2)
    axes = figure.add_subplot()
    for number, (edges, gains) in enumerate(frame.dropna(subset="gain").groupby("value", sort=False)):
        look = style.line(number)
        axes.plot(gains["at"], gains["gain"], label=f"edges {edges:g}", **(look | {"linestyle": "none"}))
        axes.errorbar(gains["at"], gains["gain"], gains["gain_interval"], fmt="none", ecolor=look["color"], elinewidth=0.6)
        later = gains[gains["at"] > 1]  # the first task has nothing to start from
        slope, start = np.polyfit(later["at"], later["gain"], 1)
        axes.plot(
            later["at"], start + slope * later["at"], color=look["color"], linestyle=look["linestyle"], linewidth=0.8, label="_"
        )
    axes.axhline(0, label="without Transfer", **style.CHANCE)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("task (in the order learned)")
    axes.set_ylabel("gained by Transfer (points)")
    style.percent(axes.yaxis)
    figure.legend(loc="outside upper left", ncols=3)
    what = "Accuracy with Transfer minus that without, on the same tasks, seed by seed. Lines are least-squares fits to all but the first."
    style.caption(figure, f"{caption(frame.drop_duplicates('curve'), heading)} {what}")
    return figure


TRANSFER = PaperFigure("transfer", "Transfer by task", 5, transfer, draw_by_task, rows=by_task, measured=("gain",), seeds=5)
RIGHT = PaperFigure(
    "fig2-right",
    "SplitCIFAR100 in GG: accuracy against bytes",
    5,
    right,
    draw,
    (Reference("lower bound", 20, published.CIFAR_LOWER_BOUND),),
    seeds=5,
    heading="Figure 2 right as run by clbench",
)
