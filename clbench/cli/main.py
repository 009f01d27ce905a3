"""``clbench``: the command line. Its commands parse, call and print; the work is done elsewhere."""

import os
import sys
import warnings
from contextlib import suppress
from typing import Any, TextIO, cast

import typer

from clbench import terminal
from clbench.cli import check, data, draw, look, run, runs
from clbench.engine import interrupts
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
app.add_typer(runs.app, name="runs")


def main() -> None:
    """Run the command line. Bad input is one sentence on standard error and exit code 2; a notice is one sentence there.

    So is everything else that is not clbench's fault: a full disk, too little memory, an error in a person's own method. Only an error of
    clbench itself shows a traceback. A signal is one sentence, that says what is kept, and the exit code 128 and its number.
    """
    terminal.replace_missing_letters()
    with warnings.catch_warnings(), interrupts.listening():
        warnings.simplefilter("always", Notice)
        show_other, shown = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, Notice):
                show_other(message, category, *where, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                print(f"clbench: note: {terminal.sentence(str(message))}", file=sys.stderr)

        warnings.showwarning = show
        try:
            try:
                app()
            finally:
                if sys.stdout is not None:  # it is None where it was closed, as by `>&-`
                    sys.stdout.flush()
        except BrokenPipeError:  # whoever read the output needs no more of it, as in `clbench table | head`
            _abandon(sys.stdout)
            sys.exit(1)
        except interrupts.Stopped as stopped:
            _say(f"clbench: {terminal.printable(str(stopped))}")
            sys.exit(128 + stopped.number)
        except Exception as error:
            sentence = _sentence(error)
            if not sentence:
                raise
            if isinstance(error, OSError):
                _abandon(sys.stdout)
            _say(f"clbench: {terminal.sentence(sentence)}")
            sys.exit(2)


def _sentence(error: Exception) -> str:
    """What a person must know of an error; empty for an error of clbench."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        what = f"{error.filename} cannot be read or written" if error.filename else "The output cannot be written"
        return f"{what} ({error.strerror or error}): check the place and the space there, and try again."
    from clbench import sources

    if isinstance(error, MemoryError) or "allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":
        return f"There is not enough memory ({sources.reason(error)}): ask for a smaller network, fewer outputs or smaller batches."
    where = sources.where(error)
    return f"Code from outside clbench failed{where} ({sources.reason(error)}): correct it there." if where else ""


def _say(line: str) -> None:
    """Print a line on standard error, if anything can be printed there."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: TextIO | None) -> None:
    """Let nothing more be written to a stream that failed: Python would try again at its end, and print an error of its own."""
    with suppress(OSError, AttributeError):  # a stream in memory has no number, and a closed one is None
        os.dup2(os.open(os.devnull, os.O_WRONLY), cast(TextIO, stream).fileno())
