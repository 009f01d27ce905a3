"""``clbench check``: check that a method keeps the contract."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from clbench.cli import options
from clbench.cli.options import AsJson
from clbench.errors import UserError
from clbench.terminal import console

if TYPE_CHECKING:
    from clbench.check import Result


def check(
    method: Annotated[
        str | None,
        typer.Argument(help="A method's name, or ./file.py:Class.", autocompletion=options.completing(options.method_names)),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Check every method that clbench list methods names.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method (clbench show METHOD).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a method keeps the contract: it acts against forgetting, restores its state and cannot cheat. Exit code 1 if not."""
    from clbench import registry
    from clbench.check import check as results_of

    if (method is None) != all_ or (all_ and set_):
        raise UserError("Name one method to check, with --set if it needs parameters, or give --all alone.")
    settings = options.pairs(set_, "--set")
    results = _of_all() if method is None else {method: list(results_of(registry.method(method), settings))}
    if as_json:
        print(json.dumps([{"method": name, **asdict(result)} for name, each in results.items() for result in each]))
    else:
        _print(results)
    if not all(result.passed for each in results.values() for result in each):
        raise typer.Exit(1)


def _of_all() -> "dict[str, list[Result]]":
    """The results of every method; as many methods run at a time as there are processors."""
    from joblib import Parallel, delayed

    from clbench import registry

    names = list(registry.methods())
    return dict(zip(names, Parallel(n_jobs=-1)(delayed(_of_one)(name) for name in names), strict=True))


def _of_one(name: str) -> "list[Result]":
    from clbench import registry
    from clbench.check import Result
    from clbench.check import check as results_of

    try:
        return list(results_of(registry.method(name)))
    except UserError as error:
        return [Result("can be created", "any", False, str(error))]


def _print(by_method: "dict[str, list[Result]]") -> None:
    """Print a table of requirements by scenarios (for several methods one line each), and every failure in words."""
    screen = console()
    for name, results in by_method.items():
        failed = [result for result in results if not result.passed]
        scenarios = list(dict.fromkeys(result.scenario for result in results))
        if len(by_method) == 1:
            table = Table("requirement", *scenarios, box=None)
            for requirement in dict.fromkeys(result.name for result in results):
                met = {result.scenario: result.passed for result in results if result.name == requirement}
                table.add_row(requirement, *(_sign(met[s]) if s in met else "" for s in scenarios))
            screen.print(table)
        else:
            screen.print(_sign(not failed), f"{name}: {len(results) - len(failed)} of {len(results)} in {', '.join(scenarios)}")
        for result in failed:
            screen.print(f"\n{name} in {result.scenario}, {result.name}: {result.message}.", highlight=False)


def _sign(passed: bool) -> Text:
    return Text("ok", "green") if passed else Text("failed", "red")
