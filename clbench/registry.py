"""Methods, scenarios and streams by name: those of clbench, of installed packages, or of a single file.

clbench imports no method and no stream by name. A module of ``clbench.methods`` provides its subclasses of ``Method``, one of
``clbench.scenarios`` its ``STREAMS``; other packages add theirs through the entry-point groups ``clbench.methods``,
``clbench.streams`` and ``clbench.metrics``; ``./file.py:Name`` names an object in a file, and ``library:Name`` one of another library
(``clbench.interop``).
"""

import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from clbench import sources
from clbench.data.dataset import Dataset, Watched, watched
from clbench.errors import UserError, unknown
from clbench.method import Method
from clbench.scenario import Scenario
from clbench.stream import Stream, StreamBuilder

LIBRARIES = ("avalanche",)
"""Other libraries whose methods and streams have names of the form ``library:Name``."""

OWN_DATA = "own"
"""The recorded name of the data of a stream function that has its own images."""

INVALID_SCENARIOS = {
    "nnu": "NNu is not a scenario: labels that are new would reveal the new task (the labels trick), "
    "so with unshared labels the task is in fact given in training. Use GNu, or NNs.",
    "ggs": "GGs and GGu are the same, because the task is given: use GG.",
    "ggu": "GGs and GGu are the same, because the task is given: use GG.",
}


@cache
def methods() -> dict[str, type[Method]]:
    """Every method that has a name, by name."""
    built_in = {method.name: method for module in _modules("clbench.methods") for method in _methods_of(module)}
    return built_in | {entry.name: _checked_method(entry.load(), entry.name) for entry in entry_points(group="clbench.methods")}


def method(name: str) -> type[Method]:
    """The method called ``name``, the class of ``path.py:Class``, or the one of another library with ``library:Name``."""
    if named := library(name):
        return named[0].method(named[1])
    if _is_path(name):
        return _checked_method(_from_file(name), name)
    if name not in methods():
        raise unknown("method", name, methods())
    return methods()[name]


def scenarios() -> dict[str, Scenario]:
    """The four scenarios, by name."""
    return {scenario.name: scenario for scenario in importlib.import_module("clbench.scenarios").SCENARIOS}


def scenario(name: str) -> Scenario:
    """The scenario called ``name``, in upper or lower case."""
    if name.lower() in INVALID_SCENARIOS:
        raise UserError(INVALID_SCENARIOS[name.lower()])
    by_name = {known.lower(): scenario for known, scenario in scenarios().items()}
    if name.lower() not in by_name:
        raise unknown("scenario", name, scenarios())
    return by_name[name.lower()]


@cache
def streams() -> dict[str, StreamBuilder]:
    """Every stream that has a name, by name."""
    built_in = [builder for module in _modules("clbench.scenarios") for builder in getattr(module, "STREAMS", ())]
    return {builder.name: builder for builder in built_in} | {
        entry.name: _as_builder(entry.load(), entry.name) for entry in entry_points(group="clbench.streams")
    }


def stream(name: str) -> StreamBuilder:
    """The stream called ``name``, the builder or function of ``path.py:name``, or the one of another library with ``library:Name``."""
    if named := library(name):
        return named[0].stream(named[1])
    if _is_path(name):
        return _as_builder(_from_file(name), name)
    if name not in streams():
        raise unknown("stream", name, streams())
    return streams()[name]


def metric(name: str) -> Callable[..., Any] | None:
    """The function of a person's own metric: of ``path.py:function``, ``package.module:function`` or the group ``clbench.metrics``.

    None for a name that is none of these; a ``UserError`` for one that cannot be imported or is not a function.
    """
    entries = {entry.name: entry for entry in entry_points(group="clbench.metrics")}
    if _is_path(name):
        function = _from_file(name)
    elif name in entries or ":" in name:
        try:
            function = entries[name].load() if name in entries else pkgutil.resolve_name(name)
        except (Exception, SystemExit) as error:  # importing runs other people's code: anything may come
            raise UserError(f"The metric {name} cannot be imported: {sources.reason(error)}{sources.where(error)}.") from error
    else:
        return None
    if not callable(function):
        raise UserError(f"{name} is not a metric: it must be a function (R, scores) that returns a number.")
    return function


def library(name: str) -> tuple[ModuleType, str] | None:
    """The module of ``clbench.interop`` for ``library:Name``, and ``Name``. None for other names."""
    prefix, colon, rest = name.partition(":")
    return (importlib.import_module(f"clbench.interop.{prefix}"), rest) if colon and prefix in LIBRARIES else None


def file_of(name: str) -> str | None:
    """The file in ``path.py:Name``, whether it exists or not. None for other names."""
    return name.rsplit(":", 1)[0] if _is_path(name) else None


def code(name: str) -> dict[str, str]:
    """Digests of the code of a method or stream from outside clbench: changed code must not reuse old results.

    For ``path.py:Name``, the digests of the file and of what it imports (``clbench.sources``); for a ``library``, or an entry point, the
    release of the package. Empty for other names.
    """
    if named := library(name):
        return {name.partition(":")[0]: named[0].release()}
    if _is_path(name):
        return sources.of_file(_file_of(name).as_posix(), _file_of(name))
    return sources.of_dotted(_entries()[name]) if name in _entries() else {}


