"""``clbench plot``, ``clbench figure``, ``clbench table`` and ``clbench compare``: what stored runs show."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from clbench.cli import options
from clbench.cli.options import AsJson, DataRoot, Device, Overwrite, Results
from clbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from clbench.engine.store import Run

COMPARED = ("accuracy", "task_accuracy", "forgetting")


def plot(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs: folders, or first letters of their hashes.", show_default="all that are complete"),
    ] = None,
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="The folder for the plots.", show_default="RESULTS/plots")] = None,
) -> None:
    """Plot any runs: accuracy against tasks learned of all of them, and the accuracy matrix and task confusion of each."""
    from clbench.engine.store import find
    from clbench.results import plots

    found = [find(name, results) for name in runs] if runs else _complete(results)
    for path in plots.plot_runs(found, out or results / "plots"):
        print(path)


def figure(
    name: Annotated[str, typer.Argument(help="A figure of the paper.", autocompletion=options.completing(options.figure_names))],
    budget: Annotated[
        str, typer.Option(help="smoke, laptop or paper.", autocompletion=options.completing(options.budget_names))
    ] = "laptop",
    seeds: Annotated[
        str | None, typer.Option(help="Seeds with commas between them.", show_default="0; several at the paper's budget")
    ] = None,
    from_results: Annotated[bool, typer.Option("--from-results", help="Draw from stored runs and run nothing.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    results: Results = Path("results"),
    overwrite: Overwrite = "missing",
) -> None:
    """Reproduce a figure of the paper: do the runs that it needs, and draw it from them."""
    from clbench import paper
    from clbench.api import choose_device
    from clbench.cli.progress import bars

    with bars() as shown:
        drawn = paper.figure(
            name,
            budget,
            results,
            seeds=options.integers(seeds, "--seeds"),
            from_results=from_results,
            watch=shown.watch,
            data_root=None if data_root is None else str(data_root),
            device=choose_device(device),
            overwrite=options.overwriting(overwrite),
        )
    for path in drawn.files:
        print(path)


def table(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs: folders, or first letters of their hashes.", show_default="all")
    ] = None,
    results: Results = Path("results"),
    rows: Annotated[str, typer.Option(help="Group by these (method, outputs, ...), commas between them: a pivoted table.")] = "",
    columns: Annotated[str, typer.Option(help="Its columns: one or more of the same kind.", show_default="scenario")] = "",
    value: Annotated[
        str, typer.Option(help="What is in its cells: accuracy, stored_bytes and others.", show_default="accuracy")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="A .csv, .md or .tex file to write instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """A table of runs: mean, t interval and number of seeds for each method, scenario and ask; or, with --rows, pivoted."""
    from clbench.engine.store import find
    from clbench.results import tables
    from clbench.results.frames import frame, over_seeds, summarise
    from clbench.results.pivots import pivot

    found = [run for run in (find(name, results) for name in runs) if run.complete] if runs else _complete(results)
    if not found:
        raise UserError("None of these runs is complete: finish one by running it again.")
    averages = over_seeds(summarise(frame(found)))
    if (columns or value) and not rows:
        raise UserError("--columns and --value belong to a pivoted table: name its --rows too.")
    if rows:
        pivoted = pivot(averages, rows.split(","), (columns or "scenario").split(","), value or "accuracy")
        if out is not None:
            print(pivoted.write(out))
        elif as_json:
            print(json.dumps(json.loads(pivoted.numbers.to_json(orient="records"))))
        else:
            pivoted.show()
        return
    if out is not None:
        print(tables.write(averages, out))
    elif as_json:
        print(json.dumps(json.loads(averages.to_json(orient="records"))))
    else:
        tables.print_table(averages)


def _complete(results: Path) -> "list[Run]":
    """All complete runs in the folder; a ``UserError`` if there is none."""
    from clbench.engine.store import runs_in

    runs = [run for run in runs_in(results) if run.complete]
    if not runs:
        raise UserError(f"There are no complete runs in {results}: do one with clbench run, or name another folder with --results.")
    return runs


def claims(results: Results = Path("results"), as_json: AsJson = False) -> None:
    """Judge the paper's claims by the figures in RESULTS/figures: a sentence each, with its verdict and what decided it.

    A claim holds if the whole 95 % interval of the difference over paired seeds lies where the claim says, does not hold if it lies
    elsewhere, and is undecided otherwise, as on one seed.
    """
    from clbench.paper.claims import judged
    from clbench.paper.verdicts import NOT_JUDGED

    found = judged(results / "figures")
    if all(each.verdict == NOT_JUDGED and not each.basis for each in found):
        raise UserError(f"There are no figures in {results} to judge claims by: make some, as with `clbench figure fig3-left`.")
    if as_json:
        print(json.dumps([each._asdict() | {"numbers": dict(each.numbers)} for each in found]))
        return
    for each in found:
        print(f"{each.verdict}: {each.sentence} [{each.source}]. {each.evidence}.")
    counts = Counter(each.verdict for each in found).most_common()
    print(f"Of {len(found)} claims: {', '.join(f'{verdict} {count}' for verdict, count in counts)}.")


def report(
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="RESULTS/report.html")] = None,
) -> None:
    """Write all that is in RESULTS as one HTML file that needs no network: tables, figures, claims, and every run's provenance."""
    from clbench import report as page

    print(page.write(results, out or results / "report.html"))


