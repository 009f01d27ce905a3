"""A page for each method, written from what it declares: ``python -m clbench.pages docs/methods``.

Nothing in the pages is written by hand: a method's docstrings, scenarios, parameters and recipes are all that they hold.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from clbench import registry
from clbench.method import Method, Parameter, parameters

INDEX = "README.md"
WRITTEN = "<!-- Written by `python -m clbench.pages docs/methods`: change the method, not this page. -->"


def pages() -> dict[str, str]:
    """The text of each page by its file's name: the index, and one for each of clbench's own methods."""
    zoo = {name: method for name, method in sorted(registry.methods().items()) if method.__module__.startswith("clbench.methods.")}
    return {INDEX: index(zoo)} | {f"{name}.md": page(method) for name, method in zoo.items()}


def index(zoo: dict[str, type[Method]]) -> str:
    """Methods against scenarios."""
    scenarios = registry.scenarios().values()
    rows = [
        [f"[{name}]({name}.md)", *("yes" if s in method.scenarios else "" for s in scenarios), _summary(method)]
        for name, method in zoo.items()
    ]
    return _joined(WRITTEN, "# Methods", _table(["method", *(s.name for s in scenarios), ""], rows))


def page(method: type[Method]) -> str:
    """What a method is, where it serves, and what can be set."""
    module = sys.modules[method.__module__]
    package = sys.modules[method.__module__.rpartition(".")[0]]
    # A method that is a folder is described by the folder's docstring, one that is a file by the file's.
    described = package if package.__name__.startswith("clbench.methods.") else module
    recipes = [
        [r.stream, r.network, r.scenario, *(", ".join(f"{k}={v}" for k, v in half.items()) for half in (r.learn, r.ask)), r.source]
        for r in method.recipes
    ]
    served = ", ".join(s.name for s in registry.scenarios().values() if s in method.scenarios)
    return _joined(
        WRITTEN,
        f"# {method.name}",
        _summary(method),
        f"Scenarios: {served}. " + " ".join(_declared(method)),
        f"Citation: {method.citation}." if method.citation else "",
        inspect.getdoc(described) or "",
        _section("Learning parameters (`--set`)", method.__init__),
        _section("Asking parameters (`--ask`)", method.predict),
        "## Recipes" if recipes else "",
        _table(["stream", "network", "scenario", "learning", "asking", "source"], recipes) if recipes else "",
    )


def write(folder: Path) -> None:
    """Write all pages to ``folder``, and delete those of methods that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    written = pages()
    for old in folder.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (folder / name).write_text(text)


def _declared(method: type[Method]) -> Iterable[str]:
    """What else the class declares, in sentences."""
    if not method.acts_against_forgetting:
        yield "Does nothing against forgetting."
    if method.trains_at_end:
        yield "Learns from the data that it gets at the end of a task."
    if method.transductive:
        yield "Transductive: uses all the inputs of an ask to decide about each of them."
    if method.price != Method.price:
        yield f"Learns a new task up to {100 * method.price:.0f} points worse than naive fine-tuning."


def _section(title: str, function: Callable[..., Any]) -> str:
    """The keyword parameters of a function as a table, and what its docstring says of them."""
    known = parameters(function).values()
    if not known:
        return ""
    return f"## {title}\n\n{_table(['parameter', 'type', 'default'], map(_row, known))}\n\n{inspect.getdoc(function) or ''}".strip()


def _row(parameter: Parameter) -> Sequence[str]:
    kind = parameter.annotation
    written = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return [parameter.name, written, "required" if parameter.default is inspect.Parameter.empty else str(parameter.default)]


def _summary(method: type[Method]) -> str:
    return (inspect.getdoc(method) or "").partition("\n")[0]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the folder to write to: python -m clbench.pages docs/methods")
    write(Path(sys.argv[1]))
