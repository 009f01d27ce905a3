"""What a run is: a request in a person's words, resolved to learn halves (what is trained once) and asks (what is asked of it)."""

import hashlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from clbench import networks, provenance, registry, sources
from clbench.checks import positive
from clbench.errors import UserError, unknown
from clbench.evaluator import ABOUT, Ask
from clbench.method import Brief, Method, parameters
from clbench.scenario import Scenario
from clbench.stream import Stream, StreamBuilder
from clbench.stream_check import checked, small_tasks
from clbench.training import compiling_pays, product_type

SAMPLE = 128
"""Test images of each task that are asked about where each image decides its own task, if the ask names no other number: a decision takes
a gradient of its own."""
PROTOCOLS: dict[str, dict[str, Any]] = {"image": {"group": 1, "evidence": 1}, "paper": {"group": 128, "evidence": 1}}
"""Ways to infer the task of test images, by name: what ``--ask protocol=NAME`` stands for. ``image`` is the default of methods."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Budget(BaseModel, frozen=True):
    """How much a run may cost: tasks (where the stream leaves the number open), updates a task, and whether it uses the full data."""

    tasks: int
    updates: int
    full_data: bool
    meaning: str


# Updates are multiples of SupSup's check interval of 100, so that checks without task information stay aligned as in the paper.
BUDGETS = {
    "smoke": Budget(tasks=5, updates=300, full_data=False, meaning="under a minute, embedded data"),
    "laptop": Budget(tasks=20, updates=1000, full_data=False, meaning="minutes, embedded data"),
    "paper": Budget(tasks=250, updates=1000, full_data=True, meaning="the paper's protocol on the full data"),
}


MOST_UPDATES = 10**9
"""Of all tasks together: so many take 12 days at a thousand a second, and their losses 4 GB."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seeds(_Strict):
    """One seed for the tasks of the stream, one for the method's random draws, one for the order of the batches."""

    stream: int
    initialisation: int
    training: int


