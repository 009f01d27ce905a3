"""Beyond the paper: whether the objectives know when they are right. Section 5 gives bad calibration as the reason if task inference fails.

An objective's certainty is the largest of the softmax of its negative values over masks: of the gradients for One-Shot (the paper's nu,
section 3.4), of the entropies under each mask for exhaustive search. An objective is calibrated if, among images with a certainty of 80 %,
80 % get the right task, and so on. Computed from what stored runs learned; each image decides its own task. The figure is about SupSup,
so that it uses SupSup's own values.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from clbench.engine import execution, store
from clbench.paper.base import Curve, Done, PaperFigure, points
from clbench.paper.comparison import CLASSES, inferring
from clbench.results import style, tables
from clbench.results.metrics import mean_t_interval

STREAMS: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {"PermutedMNIST": {"tasks": 3, "updates": 100}, "SplitMNIST": {"tasks": 3, "updates": 100}},
    "laptop": {"PermutedMNIST": {"tasks": 10, "updates": 500}, "SplitMNIST": {"tasks": 5, "updates": 500}},
    "paper": {"PermutedMNIST": {"tasks": 20, "updates": 1000}, "SplitMNIST": {"tasks": 5, "updates": 1000}},
}
CLASSES_OF = {"permuted-mnist": CLASSES, "split-mnist": 2}
NAMES = {"PermutedMNIST": "permuted-mnist", "SplitMNIST": "split-mnist"}
IMAGES = 200
"""Test images of each task."""
BINS = 10


def curves(budget: str) -> Sequence[Curve]:
    """SupSup on a stream of tasks that are alike, and on a stream of tasks that are not."""
    return [
        inferring(
            name,
            settings
            | {"stream": NAMES[name], "network": "lenet-300-100", "data": "mnist" if budget == "paper" else "mnist-5k"}
            | {"checkpoints": (settings["tasks"],)},
            "supsup",
            {"outputs": 100},
            algorithm="one-shot",
            objective="H",
            group=1,
            evidence=1,
            images=IMAGES,
        )
        for name, settings in STREAMS[budget].items()
    ]


def decisions(run: store.Run, data_root: str | None) -> Iterator[dict[str, Any]]:
    """For each way to decide and each test image: its certainty of the task, from 0 to 1, and whether it is right."""
    from clbench.methods.supsup import SupSup, values_by_way

    method, stream = execution.learner(run, data_root)
    assert isinstance(method, SupSup)
    for index, task in enumerate(stream):
        inputs, _ = task.test.whole(IMAGES)
        for name, values in values_by_way(method.base, method.bank, inputs, stream.classes).items():
            certainty, chosen = (-values).softmax(1).max(1)
            for sure, right in zip(certainty.tolist(), (chosen == index).tolist(), strict=True):
                yield {"way": name, "certainty": sure, "right": float(right)}


def reliability(done: Done) -> pd.DataFrame:
    """A row for each stream, way to decide and tenth of certainty, with the images of all seeds: ``at`` is their mean certainty, ``right``
    the share that gets the right task, ``share`` their share of all images; ``error`` is the way's calibration error, over seeds."""
    rows = []
    for end in points(done).to_dict("records"):
        frames = [pd.DataFrame(decisions(run, done.data_root)).assign(seed=seed) for seed, run in enumerate(done.of(end["curve"]))]
        frame = pd.concat(frames)
        frame["bin"] = np.minimum((BINS * frame["certainty"]).astype(int), BINS - 1)
        for way, decided in frame.groupby("way"):
            error = mean_t_interval([calibration_error(answers) for _, answers in decided.groupby("seed")])
            common = {
                "protocol": way,
                "curve": f"{end['line']}: {way}",
                "ask": f"GNu {way}",
                "accuracy": np.nan,
                "task_accuracy": decided["right"].mean(),
            }
            common |= {"accuracy_interval": np.nan, "task_accuracy_interval": np.nan, "classes": CLASSES_OF[end["stream"]]}
            common |= {"error": error.mean, "error_interval": error.half_width}
            for _, answers in decided.groupby("bin"):
                place = {"at": answers["certainty"].mean(), "right": answers["right"].mean(), "share": len(answers) / len(decided)}
                rows.append(end | common | place)
    return pd.DataFrame(rows)


def calibration_error(decided: pd.DataFrame) -> float:
    """The mean over images (rows) of how far, in their tenth of certainty (``bin``), certainty and the share right lie apart."""
    tenths = decided.groupby("bin").agg(certainty=("certainty", "mean"), right=("right", "mean"), images=("right", "size"))
    return float(((tenths["right"] - tenths["certainty"]).abs() * tenths["images"]).sum() / len(decided))


@style.house
def draw(frame: pd.DataFrame, heading: str) -> Figure:
    """Share right against certainty, a panel for each stream; markers are as large as the share of images that they stand for."""
    figure = style.new(style.DOUBLE, 2.6)
    panels = figure.subplots(1, frame["line"].nunique(), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (line, line_points) in zip(panels, frame.groupby("line", sort=False), strict=True):
        axes.plot([0, 1], [0, 1], label="calibrated", **style.CHANCE)
        errors = []
        for number, (way, group) in enumerate(line_points.groupby("protocol", sort=False)):
            look = style.line(number)
            axes.plot(group["at"], group["right"], color=look["color"], linestyle=look["linestyle"], label="_")
            axes.scatter(
                group["at"], group["right"], 6 + 60 * group["share"], marker=look["marker"], color=look["color"], label=str(way)
            )
            errors.append(f"{way} {tables.percent(group['error'].iloc[0], group['error_interval'].iloc[0])}")
        axes.set_title(f"{line}, {line_points['learned'].iloc[0]} tasks")
        axes.set_xlabel("certainty (%)")
        axes.text(0.98, 0.03, "calibration error\n" + "\n".join(errors), transform=axes.transAxes, ha="right", size=style.SMALL)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
        style.percent(axes.xaxis)
        style.percent(axes.yaxis)
    panels[0].set_ylabel("tasks inferred correctly (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    _, common = tables.labels(frame.drop_duplicates("line"))
    what = f"{heading}, budget {frame['budget'].iloc[0]}: {tables.describe(common, frame['n'], intervals=False)}"
    style.caption(figure, f"{what} {IMAGES} test images of each task, by tenths of certainty. Calibration error in points.")
    return figure


CALIBRATION = PaperFigure(
    "calibration",
    "Whether the objectives know when they are right",
    CLASSES,
    curves,
    draw,
    rows=reliability,
    measured=("right", "share", "error"),
    by_seed=points,  # deciding about all images again would take long
)
