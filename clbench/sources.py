"""Digests of other people's code: of a file or a dotted name, and of every module that it imports from outside installed packages.

Import statements are read from the text, also those inside functions; nothing is imported to find them. An installed package is represented
by its release (``torchvision 0.21.0``); the standard library and clbench itself are left out.

Functions return digests by name: first the file or module itself, then the modules that it needs. ``digest`` combines them into one.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from pathlib import Path

import psutil

from clbench.errors import UserError
from clbench.terminal import shortened

_HERE = Path(__file__).parent
_STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_PACKAGES = {"site-packages", "dist-packages"}
PLACES = 5
"""Number of lines of other people's code that a message names."""
_imported: dict[str, str] = {}
"""The digest that each module from outside installed packages had when it was imported."""


def of_file(name: str, file: Path) -> dict[str, str]:
    """The digests of a file, under ``name``, and of the modules that it needs."""
    _forget_files()
    needed = _closure(_imports(_text(file), ""))
    return {name: _of(file)} | {module: _of(path) for module, path in sorted(needed.items())}


def of_dotted(name: str) -> dict[str, str]:
    """The digests of the module of ``package.module:object`` and of the modules that it needs; for an installed package its release.

    Empty for clbench itself, and for what cannot be found or read.
    """
    _forget_files()
    module = _module_of(name)
    if module is None:
        return _without_file(name)
    top = module.partition(".")[0]
    if top == "clbench":
        return {}
    if _is_installed(top, _find(top)):
        return {top: release} if (release := _release(top)) else {}
    return _of_module(module)


def digest(digests: Mapping[str, str]) -> str | None:
    """One digest of all ``digests``; the only one as it is. None if there are none."""
    first, *others = digests.items() if digests else [("", None)]
    if not others:
        return first[1]
    return _short(json.dumps([first[1], others]).encode())


def refresh(digests: Mapping[str, str]) -> None:
    """Make Python import the modules of ``digests`` again if one of them was edited since it was imported."""
    _forget_files()
    specs = {name: spec for name in digests if (spec := _find(name)) is not None and not _is_installed(name, spec)}
    changed = any(_imported.get(name, digests[name]) != digests[name] for name in specs)
    changed |= any(name in sys.modules and _touched(spec) for name, spec in specs.items() if name not in _imported)
    # If one was edited, all are removed: a module that imports it holds the old one.
    for name in {*_imported, *specs} if changed else specs.keys() - _imported.keys() - sys.modules.keys():
        sys.modules.pop(name, None)
        # Python detects stale bytecode by whole seconds only.
        if (spec := _find(name)) is not None and spec.cached is not None:
            with suppress(OSError):
                Path(spec.cached).unlink(missing_ok=True)
    if changed:
        _imported.clear()
    _imported.update({name: digests[name] for name in specs})


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn any error of other people's code, and an exit, into a ``UserError``: ``what`` failed, why, and in which lines of which files."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} failed{where(error)} ({reason(error)}): correct it there.") from error


def reason(error: BaseException) -> str:
    """Why other people's code ended, in one line."""
    name, says = type(error).__name__, shortened(" ".join(str(error).split()))
    return f"it ends the program, {name}: {says}" if isinstance(error, SystemExit) else f"{name}: {says}"


def where(error: BaseException) -> str:
    """The lines outside clbench, installed packages and the standard library in which an error arose, the innermost first, as ``in ...``.

    Empty if there are none: then it is an error of clbench.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    outside = [frame for frame in frames if not (_lies_in_package(file := Path(frame.filename)) or file.is_relative_to(_HERE))]
    places = [f"line {frame.lineno} of {frame.filename}" for frame in reversed(outside)]
    if len(places) > PLACES:
        places = [*places[:PLACES], f"{len(places) - PLACES} more"]
    return f" in {', called from '.join(places)}" if places else ""


def _lies_in_package(file: Path) -> bool:
    """Whether a file belongs to an installed package or the standard library."""
    return bool(_PACKAGES & set(file.parts)) or any(map(file.is_relative_to, _STANDARD))


def _touched(spec: ModuleSpec) -> bool:
    """Whether a module's file was changed since this process began. If not, an imported module is the one in the file."""
    return spec.origin is not None and Path(spec.origin).stat().st_ctime >= psutil.Process().create_time()