class Learn(_Strict):
    """The learn half of a spec: all that decides what is learned. Its hash names the run's folder."""

    method: str
    version: int
    source: str | None = None
    """Digest of the file that the method lies in, where it is given by path, and of the modules that it imports."""
    parameters: dict[str, Any]
    scenario: dict[str, bool]
    """The scenario's questions that the method's learning depends on, with their answers."""
    stream: str
    stream_source: str | None = None
    data: str
    data_version: int = 1
    data_source: str | None = None
    """Digest of the names, sizes and times of a tree of image files."""
    tasks: int
    network: str
    network_source: str | None = None
    """Digest of the module of a dotted name and of those that it imports, or the release of the package that it is in."""
    seeds: Seeds
    updates: int
    batch_size: int
    precision: Literal["float32", "bfloat16"]
    code: dict[str, str] = Field(default_factory=dict)
    """The digests that the three sources are made of, by file or module: they say which one changed. Not in the hash."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits: equal for equal learn halves, and for no others."""
        # Fields that came later are left out while they say nothing, so that earlier runs keep their names.
        later = {"data_version": 1, "data_source": None, "network_source": None}
        silent = {name for name, default in later.items() if getattr(self, name) == default}
        text = json.dumps(self.model_dump(mode="json", exclude={"code", *silent}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def agrees_with(self, scenario: Scenario) -> bool:
        """Whether what was learned can be asked under ``scenario``: the answers that learning depended on are the same."""
        return all(getattr(scenario, question) == answer for question, answer in self.scenario.items())


class Request(_Strict):
    """What a person asks for: the options of ``clbench run``, the keywords of ``clbench.run`` and the keys of a spec file.

    None leaves a choice to the budget, the stream or the recipe. ``ask`` maps each setting to one value or a list of values; every
    combination is one ask. Its keys are the scenario, ``images`` (the first so many test images of each task, or ``all``) or ``sample``
    (so many, others of each task), ``protocol`` (``PROTOCOLS``) and the parameters of the method's ``predict``.
    """

    method: str = "supsup"
    scenario: str = "gnu"
    stream: str = "permuted-mnist"
    network: str = "lenet-300-100"
    tasks: int | None = None
    seeds: tuple[int, ...] = (0,)
    stream_seed: int | None = None
    initialisation_seed: int | None = None
    training_seed: int | None = None
    budget: Literal["smoke", "laptop", "paper"] = "laptop"
    data: str | None = None
    updates: int | None = None
    batch_size: int = 128
    checkpoints: tuple[int, ...] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products in training; auto is the fastest that this machine has where the task is given, else float32."""
    set: dict[str, Any] = Field(default_factory=dict)
    ask: dict[str, Any] = Field(default_factory=dict)


class Job(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """One run to be done: what to learn, the scenario it is learned in, and what to ask at which numbers of tasks learned."""

    learn: Learn
    scenario: Scenario
    asks: tuple[Ask, ...]
    checkpoints: tuple[int, ...]
    notes: tuple[str, ...] = ()
    """What the request did not say and whoever reads the results must know: one sentence each."""


def request(values: Mapping[str, Any]) -> Request:
    """A ``Request`` from keywords or a spec file's contents; a ``UserError`` names what is wrong with the first wrong key."""
    for key in values:
        if key not in Request.model_fields:
            raise unknown("setting of a run", key, Request.model_fields)
    try:
        return Request(**values)
    except ValidationError as error:
        raise UserError(f"{_place(error)} {_reason(error)}.") from None


def read_spec(path: Path) -> dict[str, Any]:
    """The settings in a spec file: a JSON object whose keys are those of ``Request``."""
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"There is no spec file {path}: name an existing JSON file.") from None
    except OSError as error:
        raise UserError(f"The spec file {path} cannot be read ({error.strerror or error}): name a JSON file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"The spec file {path} is no JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"The spec file {path} must hold one JSON object with the settings of a run.")
    return values


def resolve(request: Request, data_root: str | None = None) -> list[Job]:
    """The runs that a request stands for, one for each seed, complete by themselves: every default and recipe filled in.

    A tree of image files is looked for under ``data_root`` and identified by its files. Other data are read only where a network by
    dotted name may not be able to train in the usual precision.
    """
    from clbench import probe  # which needs this module

    method = registry.method(request.method)
    scenario = registry.scenario(request.scenario)
    check_serves(method, scenario)
    builder = registry.stream(request.stream)
    budget = BUDGETS[request.budget]
    positive(updates=request.updates, batch_size=request.batch_size)
    if not request.seeds:
        raise UserError("Give at least one seed, as in --seeds 0,1,2.")
    tasks = _tasks(request, builder, budget)
    updates = _either(request.updates, budget.updates)
    if updates * tasks > MOST_UPDATES:
        raise UserError(
            f"{updates:,} updates in each of {tasks:,} tasks are more than the {MOST_UPDATES:,} that a run may have, which take days: "
            "ask for fewer."
        )
    networks.resolve(request.network, (1, 1, 1))  # its error comes before any data are read
    recipe = method.recipe(request.stream, request.network, scenario.name)
    learning = typed(method.__init__, dict(recipe.learn) | request.set, f"{method.name}'s learning parameters")
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
            code=provenance.code(request.method, request.stream, request.network),
        )

    # A seed given twice, or named seeds that leave nothing to differ, make no second run.
    learns = {each.hash: each for each in map(learn, request.seeds)}
    jobs = [Job(learn=each, scenario=scenario, asks=asks, checkpoints=checkpoints) for each in learns.values()]
    check_asks(method, jobs[0].learn, scenario, asks)
    return probe.in_usable_precision(jobs, data_root) if request.precision == "auto" else jobs


