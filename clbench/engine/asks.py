"""Asks, as a person gives them: every combination of the settings is one ask, checked."""

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clbench import registry
from clbench.checks import positive
from clbench.engine.asking import ABOUT, Ask
from clbench.engine.learn import Learn
from clbench.engine.settings import invalid
from clbench.errors import UserError, unknown
from clbench.method import Method, parameters
from clbench.scenario import Scenario

SAMPLE = 128
"""How many test images of each task an ask is about if it names no number and each image decides its own task: every decision takes a
gradient of its own."""

PROTOCOLS: dict[str, dict[str, Any]] = {"image": {"group": 1, "evidence": 1}, "paper": {"group": 128, "evidence": 1}}
"""Ways to infer the task of test images, by name, for ``--ask protocol=NAME``. Methods use ``image`` by default."""


def check_serves(method: type[Method], scenario: Scenario) -> None:
    """Raise a ``UserError`` if ``method`` cannot serve ``scenario``; it names those that it can."""
    if scenario not in method.scenarios:
        known = ", ".join(s.name for s in registry.scenarios().values() if s in method.scenarios)
        raise UserError(f"The method {method.name} cannot serve {scenario.name}: it serves {known}.")


def check_same_learning(method: type[Method], learn: Learn, scenario: Scenario, asks: Iterable[Ask]) -> None:
    """Raise a ``UserError`` for an ask under a scenario in which ``method`` would have learned something else."""
    for ask in asks:
        if not learn.agrees_with(ask.scenario):
            raise UserError(
                f"{method.name} learns something else in {ask.scenario.name} than in {scenario.name}: "
                f"ask under {ask.scenario.name} in a run with --scenario {ask.scenario.name.lower()}."
            )


def make_asks(method: type[Method], scenario: Scenario, settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[Ask, ...]:
    """Every combination of the values in ``settings`` as an ask, with the recipe's and the signature's defaults filled in.

    If the scenario gives the task, there is nothing to infer, and an ask has no parameters. If each image decides its own task, an ask that
    names neither ``images`` nor ``sample`` is about a sample (``SAMPLE``); any other is about all images.
    """
    known = parameters(method.predict)
    grouped = decides_by_groups(method)
    choices = {key: value if isinstance(value, list | tuple) else [value] for key, value in settings.items()}
    allowed = ["scenario", *ABOUT, *(["protocol"] if grouped else []), *known]
    for key, values in choices.items():
        if key not in allowed:
            raise unknown(f"setting of an ask to {method.name}", key, allowed)
        if not values:
            raise UserError(f"The setting {key} of an ask has no value.")
    inferring = [key for key in choices if key not in ("scenario", *ABOUT)]
    names = [str(name) for name in choices.get("scenario", [scenario.name])]
    if inferring and all(registry.scenario(name).task_given_in_inference for name in names):
        raise UserError(
            f"There is no task to infer, because {', '.join(names)} gives it: "
            f"leave out {', '.join(inferring)}, or ask under another scenario, as in --ask scenario=gnu."
        )
    asks: dict[str, Ask] = {}
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        ask_scenario = registry.scenario(str(chosen.pop("scenario", scenario.name)))
        check_serves(method, ask_scenario)
        images, sample, protocol = (chosen.pop(key, None) for key in (*ABOUT, "protocol"))
        if protocol is not None and protocol not in PROTOCOLS:
            raise unknown("protocol", str(protocol), PROTOCOLS)
        what = f"asking parameter of {method.name}"
        ask_parameters = typed(method.predict, dict(recipe) | PROTOCOLS.get(protocol, {}) | chosen, what)
        if images is not None and sample is not None:
            raise UserError("An ask is about the first images or about a sample of them: leave out images or sample.")
        if (
            images is None
            and sample is None
            and grouped
            and ask_parameters["group"] == 1
            and not ask_scenario.task_given_in_inference
        ):
            sample = SAMPLE
        asking = (
            {}
            if ask_scenario.task_given_in_inference
            else {key: value for key, value in ask_parameters.items() if value is not None}
        )
        ask = Ask(ask_scenario, asking, number("images", images), number("sample", sample), method.ask_version(**asking))
        asks[ask.label] = ask
    return tuple(asks.values())


def decides_by_groups(method: type[Method]) -> bool:
    """Whether an ask can say how many test images share an inferred task and how many of them decide it, so that it has a protocol."""
    return {"group", "evidence"} <= parameters(method.predict).keys()


def typed(function: Callable[..., Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The ``given`` values, which may be text from a command line, converted to the types of ``function``'s keyword parameters.

    A parameter that is not given has its default; one without a type has the type of its default. ``what`` it is, for errors.
    """
    known = parameters(function)
    values = {
        name: float(p.default) if p.annotation is float and type(p.default) is int else p.default for name, p in known.items()
    }
    for name, value in given.items():
        if name not in known:
            raise unknown(what, name, known)
        kind, default = known[name].annotation, known[name].default
        if kind is inspect.Parameter.empty:
            kind = Any if default is None or default is inspect.Parameter.empty else type(default)
        try:
            values[name] = TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise invalid(name, value, error) from None
    for name, value in values.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"The {what} {name!r} has no default: give it a value.")
    return values


def default_checkpoints(tasks: int) -> tuple[int, ...]:
    """After how many tasks to ask: after every one of up to 20, else at ten even steps."""
    return tuple(range(1, tasks + 1)) if tasks <= 20 else tuple(sorted({tasks * step // 10 for step in range(1, 11)}))


def check_checkpoints(given: Iterable[int], tasks: int) -> tuple[int, ...]:
    """The checkpoints in order, each once; a ``UserError`` for one that is not between 1 and ``tasks``."""
    checkpoints = tuple(sorted(set(given)))
    for checkpoint in checkpoints:
        if not 1 <= checkpoint <= tasks:
            raise UserError(f"The checkpoint {checkpoint} is not between 1 and the last task, {tasks}.")
    if not checkpoints:
        raise UserError("Give at least one checkpoint.")
    return checkpoints


def number(name: str, value: Any) -> int | None:
    """How many images an ask is about; None for all."""
    if value is None or value == "all":
        return None
    try:
        count = TypeAdapter(int).validate_python(value)
    except ValidationError:
        raise UserError(f"{name} must be a whole number or all, not {value!r}.") from None
    positive(**{name: count})
    return count
