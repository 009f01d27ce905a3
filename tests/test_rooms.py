"""The rooms of the house: the modules and packages directly inside clbench. Their imports form no circle."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"clbench": ROOT / "clbench", "clbench.methods": ROOT / "methods", "clbench.scenarios": ROOT / "scenarios"}


def room(module: str) -> str:
    """``clbench.engine`` for ``clbench.engine.store``."""
    return ".".join(module.split(".")[:2])


def imports(file: Path) -> Iterator[str]:
    """What a file imports when it is loaded: not inside functions, and not for types only."""
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{each.name}" for each in names)


def arrows() -> dict[str, set[str]]:
    """The other rooms that each room imports."""
    files = {
        ".".join((name, *f.relative_to(folder).with_suffix("").parts)): f
        for name, folder in FOLDERS.items()
        for f in folder.rglob("*.py")
    }
    rooms = {room(module) for module in files}
    graph: dict[str, set[str]] = {each: set() for each in rooms}
    for module, file in files.items():
        graph[room(module)] |= {room(name) for name in imports(file)} & rooms - {room(module)}
    return graph


def test_no_room_imports_itself_through_others() -> None:
    order = list(graphlib.TopologicalSorter(arrows()).static_order())
    assert order.index("clbench.method") < order.index("clbench.engine") < order.index("clbench.results")


def test_the_engine_knows_no_method_and_no_stream() -> None:
    assert not {"clbench.methods", "clbench.scenarios"} & arrows()["clbench.engine"]


def test_a_circle_is_found() -> None:
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(arrows() | {"clbench.errors": {"clbench.cli"}}).static_order())