def build_stream(learn: Learn, data_root: str | None, device: torch.device) -> Stream:
    """The stream of a learn half, from data sets found under ``data_root``, checked, its images and labels on ``device``.

    Raises a ``UserError`` if the code of the stream, the method or the network, or the data, are not those of ``learn``.
    """
    from clbench import data

    provenance.check_code(learn)
    builder = registry.stream(learn.stream)
    own = provenance.folder_of(learn.data, data_root) if builder.any_folder else data.data_root(data_root)
    if builder.any_folder:
        provenance.check_tree(learn, own)
    given = [data.load(name, data_root) for name in learn.data.split("+")] if builder.data else [own]
    made = builder.build(*given, tasks=learn.tasks, seed=learn.seeds.stream)
    if len(made) != learn.tasks:
        raise UserError(f"The stream {learn.stream} made {len(made)} tasks, not the {learn.tasks} asked for.")
    made = checked(made)
    fixed = (
        (f"The stream seed changes nothing in {builder.name}: {builder.fixed}.",) if builder.fixed and learn.seeds.stream else ()
    )
    return replace(made, notes=(*made.notes, *small_tasks(made, learn.batch_size), *fixed)).to(device)


def build_method(learn: Learn, scenario: Scenario, stream: Stream, device: torch.device) -> Method:
    """A fresh method of a learn half, briefed for ``stream``."""
    factory = networks.resolve(learn.network, stream.input_shape)
    seed = learn.seeds.initialisation
    brief = Brief(
        scenario=scenario,
        network=lambda outputs: networks.seeded(factory, outputs, seed),
        input_shape=stream.input_shape,
        classes=stream.classes,
        seed=seed,
        device=device,
        precision=PRECISIONS[learn.precision],
        compiled=compiling_pays(
            learn.updates * learn.tasks, networks.work(factory, stream.classes, stream.input_shape), learn.batch_size
        ),
    )
    make: Callable[..., Method] = registry.method(learn.method)
    return make(brief, **learn.parameters)


def check_serves(method: type[Method], scenario: Scenario) -> None:
    """Raise a ``UserError`` where ``method`` cannot serve ``scenario``; it says which it can."""
    if scenario not in method.scenarios:
        known = ", ".join(s.name for s in registry.scenarios().values() if s in method.scenarios)
        raise UserError(f"The method {method.name} cannot serve {scenario.name}: it serves {known}.")


def check_asks(method: type[Method], learn: Learn, scenario: Scenario, asks: Iterable[Ask]) -> None:
    """Raise a ``UserError`` for an ask under a scenario in which ``method`` would have learned something else."""
    for ask in asks:
        if not learn.agrees_with(ask.scenario):
            raise UserError(
                f"{method.name} learns otherwise in {ask.scenario.name} than in {scenario.name}: "
                f"ask under {ask.scenario.name} in a run with --scenario {ask.scenario.name.lower()}."
            )


