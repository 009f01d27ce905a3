"""``clbench``: the command line. Its commands parse, call and print; what they do lies elsewhere."""

import sys

import typer

from clbench.cli import check, data, draw, look, run
from clbench.errors import UserError

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
    """Run the command line. Bad input is one sentence on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"clbench: {error}", file=sys.stderr)
        sys.exit(2)
