"""Checks of numbers in a request: a ``UserError`` for the first invalid one. None means that a value was not given, and is valid."""

import math

from clbench.errors import UserError


def positive(**counts: int | None) -> None:
    """Raise a ``UserError`` for the first count below 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UserError(f"{name} must be at least 1, not {count}.")


def above_zero(**values: float | None) -> None:
    """Raise a ``UserError`` for the first value (a learning rate, a temperature) that is not above 0 and finite."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} must be above 0 and finite, not {value}.")


def not_negative(**values: float | None) -> None:
    """Raise a ``UserError`` for the first value (a strength, a weight decay) that is not at least 0 and finite."""
    for name, value in values.items():
        if value is not None and not 0 <= value < math.inf:
            raise UserError(f"{name} must be at least 0 and finite, not {value}.")


def below_one(**values: float | None) -> None:
    """Raise a ``UserError`` for the first value (a momentum) that is not at least 0 and below 1."""
    for name, value in values.items():
        if value is not None and not 0 <= value < 1:
            raise UserError(f"{name} must be at least 0 and below 1, not {value}.")
