"""Beyond the paper: every method of the zoo in every scenario that it serves, on one stream, in one picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from clbench import registry
from clbench.engine.asks import decides_by_groups
from clbench.method import parameters
from clbench.paper.base import Curve, PaperFigure
from clbench.paper.comparison import CLASSES
from clbench.results import style, tables

BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {"network": "mlp-100", "tasks": 2, "updates": 20},
    "laptop": {"network": "lenet-300-100", "tasks": 5, "updates": 300},
    "paper": {"network": "lenet-300-100", "tasks": 10, "updates": 1000},
}
SET: dict[str, dict[str, Any]] = {"hopsupsup": {"outputs": CLASSES * 10}}


def curves(budget: str) -> Sequence[Curve]:
    """A line for each method and scenario, with the method's own parameters for it.

    Tasks are inferred by the paper's protocol, and optimisers are re-initialised for each task that is given, as in the paper.
    """
    shared = BUDGETS[budget] | {"stream": "permuted-mnist", "data": "mnist-5k" if budget != "paper" else "mnist"}
    shared |= {"checkpoints": (shared["tasks"],)}
    matrix_curves = []
    for name, method in sorted(registry.methods().items()):
        if not method.__module__.startswith("clbench.methods."):
            continue
        network = {"network": method.trial_network} if method.trial_network else {}
        for scenario in registry.scenarios().values():
            if scenario in method.scenarios:
                restart = {"restart": True} if "restart" in parameters(method.__init__) else {}
                question = {"method": name, "scenario": scenario.name, "set": SET.get(name, {}) | restart}
                if not scenario.task_given_in_inference and decides_by_groups(method):
                    question["ask"] = {"protocol": "paper"}
                matrix_curves.append(Curve(f"{name} {scenario.name}", shared | network | question))
    return matrix_curves


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Accuracies as a heat map: methods, the best first, against scenarios."""
    cells = frame.pivot(index="method", columns="scenario", values="accuracy")
    cells = cells.reindex(columns=[name for name in registry.scenarios() if name in cells])
    cells = cells.loc[cells.mean(axis=1).sort_values(ascending=False).index]
    figure = style.new(style.COLUMN, 0.17 * len(cells) + 0.7)
    axes = figure.add_subplot()
    image = axes.imshow(cells, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    axes.patch.set(hatch="//////", edgecolor="0.85")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_xticks(range(cells.shape[1]), list(cells.columns))
    axes.set_yticks(range(cells.shape[0]), list(cells.index))
    for (row, column), share in np.ndenumerate(cells.to_numpy(float)):
        if np.isfinite(share):
            colour = "white" if share > 0.55 else "black"
            axes.text(column, row, f"{100 * share:.1f}", ha="center", va="center", size=style.SMALL, color=colour)
    bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02)
    bar.ax.spines[:].set_linewidth(0.4)
    style.percent(bar.ax.yaxis)
    bar.set_label("average accuracy (%)")
    usual = frame["network"].mode().iloc[0]
    others = frame[frame["network"] != usual].drop_duplicates("method")
    but = "".join(f", {row['method']} on {row['network']}" for row in others.to_dict("records"))
    what = f"{frame['stream'].iloc[0]} (data {frame['data'].iloc[0]}), {usual}{but}, {tables.seeds(frame['n'], intervals=False)}"
    style.caption(
        figure,
        f"{heading}, budget {frame['budget'].iloc[0]}: {what}. After {frame['learned'].max()} tasks, each method with its own "
        "parameters for the stream, not tuned; sorted by the mean over what it serves. Hatched: does not serve the scenario.",
    )
    return figure


MATRIX = PaperFigure("matrix", "All methods in all scenarios", CLASSES, curves, draw)
