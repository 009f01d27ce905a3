"""Beyond the paper: streams as the world delivers them, and who learns from them without being told any task.

``nns-streams`` compares learners on each kind of stream: SupSup by the paper's rule and by surprise, SupSup that is told the tasks (GNs),
and learners that keep no masks. ``timeline`` shows one run of SupSup by surprise along its batches.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from clbench.paper.base import Curve, Done, PaperFigure, points
from clbench.paper.comparison import CLASSES, what_was_run
from clbench.results import frames, plots, style, timelines
from clbench.results.columns import find

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 4, "updates": 100, "data": "mnist-5k"},
    "laptop": {"tasks": 8, "updates": 300, "data": "mnist-5k"},
    "paper": {"tasks": 20, "updates": 1000, "data": "mnist"},
}
LEARNERS: dict[str, dict[str, Any]] = {
    "SupSup, told every task (GNs)": {"method": "supsup", "scenario": "GNs"},
    "SupSup by surprise": {"method": "supsup", "scenario": "NNs", "set": {"allocation": "surprise"}},
    "SupSup, the paper's rule": {"method": "supsup", "scenario": "NNs"},
    "BGD": {"method": "bgd", "scenario": "NNs"},
    "replay": {"method": "replay", "scenario": "NNs"},
    "naive": {"method": "naive", "scenario": "NNs"},
}
IMAGES = 200
"""Test images of each task."""


def kinds(tasks: int, updates: int) -> dict[str, dict[str, Any]]:
    """The flow of each kind of stream, by the words on the axis."""
    untidy = {"lengths": (updates // 2, 3 * updates // 2), "boundaries": "inside"}
    return {
        "aligned": {},
        "random lengths": untidy,
        "recurring": untidy | {"different": -(-2 * tasks // 3)},
        "gradual": {"linear": updates // 2},
        "blurry": {"blurry": 0.1},
        "one pass": {"online": True},
    }


def stream_curves(budget: str) -> Sequence[Curve]:
    """Every learner on every kind of stream, asked at the end."""
    size = SIZES[budget]
    shared = size | {"network": "lenet-300-100", "checkpoints": (size["tasks"],), "ask": {"images": IMAGES}}
    return [
        Curve(line, shared | learner | {"flow": follows}, f" on a stream that is {kind}", value=float(place), at=float(place))
        for line, learner in LEARNERS.items()
        for place, (kind, follows) in enumerate(kinds(size["tasks"], size["updates"]).items())
    ]


def with_masks(done: Done) -> pd.DataFrame:
    """The points, with the number of masks for each different task (``masks_per_task``) and the boundaries that were ``missed``."""
    measured = [find(name) for name in ("masks_per_task", "missed")]
    rows = []
    for row in points(done).to_dict("records"):
        scores = frames.frame(done.of(row["curve"]))
        summary = frames.over_seeds(frames.summarise(scores[scores["ask"] == row["ask"]], measured), measured)
        names = [name for column in measured for name in (column.name, column.interval_name)]
        rows.append(row | {name: summary[name].iloc[0] for name in names})
    return pd.DataFrame(rows)


@style.house
def draw_streams(frame: pd.DataFrame, heading: str) -> Figure:
    """Above, the accuracy of each learner on each kind of stream; below, its masks for each task, if it keeps any."""
    figure = style.new(style.DOUBLE, 3.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    names = list(dict.fromkeys(frame["line"]))
    for number, name in enumerate(names):
        of_line = frame[frame["line"] == name]
        look = style.line(number) | {"linestyle": "none"}
        places = of_line["at"] + 0.1 * (number - (len(names) - 1) / 2)  # side by side
        for axes, value in ((above, "accuracy"), (below, "masks_per_task")):
            known = of_line[value].notna()
            widths = of_line[f"{value}_interval"].fillna(0)
            axes.errorbar(places[known], of_line[value][known], widths[known], label=name if axes is above else "_", **look)
    plots.draw_chance(above, frame.assign(learned=frame["at"]))
    style.accuracy_axis(above, 0, 1)
    below.axhline(1, **style.CHANCE)
    below.set_ylim(bottom=0)
    below.set_ylabel("masks a task")
    below.set_xticks(sorted(frame["at"].unique()), list(kinds(2, 2)))
    figure.align_ylabels()
    figure.legend(loc="outside upper left", ncols=3)
    masks = "Dotted, below: one mask for each different task."
    style.caption(figure, f"{what_was_run(frame, heading)} {masks}")
    return figure


STREAMS = PaperFigure(
    "nns-streams",
    "Streams without tidy boundaries, by every learner that is told no tasks",
    CLASSES,
    stream_curves,
    draw_streams,
    rows=with_masks,
    measured=("masks_per_task", "missed"),
)


def timeline_curves(budget: str) -> Sequence[Curve]:
    """One run of SupSup by surprise: tasks of random lengths that recur, with boundaries inside batches."""
    size = SIZES[budget]
    follows = kinds(size["tasks"], size["updates"])["recurring"]
    settings = size | LEARNERS["SupSup by surprise"] | {"network": "lenet-300-100", "flow": follows, "ask": {"images": IMAGES}}
    return [Curve("SupSup by surprise", settings | {"checkpoints": (size["tasks"],)})]


def along_batches(done: Done) -> pd.DataFrame:
    """The track of the first run (``timelines.track``): a row for each of its rows, with ``at``, ``end``, ``height`` and ``share``."""
    (row,) = points(done).to_dict("records")
    tracked = timelines.track(done.of(row["curve"])[0]).rename(columns={"kind": "protocol", "first": "at"})
    return pd.DataFrame([row | each for each in tracked.to_dict("records")])


@style.house
def draw_timeline(frame: pd.DataFrame, heading: str) -> Figure:
    """True task, mask in training and loss along the batches of one run."""
    rows = frame.rename(columns={"protocol": "kind", "at": "first"})
    return timelines.drawn(rows, what_was_run(frame, heading))


TIMELINE = PaperFigure(
    "timeline",
    "One run without given tasks along its batches: true task, mask in training and loss",
    CLASSES,
    timeline_curves,
    draw_timeline,
    rows=along_batches,
    measured=("end", "height", "share"),
    by_seed=points,
    seeds=1,
)
