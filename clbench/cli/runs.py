"""``clbench runs``: the folders of runs."""

import sys
from typing import Annotated

import typer

from clbench.cli.options import DataRoot, Results
from clbench.engine.settings import USUAL

app = typer.Typer(help="Look after the folders of runs.")


@app.callback(invoke_without_command=True)
def runs(context: typer.Context) -> None:
    """Look after the folders of runs."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("verify")
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs: folders, or first letters of their hashes.", show_default="all"),
    ] = None,
    results: Results = USUAL.results,
    mend: Annotated[bool, typer.Option("--repair", help="Mend what can be mended; only lost answers are computed again.")] = False,
    data_root: DataRoot = None,
) -> None:
    """Check that runs are as they were written: record, tables, saved state. Exits with code 1 if one is damaged."""
    from clbench.engine.store import find, runs_in
    from clbench.engine.verify import problems, repair, standing
    from clbench.errors import UserError

    chosen = [find(name, results) for name in names] if names else runs_in(results)
    if not chosen:
        raise UserError(f"There are no runs in {results}: name another folder with --results.")
    damaged = 0
    for run in chosen:
        found: list[str] = []
        try:
            found = [problem.sentence for problem in problems(run)]
            if mend and (found or run.extents is None):  # a run of schema 1 gets its digests
                left = [problem.sentence for problem in repair(run, None if data_root is None else str(data_root))]
                for sentence in found:
                    if sentence not in left:
                        print(f"{run.path.name}: mended: {sentence}")
                found = left
            standing_now = "" if found else standing(run)
        except UserError as error:
            found = [str(error)]
        damaged += bool(found)
        for sentence in found or [standing_now]:
            print(f"{run.path.name}: {sentence}")
    if damaged:
        print(f"{damaged} of {len(chosen)} runs are damaged.")
        sys.exit(1)