def compare(
    lines: Annotated[list[str], typer.Argument(help="Lines: METHOD, METHOD/SCENARIO or METHOD/SCENARIO/key=value,…")],
    results: Results = Path("results"),
    value: Annotated[str, typer.Option(help="accuracy, task_accuracy or forgetting.")] = "accuracy",
    out: Annotated[Path | None, typer.Option(help="A .png or .pdf file for the diagram of three lines or more.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two lines on the same seeds (paired difference, t interval, Cohen's d_z, p), or rank three or more on many streams."""
    from clbench.errors import unknown
    from clbench.results.frames import frame, summarise

    if value not in COMPARED:
        raise unknown("value to compare", value, COMPARED)
    if len(lines) < 2 or (len(lines) == 2 and out is not None):
        raise UserError("Name two lines to compare, or three or more to rank and to draw with --out.")
    summary = summarise(frame(_complete(results)))
    if len(lines) == 2:
        _compare_two(summary, *lines, value=value, as_json=as_json)
    else:
        _rank(summary, lines, value, out, as_json)


def _compare_two(summary: "pd.DataFrame", first: str, second: str, *, value: str, as_json: bool) -> None:
    """Show what two lines differ by on each stream that they share."""
    from rich.table import Table

    from clbench.results import tables
    from clbench.results.compare import compare as compared
    from clbench.results.compare import unlike

    lines = compared(summary, first, second, value)
    if as_json:
        print(json.dumps(json.loads(lines.to_json(orient="records", double_precision=15))))
        return
    rows = lines.to_dict("records")
    table = Table("stream", "network", "tasks", "n", f"{first} %", f"{second} %", "difference", "effect d", "p", title=value)
    for row in rows:
        width = "" if row["n"] < 2 else f" ± {100 * row['half_width']:.2f}"
        effect, p = ("–" if row["effect"] != row["effect"] else f"{row[key]:.3g}" for key in ("effect", "p_value"))
        means = [f"{100 * row[which]:.2f}" for which in ("first", "second")]
        place = [row["stream"], row["network"], str(row["tasks"]), str(row["n"])]
        table.add_row(*place, *means, f"{100 * row['difference']:+.2f}{width}", effect, p)
    console = Console()
    (console if console.is_terminal else Console(width=tables.WIDE)).print(table)
    _say(unlike(summary, [first, second], value))


def _rank(summary: "pd.DataFrame", lines: list[str], value: str, out: Path | None, as_json: bool) -> None:
    """Show the mean ranks of lines, and draw them."""
    from rich.table import Table

    from clbench.results.compare import unlike
    from clbench.results.ranking import rank, save

    found = rank(summary, lines, value)
    if out is not None:
        save(found, value, out)
    if as_json:
        print(json.dumps(found._replace(ranks=found.ranks.tolist())._asdict()))
    else:
        table = Table("line", "mean rank", title=f"{value}, {found.blocks} blocks (stream and seed)")
        for name, place in zip(found.lines, found.ranks, strict=True):
            table.add_row(name, f"{place:.2f}")
        Console().print(table)
        print(f"Critical difference (Nemenyi, 5 %): {found.critical_difference:.2f}. Friedman: p = {found.p_value:.2g}.")
        _say(unlike(summary, lines, value))
        if out is not None:
            print(out)


def _say(sentence: str) -> None:
    """Print a sentence if there is one."""
    if sentence:
        print(sentence)