def _of_module(name: str) -> dict[str, str]:
    """The digests of an importable module outside installed packages, and of the modules that it needs."""
    spec = _find(name)
    if _is_installed(name, spec) or spec is None:
        return {}
    needed = _closure([name])
    return {module: _of(path) for module, path in sorted(needed.items(), key=lambda each: (each[0] != name, each[0]))}


def _without_file(name: str) -> dict[str, str]:
    """The digest of code that is in memory only, such as a function of a script or a notebook."""
    with suppress(Exception):  # an object of any kind, which may have no source text
        module = name.partition(":")[0]
        file = getattr(sys.modules[module], "__file__", None)
        if file:
            return of_file(module, Path(file))
        return {name: _short(inspect.getsource(pkgutil.resolve_name(name)).encode())}
    return {}


def _closure(names: Iterable[str]) -> dict[str, Path]:
    """The files of these modules, of their packages, and of all that they import, by module."""
    files: dict[str, Path] = {}
    seen: set[str] = set()
    pending = list(names)
    while pending:
        for module in _prefixes(pending.pop()):
            spec = _find(module)
            if spec is None or _is_installed(module, spec):
                break
            if module in seen:
                continue
            seen.add(module)
            if spec.origin is not None and Path(spec.origin).is_file():
                files[module] = Path(spec.origin)
                package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
                pending += _imports(_text(files[module]), package)
    return files


def _prefixes(name: str) -> Iterator[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``: importing the last imports them all."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


@lru_cache(maxsize=1024)
def _imports(text: bytes, package: str) -> tuple[str, ...]:
    """The dotted names in the import statements of a module of ``package``: modules, or objects in modules."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # an extension module, or a file that Python itself will refuse
        return ()
    names: list[str] = []
    for node in nodes:
        match node:
            case ast.Import(names=aliases):
                names += [alias.name for alias in aliases]
            case ast.ImportFrom(module=module, names=aliases, level=level):
                with suppress(ImportError):  # a relative import without a package
                    base = importlib.util.resolve_name("." * level + (module or ""), package)
                    names += [base, *(f"{base}.{alias.name}" for alias in aliases)]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                with suppress(ImportError):
                    names.append(importlib.util.resolve_name(name, package))
    return tuple(names)


def _module_of(name: str) -> str | None:
    """The module in ``package.module:object`` or ``package.module.object``; None if there is none."""
    module = None
    for each in _prefixes(name.partition(":")[0]):
        if _find(each) is None:
            break
        module = each
    return module


@cache
def _find(name: str) -> ModuleSpec | None:
    """The spec of a module, without an import: ``importlib.util.find_spec`` would import the package of the module."""
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        above = _find(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = above.submodule_search_locations
    for finder in sys.meta_path:
        with suppress(Exception):  # other people's finders
            if spec := finder.find_spec(name, path):
                return spec
    return None


def _is_installed(name: str, spec: ModuleSpec | None) -> bool:
    """Whether a module belongs to the standard library, an installed package or clbench."""
    if name.partition(".")[0] == "clbench" or spec is None:
        return name.partition(".")[0] == "clbench"
    if spec.origin is None:  # a package without an __init__.py
        return any(_lies_in_package(Path(folder)) for folder in spec.submodule_search_locations or ())
    return spec.origin in ("built-in", "frozen") or _lies_in_package(Path(spec.origin))


@cache
def _release(package: str) -> str:
    """The distributions that an installed package comes from, with their versions; empty for the standard library."""
    return ", ".join(f"{name} {version(name)}" for name in sorted(set(packages_distributions().get(package, ()))))


@cache
def _text(file: Path) -> bytes:
    return file.read_bytes()


def _forget_files() -> None:
    """Clear the caches of found and read files, which serve for one call: modules of a project import each other many times."""
    importlib.invalidate_caches()
    _find.cache_clear()
    _text.cache_clear()


def _of(file: Path) -> str:
    return _short(_text(file))


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
