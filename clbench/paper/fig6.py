"""Figure 6: the effect of the output size s on SupSup with One-Shot. Left LeNet 300-100, right FC 1024-1024.

Only the first ten outputs carry labels; the others are superfluous neurons, which make wrong masks stand out (section 3.6). Without
any there is no G.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench import plots, style
from clbench.paper import comparison
from clbench.paper.base import Curve, PaperFigure, single
from clbench.paper.comparison import CLASSES, ONE_SHOT, caption, inferring

SIZES = {"smoke": (10, 25, 100), "laptop": (10, 25, 50, 100, 200), "paper": (10, 25, 50, 100, 200, 500)}
LENET: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 100, "data": "mnist-5k", "checkpoints": (3,)},
    "laptop": {"tasks": 20, "updates": 1000, "data": "mnist-5k", "checkpoints": (20,)},
    "paper": {"tasks": 250, "updates": 1000, "data": "mnist", "checkpoints": (250,)},
}
FC: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 30, "data": "mnist-5k", "checkpoints": (3,)},
    "laptop": {"tasks": 10, "updates": 300, "data": "mnist-5k", "checkpoints": (10,)},
    "paper": {"tasks": 250, "updates": 1000, "data": "mnist", "checkpoints": (250,)},
}


def curves(network: str, budgets: dict[str, dict[str, Any]], budget: str) -> Sequence[Curve]:
    """For each output size a training, asked in GG and in GNu with H and, where there are superfluous outputs, with G."""
    shared = budgets[budget] | {"stream": "permuted-mnist", "network": network}
    points = []
    for size in SIZES[budget]:
        asks: dict[str, dict[str, Any]] = {"GG": {}, "GNu H": ONE_SHOT | {"objective": "H"}}
        asks |= {"GNu G": ONE_SHOT | {"objective": "G"}} if size > CLASSES else {}
        points += [
            inferring(f"{name}, s = {size}", shared, "supsup", {"outputs": size}, **ask)._replace(at=size)
            for name, ask in asks.items()
        ]
    return points


@style.house
def draw(frame: pd.DataFrame) -> Figure:
    """Average accuracy after the last task against the output size."""
    figure = style.new(style.COLUMN, 2.0)
    axes = figure.add_subplot()
    frame = frame.assign(line=frame["curve"].str.partition(",")[0])
    for number, (name, points) in enumerate(frame.groupby("line", sort=False)):
        plots.draw_line(axes, points, label=str(name), across="at", **style.line(number))
    style.sizes_axis(axes, frame["at"], "output size s")
    for number, (scenario, level) in enumerate(frame.groupby("scenario")["chance"].first().items()):
        dashes = {"linestyle": ((0, (1, 1.5)), (0, (4, 1.5)))[number % 2]}
        axes.axhline(level, label=f"chance {scenario}: {100 * level:.3g} %", **(style.CHANCE | dashes))
    style.accuracy_axis(axes, 0, 1)
    plots.name_lines(figure, axes)
    style.caption(figure, f"{caption(frame)} After {frame['learned'].max()} tasks.")
    return figure


@style.house
def draw_beside(frame: pd.DataFrame) -> Figure:
    """Tasks inferred rightly and what is stored, against the output size."""
    lines = frame.assign(curve=frame["curve"].str.replace(r", s = \d+", "", regex=True))
    figure = comparison.draw_beside(lines, across="at", words=caption(frame[~single(frame)]))
    above, below = figure.axes
    style.sizes_axis(above, frame["at"])
    style.sizes_axis(below, frame["at"], "output size s")
    return figure


LEFT = PaperFigure(
    "fig6-left",
    "The effect of the output size, LeNet 300-100",
    CLASSES,
    partial(curves, "lenet-300-100", LENET),
    draw,
    beside=draw_beside,
)
RIGHT = PaperFigure(
    "fig6-right",
    "The effect of the output size, FC 1024-1024",
    CLASSES,
    partial(curves, "fc-1024-1024", FC),
    draw,
    beside=draw_beside,
)
