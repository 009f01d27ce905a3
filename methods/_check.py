"""Shared by the methods: their parameters in ``clbench check``, whose stream is too short for the rates of the paper."""

from collections.abc import Mapping
from typing import Any

from clbench.method import Recipe


def for_check(learn: Mapping[str, Any] | None = None, ask: Mapping[str, Any] | None = None, scenario: str = "*") -> Recipe:
    """A learning rate of 1e-3, and what else a method needs there."""
    return Recipe("check", "*", {"learning_rate": 1e-3} | dict(learn or {}), ask or {}, "for so short a stream", scenario)
