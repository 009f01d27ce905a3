"""One run along its batches: which tasks are in them, which component the learner trains, and its loss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clbench.engine.store import Run
from clbench.results import style

MOST_BINS = 600
"""The number of steps along the batches in which shares of tasks are drawn."""


def plot_streams(runs: Sequence[Run], folder: str | Path) -> list[Path]:
    """Draw the timeline of each run into ``folder``; returns the files."""
    return [file for run in runs for file in style.save(timeline(run), Path(folder) / f"{run.path.name}-stream")]


@style.house
def timeline(run: Run, *, width: float = style.DOUBLE) -> Figure:
    """The true tasks of a run along its batches and, as far as the run has them, the component in training and the loss.

    The shade is the share of a batch's images. A task that recurs has one row. Dots are the losses at which a learner that chooses its
    component by the loss looked for another.
    """
    shares, tasks, batches = composition(run)
    masks, losses = run.table("switches"), run.table("losses")
    heights = [1 + 0.5 * min(1, len(tasks) / 20)] + [0.8] * (not masks.empty) + [0.8] * (not losses.empty)
    figure = style.new(width, sum(heights) + 0.3)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    axes = panels.pop(0)
    axes.imshow(shares, vmin=0, vmax=1, aspect="auto", extent=(0, batches, len(tasks) - 0.5, -0.5), interpolation="nearest")
    axes.set_ylabel("true task")
    axes.grid(False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(lambda place, _: f"{place + 1:.0f}")
    if not masks.empty:
        axes = panels.pop(0)
        ends = [*masks["batch"].iloc[1:], batches]
        axes.hlines(masks["mask"] + 1, masks["batch"], ends, colors=style.VERMILLION, linewidth=2)
        axes.invert_yaxis()
        axes.set_ylabel("mask\nin training")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if not losses.empty:
        axes = panels.pop(0)
        places, means = loss_curve(run, losses)
        axes.plot(places, means, color=style.BLACK, linewidth=0.8)
        choices = run.table("allocation")
        if "loss" in choices:
            axes.plot(choices["first_batch"], choices["loss"], "o", color=style.BLUE, markersize=2.5, markeredgewidth=0)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("loss")
    axes.set_xlim(0, batches)
    axes.set_xlabel("batch")
    style.caption(figure, f"{run.learn.method} in {run.scenario.name} on {run.learn.stream}, run {run.learn.hash}.")
    return figure


def composition(run: Run) -> tuple[npt.NDArray[np.float64], list[int], int]:
    """The share of each different task in each of at most ``MOST_BINS`` equal steps along the batches: [tasks, steps].

    Returns the shares, the numbers of the tasks (of first visits), and the number of batches.
    """
    timetable, task_of = run.timetable, run.tasks
    tasks = sorted(set(task_of))
    batches = int(timetable.ends[-1])
    edges = np.linspace(0, batches, min(batches, MOST_BINS) + 1)
    images = np.zeros((len(tasks), len(edges) - 1))
    for first, end, visit, count in timetable.spans.tolist():
        low, high = np.searchsorted(edges, first, side="right") - 1, np.searchsorted(edges, end, side="left")
        overlap = np.minimum(edges[low + 1 : high + 1], end) - np.maximum(edges[low:high], first)
        images[tasks.index(task_of[visit]), low:high] += overlap * count
    return images / images.sum(0), tasks, batches


def loss_curve(run: Run, losses: pd.DataFrame) -> tuple[list[float], list[float]]:
    """The mean losses of the parts of each task (or visit), and the batches in their middle; NaN between two tasks."""
    timetable = run.timetable
    places, means = list[float](), list[float]()
    for visit, of_visit in losses.groupby(losses["learned"] - 1):
        batches = timetable.batches_of(int(str(visit)))
        parts = np.linspace(batches.start, batches.stop, len(of_visit) + 1)
        places += [*(parts[:-1] + np.diff(parts) / 2).tolist(), batches.stop]
        means += [*of_visit["loss"].tolist(), float("nan")]
    return places, means
