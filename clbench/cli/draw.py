"""``clbench plot``, ``clbench figure``, ``clbench table`` and ``clbench compare``: what stored runs show."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli import options
from clbench.cli.options import AsJson, Budget, DataRoot, Device, Overwrite, Results
from clbench.engine.settings import DEFAULT_BUDGET, USUAL
from clbench.errors import UserError
from clbench.terminal import console

if TYPE_CHECKING:
    import pandas as pd

    from clbench.engine.store import Run
    from clbench.results.columns import Column


def plot(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs: folders, or first letters of their hashes.", show_default="all that are complete"),
    ] = None,
    results: Results = USUAL.results,
    out: Annotated[Path | None, typer.Option(help="The folder for the plots.", show_default="RESULTS/plots")] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Instead, plot for each run which tasks are in which batches, the mask in training and the loss."
        ),
    ] = False,
) -> None:
    """Plot any runs: accuracy against tasks learned for all of them, and the accuracy matrix and task confusion for each."""
    from clbench.engine.store import find
    from clbench.results import plots, timelines

    chosen = [find(name, results) for name in runs] if runs else _complete(results)
    draw = timelines.plot_streams if stream else plots.plot_runs
    for path in draw(chosen, out or results / "plots"):
        print(path)


def figure(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Figures of the paper and others; `clbench list figures` lists them.",
            autocompletion=options.completing(options.figure_names),
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Make all figures; those that need downloaded data come last.")] = False,
    budget: Budget = DEFAULT_BUDGET,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, separated by commas.", show_default="0; several at the paper's budget")
    ] = None,
    from_results: Annotated[bool, typer.Option("--from-results", help="Only draw from stored runs; run nothing.")] = False,
    from_tables: Annotated[
        Path | None,
        typer.Option(
            "--from-tables",
            metavar="FOLDER",
            help="Only draw from the tables NAME.csv in this folder (each has its own budget and seeds); run nothing. The "
            "pictures go to the same folder.",
        ),
    ] = None,
    data_root: DataRoot = None,
    device: Device = USUAL.device,
    results: Results = USUAL.results,
    overwrite: Overwrite = USUAL.overwrite,
) -> None:
    """Reproduce figures of the paper: do the runs that they need, and draw them from these runs."""
    from clbench import devices, paper
    from clbench.cli.progress import bars

    if bool(names) == every:
        raise UserError("Name one figure or more, or give --all: `clbench list figures` lists them.")
    if from_results and from_tables is not None:
        raise UserError("--from-results draws from runs and --from-tables from tables: give one of them.")
    wanted = list(paper.ALL) if every else [paper.named(name).name for name in names or ()]
    if every and from_tables is not None:
        wanted = [name for name in wanted if (from_tables / f"{name}.csv").exists()]
        if not wanted:
            raise UserError(
                f"There is no table of a figure in {from_tables}: name a folder that has some, such as results/figures."
            )
    how: dict[str, Any] = {"seeds": options.integers(seeds, "--seeds"), "overwrite": options.overwriting(overwrite)}
    how |= {"data_root": None if data_root is None else str(data_root), "device": devices.chosen(device)}
    problems: dict[str, UserError] = {}
    for name in wanted:
        try:
            if from_tables is not None:
                drawn = paper.from_table(name, from_tables)
            else:
                with bars() as shown:
                    drawn = paper.figure(name, budget, results, from_results=from_results, watch=shown.watch, **how)
        except UserError as problem:
            if len(wanted) == 1:
                raise
            problems[name] = problem
            print(f"clbench: {name} could not be made: {problem}", file=sys.stderr)
        else:
            for path in drawn.files:
                print(path)
    if problems:
        raise UserError(
            f"{len(problems)} of {len(wanted)} figures could not be made: {', '.join(problems)}; the reasons are above."
        )


def table(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs: folders, or first letters of their hashes.", show_default="all that are complete"),
    ] = None,
    results: Results = USUAL.results,
    rows: Annotated[
        str, typer.Option(help="Pivot the table, with these as rows (method, outputs, ...), separated by commas.")
    ] = "",
    columns: Annotated[str, typer.Option(help="Columns of the pivoted table, in the same form.", show_default="scenario")] = "",
    value: Annotated[
        str, typer.Option(help="The value in its cells: any column of the glossary, or module:function.", show_default="accuracy")
    ] = "",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Also show this column: one of the glossary, such as backward_transfer, or your own metric, module:function."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A .csv, .md or .tex file to write instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a table of runs: mean, t interval and number of seeds for each method, scenario and ask; or, with --rows, pivoted."""
    from clbench.engine.store import find
    from clbench.results import tables
    from clbench.results.columns import MEASURED, joined
    from clbench.results.frames import frame, over_seeds, summarise
    from clbench.results.lines import flat
    from clbench.results.pivots import pivot

    if (columns or value) and not rows:
        raise UserError("--columns and --value belong to a pivoted table: name its --rows too.")
    if metric and rows:
        raise UserError(
            "--metric adds a column to a plain table: in a pivoted one (--rows), name what is in its cells with --value."
        )
    chosen = [find(name, results) for name in runs] if runs else _complete(results)
    measured = joined(MEASURED, [*(metric or ()), *([value] if value not in ("", "n") else [])])
    averages = over_seeds(summarise(frame(chosen), measured), measured)
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
        print(tables.write(averages, out, measured))
    elif as_json:
        print(json.dumps(json.loads(flat(averages).to_json(orient="records"))))
    else:
        tables.print_table(averages, measured)