def make_asks(method: type[Method], scenario: Scenario, settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[Ask, ...]:
    """Every combination of the values in ``settings`` as an ask, with the recipe's and the signature's defaults filled in.

    Where the task is given, whatever concerns its inference has no meaning, and an ask carries no parameters. Where each image decides its
    own task, an ask that names neither ``images`` nor ``sample`` is about a sample (``SAMPLE``); any other is about all.
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
    concerning = [key for key in choices if key not in ("scenario", *ABOUT)]
    names = [str(name) for name in choices.get("scenario", [scenario.name])]
    if concerning and all(registry.scenario(name).task_given_in_inference for name in names):
        raise UserError(
            f"{', '.join(concerning)} of an ask tell how the task is inferred, and {', '.join(names)} gives it: "
            "ask under another scenario, as in --ask scenario=gnu."
        )
    asks: dict[str, Ask] = {}
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        asked = registry.scenario(str(chosen.pop("scenario", scenario.name)))
        check_serves(method, asked)
        images, sample, protocol = (chosen.pop(key, None) for key in (*ABOUT, "protocol"))
        if protocol is not None and protocol not in PROTOCOLS:
            raise unknown("protocol", str(protocol), PROTOCOLS)
        what = f"{method.name}'s asking parameters"
        given = typed(method.predict, dict(recipe) | PROTOCOLS.get(protocol, {}) | chosen, what)
        if images is not None and sample is not None:
            raise UserError("An ask is about the first images or about a sample of them: leave out images or sample.")
        if images is None and sample is None and grouped and given["group"] == 1 and not asked.task_given_in_inference:
            sample = SAMPLE
        kept = {} if asked.task_given_in_inference else {key: value for key, value in given.items() if value is not None}
        ask = Ask(asked, kept, _number("images", images), _number("sample", sample), method.ask_version(**kept))
        asks[ask.label] = ask
    return tuple(asks.values())


def decides_by_groups(method: type[Method]) -> bool:
    """Whether an ask says how many test images share an inferred task, and how many of them decide it: it has a protocol then."""
    return {"group", "evidence"} <= parameters(method.predict).keys()


def typed(function: Callable[..., Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """``given`` values (as typed on a command line, perhaps) converted to the types of ``function``'s keyword parameters.

    Parameters that are not given have their defaults; one without a type has that of its default.
    """
    known = parameters(function)
    values = {
        name: float(p.default) if p.annotation is float and type(p.default) is int else p.default for name, p in known.items()
    }
    for name, value in given.items():
        if name not in known:
            raise unknown(f"one of {what}", name, known)
        kind, default = known[name].annotation, known[name].default
        if kind is inspect.Parameter.empty:
            kind = Any if default is None or default is inspect.Parameter.empty else type(default)
        try:
            values[name] = TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{name}={value} cannot be: {_reason(error)}.") from None
    for name, value in values.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"{name}, one of {what}, has no default: give it a value.")
    return values


def usual_precision(method: type[Method], scenario: Scenario) -> Literal["float32", "bfloat16"]:
    """The precision in which this machine multiplies matrices fastest; the paper's float32 for a method that has to find the tasks itself.

    It may decide by a thin line whether a task is new, and not accuracy alone depends on the precision.
    """
    if not scenario.task_given_in_training and "task_given_in_training" in method.learning_depends_on:
        return "float32"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bfloat16" if product_type(device) == torch.bfloat16 else "float32"


def _tasks(request: Request, builder: StreamBuilder, budget: Budget) -> int:
    if request.tasks is not None:
        return builder.check_tasks(request.tasks)
    usual = builder.usual_tasks or builder.most_tasks
    if usual is None:
        return budget.tasks
    return min(usual, budget.tasks) if request.budget == "smoke" else usual


def _data(request: Request, builder: StreamBuilder, budget: Budget) -> str:
    offered = builder.data or (builder.full_data,)
    if builder.any_folder:
        return request.data or builder.full_data
    if request.data is None:
        return builder.full_data if budget.full_data else offered[0]
    if request.data not in offered:
        raise unknown(f"data set for the stream {builder.name}", request.data, offered)
    return request.data


def default_checkpoints(tasks: int) -> tuple[int, ...]:
    """The numbers of tasks learned at which to ask: after every task up to 20, else at ten even steps."""
    return tuple(range(1, tasks + 1)) if tasks <= 20 else tuple(sorted({tasks * step // 10 for step in range(1, 11)}))


def check_checkpoints(given: Iterable[int], tasks: int) -> tuple[int, ...]:
    """The checkpoints in order, each once; a ``UserError`` for one that is no number of tasks learned."""
    checkpoints = tuple(sorted(set(given)))
    for checkpoint in checkpoints:
        if not 1 <= checkpoint <= tasks:
            raise UserError(f"The checkpoint {checkpoint} is not between 1 and the last task, {tasks}.")
    if not checkpoints:
        raise UserError("Give at least one checkpoint.")
    return checkpoints


def _either(first: int | None, second: int) -> int:
    return second if first is None else first


def _number(name: str, value: Any) -> int | None:
    """How many images an ask is about, None for all."""
    if value is None or value == "all":
        return None
    try:
        count = TypeAdapter(int).validate_python(value)
    except ValidationError:
        raise UserError(f"{name} must be a whole number or all, not {value!r}.") from None
    positive(**{name: count})
    return count


def _place(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def _reason(error: ValidationError) -> str:
    message = error.errors()[0]["msg"]
    return message[0].lower() + message[1:]
