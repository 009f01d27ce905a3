"""Beyond the paper: the accuracy on the first task as more are learned, which PSP's public code logs (Cheung et al. 2019).

Superposition with rotations and with signs (binary contexts), against the same network fine-tuned without contexts. The setting is that
code's: permutations of MNIST, three hidden layers of 256 units, RMSprop at 1e-4 whose running averages are kept from task to task, and
50 tasks of 1,000 updates at the paper's budget. Unlike in that code, contexts are not trained, layers have biases, and the first task is
permuted too. No published number belongs to it.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench.paper.base import Curve, Done, PaperFigure, points
from clbench.paper.comparison import CLASSES, what_was_run
from clbench.results import frames as results
from clbench.results import plots, style, tables
from clbench.results.metrics import mean_t_interval

BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 100, "data": "mnist-5k", "checkpoints": (1, 2, 3)},
    "laptop": {"tasks": 20, "updates": 500, "data": "mnist-5k", "checkpoints": (1, 2, 5, 10, 15, 20)},
    "paper": {"tasks": 50, "updates": 1000, "data": "mnist", "checkpoints": (1, 2, 5, 10, 20, 30, 40, 50)},
}


def curves(budget: str) -> Sequence[Curve]:
    """PSP told the task, with both kinds of contexts; naive fine-tuning, which has no use for being told."""
    shared = BUDGETS[budget] | {"stream": "permuted-mnist", "network": "mlp-256x256x256"}
    psp = shared | {"method": "psp", "scenario": "GG"}
    naive = shared | {"method": "naive", "scenario": "GNs", "set": {"restart": False}}
    by_contexts = [
        Curve(f"PSP, {contexts}", psp | {"set": {"contexts": contexts, "restart": False}}) for contexts in ("rotation", "binary")
    ]
    return [*by_contexts, Curve("naive fine-tuning", naive)]


def first_task(done: Done) -> pd.DataFrame:
    """The points with the accuracy on the first task, over seeds (``first``)."""
    rows = []
    for row in points(done).to_dict("records"):
        scores = results.frame(done.of(row["curve"]))
        answers = (scores["ask"] == row["ask"]) & (scores["learned"] == row["learned"]) & (scores["task"] == 0)
        interval = mean_t_interval(scores[answers]["accuracy"].to_numpy())
        rows.append(row | {"first": interval.mean, "first_interval": interval.half_width})
    return pd.DataFrame(rows)


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """The accuracy on the first task against tasks learned."""
    figure = style.new(style.COLUMN, 2.2)
    axes = figure.add_subplot()
    first = frame.assign(accuracy=frame["first"], accuracy_interval=frame["first_interval"])
    for number, (name, line_points) in enumerate(first.groupby("line", sort=False)):
        plots.draw_line(axes, line_points, label=str(name), **style.line(number))
    plots.draw_chance(axes, frame)
    style.accuracy_axis(axes, 0, 1, "accuracy on the first task (%)")
    style.tasks_axis(axes, frame["learned"].tolist())
    plots.name_lines(figure, axes)
    end = frame[frame["learned"] == frame["learned"].max()]
    last = "; ".join(f"{row['curve']}: {tables.percent(row['first'], row['first_interval'])}" for row in end.to_dict("records"))
    what = what_was_run(frame, heading)
    style.caption(figure, f"{what} At the end (%): {last}.")
    return figure


PSP_FIRST = PaperFigure(
    "psp-first", "PSP: accuracy on the first task by tasks learned", CLASSES, curves, draw, rows=first_task, measured=("first",)
)
