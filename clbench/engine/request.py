"""Turn what a person asks for into jobs, with every default and recipe filled in."""

import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from clbench import networks, registry, sources
from clbench.checks import positive
from clbench.engine import provenance
from clbench.engine.asks import check_checkpoints, check_same_learning, check_serves, default_checkpoints, make_asks, typed
from clbench.engine.build import usual_precision
from clbench.engine.flow import USUAL_FLOW, Flow, flow
from clbench.engine.learn import MOST_UPDATES, Job, Learn, Seeds
from clbench.engine.settings import BUDGETS, Budget, Request, checked
from clbench.errors import UserError, unknown
from clbench.method import Method, Recipe, parameters
from clbench.stream import StreamBuilder

LONGEST_SPEC = 1_000_000
"""The limit for a spec file, in letters."""


def request(values: Mapping[str, Any]) -> Request:
    """A ``Request`` from keywords or a spec file's contents; a ``UserError`` names the first wrong key or value."""
    return checked(Request, values)


def read_spec(path: Path) -> dict[str, Any]:
    """The settings in a spec file: a JSON object whose keys are those of ``Request``."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_SPEC + 1)  # not all: a device such as /dev/zero never ends
        if len(text) > LONGEST_SPEC:
            raise UserError(f"The spec file {path} has more than {LONGEST_SPEC:,} letters: name the JSON file of a spec.")
        values = json.loads(text)
    except FileNotFoundError:
        raise UserError(f"There is no spec file {path}: name an existing JSON file.") from None
    except OSError as error:
        raise UserError(f"The spec file {path} cannot be read ({error.strerror or error}): name a JSON file.") from None
    except RecursionError:
        raise UserError(f"The spec file {path} is nested too deeply: a spec has two levels.") from None
    except UserError:
        raise
    except ValueError as error:  # of JSON, of UTF-8, or a number with thousands of digits
        raise UserError(f"The spec file {path} is not valid JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"The spec file {path} must hold one JSON object with the settings of a run.")
    return values


def resolve(request: Request, data_root: str | None = None) -> list[Job]:
    """The jobs of a request, one for each seed, with every default and recipe filled in.

    A tree of image files is looked up under ``data_root`` and identified by its files. Other data are read only if a network by dotted
    name may be unable to train in the usual precision.
    """
    from clbench.engine import probe

    method = registry.method(request.method)
    named = None if request.recipe is None else _recipe(method, request)
    if named is not None:
        request = with_settings_of(named, request)
    scenario = registry.scenario(request.scenario)
    check_serves(method, scenario)
    builder = registry.stream(request.stream)
    budget = BUDGETS[request.budget]
    positive(updates=request.updates, batch_size=request.batch_size, every=request.every)
    if not request.seeds:
        raise UserError("Give at least one seed, as in --seeds 0,1,2.")
    follow = flow(request.flow, request.tasks)
    tasks = _tasks(request, builder, budget, follow)
    updates = _either(request.updates, budget.updates)
    most = follow.most_updates(updates)
    if most * tasks > MOST_UPDATES:
        raise UserError(
            f"{most:,} updates in each of {tasks:,} tasks are more than the {MOST_UPDATES:,} that a run may have, which take days: "
            "ask for fewer."
        )
    networks.resolve(request.network, (1, 1, 1))  # so that a wrong name is refused before any data are read
    recipe = named or method.recipe(request.stream, request.network, scenario.name)
    learning = typed(method.__init__, dict(recipe.learn) | request.set, f"learning parameter of {method.name}")
    known = parameters(method.__init__)
    learning = {name: value for name, value in learning.items() if name not in method.added or value != known[name].default}
    asks = make_asks(method, scenario, request.ask, recipe.ask)
    checkpoints = default_checkpoints(tasks) if request.checkpoints is None else check_checkpoints(request.checkpoints, tasks)
    data = _data(request, builder, budget)
    tree = provenance.tree_digest(data, data_root) if builder.any_folder else None

    def learn(seed: int) -> Learn:
        return Learn(
            method=registry.normal_name(request.method),
            version=method.version,
            source=registry.source_digest(request.method),
            parameters=learning,
            scenario={question: getattr(scenario, question) for question in sorted(method.learning_depends_on)},
            stream=registry.normal_name(request.stream),
            stream_source=registry.source_digest(request.stream),
            data=data,
            data_version=provenance.data_version(data),
            data_source=tree,
            tasks=tasks,
            network=request.network,
            network_source=sources.digest(networks.code(request.network)),
            seeds=Seeds(
                stream=_either(request.stream_seed, seed),
                initialisation=_either(request.initialisation_seed, seed),
                training=_either(request.training_seed, seed),
            ),
            updates=updates,
            batch_size=request.batch_size,
            precision=usual_precision(method, scenario) if request.precision == "auto" else request.precision,
            flow=follow,
            code=provenance.code(request.method, request.stream, request.network),
        )

    # A seed given twice makes no second run, nor do seeds that differ in nothing because the three were fixed by name.
    learns = {each.hash: each for each in map(learn, request.seeds)}
    if follow != USUAL_FLOW and not follow.online:
        for each in learns.values():
            each.schedule().timetable(tasks)  # so that what cannot be drawn is refused before anything is built
    jobs = [
        Job(learn=each, scenario=scenario, asks=asks, checkpoints=checkpoints, every=request.every or 0) for each in learns.values()
    ]
    check_same_learning(method, jobs[0].learn, scenario, asks)
    return probe.in_usable_precision(jobs, data_root) if request.precision == "auto" else jobs


def _recipe(method: type[Method], request: Request) -> Recipe:
    """The recipe with the name that is asked for; if there is one for each scenario, that of the scenario that is asked for."""
    named = [recipe for recipe in method.recipes if recipe.name == request.recipe]
    if not named:
        names = dict.fromkeys(recipe.name for recipe in method.recipes if recipe.name)
        raise unknown(f"recipe of {method.name}", str(request.recipe), names)
    if "scenario" not in request.model_fields_set:
        return named[0]
    asked = registry.scenario(request.scenario).name
    return next((recipe for recipe in named if fnmatch(asked, recipe.scenario)), named[0])


def with_settings_of(recipe: Recipe, request: Request) -> Request:
    """The request with a recipe's settings, unless it states its own."""
    settings = {"stream": recipe.stream, **({} if recipe.scenario == "*" else {"scenario": recipe.scenario}), **recipe.run}
    stated = request.model_fields_set
    return checked(Request, request.model_dump(include=stated) | {key: v for key, v in settings.items() if key not in stated})


