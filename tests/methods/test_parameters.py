"""Every number that a method is given is checked, in the same words for all: rates, decays, strengths, momenta, counts."""

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest

from clbench import registry
from clbench.checks import above_zero, below_one, not_negative, positive
from clbench.engine.asks import typed
from clbench.errors import UserError
from clbench.method import Brief, Method, parameters

ZERO_HAS_A_MEANING = {"weight_decay", "strength", "c", "momentum", "descent_momentum", "gamma", "offset"}
ZERO_HAS_A_MEANING |= {"alpha", "beta", "margin", "gated"}
"""No decay, no penalty, no momentum, nothing kept of earlier tasks, aligned. HopSupSup's descent (below) needs a strength."""


def numbers(function: Callable[..., Any]) -> Iterator[str]:
    """The names of the parameters that are numbers."""
    for name, parameter in parameters(function).items():
        kinds = get_args(parameter.annotation) or (parameter.annotation,)
        if {int, float} & set(kinds):
            yield name


def cases(side: str) -> list[tuple[str, str, str]]:
    """(method, parameter, value) for every number of ``__init__`` or ``predict``, and every value that it cannot have."""
    cases = []
    for method, kind in registry.methods().items():
        for name in numbers(getattr(kind, side)):
            zero = [] if name in ZERO_HAS_A_MEANING and (side, name) != ("predict", "strength") else ["0"]
            cases += [(method, name, value) for value in ["nan", "inf", "-inf", "-1", *zero]]
    return cases


def made(name: str, make_brief: Callable[..., Brief], **given: Any) -> Method:
    method = registry.method(name)
    scenario = sorted(method.scenarios, key=lambda scenario: scenario.name)[0]
    make: Callable[..., Method] = method
    return make(make_brief(scenario), **typed(method.__init__, given, "parameters"))


@pytest.mark.parametrize(("method", "name", "value"), cases("__init__"))
def test_an_invalid_number_is_refused_before_anything_is_learned(
    method: str, name: str, value: str, make_brief: Callable[..., Brief]
) -> None:
    with pytest.raises(UserError, match=name):
        made(method, make_brief, **{name: value})


@pytest.mark.parametrize(("method", "name", "value"), cases("predict"))
def test_an_invalid_number_of_an_ask_is_refused(method: str, name: str, value: str, make_brief: Callable[..., Brief]) -> None:
    learner = made(method, make_brief)
    algorithm = {"algorithm": "gradient"} if name in ("steps", "step_size") else {}
    with pytest.raises(UserError, match="evidence|group" if name == "group" else name):
        put(learner, algorithm | {name: value})


def put(learner: Method, given: dict[str, Any]) -> None:
    asking = typed(learner.predict, given, "parameters")
    learner.check_ask(**{name: value for name, value in asking.items() if value is not None})


def test_numbers_with_and_without_a_default_above_zero_are_covered() -> None:
    assert ("online-ewc", "gamma", "nan") in cases("__init__")
    assert ("naive", "learning_rate", "0") in cases("__init__")
    assert ("supsup", "step_size", "nan") in cases("predict")


@pytest.mark.parametrize(
    ("check", "right", "wrong", "words"),
    [
        (above_zero, [1e-30, 1, 1e30], [0, -1e-9, float("inf"), float("nan")], "must be above 0 and finite"),
        (not_negative, [0, 1e30], [-1e-9, float("inf"), float("nan")], "must be at least 0 and finite"),
        (below_one, [0, 0.999], [1, -0.1, float("nan")], "must be at least 0 and below 1"),
        (positive, [1, 10**12], [0, -5], "must be at least 1"),
    ],
)
def test_the_sentence_names_the_parameter_and_the_value(check: Any, right: list[float], wrong: list[float], words: str) -> None:
    check(fine=None)
    for value in right:
        check(fine=value)
    for value in wrong:
        with pytest.raises(UserError, match=f"^it {words}, not {value}\\.$"):
            check(fine=None, it=value)
