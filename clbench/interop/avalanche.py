"""Avalanche in both directions: its benchmarks as streams, its supervised strategies as methods, and SupSup as a strategy for Avalanche.

These are in ``avalanche_stream``, ``avalanche_method`` and ``avalanche_strategy``. Avalanche is imported at its first use.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clbench.method import Method
    from clbench.stream import StreamBuilder


def method(name: str) -> "type[Method]":
    """The method of Avalanche's strategy ``name``."""
    return import_module("clbench.interop.avalanche_method").method(name)


def stream(name: str) -> "StreamBuilder":
    """The stream of Avalanche's benchmark ``name``."""
    return import_module("clbench.interop.avalanche_stream").stream(name)


def is_stream(name: str) -> bool:
    """Whether ``name``, without its parameters, is one of Avalanche's benchmarks."""
    return name.partition(":")[0] in import_module("clbench.interop.avalanche_stream").benchmarks()


def release() -> str:
    """Avalanche and its version: other versions may give other results."""
    try:
        return f"avalanche-lib {installed('avalanche-lib')}"
    except PackageNotFoundError:
        return "avalanche-lib"
