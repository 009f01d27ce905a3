"""HopSupSup's searches beside each other, on the same masks: `python -m benchmarks.searches mnist [seeds] [results folder]`.

The runs are those of Figure 7 at the paper's budget (at the laptop's on other data), and again with a memory for each layer; runs that
exist are not repeated. Writes hopsupsup-searches.csv (every seed and task) and .md (means over seeds) into the results folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import clbench
from clbench.paper import fig7
from clbench.results import renderers, tables
from clbench.results.metrics import mean_t_interval

LINE = ["masked", "memory", "search"]
GOAL = 0.98


def compared(data: str, seeds: Sequence[int], results: Path) -> pd.DataFrame:
    """A row for each place of the masks, memory, search, seed and task (from 1)."""
    frames = []
    for curve in fig7.curves("paper" if data == "mnist" else "laptop"):
        masked, search = curve.settings["set"]["masked"], curve.protocol
        # A memory for each layer is the authors', as is their search, and masks on what goes into the activations.
        of_layers = masked == "normalised" and search != fig7.GROUP
        for memory in ("joint", "layers") if of_layers else ("joint",):
            settings: dict[str, Any] = {
                **curve.settings,
                "set": {"masked": masked, "memory": memory},
                "seeds": tuple(seeds),
                "data": data,
            }
            scores = clbench.run(**settings, results=results)
            line = {"masked": masked, "memory": memory, "search": fig7.SEARCHES[search]}
            frames.append(scores.assign(**line, seed=scores["training_seed"], task=scores["task"] + 1))
    names = [*LINE, "seed", "task", "accuracy", "task_accuracy", "images", "ask", "run"]
    return pd.concat(frames)[names].reset_index(drop=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each line: the average accuracy over tasks, over seeds, and how far it is above the search of a group, seed by seed."""
    averages = rows.groupby([*LINE, "seed"], sort=False)[["accuracy", "task_accuracy"]].mean().reset_index()
    of_groups = averages[averages["search"] == fig7.SEARCHES[fig7.GROUP]][["masked", "seed", "accuracy"]]
    averages = averages.merge(of_groups, on=["masked", "seed"], how="left", suffixes=("", "_of_groups"))
    lines = []
    for place, line_averages in averages.groupby(LINE, sort=False):
        accuracy = line_averages["accuracy"]
        gain = mean_t_interval((accuracy - line_averages["accuracy_of_groups"]).to_numpy())
        interval = mean_t_interval(accuracy.to_numpy())
        lines.append(
            dict(zip(LINE, place, strict=True))
            | {"seeds": len(line_averages), "accuracy (%)": tables.percent(interval.mean, interval.half_width)}
            | {"lowest": tables.percent(accuracy.min()), "highest": tables.percent(accuracy.max())}
            | {f"seeds at {100 * GOAL:.0f} or more": int((accuracy >= GOAL).sum())}
            | {"tasks found (%)": tables.percent(line_averages["task_accuracy"].mean())}
            | {"above groups, paired": tables.percent(gain.mean, gain.half_width)}
        )
    return pd.DataFrame(lines)


if __name__ == "__main__":
    data = sys.argv[1] if len(sys.argv) > 1 else "mnist-5k"
    seeds = range(int(sys.argv[2]) if len(sys.argv) > 2 else 20)
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else "results")
    table = compared(data, seeds, folder)
    table.to_csv(folder / "hopsupsup-searches.csv", index=False)
    text = renderers.markdown(summary(table).astype(str))
    (folder / "hopsupsup-searches.md").write_text(text, encoding="utf-8")
    print(text)