def _complete(results: Path) -> "list[Run]":
    """All complete runs in the folder that can be read; a ``UserError`` if there is none."""
    from clbench.results.frames import complete

    runs = complete(results)
    if not runs:
        raise UserError(
            f"There are no complete runs in {results}: start one with clbench run, or name another folder with --results."
        )
    return runs


def claims(results: Results = USUAL.results, as_json: AsJson = False) -> None:
    """Judge the paper's claims by the figures in RESULTS/figures: a sentence each, with its verdict and what decided it.

    A claim holds if the whole 95 % interval of the difference over paired seeds lies where the claim says, does not hold if it lies
    elsewhere, and is undecided otherwise, as on one seed.
    """
    from clbench.paper.claims import judged
    from clbench.paper.verdicts import NOT_JUDGED

    verdicts = judged(results / "figures")
    if all(each.verdict == NOT_JUDGED and not each.basis for each in verdicts):
        raise UserError(
            f"There are no figures in {results} to judge claims by: make some, for example with `clbench figure fig3-left`."
        )
    if as_json:
        print(json.dumps([each._asdict() | {"numbers": dict(each.numbers)} for each in verdicts]))
        return
    for each in verdicts:
        print(f"{each.verdict}: {each.sentence} [{each.source}]. {each.evidence}.")
    counts = Counter(each.verdict for each in verdicts).most_common()
    print(f"Of {len(verdicts)} claims: {', '.join(f'{verdict} {count}' for verdict, count in counts)}.")


def report(
    results: Results = USUAL.results,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="RESULTS/report.html")] = None,
) -> None:
    """Write everything in RESULTS to one HTML file that needs no network: tables, figures, claims, and every run's provenance."""
    from clbench import report as page

    print(page.write(results, out or results / "report.html"))


def compare(
    lines: Annotated[list[str], typer.Argument(help="Lines: METHOD, METHOD/SCENARIO or METHOD/SCENARIO/key=value,…")],
    results: Results = USUAL.results,
    value: Annotated[
        str, typer.Option(help="A metric of the glossary, such as accuracy or backward_transfer, or your own, module:function.")
    ] = "accuracy",
    out: Annotated[Path | None, typer.Option(help="A .png or .pdf file for the diagram of three or more lines.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two lines on the same seeds (paired difference, t interval, Cohen's d_z, p), or rank three or more on many streams."""
    from clbench.results.columns import compared
    from clbench.results.frames import frame, summarise

    column = compared(value)
    if len(lines) < 2 or (len(lines) == 2 and out is not None):
        raise UserError("Name two lines to compare, or three or more to rank and to draw with --out.")
    summary = summarise(frame(_complete(results)), [column])
    if len(lines) == 2:
        _compare_two(summary, *lines, column=column, as_json=as_json)
    else:
        _rank(summary, lines, value, out, as_json)


def _compare_two(summary: "pd.DataFrame", first: str, second: str, *, column: "Column", as_json: bool) -> None:
    """Show what two lines differ by on each stream that they share."""
    from rich.table import Table

    from clbench.results import tables
    from clbench.results.compare import compare as compare_lines
    from clbench.results.compare import unlike
    from clbench.results.formats import NONE, percent

    differences = compare_lines(summary, first, second, column.name)
    if as_json:
        print(json.dumps(json.loads(differences.to_json(orient="records", double_precision=15))))
        return
    unit = " %" if column.format is percent else ""
    names = (f"{first}{unit}", f"{second}{unit}")
    table = Table("stream", "network", "tasks", "n", *names, "difference", "effect d", "p", title=column.name)
    for row in differences.to_dict("records"):
        effect, p = (NONE if row["effect"] != row["effect"] else f"{row[key]:.3g}" for key in ("effect", "p_value"))
        place = [row["stream"], row["network"], str(row["tasks"]), str(row["n"])]
        means = [column.text(row[which]) for which in ("first", "second")]
        table.add_row(*place, *means, column.difference(row["difference"], row["half_width"]), effect, p)
    screen = console()
    (screen if screen.is_terminal else console(width=tables.WIDE)).print(table)
    _say(unlike(summary, [first, second], column.name))


def _rank(summary: "pd.DataFrame", lines: list[str], value: str, out: Path | None, as_json: bool) -> None:
    """Show the mean ranks of lines, and draw them."""
    from rich.table import Table

    from clbench.results.compare import unlike
    from clbench.results.ranking import rank, save

    ranking = rank(summary, lines, value)
    if out is not None:
        save(ranking, value, out)
    if as_json:
        print(json.dumps(ranking._replace(ranks=ranking.ranks.tolist())._asdict()))
    else:
        table = Table("line", "mean rank", title=f"{value}, {ranking.blocks} blocks (stream and seed)")
        for name, place in zip(ranking.lines, ranking.ranks, strict=True):
            table.add_row(name, f"{place:.2f}")
        console().print(table)
        print(f"Critical difference (Nemenyi, 5 %): {ranking.critical_difference:.2f}. Friedman: p = {ranking.p_value:.2g}.")
        _say(unlike(summary, lines, value))
        if out is not None:
            print(out)


def _say(sentence: str) -> None:
    """Print a sentence if there is one."""
    if sentence:
        print(sentence)
