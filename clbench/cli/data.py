"""``clbench data``: which data sets are present, which are missing, and how to get them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli.options import AsJson, DataRoot

if TYPE_CHECKING:
    from clbench.data import Added, Status

app = typer.Typer(help="List, download and add data sets.", invoke_without_command=True)

COLOURS = {"present": "green", "missing": "yellow", "damaged": "red"}


def names(incomplete: str) -> list[str]:
    """The data sets whose names begin with ``incomplete``, for the shell's completion."""
    from clbench.data import SOURCES

    return [name for name in SOURCES if name.startswith(incomplete)]


@app.callback()
def show(ctx: typer.Context, data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """List the data sets: which are present, missing or damaged, and how to get them."""
    if ctx.invoked_subcommand is None:
        from clbench import data

        _print_status(data.status(data_root), as_json)


@app.command("get")
def get(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The data set.", autocompletion=names)],
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Download a data set through torchvision, unless it is present."""
    from clbench import data

    _print_status([data.get(name, data_root or _before(ctx, "data_root"))], as_json or _before(ctx, "as_json"))


@app.command("add")
def add(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder with the files, in any layout, compressed or not.")],
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Copy the files of known data sets from a folder, verified by checksum."""
    from clbench import data

    root = data_root or _before(ctx, "data_root")
    added = data.add(folder, root)
    if as_json or _before(ctx, "as_json"):
        print(json.dumps([_added_record(file) for file in added], indent=2))
        return
    for file in added:
        print(f"{file.name}: {file.path} (from {file.origin})")
    touched = {file.name for file in added}
    for status in data.status(root):
        if status.source.name in touched:
            print(status.problem or f"data set {status.source.name} is complete")


def _before(ctx: typer.Context, parameter: str) -> Any:
    """The value of an option that precedes the subcommand: ``clbench data --data-root DIR get mnist``."""
    return ctx.parent.params.get(parameter) if ctx.parent else None


def _print_status(statuses: list["Status"], as_json: bool) -> None:
    """Print a table, and below it what is wrong with each data set that cannot be read and how to get it; or JSON."""
    if as_json:
        print(json.dumps([_status_record(status) for status in statuses], indent=2))
        return
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from clbench.terminal import console

    table = Table(box=SIMPLE, pad_edge=False)
    for header in ("data set", "status", "train / test"):
        table.add_column(header, no_wrap=True)
    for header in ("licence", "where"):
        table.add_column(header, overflow="fold")
    for status in statuses:
        source = status.source
        sizes = f"{source.train:,} / {source.test:,}"
        state = Text(status.state, style=COLOURS[status.state])
        table.add_row(source.name, state, sizes, source.licence, status.where)
    screen = console()
    screen.print(table)
    for status in statuses:
        if status.problem:
            screen.print(status.problem, style=COLOURS[status.state], highlight=False, soft_wrap=True)


def _status_record(status: "Status") -> dict[str, str | int]:
    """A data set and its status, for programs."""
    source = status.source
    return {
        "name": source.name,
        "title": source.title,
        "description": source.description,
        "status": status.state,
        "problem": status.problem,
        "train": source.train,
        "test": source.test,
        "classes": source.classes,
        "licence": source.licence,
        "citation": source.citation,
        "where": status.where,
        "how": status.how,
    }


def _added_record(added: "Added") -> dict[str, str]:
    """An added file, for programs."""
    return {"name": added.name, "origin": str(added.origin), "path": str(added.path)}