def _tasks(request: Request, builder: StreamBuilder, budget: Budget, follow: Flow) -> int:
    """The number of tasks, each visit of a task that recurs counted."""
    if follow.visits is not None:
        builder.check_tasks(max(follow.visits) + 1)
        return len(follow.visits)
    if follow.different is not None:
        builder.check_tasks(follow.different)
        if request.tasks is None:
            raise UserError("Tasks recur: say how many visits there are, as in --tasks 30 --flow different=20.")
        return request.tasks
    usual = builder.usual_tasks or builder.most_tasks
    if request.tasks is not None:
        tasks = builder.check_tasks(request.tasks)
    elif usual is None:
        tasks = budget.tasks
    else:
        tasks = min(usual, budget.tasks) if request.budget == "smoke" else usual
    return tasks if follow.fuzzy is None else tasks + 1  # the first task comes again at the end


def _data(request: Request, builder: StreamBuilder, budget: Budget) -> str:
    offered = builder.data or (builder.full_data,)
    if builder.any_folder:
        return request.data or builder.full_data
    if request.data is None:
        return builder.full_data if budget.full_data else offered[0]
    if request.data not in offered:
        raise unknown(f"data set for the stream {builder.name}", request.data, offered)
    return request.data


def _either(first: int | None, second: int) -> int:
    return second if first is None else first
