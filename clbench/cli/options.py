"""Options that several commands share, and how their values are read."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.engine.divergence import OnDivergence as OnDivergenceMode
    from clbench.engine.execution import Overwrite as OverwriteMode


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A completion for the shell that offers those of ``names()`` that begin as typed."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.lower().startswith(incomplete.lower())]

    return complete


def method_names() -> Iterable[str]:
    """Names of methods, for completion."""
    from clbench import registry

    return registry.methods()


def scenario_names() -> Iterable[str]:
    """Names of scenarios in lower case, for completion."""
    from clbench import registry

    return [name.lower() for name in registry.scenarios()]


def stream_names() -> Iterable[str]:
    """Names of streams, for completion."""
    from clbench import registry

    return registry.streams()


def network_names() -> Iterable[str]:
    """Names of networks, for completion."""
    from clbench import networks

    return [row.name for row in networks.catalogue() if ":" not in row.name]


def figure_names() -> Iterable[str]:
    """Names of the paper's figures, for completion."""
    from clbench import paper

    return paper.ALL


def budget_names() -> Iterable[str]:
    """Names of budgets, for completion."""
    from clbench.engine.learn import BUDGETS

    return BUDGETS


Results = Annotated[Path, typer.Option("--results", help="The folder for results.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="The folder with data sets.", show_default="CLBENCH_DATA, else a cache folder")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Overwrite = Annotated[
    str,
    typer.Option("--overwrite", help="missing: do what is missing; always: begin again; never: only read what is there."),
]
OnDivergence = Annotated[
    str,
    typer.Option(
        "--on-divergence", help="Where training diverges: stop: keep what was learned before; mark: go on and mark the rows."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]
AskSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--ask",
        metavar="KEY=VALUE[,VALUE]",
        help="A setting of the question, such as objective=G, protocol=paper, images=500 (the first), images=all, sample=500 (others of "
        "each task) or scenario=gg. Several values ask several times.",
    ),
]


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """``key=value`` texts as a dictionary; the last value of a key counts."""
    return {key: values[-1] for key, values in _read(texts, option).items()}


def choices(texts: Sequence[str] | None, option: str) -> dict[str, list[str]]:
    """``key=value,value`` texts as a dictionary of all values; a repeated key adds to them."""
    return {key: [part for value in values for part in value.split(",")] for key, values in _read(texts, option).items()}


def integers(text: str | None, option: str) -> tuple[int, ...] | None:
    """A list such as ``0,1,2``; None where the option was not given."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} takes whole numbers with commas between them, such as 0,1,2, not {text!r}.") from None


def overwriting(value: str) -> "OverwriteMode":
    """The value of ``--overwrite``, checked."""
    from clbench.engine.execution import OVERWRITE

    if value not in OVERWRITE:
        raise UserError(f"--overwrite is missing, always or never, not {value!r}.")
    return cast("OverwriteMode", value)


def diverging(value: str) -> "OnDivergenceMode":
    """The value of ``--on-divergence``, checked."""
    from clbench.engine.divergence import ON_DIVERGENCE

    if value not in ON_DIVERGENCE:
        raise UserError(f"--on-divergence is stop or mark, not {value!r}.")
    return cast("OnDivergenceMode", value)


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def _read(texts: Sequence[str] | None, option: str) -> dict[str, list[str]]:
    read: dict[str, list[str]] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UserError(f"{option} takes key=value, not {text!r}.")
        read.setdefault(key.strip().replace("-", "_"), []).append(value.strip())
    return read
