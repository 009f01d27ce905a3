"""Figure 4: thousands of permutations of MNIST, with the task inferred by One-Shot; SupSup in GNu and NNs, LeNet 300-100, s = 500.

Drawn here: GNu with H and with G, NNs with H, and GG, which no method of inferring the task can beat. GG and both objectives come from one
training. In NNs the paper looks for a new task every 100 updates, and tasks have 1000: that alignment is information about the tasks,
so the figure also shows NNs with checks halfway between these.
"""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench.paper import comparison
from clbench.paper.base import Curve, PaperFigure
from clbench.results import style, tables

GG, GNU_H, GNU_G, NNS, UNALIGNED = "GG (task given)", "GNu H", "GNu G", "NNs H aligned", "NNs H unaligned"

CLASSES = 10
OFFSET = 50
"""Updates by which the unaligned checks come later than the beginning of a task."""

BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 5, "updates": 300, "data": "mnist-5k", "checkpoints": (1, 2, 3, 4, 5)},
    "laptop": {"tasks": 50, "updates": 1000, "data": "mnist-5k", "checkpoints": (1, 10, 20, 30, 40, 50)},
    "paper": {"tasks": 2500, "updates": 1000, "data": "mnist", "checkpoints": (10, 500, 1000, 1500, 2000, 2500)},
}

# GG is a broad band under the others; their open markers fit into each other, so that lines that coincide can be seen.
STYLES: dict[str, dict[str, Any]] = {
    GG: {"color": "0.8", "linewidth": 5, "solid_capstyle": "round", "zorder": 2},
    GNU_H: {"color": style.BLUE, "marker": "o", "markersize": 7, "zorder": 3},
    GNU_G: {"color": style.VERMILLION, "marker": "s", "markersize": 4.2, "linestyle": (0, (4, 4)), "zorder": 4},
    NNS: {"color": style.BLACK, "marker": "x", "markersize": 3, "linestyle": (0, (1, 3)), "zorder": 5},
    UNALIGNED: {"color": style.GREEN, "marker": "v", "markersize": 4, "linestyle": (0, (6, 1.5, 1, 1.5)), "zorder": 2.5},
}


def curves(budget: str) -> list[Curve]:
    """The five lines; the first three come from one training."""
    shared = BUDGETS[budget] | {"method": "supsup", "stream": "permuted-mnist", "network": "lenet-300-100"}
    set_ = {"outputs": 500, "budget": 2500}

    def asked(scenario: str, **ask: str) -> dict[str, Any]:
        inference = {} if scenario == "GG" else {"algorithm": "one-shot", "group": 128, "evidence": 1}
        learned = "NNs" if scenario == "NNs" else "GNu"
        return shared | {"scenario": learned, "set": set_, "ask": {"scenario": scenario, **inference, **ask}}

    return [
        Curve(GG, asked("GG")),
        Curve(GNU_H, asked("GNu", objective="H")),
        Curve(GNU_G, asked("GNu", objective="G")),
        Curve(NNS, asked("NNs", objective="H")),
        Curve(UNALIGNED, asked("NNs", objective="H") | {"set": set_ | {"offset": OFFSET}}),
    ]


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Two panels: above, the accuracies enlarged; below, the same from 0 with chance."""
    figure = comparison.enlarged(frame, STYLES, UNALIGNED)
    style.caption(figure, caption(frame, heading))
    return figure


def caption(frame: pd.DataFrame, heading: str) -> str:
    """What was run, how far the curves are below GG, and how many masks there were."""
    _, common = tables.labels(frame.drop_duplicates("curve"))
    accuracy = frame.pivot(index="learned", columns="line", values="accuracy")
    gaps = [f"{name} {100 * max(0.0, (accuracy[GG] - accuracy[name]).max()):.2f}" for name in (GNU_H, GNU_G, NNS, UNALIGNED)]
    learned = frame["learned"].max()
    components = frame[frame["learned"] == learned].set_index("line")["components"].map(tables.number)
    return (
        f"{comparison.what_was_run(frame, heading)} "
        f"{common['outputs']} outputs, {common['algorithm']}. Largest gap below GG in points: {', '.join(gaps)}. "
        f"Masks after {learned} tasks: GNu {components[GNU_H]}, NNs aligned {components[NNS]}, unaligned {components[UNALIGNED]}. "
        f"In NNs a new task is looked for every {common['interval']} updates: when a task begins (aligned), or {OFFSET} updates later."
    )


FIG4 = PaperFigure(
    "fig4",
    "Accuracy against tasks learned, the task inferred: GNu with H and G, NNs with H",
    CLASSES,
    curves,
    draw,
    beside=partial(comparison.draw_beside, looks=STYLES),
    heading="Figure 4 as run by clbench",
)


# Beyond the paper's figure, whose 2,500 masks are enough for nearly all of its tasks: fewer masks than tasks.
FEW: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 5, "updates": 300, "data": "mnist-5k", "checkpoints": (1, 2, 3, 4, 5)},
    "laptop": {"tasks": 20, "updates": 1000, "data": "mnist-5k", "checkpoints": (1, 4, 8, 12, 14, 16, 18, 20)},
    "paper": {"tasks": 100, "updates": 1000, "data": "mnist", "checkpoints": (1, 20, 40, 60, 70, 80, 90, 100)},
}
MASKS = {"smoke": 3, "laptop": 12, "paper": 60}
ENOUGH, TOO_FEW = "enough masks", "fewer masks than tasks"


def few_masks(budget: str) -> list[Curve]:
    """NNs with as many masks as it needs, and with masks for 60 % of the tasks."""
    shared = FEW[budget] | {"method": "supsup", "stream": "permuted-mnist", "network": "lenet-300-100", "scenario": "NNs"}
    budgets = {ENOUGH: 2500, TOO_FEW: MASKS[budget]}
    shared |= {"ask": {"protocol": "paper"}}
    return [Curve(name, shared | {"set": {"outputs": 500, "budget": masks}}) for name, masks in budgets.items()]


MASKS_OUT = PaperFigure(
    "masks-out", "NNs when the masks run out", CLASSES, few_masks, comparison.draw, beside=comparison.draw_beside
)
