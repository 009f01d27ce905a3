"""The options of commands: made from the settings' fields, or shared by several commands; and how their values are read."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from clbench.engine.settings import Execution, Request, checked, default_in_words
from clbench.engine.settings import Overwrite as OverwriteMode
from clbench.errors import UserError


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A completion for the shell: those of ``names()`` that begin with the typed letters."""

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


COMPLETIONS: dict[str, Callable[[], Iterable[str]]] = {
    "method": method_names,
    "scenario": scenario_names,
    "stream": stream_names,
    "network": network_names,
}
"""What the shell offers for a setting with names; for one with a few choices it offers these."""

METAVARS = {"set": "KEY=VALUE", "flow": "KEY=VALUE", "ask": "KEY=VALUE[,VALUE]"}


def option(model: type[BaseModel], name: str) -> Any:
    """The option of a command for a field of ``model``, with the field's description and default."""
    field = model.model_fields[name]
    kind = _kind(field.annotation)
    names = (lambda: get_args(kind)) if get_origin(kind) is Literal else COMPLETIONS.get(name)
    return typer.Option(
        f"--{name.replace('_', '-')}",
        help=field.description,
        show_default=default_in_words(field) or True,
        autocompletion=completing(names) if names else None,
        metavar=METAVARS.get(name),
    )


def options_of(model: type[BaseModel]) -> Iterator[inspect.Parameter]:
    """A parameter for each field of ``model``, for Typer to make options of; None if the option is not given."""
    for name, field in model.model_fields.items():
        kind = _kind(field.annotation)
        # Choices and lists of numbers are read as text: the model checks the first, ``settings`` reads the second.
        typed: Any = {Literal: str, tuple: str, dict: list[str]}.get(get_origin(kind), kind)
        annotation = Annotated[typed | None, option(model, name)]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def settings(model: type[BaseModel], texts: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those options for fields of ``model`` that were given on the command line."""
    read: dict[str, Callable[[Any, str], Any]] = {"set": pairs, "flow": pairs, "ask": choices}
    values = {}
    for name, field in model.model_fields.items():
        if texts[name] not in (None, []):
            reader = integers if get_origin(_kind(field.annotation)) is tuple else read.get(name)
            values[name] = reader(texts[name], f"--{name}") if reader else texts[name]
    return values


def _kind(annotation: Any) -> Any:
    """A field's type, without None."""
    if get_origin(annotation) in (Union, UnionType):
        return next(kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation


Results = Annotated[Path, option(Execution, "results")]
DataRoot = Annotated[Path | None, option(Execution, "data_root")]
Device = Annotated[str, option(Execution, "device")]
Overwrite = Annotated[str, option(Execution, "overwrite")]
Budget = Annotated[str, option(Request, "budget")]
AskSettings = Annotated[list[str] | None, option(Request, "ask")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]


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
        raise UserError(f"{option} takes whole numbers separated by commas, such as 0,1,2, not {text!r}.") from None


def overwriting(value: str) -> OverwriteMode:
    """The value of ``--overwrite``, checked."""
    return checked(Execution, {"overwrite": value}).overwrite


def _read(texts: Sequence[str] | None, option: str) -> dict[str, list[str]]:
    read: dict[str, list[str]] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UserError(f"{option} takes key=value, not {text!r}.")
        read.setdefault(key.strip().replace("-", "_"), []).append(value.strip())
    return read
