"""Shared by the methods: their parameters in ``clbench check``, whose stream is too short for the paper's learning rates."""

from collections.abc import Mapping
from typing import Any

from clbench.method import Recipe


def for_check(learn: Mapping[str, Any] | None = None, ask: Mapping[str, Any] | None = None, scenario: str = "*") -> Recipe:
    """A recipe for ``clbench check``: a learning rate of 1e-3, and other parameters that a method needs there."""
    return Recipe("check", "*", {"learning_rate": 1e-3} | dict(learn or {}), ask or {}, "for so short a stream", scenario)
