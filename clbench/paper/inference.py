"""Beyond the paper: the four ways to infer the task side by side, by the paper's protocol and from single images, with their costs.

All answers come from one training and are about the same images. ``inference`` is on permutations, ``inference-mixed`` on unlike tasks in
turn, on which the ways differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench.paper.base import Curve, Done, PaperFigure, points
from clbench.paper.comparison import CLASSES, ONE_SHOT, draw_inferred, inferring, what_was_run
from clbench.paper.files import IMAGE, PAPER
from clbench.paper.splits import UNLIKE
from clbench.results import frames as results
from clbench.results import plots, style
from clbench.results.metrics import mean_t_interval

PERMUTED: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 5, "updates": 100, "data": "mnist-5k", "checkpoints": (2, 5)},
    "laptop": {"tasks": 20, "updates": 500, "data": "mnist-5k", "checkpoints": (2, 5, 10, 15, 20)},
    "paper": {"tasks": 250, "updates": 1000, "data": "mnist", "checkpoints": (10, 50, 100, 150, 200, 250)},
}
PERMUTED = {name: budget | {"stream": "permuted-mnist", "network": "lenet-300-100"} for name, budget in PERMUTED.items()}
IMAGES = {"smoke": 128, "laptop": 128, "paper": 512}
"""Test images of each task that are asked about."""
ALGORITHMS = ("one-shot", "binary", "gradient", "exhaustive")
ONE_FOR_128 = ", one image for 128"
"""The paper's protocol in words."""


def curves(budgets: Mapping[str, Mapping[str, Any]], budget: str) -> Sequence[Curve]:
    """The paper's protocol, and each algorithm from every image by itself, with H."""
    ask: dict[str, Any] = {"objective": "H", "images": IMAGES[budget]}

    def curve(**asked: Any) -> Curve:
        return inferring(asked["algorithm"], budgets[budget], "supsup", {"outputs": 100}, **(ask | asked))

    alone = [replace(curve(algorithm=name, group=1, evidence=1), protocol=IMAGE) for name in ALGORITHMS]
    return [replace(curve(**ONE_SHOT), detail=ONE_FOR_128), *alone]


def cost(done: Done) -> pd.DataFrame:
    """The points with milliseconds by test image, over seeds.

    The paper's protocol and One-Shot for each image share a pass, for both decide from the same images: One-Shot gets the whole time, and
    the protocol none.
    """
    scores = results.frame(list(done.by_hash.values()))
    table = points(done)
    rows = []
    for row in table.to_dict("records"):
        passed = table.loc[table["line"] == row["line"], "ask"]  # all asks of an algorithm share a pass
        answers = scores[scores["ask"].isin(passed) & (scores["learned"] == row["learned"])]
        images = answers[answers["ask"] == row["ask"]].groupby("path")["images"].sum()
        by_run = 1000 * answers.groupby("path")["eval_seconds"].sum() / images
        interval = mean_t_interval(by_run.to_numpy() * (float("nan") if row["protocol"] == PAPER else 1.0))
        rows.append(row | {"milliseconds": interval.mean, "milliseconds_interval": interval.half_width})
    return pd.DataFrame(rows)


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Two panels against the number of masks: tasks inferred correctly, and the time that an answer takes."""
    figure = style.new(style.COLUMN, 3.4)
    above, below = figure.subplots(2, 1, sharex=True)
    for number, (name, line_points) in enumerate(frame.groupby("curve", sort=False)):
        look = style.line(number)
        draw_inferred(above, line_points, "learned", look, label=str(name))
        below.plot(line_points["learned"], line_points["milliseconds"], **look)
    low = float(frame["task_accuracy"].min())
    style.accuracy_axis(above, 0.0 if low < 0.5 else plots.nice_below(low, 1.0), 1.0, "tasks inferred correctly (%)")
    below.set_yscale("log")
    below.set_ylabel("milliseconds an image")
    style.tasks_axis(below, frame["learned"].tolist())
    below.set_xlabel("masks")
    figure.legend(loc="outside upper left", ncols=1)
    what = what_was_run(frame, heading)
    style.caption(figure, f"{what} Times include answering, many images at a time, and at the first place starting up.")
    return figure


INFERENCE, MIXED = (
    PaperFigure(name, title, CLASSES, partial(curves, budgets), draw, rows=cost, measured=("milliseconds",))
    for name, title, budgets in (
        ("inference", "Inferring the task: accuracy and cost", PERMUTED),
        ("inference-mixed", "Inferring the task where tasks are not alike: accuracy and cost", UNLIKE),
    )
)
