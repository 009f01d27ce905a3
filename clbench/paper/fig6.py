"""Figure 6: the effect of the output size s on SupSup with One-Shot. Left LeNet 300-100, right FC 1024-1024.

Only the first ten outputs carry labels; the others are superfluous neurons, which make wrong masks stand out (section 3.6). Without
them there is no G. The paper's figure is accuracy against tasks learned for three sizes, with both bounds of section 4.1. A companion
(``-sizes``), from the same runs, shows the accuracy after the last task against more sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench.paper import comparison
from clbench.paper.base import Curve, PaperFigure
from clbench.paper.comparison import CLASSES, ONE_SHOT, caption, inferring, told
from clbench.results import plots, style

DRAWN = (25, 100, 200)
"""The output sizes of the paper's figure."""
SIZES = {"smoke": (10, 25, 100), "laptop": (10, 25, 50, 100, 200), "paper": (10, 25, 50, 100, 200, 500)}
"""The output sizes of the companion."""
UPPER, LOWER = "upper bound GG", "lower bound GG"
PAPER = {"tasks": 250, "updates": 1000, "data": "mnist", "checkpoints": (10, 50, 100, 150, 200, 250)}
LENET: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 100, "data": "mnist-5k", "checkpoints": (1, 2, 3)},
    "laptop": {"tasks": 20, "updates": 1000, "data": "mnist-5k", "checkpoints": (1, 5, 10, 15, 20)},
    "paper": PAPER,
}
FC: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 30, "data": "mnist-5k", "checkpoints": (1, 2, 3)},
    "laptop": {"tasks": 10, "updates": 300, "data": "mnist-5k", "checkpoints": (1, 2, 4, 6, 8, 10)},
    "paper": PAPER,
}


def curves(network: str, budgets: Mapping[str, Mapping[str, Any]], budget: str) -> Sequence[Curve]:
    """For each of the paper's output sizes a training, asked in GNu with H and with G; the bounds, told the task."""
    shared = {**budgets[budget], "stream": "permuted-mnist", "network": network}
    h, g = (
        [
            inferring(f"GNu {objective}, s = {size}", shared, "supsup", {"outputs": size}, **ONE_SHOT, objective=objective)
            for size in DRAWN
        ]
        for objective in ("H", "G")
    )
    return [*h, told(UPPER, shared, "upper-bound"), told(LOWER, shared, "lower-bound"), *g]


def ends(network: str, budgets: Mapping[str, Mapping[str, Any]], budget: str) -> Sequence[Curve]:
    """For each output size a training, asked after the last task in GG and in GNu with H and, if there are superfluous outputs, with G."""
    shared = {**budgets[budget], "stream": "permuted-mnist", "network": network}
    shared |= {"checkpoints": (shared["tasks"],)}
    points = []
    for size in SIZES[budget]:
        asks: dict[str, dict[str, Any]] = {"GG": {}, "GNu H": ONE_SHOT | {"objective": "H"}}
        asks |= {"GNu G": ONE_SHOT | {"objective": "G"}} if size > CLASSES else {}
        points += [
            replace(inferring(line, shared, "supsup", {"outputs": size}, **ask), detail=f", s = {size}", value=size, at=size)
            for line, ask in asks.items()
        ]
    return points


# Sizes differ in colour and marker; G's marker is small and fits into H's, so that lines that coincide can be seen. Bounds lie under them.
OF_SIZE = {25: (style.BLUE, "o"), 100: (style.VERMILLION, "s"), 200: (style.BLACK, "^")}
OF_OBJECTIVE: dict[str, dict[str, Any]] = {
    "H": {"markersize": 6.5, "zorder": 3},
    "G": {"markersize": 3, "linestyle": (0, (3, 3)), "zorder": 4},
}
LOOKS: dict[str, dict[str, Any]] = {
    **{
        f"GNu {objective}, s = {size}": {"color": colour, "marker": marker, **look}
        for objective, look in OF_OBJECTIVE.items()
        for size, (colour, marker) in OF_SIZE.items()
    },
    UPPER: {"color": "0.75", "linewidth": 4, "solid_capstyle": "round", "zorder": 2},
    LOWER: {"color": style.GREEN, "marker": "v", "markersize": 4.5, "linestyle": (0, (6, 1.5, 1, 1.5)), "zorder": 2.5},
}


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Accuracy against tasks learned, in two panels: above enlarged, below from 0 with the lower bound and chance."""
    figure = comparison.enlarged(frame, LOOKS, LOWER, bars=True)
    style.caption(figure, caption(frame, heading))
    return figure


@style.house
def draw_ends(frame: pd.DataFrame, heading: str) -> Figure:
    """Average accuracy after the last task against the output size."""
    figure = style.new(style.COLUMN, 2.0)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(frame.groupby("line", sort=False)):
        plots.draw_line(axes, points, label=str(name), across="at", **style.line(number))
    style.sizes_axis(axes, frame["at"], "output size s")
    for number, (scenario, level) in enumerate(frame.groupby("scenario")["chance"].first().items()):
        dashes = {"linestyle": ((0, (1, 1.5)), (0, (4, 1.5)))[number % 2]}
        axes.axhline(level, label=f"chance {scenario}: {100 * level:.3g} %", **(style.CHANCE | dashes))
    style.accuracy_axis(axes, 0, 1)
    plots.name_lines(figure, axes)
    style.caption(figure, f"{caption(frame, heading)} After {frame['learned'].max()} tasks.")
    return figure


@style.house
def draw_ends_beside(frame: pd.DataFrame, heading: str) -> Figure:
    """Tasks inferred correctly and what is stored, against the output size."""
    figure = comparison.draw_beside(frame, heading, across="at")
    above, below = figure.axes
    style.sizes_axis(above, frame["at"])
    style.sizes_axis(below, frame["at"], "output size s")
    return figure


def made(side: str, network: str, budgets: Mapping[str, Mapping[str, Any]]) -> tuple[PaperFigure, PaperFigure]:
    """One side of the figure, and its companion."""
    title = f"The effect of the output size, {network}"
    return (
        PaperFigure(
            f"fig6-{side}",
            title,
            CLASSES,
            partial(curves, network, budgets),
            draw,
            beside=partial(comparison.draw_beside, looks=LOOKS),
            heading=f"Figure 6 {side} as run by clbench",
        ),
        PaperFigure(
            f"fig6-{side}-sizes",
            f"{title}: more sizes, after the last task",
            CLASSES,
            partial(ends, network, budgets),
            draw_ends,
            beside=draw_ends_beside,
            heading=f"Figure 6 {side}, more sizes, as run by clbench",
        ),
    )


LEFT, LEFT_SIZES = made("left", "lenet-300-100", LENET)
RIGHT, RIGHT_SIZES = made("right", "fc-1024-1024", FC)