def source_digest(name: str) -> str | None:
    """One digest of all of ``code``; None if that is empty."""
    return sources.digest(code(name))


@cache
def _entries() -> dict[str, str]:
    """The methods and streams of other packages by name, as ``package.module:object``."""
    return {entry.name: entry.value for group in ("clbench.methods", "clbench.streams") for entry in entry_points(group=group)}


def normal_name(name: str) -> str:
    """A name in the form in which runs record it: a path without ``./`` and the like, so that a file has one name."""
    if not _is_path(name):
        return name
    path, _, attribute = name.rpartition(":")
    return f"{Path(path).as_posix()}:{attribute}"


def _modules(package: str) -> Iterator[ModuleType]:
    parent = importlib.import_module(package)
    for info in pkgutil.iter_modules(parent.__path__):
        if not info.name.startswith("_"):
            yield importlib.import_module(f"{package}.{info.name}")


def _methods_of(module: ModuleType) -> Iterator[type[Method]]:
    """The concrete methods that ``module``, or a module inside it, defines."""
    for value in vars(module).values():
        defined_here = inspect.isclass(value) and (value.__module__ + ".").startswith(module.__name__ + ".")
        if defined_here and issubclass(value, Method) and not inspect.isabstract(value):
            yield value


def _is_path(name: str) -> bool:
    return name.rsplit(":", 1)[0].endswith(".py")


def _file_of(name: str) -> Path:
    path, _, attribute = name.rpartition(":")
    if not attribute or not path:
        raise UserError(f"{name!r} names no object in a file: write {name}:Name.")
    if not os.path.isfile(path):  # unlike Path.is_file, it takes a name of any length
        raise UserError(f"There is no file {path}: {name!r} must name an existing file and an object in it, ./file.py:Name.")
    return Path(path)


def _from_file(name: str) -> Any:
    file, (_, _, attribute) = _file_of(name), name.rpartition(":")
    digests = code(name)
    sources.refresh(digests)
    module = _load(file.resolve(), str(sources.digest(digests)))
    if not hasattr(module, attribute):
        raise UserError(f"The file {file} has no {attribute!r}: name one of the objects that it defines.")
    return getattr(module, attribute)


@cache
def _load(file: Path, digest: str) -> ModuleType:
    """The module in ``file``. ``digest`` is in the key of the cache: it changes after an edit of the module or of what it imports."""
    module = ModuleType(f"clbench_file_{file.stem}_{digest}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        # Compiled from the text: an import would use stale bytecode for a file that was edited twice within a second.
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # importing runs other people's code, which may raise anything
        raise UserError(f"The file {file} cannot be imported: {sources.reason(error)}{sources.where(error)}.") from error
    return module


def _checked_method(value: Any, name: str) -> type[Method]:
    if not (inspect.isclass(value) and issubclass(value, Method)):
        raise UserError(f"{name!r} is not a method: it must be a subclass of clbench.Method.")
    if inspect.isabstract(value):
        missing = ", ".join(sorted(value.__abstractmethods__))
        raise UserError(f"The method {name!r} is incomplete: it must define {missing}.")
    for attribute in ("name", "scenarios"):
        if not hasattr(value, attribute):
            raise UserError(f"The method {name!r} must declare {attribute!r} in its class.")
    return value


def _as_builder(value: Any, name: str) -> StreamBuilder:
    """A builder, or a builder of that name for a function ``(data, *, tasks, seed) -> Stream``, with or without ``data``."""
    if isinstance(value, StreamBuilder):
        return replace(value, build=_checked_stream(value.build, name))
    if not callable(value):
        raise UserError(f"{name!r} is not a stream: it must be a function (data, *, tasks, seed) that returns a clbench.Stream.")
    summary = (inspect.getdoc(value) or "").partition("\n")[0]
    if _problem_with(value, tasks=1, seed=0) is None:  # it has its own images
        return StreamBuilder(name, _checked_stream(lambda _, **named: value(**named), name), summary, data=(), full_data=OWN_DATA)
    if problem := _problem_with(value, None, tasks=1, seed=0):
        raise UserError(f"{name!r} is not a stream ({problem}): it must be a function (data, *, tasks, seed).")
    return StreamBuilder(name, _checked_stream(value, name), summary)


def _problem_with(function: Callable[..., Any], *positional: Any, **named: Any) -> str | None:
    """Why ``function`` does not take these arguments; None if it does."""
    try:
        inspect.signature(function).bind(*positional, **named)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _checked_stream(build: Callable[..., Any], name: str) -> Callable[..., Stream]:
    """``build``, with a ``UserError`` for any error in it, and for data sets that a run would name but the stream does not use."""

    def checked_build(*arguments: Any, tasks: int, seed: int) -> Stream:
        arguments = tuple(watched(each) if isinstance(each, Dataset) else each for each in arguments)
        with sources.naming(f"The stream {name}"):
            stream = build(*arguments, tasks=tasks, seed=seed)
        if not isinstance(stream, Stream):
            raise UserError(f"{name!r} must return a clbench.Stream, not a {type(stream).__name__}.")
        for each in arguments:
            if isinstance(each, Watched) and not each.used:
                raise UserError(
                    f"The stream {name} uses no image of {each.name}, the data set that its runs would name: "
                    "remove the parameter for data from its function if it has its own images."
                )
        return stream

    return checked_build
