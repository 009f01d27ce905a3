"""``clbench plot``, ``clbench figure`` and ``clbench table``: what stored runs show."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from clbench.cli import options
from clbench.cli.options import AsJson, DataRoot, Device, Overwrite, Results

Runs = Annotated[list[str], typer.Argument(help="Runs: folders, or first letters of their hashes.")]


def plot(
    runs: Runs, results: Results = Path("results"), out: Annotated[Path | None, typer.Option(help="Where to put the plots.")] = None
) -> None:
    """Plot any runs: accuracy against tasks learned for all of them, and the accuracy matrix and task confusion of each."""
    from clbench import plots
    from clbench.runs import find

    found = [find(name, results) for name in runs]
    for path in plots.plot_runs(found, out or results / "plots"):
        print(path)


def figure(
    name: Annotated[str, typer.Argument(help="A figure of the paper.", autocompletion=options.completing(options.figure_names))],
    budget: Annotated[
        str, typer.Option(help="smoke, laptop or paper.", autocompletion=options.completing(options.budget_names))
    ] = "laptop",
    from_results: Annotated[bool, typer.Option("--from-results", help="Draw from stored runs and run nothing.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    results: Results = Path("results"),
    overwrite: Overwrite = "missing",
) -> None:
    """Reproduce a figure of the paper: do the runs that it needs, and draw it from them."""


def table(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs: folders, or first letters of their hashes [default: all].")
    ] = None,
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="A .csv or .md file to write instead of the terminal.")] = None,
    as_json: AsJson = False,
) -> None:
    """A table of runs: mean, t interval and number of seeds for each method, scenario and ask."""
