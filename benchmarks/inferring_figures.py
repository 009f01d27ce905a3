"""What belongs to `benchmarks.inferring`: `python -m benchmarks.inferring_figures [cost] [values] [draw] --folder results`.

``cost``: bytes and milliseconds of an image at 5, 100 and 2,500 tasks, on random masks and densities (no value depends on what they are).
``values``: what right and best wrong tasks have, for the first seed of each stream in inferring.csv. ``draw``: the two figures.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from benchmarks.inferring import FEATURES, SETTINGS, Outputs, learned
from benchmarks.timing import processor_seconds
from clbench import networks, storage
from clbench.method import Brief
from clbench.methods._inference import Inference
from clbench.methods._objectives import OBJECTIVES
from clbench.methods._statistics import ClassStatistics
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.inference import alpha_gradient
from clbench.methods.supsup.statistics import TaskStatistics
from clbench.results import renderers, style
from clbench.scenarios import GNU

TASKS = (5, 100, 2500)
CLASSES, SHAPE, IMAGES, ROUNDS = 10, (1, 28, 28), 64, 2
WAYS = ("one-shot H", "exhaustive H", "exhaustive G", f"statistics {FEATURES[1]}")
BINS = 40
MARKED = {
    "given": "told the task",
    "one-shot H": "One-Shot H",
    "exhaustive H": "exhaustive H",
    "exhaustive logit": "exhaustive logit",
}
MARKED |= {f"statistics {name}": f"statistics, {name}" for name in FEATURES} | {
    "densities under each mask": "densities under each mask"
}


def costs(counts: tuple[int, ...] = TASKS, network: str = "lenet-300-100") -> Iterator[dict[str, Any]]:
    """A row for each number of tasks and way, with ten classes a task."""
    made = networks.resolve(network, SHAPE)
    method = SupSup(Brief(GNU, lambda outputs: networks.seeded(made, outputs, 0), SHAPE, CLASSES, 0), statistics=FEATURES[0])
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, *SHAPE, generator=draws)
    for count in counts:
        while len(method.bank) < count:
            method.bank.append(torch.rand(method.bank.size, generator=draws) < 0.5, method.base.fresh)
        masks = {"seed": torch.tensor(0), "masks": method.bank.packed()}
        for name in (None, *FEATURES):
            if name:
                method.statistics = random_statistics(name, method, count, draws)
            assert method.statistics is not None
            state = masks | (method.statistics.learned() if name else {})
            for how in [Inference("statistics")] if name else [Inference(), Inference("exhaustive")]:
                infer = partial(method._inferred, images, how, alone=True)
                seconds = min(processor_seconds(infer) for _ in range(ROUNDS)) / IMAGES
                yield {
                    "tasks": count,
                    "way": f"{how.algorithm} {name or how.objective}",
                    "bytes to predict": storage.file_bytes(state),
                    "bytes to resume": storage.file_bytes(method.statistics.progress()) if name else 0,
                    "milliseconds": 1000 * seconds,
                }


def random_statistics(name: str, method: SupSup, tasks: int, draws: torch.Generator) -> TaskStatistics:
    """Statistics as of so many tasks."""
    made = TaskStatistics(name, method.base, method.brief, 0)
    features = made.features(torch.zeros(2, *SHAPE)).shape[1]
    made.gathered = ClassStatistics(features, torch.device("cpu"))
    made.gathered.counts = torch.full((tasks * CLASSES,), 6000)
    made.gathered.means = torch.randn(tasks * CLASSES, features, generator=draws)
    made.gathered.scatter = 6000 * tasks * CLASSES * torch.eye(features, dtype=torch.float64)
    return made


def values(name: str, folder: Path, data_root: str | None) -> Iterator[dict[str, Any]]:
    """How many images of a stream have which values: a row for each way, kind (right, or the best wrong one) and bin of values."""
    method, stream = learned(name, 0, folder, data_root)
    method.statistics = TaskStatistics(FEATURES[1], method.base, method.brief, method.seed)
    for index, task in enumerate(stream):
        method.statistics.add(task.train, index)
    outputs = Outputs(method, stream)
    found: dict[str, list[Tensor]] = {way: [] for way in WAYS}
    for index in range(len(stream)):
        inputs, _ = outputs.asked(index, SETTINGS[name]["sample"])
        slopes = alpha_gradient(method.base, method.bank, inputs[:, None], ["H"], stream.classes, None)[0]
        logits = outputs.under_all(inputs)
        tried = [OBJECTIVES[objective].value(logits, stream.classes).T for objective in "HG"]
        for way, compared in zip(WAYS, (slopes, *tried, -method.statistics.densities(inputs[:, None])), strict=True):
            right = compared[:, index]
            wrong = compared.index_fill(1, torch.tensor([index]), float("inf")).amin(1)
            # Densities are known up to what all tasks share, so that only differences mean something: the right value is taken as 0 there.
            found[way].append(torch.stack([right, wrong]) - (right if way == WAYS[-1] else 0))
    for way, parts in found.items():
        right, wrong = torch.cat(parts, 1).double()
        low, high = np.quantile(torch.cat([right, wrong]), [0.01, 0.99])
        edges = np.linspace(low, high + 1e-9, BINS + 1)
        for kind, of_kind in (("right", right), ("best wrong", wrong)):
            counts, _ = np.histogram(of_kind.clip(low, high), edges)
            common = {"stream": name, "way": way, "kind": kind, "found": float((right < wrong).double().mean())}
            for left, last, number in zip(edges[:-1], edges[1:], counts, strict=True):
                yield common | {"from": float(left), "to": float(last), "images": int(number)}


@style.house
def draw_values(table: pd.DataFrame) -> Figure:
    """A row for each stream, a panel for each way: the distributions for the right task and for the best wrong one."""
    streams, ways = table["stream"].unique(), table["way"].unique()
    figure = style.new(style.DOUBLE, 1.25 * len(streams) + 0.4)
    panels = figure.subplots(len(streams), len(ways), squeeze=False)
    for (stream, way), part in table.groupby(["stream", "way"], sort=False):
        axes = panels[list(streams).index(stream)][list(ways).index(way)]
        for number, (kind, own) in enumerate(part.groupby("kind", sort=False)):
            colour = (style.BLUE, style.ORANGE)[number]
            edges = [*own["from"], own["to"].iloc[-1]]
            axes.stairs(own["images"] / own["images"].sum(), edges, fill=True, alpha=0.35, color=colour)
            axes.stairs(own["images"] / own["images"].sum(), edges, color=colour, label=f"{kind} task")
        axes.set_title(f"{way}: {100 * part['found'].iloc[0]:.0f} %", fontsize=style.SMALL)
        if way == ways[0]:
            axes.set_ylabel(str(stream))
        axes.set_yticks([])
        axes.tick_params(labelsize=5.5)
        axes.grid(visible=False)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    style.caption(
        figure,
        "What is compared between tasks, for the right task and for the best wrong one, over test images that each decide alone; the "
        "lowest value wins, and the share of images with the right task is in the titles. One-Shot: derivatives with respect to alpha. "
        "Statistics: minus the logarithm of the density, relative to the right task, which is therefore at 0. The outermost bins hold all "
        "values beyond.",
    )
    return figure


@style.house
def draw_bytes(table: pd.DataFrame) -> Figure:
    """Accuracy from one image against bytes, a panel for each stream."""
    table = table[table["way"].isin(MARKED) & (table["images"] <= 1) & table["accuracy"].notna()]
    streams = list(dict.fromkeys(table["stream"]))
    figure = style.new(style.DOUBLE, 2.1 * -(-len(streams) // 3) + 0.3)
    panels = figure.subplots(-(-len(streams) // 3), min(3, len(streams)), squeeze=False).flatten()
    for axes, stream in zip(panels, streams, strict=False):
        part = table[table["stream"] == stream]
        for number, (way, label) in enumerate((way, label) for way, label in MARKED.items() if way in set(table["way"])):
            own = part[part["way"] == way]
            look = {key: value for key, value in style.line(number).items() if key != "linestyle"}
            axes.plot(own["bytes"].mean() / 1e3, own["accuracy"].mean(), linestyle="none", label=label, **look)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(f"{stream}, {part['tasks learned'].iloc[0]} tasks, n = {part['seed'].nunique()}", pad=8)
        axes.set_xlabel("kB to predict")
        style.accuracy_axis(axes, 0, 1)
    for axes in panels[len(streams) :]:
        axes.remove()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    style.caption(
        figure,
        "GNu from one image each, means over n seeds. Bytes are those of all that predicting needs: masks, and numbers of tasks or "
        "classes.",
    )
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["cost", "values", "draw"])
    parser.add_argument("--folder", type=Path, default=Path("results"))
    parser.add_argument("--data-root")
    given = parser.parse_args()
    if "cost" in given.parts:
        cost = pd.DataFrame(costs())
        cost.to_csv(given.folder / "inferring-cost.csv", index=False)
        shown = cost.assign(milliseconds=cost["milliseconds"].map("{:.3g}".format))
        shown = shown.assign(**{name: cost[name].map("{:,}".format) for name in ("bytes to predict", "bytes to resume")})
        (given.folder / "inferring-cost.md").write_text(renderers.markdown(shown))
        print(shown.to_string(index=False))
    table = pd.read_csv(given.folder / "inferring.csv") if {"values", "draw"} & set(given.parts) else pd.DataFrame()
    if "values" in given.parts:
        with_masks = dict.fromkeys(table[table["way"] == "given"]["stream"])
        rows = (row for name in with_masks for row in values(name, given.folder, given.data_root))
        pd.DataFrame(rows).to_csv(given.folder / "inferring-values.csv", index=False)
    if "draw" in given.parts:
        style.save(draw_bytes(table), given.folder / "inferring-bytes")
        style.save(draw_values(pd.read_csv(given.folder / "inferring-values.csv")), given.folder / "inferring-values")
