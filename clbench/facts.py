"""What methods, scenarios and streams declare, as records: ``clbench list``, ``clbench show`` and the pages are written from them."""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from clbench import registry
from clbench.method import Method, Parameter, parameters
from clbench.scenario import Scenario
from clbench.stream import StreamBuilder

Record = dict[str, Any]


def method_facts(method: type[Method]) -> Record:
    """All that a method declares."""
    return {
        "name": method.name,
        "summary": summary(method),
        "scenarios": served(method),
        "declared": list(_declared(method)),
        "version": method.version,
        "citation": method.citation,
        "description": _description(method),
        "learning parameters (--set)": _parameters(method.__init__),
        "notes on learning": _notes(method.__init__),
        "asking parameters (--ask)": _parameters(method.predict),
        "notes on asking": _notes(method.predict),
        "recipes": [
            {
                "name": recipe.name,
                "stream": recipe.stream,
                "network": recipe.network,
                "scenario": recipe.scenario,
                "run": ", ".join(f"{key}={value}" for key, value in recipe.run.items()),
                "learning": ", ".join(f"{key}={value}" for key, value in recipe.learn.items()),
                "asking": ", ".join(f"{key}={value}" for key, value in recipe.ask.items()),
                "source": recipe.source,
            }
            for recipe in method.recipes
        ],
    }


def scenario_facts(scenario: Scenario) -> Record:
    """A row of the paper's Table 1."""
    return {
        "name": scenario.name,
        "description": scenario.description(),
        "task space": scenario.task_space(),
        "example methods, task names": scenario.examples,
    }


def stream_facts(builder: StreamBuilder) -> Record:
    """What a stream is."""
    data = " or ".join(builder.data) or builder.full_data
    return {"name": builder.name, "tasks": builder.most_tasks or "any", "data": data, "summary": builder.summary}


def served(method: type[Method]) -> list[str]:
    """The names of the scenarios that a method can serve."""
    return [scenario.name for scenario in registry.scenarios().values() if scenario in method.scenarios]


def summary(method: type[Method]) -> str:
    """The first line of a method's docstring."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def _description(method: type[Method]) -> str:
    """The docstring of the file that a method is in or, if the method is a folder of clbench's, of the folder."""
    package = sys.modules.get(method.__module__.rpartition(".")[0])
    described = package if package and package.__name__.startswith("clbench.methods.") else inspect.getmodule(method)
    return inspect.getdoc(described) or inspect.getdoc(method) or ""


def _declared(method: type[Method]) -> Iterator[str]:
    """What else the class declares, in sentences."""
    if not method.acts_against_forgetting:
        yield "Does nothing against forgetting."
    if method.trains_at_end:
        yield "Learns from the data that it gets at the end of a task."
    if method.transductive:
        yield "Transductive: uses all the inputs of an ask to decide about each of them."
    if method.price != Method.price:
        yield f"Learns a new task up to {100 * method.price:.0f} points worse than naive fine-tuning."


def _parameters(function: Callable[..., Any]) -> list[Record]:
    return [
        {
            "parameter": parameter.name,
            "type": _type(parameter),
            "default": "required" if parameter.default is inspect.Parameter.empty else parameter.default,
        }
        for parameter in parameters(function).values()
    ]


def _notes(function: Callable[..., Any]) -> str:
    """What a function's docstring says about its parameters; nothing if it has none, for the docstring is the contract's then."""
    return (inspect.getdoc(function) or "") if parameters(function) else ""


def _type(parameter: Parameter) -> str:
    kind = parameter.annotation
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
