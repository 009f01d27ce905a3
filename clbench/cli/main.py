"""``clbench``: the command line. Its commands parse, call and print; the work is done elsewhere."""

import sys
import warnings
from typing import Any

import typer

from clbench.cli import check, data, draw, look, run
from clbench.errors import Notice, UserError

app = typer.Typer(
    help="Continual learning under one evaluator: scenarios GG, GNs, GNu and NNs, SupSup and its rivals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("ask")(run.ask)
app.command("plot")(draw.plot)
app.command("figure")(draw.figure)
app.command("table")(draw.table)
app.command("compare")(draw.compare)
app.command("claims")(draw.claims)
app.command("report")(draw.report)
app.command("bytes")(look.bytes_)
app.command("check")(check.check)
app.command("list")(look.list_)
app.command("show")(look.show)
app.command("doctor")(look.doctor)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line. Bad input is one sentence on standard error and exit code 2; a notice is one sentence there."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        show_other, shown = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, Notice):
                show_other(message, category, *where, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                print(f"clbench: note: {message}", file=sys.stderr)

        warnings.showwarning = show
        try:
            app()
        except UserError as error:
            print(f"clbench: {error}", file=sys.stderr)
            sys.exit(2)
