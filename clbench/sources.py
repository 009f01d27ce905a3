"""Other people's code by digest: a file or a dotted name, with every module that it imports from outside installed packages.

Imports are read from the text, those inside functions too, and nothing is imported to find them. An installed package counts by its
release (``torchvision 0.21.0``); the standard library and clbench itself do not count.

What is found is a mapping of names to digests: the file or module itself first, then the modules that it needs. ``digest`` makes one of it.
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

_HERE = Path(__file__).parent
_STANDARD = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_PACKAGES = {"site-packages", "dist-packages"}
_imported: dict[str, str] = {}
"""The digest of each module that was imported from outside installed packages, when it was."""


def of_file(name: str, file: Path) -> dict[str, str]:
    """The digests of a file, under ``name``, and of the modules that it needs."""
    _look_anew()
    needed = _closure(_imports(_text(file), ""))
    return {name: _of(file)} | {module: _of(path) for module, path in sorted(needed.items())}


def of_dotted(name: str) -> dict[str, str]:
    """The digests of the module of ``package.module:object`` and of those that it needs; for an installed package its release.

    Empty for clbench's own, and for what cannot be found or read.
    """
    _look_anew()
    module = _module_of(name)
    if module is None:
        return _without_file(name)
    top = module.partition(".")[0]
    if top == "clbench":
        return {}
    if _is_installed(top, _find(top)):
        return {top: release} if (release := _release(top)) else {}
    return _of_module(module)


def digest(found: Mapping[str, str]) -> str | None:
    """One digest of them all; of a file that needs no module its own. None if there are none."""
    own, *others = found.items() if found else [("", None)]
    if not others:
        return own[1]
    return _short(json.dumps([own[1], others]).encode())


def refresh(found: Mapping[str, str]) -> None:
    """Have modules of ``found`` imported anew the next time if one of them was edited since it was imported."""
    _look_anew()
    specs = {name: spec for name in found if (spec := _find(name)) is not None and not _is_installed(name, spec)}
    changed = any(_imported.get(name, found[name]) != found[name] for name in specs)
    changed |= any(name in sys.modules and _touched(spec) for name, spec in specs.items() if name not in _imported)
    # With one of them all: whatever imports an edited module holds it.
    for name in {*_imported, *specs} if changed else specs.keys() - _imported.keys() - sys.modules.keys():
        sys.modules.pop(name, None)
        # Python tells bytecode from stale bytecode by whole seconds only.
        if (spec := _find(name)) is not None and spec.cached is not None:
            with suppress(OSError):
                Path(spec.cached).unlink(missing_ok=True)
    if changed:
        _imported.clear()
    _imported.update({name: found[name] for name in specs})


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn any error of other people's code into one sentence: ``what`` failed, in which line of which file, and why."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        files = [Path(frame.filename) for frame in frames]
        own = [
            frame for frame, file in zip(frames, files, strict=True) if not (_lies_in_package(file) or file.is_relative_to(_HERE))
        ]
        place = (own or frames)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{what} failed in line {place.lineno} of {place.filename} ({reason}): correct it there.") from error


def _lies_in_package(file: Path) -> bool:
    """Whether a file belongs to an installed package or the standard library."""
    return bool(_PACKAGES & set(file.parts)) or any(map(file.is_relative_to, _STANDARD))


def _touched(spec: ModuleSpec) -> bool:
    """Whether a module's file was changed in this process's time: otherwise what somebody else imported is what lies there."""
    return spec.origin is not None and Path(spec.origin).stat().st_ctime >= psutil.Process().create_time()


def _of_module(name: str) -> dict[str, str]:
    """The digests of an importable module of no installed package, and of those that it needs."""
    spec = _find(name)
    if _is_installed(name, spec) or spec is None:
        return {}
    needed = _closure([name])
    return {module: _of(path) for module, path in sorted(needed.items(), key=lambda each: (each[0] != name, each[0]))}


def _without_file(name: str) -> dict[str, str]:
    """The digest of what is in memory only, such as a script's or a notebook's own function."""
    with suppress(Exception):  # an object of any kind, which may have no text
        module = name.partition(":")[0]
        file = getattr(sys.modules[module], "__file__", None)
        if file:
            return of_file(module, Path(file))
        return {name: _short(inspect.getsource(pkgutil.resolve_name(name)).encode())}
    return {}


def _closure(names: Iterable[str]) -> dict[str, Path]:
    """The files of the modules of these names, of the packages that they are in, and of all that those import, by module."""
    found: dict[str, Path] = {}
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
                found[module] = Path(spec.origin)
                package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
                pending += _imports(_text(found[module]), package)
    return found


def _prefixes(name: str) -> Iterator[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``: importing the last imports them all."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


@lru_cache(maxsize=1024)
def _imports(text: bytes, package: str) -> tuple[str, ...]:
    """The dotted names in the import statements of a module of ``package``: modules, or objects in one."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # an extension module, or a file that Python will refuse in its own words
        return ()
    found: list[str] = []
    for node in nodes:
        match node:
            case ast.Import(names=names):
                found += [each.name for each in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                with suppress(ImportError):  # a relative import without a package
                    base = importlib.util.resolve_name("." * level + (module or ""), package)
                    found += [base, *(f"{base}.{each.name}" for each in names)]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                with suppress(ImportError):
                    found.append(importlib.util.resolve_name(name, package))
    return tuple(found)


def _module_of(name: str) -> str | None:
    """The module in ``package.module:object`` or ``package.module.object``, None if there is none."""
    module = None
    for each in _prefixes(name.partition(":")[0]):
        if _find(each) is None:
            break
        module = each
    return module


@cache
def _find(name: str) -> ModuleSpec | None:
    """Where a module would be imported from. ``importlib.util.find_spec`` would import the package that it is in."""
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
    """Whether a module is the standard library's, an installed package's or clbench's."""
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


def _look_anew() -> None:
    """What is found and read is kept for one call from outside: modules of a project import each other again and again."""
    importlib.invalidate_caches()
    _find.cache_clear()
    _text.cache_clear()


def _of(file: Path) -> str:
    return _short(_text(file))


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
