"""Names of methods, scenarios and streams, found where they lie: the zoo, installed packages, or a single file.

The harness imports no method and no stream by name. A module of ``clbench.methods`` is asked for its subclasses of ``Method``, one of
``clbench.scenarios`` for its ``STREAMS``; other packages add theirs through the entry-point groups ``clbench.methods``,
``clbench.streams`` and ``clbench.metrics``; ``./file.py:Name`` names an object in a file, and ``library:Name`` one of another library
(``clbench.interop``).
"""

import importlib
import inspect
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
from clbench.interop import LIBRARIES
from clbench.method import Method
from clbench.scenario import Scenario
from clbench.stream import Stream, StreamBuilder

OWN_DATA = "own"
"""What is recorded as the data set of a function that brings its own images."""

INVALID_SCENARIOS = {
    "nnu": "NNu is no scenario: labels that were never seen would give the new task away (the labels trick), "
    "so with unshared labels the task is in fact given in training. Use GNu, or NNs.",
    "ggs": "GGs and GGu are the same, for the given task tells shared labels apart: use GG.",
    "ggu": "GGs and GGu are the same, for the given task tells shared labels apart: use GG.",
}


@cache
def methods() -> dict[str, type[Method]]:
    """Every method that can be named, by name."""
    found = {method.name: method for module in _modules("clbench.methods") for method in _methods_of(module)}
    return found | {entry.name: _checked_method(entry.load(), entry.name) for entry in entry_points(group="clbench.methods")}


def method(name: str) -> type[Method]:
    """The method called ``name``, the class of ``path.py:Class``, or what another library has by ``library:Name``."""
    if found := library(name):
        return found[0].method(found[1])
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
    by_name = {known.lower(): found for known, found in scenarios().items()}
    if name.lower() not in by_name:
        raise unknown("scenario", name, scenarios())
    return by_name[name.lower()]


@cache
def streams() -> dict[str, StreamBuilder]:
    """Every stream that can be named, by name."""
    found = [builder for module in _modules("clbench.scenarios") for builder in getattr(module, "STREAMS", ())]
    return {builder.name: builder for builder in found} | {
        entry.name: _as_builder(entry.load(), entry.name) for entry in entry_points(group="clbench.streams")
    }


def stream(name: str) -> StreamBuilder:
    """The stream called ``name``, the builder or function of ``path.py:name``, or what another library has by ``library:Name``."""
    if found := library(name):
        return found[0].stream(found[1])
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
        except Exception as error:  # importing runs other people's code: anything may come
            raise UserError(f"The metric {name} cannot be imported: {type(error).__name__}: {error}.") from error
    else:
        return None
    if not callable(function):
        raise UserError(f"{name} is not a metric: it must be a function (R, scores) that returns a number.")
    return function


def library(name: str) -> tuple[ModuleType, str] | None:
    """The module of ``clbench.interop`` for ``library:Name``, and ``Name``. None for other names."""
    prefix, colon, rest = name.partition(":")
    return (importlib.import_module(f"clbench.interop.{prefix}"), rest) if colon and prefix in LIBRARIES else None


def code(name: str) -> dict[str, str]:
    """Digests of the code of a method or stream that is not clbench's: another one must not reuse old results.

    Those of the file that ``path.py:Name`` lies in and of what it imports (``clbench.sources``), or the release of a ``library`` or of
    the package that an entry point is in. Empty for other names.
    """
    if found := library(name):
        return {name.partition(":")[0]: found[0].release()}
    if _is_path(name):
        return sources.of_file(_file_of(name).as_posix(), _file_of(name))
    return sources.of_dotted(_entries()[name]) if name in _entries() else {}


def source_digest(name: str) -> str | None:
    """One digest of ``code``; None where there is none."""
    return sources.digest(code(name))


@cache
def _entries() -> dict[str, str]:
    """Where the methods and streams of other packages lie, ``package.module:object``, by name."""
    return {entry.name: entry.value for group in ("clbench.methods", "clbench.streams") for entry in entry_points(group=group)}


def normal_name(name: str) -> str:
    """A name as it stands in a spec: a path without ``./`` and the like, so that one file has one name in one folder."""
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
        raise UserError(f"{name!r} names no object in the file: write {name}:Name.")
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}: {name!r} must name an existing file and an object in it, ./file.py:Name.")
    return Path(path)


def _from_file(name: str) -> Any:
    file, (_, _, attribute) = _file_of(name), name.rpartition(":")
    found = code(name)
    sources.refresh(found)
    module = _load(file.resolve(), str(sources.digest(found)))
    if not hasattr(module, attribute):
        raise UserError(f"The file {file} has no {attribute!r}: name one of the objects that it defines.")
    return getattr(module, attribute)


@cache
def _load(file: Path, digest: str) -> ModuleType:
    """The module in ``file``; ``digest`` is in the key of the cache: one that was edited, or needs one that was, is loaded anew."""
    module = ModuleType(f"clbench_file_{file.stem}_{digest}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        # Compiled from the text: an import would take stale bytecode for a file edited twice within a second.
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except UserError:
        raise
    except Exception as error:  # importing runs other people's code: anything may come
        raise UserError(f"The file {file} cannot be imported: {type(error).__name__}: {error}.") from error
    return module


def _checked_method(found: Any, name: str) -> type[Method]:
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise UserError(f"{name!r} is no method: it must be a subclass of clbench.Method.")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise UserError(f"The method {name!r} is incomplete: it must define {missing}.")
    for attribute in ("name", "scenarios"):
        if not hasattr(found, attribute):
            raise UserError(f"The method {name!r} must declare {attribute!r} in its class.")
    return found


def _as_builder(found: Any, name: str) -> StreamBuilder:
    """A builder, or a plain function as one under the given name: ``(data, *, tasks, seed) -> Stream``, or without ``data``."""
    if isinstance(found, StreamBuilder):
        return replace(found, build=_checked_stream(found.build, name))
    if not callable(found):
        raise UserError(f"{name!r} is no stream: it must be a function (data, *, tasks, seed) that returns a clbench.Stream.")
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    if _takes(found, tasks=1, seed=0) is None:  # it brings its own images
        return StreamBuilder(name, _checked_stream(lambda _, **named: found(**named), name), summary, data=(), full_data=OWN_DATA)
    if problem := _takes(found, None, tasks=1, seed=0):
        raise UserError(f"{name!r} is no stream ({problem}): it must be a function (data, *, tasks, seed).")
    return StreamBuilder(name, _checked_stream(found, name), summary)


def _takes(function: Callable[..., Any], *positional: Any, **named: Any) -> str | None:
    """Why ``function`` does not take these arguments; None if it does."""
    try:
        inspect.signature(function).bind(*positional, **named)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _checked_stream(build: Callable[..., Any], name: str) -> Callable[..., Stream]:
    """``build``, with a sentence for whatever goes wrong in it, and for data sets that a run would name and it does not use."""

    def built(*given: Any, tasks: int, seed: int) -> Stream:
        given = tuple(watched(each) if isinstance(each, Dataset) else each for each in given)
        with sources.naming(f"The stream {name}"):
            stream = build(*given, tasks=tasks, seed=seed)
        if not isinstance(stream, Stream):
            raise UserError(f"{name!r} must return a clbench.Stream, not a {type(stream).__name__}.")
        for each in given:
            if isinstance(each, Watched) and not each.used:
                raise UserError(
                    f"The stream {name} uses no image of {each.name}, the data set that its runs would name: "
                    "take the parameter for data out of its function if it brings its own."
                )
        return stream

    return built
