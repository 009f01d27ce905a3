"""One run along its batches: which tasks are in them, which component the learner trains, and its loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clbench.engine.store import Run
from clbench.results import style

MOST_STEPS = 600
"""The number of steps along the batches in which shares of tasks are drawn."""

TASK, MASK, LOSS, SURPRISE = "true task", "mask in training", "loss", "loss that led to a choice"
"""The kinds of rows of a track."""


def plot_streams(runs: Sequence[Run], folder: str | Path) -> list[Path]:
    """Draw the track of each run into ``folder``; returns the files."""
    return [
        file
        for run in runs
        for file in style.save(
            drawn(track(run), f"{run.learn.method} in {run.scenario.name} on {run.learn.stream}, run {run.learn.hash}."),
            Path(folder) / f"{run.path.name}-stream",
        )
    ]


def track(run: Run) -> pd.DataFrame:
    """What happens in each batch: rows of ``kind``, from batch ``first`` to before ``end``, with ``height`` and ``share``.

    The height is the number of a task or mask, counted from 1 (a task that recurs has that of its first visit among different tasks), or a
    loss. ``share``: of the images in a batch that are of the task. Losses are means over a tenth of a task. ``SURPRISE`` are the losses at
    which a learner that chooses its mask by the loss made a choice.
    """
    timetable, of_visit = run.timetable, run.tasks
    tasks = sorted(set(of_visit))
    rows: list[dict[str, Any]] = [
        {
            "kind": TASK,
            "first": first,
            "end": end,
            "height": tasks.index(of_visit[visit]) + 1,
            "share": images / timetable.batch_size,
        }
        for first, end, visit, images in timetable.spans.tolist()
    ]
    end = int(timetable.ends[-1])
    switches = run.table("switches").reindex(columns=["batch", "mask"])
    for first, later, mask in zip(switches["batch"], [*switches["batch"][1:], end], switches["mask"], strict=False):
        rows.append({"kind": MASK, "first": first, "end": later, "height": mask + 1})
    losses = run.table("losses")
    for number, of_task in losses.groupby("learned") if len(losses) else ():
        batches = timetable.batches_of(int(str(number)) - 1)
        parts = np.linspace(batches.start, batches.stop, len(of_task) + 1)
        rows += [
            {"kind": LOSS, "first": low, "end": high, "height": loss}
            for low, high, loss in zip(parts[:-1], parts[1:], of_task["loss"], strict=True)
        ]
    choices = run.table("allocation")
    if "loss" in choices:
        rows += [
            {"kind": SURPRISE, "first": batch, "end": batch + 1, "height": loss}
            for batch, loss in zip(choices["first_batch"], choices["loss"], strict=True)
            if loss == loss  # the first mask is chosen before there is a loss
        ]
    return pd.DataFrame(rows)


@style.house
def drawn(rows: pd.DataFrame, caption: str, *, width: float = style.DOUBLE) -> Figure:
    """A track: the true tasks along the batches, shaded by share, and, as far as there are any, the mask in training and the loss."""
    kinds = {kind: rows[rows["kind"] == kind] for kind in rows["kind"].unique()}
    tasks = kinds[TASK]
    heights = [1 + 0.5 * min(1, tasks["height"].max() / 20), *(0.8 for kind in (MASK, LOSS) if kind in kinds)]
    figure = style.new(width, sum(heights) + 0.3)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    batches = int(tasks["end"].max())
    shares = composition(tasks)
    axes = panels.pop(0)
    axes.imshow(shares, vmin=0, vmax=1, aspect="auto", extent=(0, batches, len(shares) + 0.5, 0.5), interpolation="nearest")
    axes.set_ylabel(TASK)
    axes.grid(False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if MASK in kinds:
        axes = panels.pop(0)
        axes.hlines(kinds[MASK]["height"], kinds[MASK]["first"], kinds[MASK]["end"], colors=style.VERMILLION, linewidth=2)
        axes.set_ylim(kinds[MASK]["height"].max() + 0.5, 0.5)
        axes.set_ylabel("mask\nin training")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if LOSS in kinds:
        axes = panels.pop(0)
        axes.hlines(kinds[LOSS]["height"], kinds[LOSS]["first"], kinds[LOSS]["end"], colors=style.BLACK, linewidth=1)
        if SURPRISE in kinds:
            axes.plot(kinds[SURPRISE]["first"], kinds[SURPRISE]["height"], "o", color=style.BLUE, markersize=2.5, markeredgewidth=0)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(LOSS)
    axes.set_xlim(0, batches)
    axes.set_xlabel("batch")
    figure.align_ylabels()
    dots = f" Dots: each {SURPRISE}." if SURPRISE in kinds else ""
    style.caption(figure, f"{caption}{dots}")
    return figure


def composition(tasks: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The share of each task in each of at most ``MOST_STEPS`` equal steps along the batches, from the tasks' rows of a track."""
    batches = int(tasks["end"].max())
    edges = np.linspace(0, batches, min(batches, MOST_STEPS) + 1)
    shares = np.zeros((int(tasks["height"].max()), len(edges) - 1))
    for first, end, height, share in zip(tasks["first"], tasks["end"], tasks["height"], tasks["share"], strict=True):
        low, high = np.searchsorted(edges, first, side="right") - 1, np.searchsorted(edges, end, side="left")
        overlap = np.minimum(edges[low + 1 : high + 1], end) - np.maximum(edges[low:high], first)
        shares[int(height) - 1, low:high] += overlap * share
    return shares / np.diff(edges)
