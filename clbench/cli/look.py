"""``clbench list``, ``clbench show``, ``clbench bytes`` and ``clbench doctor``: what there is, and whether it works on this machine."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from clbench.cli import options
from clbench.cli.options import AsJson, DataRoot
from clbench.errors import UserError, unknown
from clbench.terminal import console

Rows = list[dict[str, Any]]


def list_(
    what: Annotated[
        str,
        typer.Argument(help="methods, scenarios, streams, networks or figures.", autocompletion=options.completing(lambda: LISTS)),
    ],
    as_json: AsJson = False,
) -> None:
    """List methods (with the scenarios that they serve), scenarios (the paper's Table 1), streams, networks or figures."""
    if what not in LISTS:
        raise unknown("list", what, LISTS)
    rows = LISTS[what]()
    if as_json:
        print(json.dumps(rows))
    else:
        console().print(_table(rows if what != "methods" else _matrix(rows)))


def show(
    name: Annotated[str, typer.Argument(help="A method, scenario, stream, network or figure.")],
    as_json: AsJson = False,
) -> None:
    """Show one thing: a method's parameters, scenarios, recipes and citation; a network's weights; what a stream or scenario is."""
    record = _describe(name)
    if as_json:
        print(json.dumps(record))
        return
    screen = console()
    for key, value in record.items():
        if value in ("", []):
            continue
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            screen.print(f"\n{key}", style="bold", highlight=False)
            screen.print(_table(value))
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else _unwrapped(str(value))
            before, after = ("", ": ") if "\n" not in text else ("\n", "\n")
            screen.print(Text.assemble(before, (key, "bold"), after), text, sep="", highlight=False)


def bytes_(as_json: AsJson = False) -> None:
    """Compare bytes for the paper's Figure 2 left (SplitImageNet, ResNet-50): as the paper counts them, and in clbench's files."""
    from clbench.paper.sizes import sizes

    records = sizes()
    if as_json:
        print(json.dumps([size._asdict() for size in records]))
        return
    names = {"paper_accounting": "paper's accounting, MB", "file": "clbench's file, MB", "paper": "the paper, MB"}
    rows = [
        {names.get(key, key): f"{value:.2f}" if key in names else value for key, value in size._asdict().items()}
        for size in records
    ]
    console().print(_table(rows))


def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """Check this installation: versions, devices, torchvision and Avalanche, and which data sets are present."""
    from clbench import data, devices
    from clbench.engine.environment import environment

    checks: list[tuple[str, bool, str]] = [("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    checks += [(name, version != "not installed", version) for name, version in environment()["packages"].items()]
    checks.append(("torchvision loads", *_loads(_import_torchvision)))
    checks.append(("avalanche loads (optional)", *_loads(_import_avalanche)))
    here = environment()
    cores = f"{here['cores']} cores, of which this process may use {here['usable_cores']}; {here['threads']} threads"
    checks.append(("processor", True, cores))
    checks.append(("threads wait passively", not here["waiting"].startswith("active"), here["waiting"]))
    checks.append(("GPU (optional)", devices.accelerator() is not None, devices.description()))
    for status in data.status(data_root):
        checks.append((f"data {status.source.name}", status.state == "present", status.problem or status.where))
    if as_json:
        print(json.dumps([{"check": name, "ok": ok, "found": found} for name, ok, found in checks]))
        return
    table = Table("check", "", "found", box=None)
    for name, ok, found in checks:
        table.add_row(name, Text("ok", "green") if ok else Text("no", "yellow"), found)
    console().print(table)


def _list_methods() -> Rows:
    from clbench import facts, registry

    return [
        {"name": name, "scenarios": facts.served(method), "summary": facts.summary(method)}
        for name, method in registry.methods().items()
    ]


def _list_scenarios() -> Rows:
    from clbench import facts, registry

    return [facts.scenario_facts(scenario) for scenario in registry.scenarios().values()]


def _list_streams() -> Rows:
    from clbench import facts, registry

    return [facts.stream_facts(builder) for builder in registry.streams().values()]


def _list_networks() -> Rows:
    from clbench import networks

    return [{"name": r.name, "parameters (10 outputs)": r.parameters, "summary": r.description} for r in networks.catalogue()]


def _list_figures() -> Rows:
    from clbench import paper

    return [{"name": figure.name, "title": figure.title} for figure in paper.FIGURES.values()]


LISTS: dict[str, Callable[[], Rows]] = {
    "methods": _list_methods,
    "scenarios": _list_scenarios,
    "streams": _list_streams,
    "networks": _list_networks,
    "figures": _list_figures,
}


def _describe(name: str) -> dict[str, Any]:
    """Everything about the thing called ``name``, whatever kind it is."""
    from clbench import facts, networks, registry

    foreign = registry.library(name)
    if foreign and foreign[0].is_stream(foreign[1]):
        return facts.stream_facts(registry.stream(name))
    if foreign or ".py:" in name or name in registry.methods():
        return facts.method_facts(registry.method(name))
    for kind in ("streams", "figures", "networks"):
        for row in LISTS[kind]():
            if row["name"] == name:
                return row | (_parameters_of(name) if kind == "networks" else {})
    if name.lower() in {s.lower() for s in registry.scenarios()} | set(registry.INVALID_SCENARIOS):
        scenario = registry.scenario(name)
        return facts.scenario_facts(scenario)
    try:
        networks.resolve(name, (1, 28, 28))
    except UserError:
        known = [row["name"] for kind in LISTS for row in LISTS[kind]()]
        raise unknown("name", name, known) from None
    return {"name": name, "summary": "a network"} | _parameters_of(name)


def _parameters_of(network: str) -> dict[str, Rows]:
    """A network's parameters with 10 outputs, and which of them are masked; for digits or, if it cannot take them, colour images."""
    from clbench import networks

    if network == networks.KNOWN[-1]:  # the entry that stands for all dotted names
        return {}
    try:
        module = networks.seeded(networks.resolve(network, (1, 28, 28)), 10, 0)
    except UserError:
        module = networks.seeded(networks.resolve(network, (3, 224, 224)), 10, 0)
    weights = networks.weights(module)
    rows = [
        {
            "parameter": name,
            "shape": " x ".join(map(str, p.shape)),
            "by a mask method": "masked" if name in weights else "not masked",
        }
        for name, p in module.named_parameters()
    ]
    return {"parameters with 10 outputs": rows}


def _matrix(rows: Rows) -> Rows:
    """Methods against scenarios."""
    from clbench import registry

    return [
        {"name": row["name"]}
        | {s: "yes" if s in row["scenarios"] else "" for s in registry.scenarios()}
        | {"summary": row["summary"]}
        for row in rows
    ]


def _unwrapped(text: str) -> str:
    """Text whose paragraphs are one line each, for the terminal to wrap; lines of lists and formulas stay as they are."""
    return re.sub(r"(?<=\S)\n(?=[^\s\-*|])", " ", text)


def _table(rows: Rows) -> Table:
    table = Table(*rows[0], box=None, header_style="bold", pad_edge=False) if rows else Table()
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    return table


def _loads(load: Callable[[], Any]) -> tuple[bool, str]:
    try:
        return True, f"version {load().__version__}"
    except Exception as error:  # whatever goes wrong here is what the doctor reports
        return False, f"{type(error).__name__}: {error}"


def _import_torchvision() -> Any:
    from clbench._torchvision import import_torchvision

    return import_torchvision()


def _import_avalanche() -> Any:
    import importlib

    _import_torchvision()
    return importlib.import_module("avalanche")
