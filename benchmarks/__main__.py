"""``python -m benchmarks``: every benchmark, as a table on the terminal, ``results/bench/bench.csv`` and a plot.

``python -m benchmarks overhead`` (or any names of ``PARTS``) measures only these, and replaces their rows in the file.
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import figure4, images, inference, neighbour, overhead, sparse, training
from clbench.data import status
from clbench.results import style

PARTS: dict[str, Callable[[str, str | None], Iterable[tuple[str, float, str]]]] = {
    "training": training.rows,
    "inference": lambda data, root: inference.rows(),
    "images": lambda data, root: images.rows(),
    "overhead": lambda data, root: overhead.rows(),
    "figure4": figure4.rows,
    "sparse": sparse.rows,
    "neighbour": lambda data, root: neighbour.rows(),
}
"""The benchmarks by name, with the data set that some need and its folder."""
FILE = Path("results/bench/bench.csv")


def main(*names: str) -> None:
    if unknown := set(names) - set(PARTS):
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}: name some of {', '.join(PARTS)}.")
    root = os.environ.get("CLBENCH_DATA")
    present = {s.source.name for s in status(root) if s.state == "present"}
    data = "mnist" if "mnist" in present else "mnist-5k"
    console = Console()
    rows: list[dict[str, Any]] = []
    console.print(f"data: {data}")

    def keep(measurements: Iterable[tuple[str, float, str]]) -> None:
        for name, value, unit in measurements:
            rows.append({"name": name, "value": value, "unit": unit})
            console.print(f"{name} = {value:.4g} {unit}", highlight=False)

    for name in names or PARTS:
        keep(PARTS[name](data, root))
    FILE.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows)
    if names and FILE.exists():
        frame = pd.concat([pd.read_csv(FILE), frame]).drop_duplicates("name", keep="last")
    frame.to_csv(FILE, index=False)
    table = Table("name", "value", "unit", title=f"data {data}")
    for row in rows:
        table.add_row(str(row["name"]), f"{row['value']:.4g}", str(row["unit"]))
    console.print(table)
    if "inference" in (names or PARTS):
        for path in plot(frame, FILE.with_suffix("")):
            console.print(path)


@style.house
def plot(frame: pd.DataFrame, path: Path) -> tuple[Path, Path]:
    """Milliseconds per image against the number of tasks, for One-Shot, stacked float masks and exhaustive search."""
    figure = style.new()
    axes = figure.add_subplot()
    lines = {"oneshot": "One-Shot (clbench)", "exhaustive": "exhaustive search", "stacked": "One-Shot, stacked float masks"}
    for number, (key, label) in enumerate(lines.items()):
        rows = frame[frame["name"].str.match(rf"{key}_\d+_milliseconds")]
        counts = rows["name"].str.extract(r"_(\d+)_")[0].astype(int)
        axes.plot(counts, rows["value"], label=label, **style.line(number))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("masks")
    axes.set_ylabel("time per image (ms)")
    figure.legend(loc="outside upper left")
    style.caption(
        figure,
        f"LeNet 300-100, {inference.OUTPUTS} outputs, {inference.QUERIES} images at a time (stacked masks: one), on this machine's CPU.",
    )
    return style.save(figure, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
