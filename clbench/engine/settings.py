"""The settings of a run, each stated once: its type, its default and what it means.

The command line's options and the signature of ``clbench.run`` are made from these fields: to add an option, add a field to ``Request``,
and use it. Imports no PyTorch, so that ``clbench --help`` answers at once.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from clbench import devices
from clbench.errors import UserError, unknown

Overwrite = Literal["missing", "always", "never"]
OnDivergence = Literal["stop", "mark"]
SEEDS: Any = {"ge": -(2**63), "lt": 2**64}
"""The seeds that PyTorch's generators take."""

Function = TypeVar("Function", bound=Callable[..., Any])
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(BaseModel, frozen=True):
    """How much a run may cost: tasks (if the stream can have any number), updates for each task, and whether it uses the full data."""

    tasks: int
    updates: int
    full_data: bool
    meaning: str


# Updates are multiples of SupSup's check interval of 100, so that checks without task information stay aligned as in the paper.
BUDGETS: dict[str, Budget] = {
    "smoke": Budget(tasks=5, updates=300, full_data=False, meaning="under a minute"),
    "laptop": Budget(tasks=20, updates=1000, full_data=False, meaning="minutes"),
    "paper": Budget(tasks=250, updates=1000, full_data=True, meaning="the full protocol on the full data"),
}
DEFAULT_BUDGET = "laptop"

if TYPE_CHECKING:
    BudgetName = str
else:
    BudgetName = Literal[tuple(BUDGETS)]  # a type checker would need the names a second time


def unset(meaning: str, description: str) -> Any:
    """A field that is None by default, which means what ``meaning`` says."""
    return Field(default=None, description=description, json_schema_extra={"unset": meaning})


class Request(Strict):
    """What a person asks for: the options of ``clbench run``, the keywords of ``clbench.run`` and the keys of a spec file.

    None leaves a choice to the budget, the stream or the recipe. ``ask`` maps each setting to one value or a list of values; every
    combination is one ask. Its keys are the scenario, ``images`` (a number: the first test images of each task; or ``all``) or ``sample``
    (a number of test images, drawn for each task), ``protocol`` (``clbench.engine.asks.PROTOCOLS``) and the parameters of the method's
    ``predict``.
    """

    method: str = Field(default="supsup", description="A method's name, or ./file.py:Class.")
    scenario: str = Field(default="gnu", description="gg, gns, gnu or nns.")
    recipe: str | None = Field(
        default=None,
        description="A published setting of the method, by name (clbench show METHOD): stream, scenario, network, tasks, updates and "
        "parameters. Settings that you give replace its own.",
    )
    stream: str = Field(default="permuted-mnist", description="A stream's name, or ./file.py:function.")
    network: str = Field(default="lenet-300-100", description="A network's name, or package.module:factory.")
    tasks: int | None = unset("the budget's or the stream's", "The number of tasks.")
    seeds: tuple[Annotated[int, Field(**SEEDS)], ...] = Field(default=(0,), description="Seeds, one run for each, such as 0,1,2.")
    stream_seed: int | None = Field(default=None, **SEEDS, description="One seed for the tasks of all runs.")
    initialisation_seed: int | None = Field(
        default=None, **SEEDS, description="One seed for the method's random draws in all runs."
    )
    training_seed: int | None = Field(default=None, **SEEDS, description="One seed for the order of batches in all runs.")
    budget: BudgetName = Field(
        default=DEFAULT_BUDGET, description="; ".join(f"{name}: {budget.meaning}" for name, budget in BUDGETS.items()) + "."
    )
    updates: int | None = unset("the budget's", "Updates for each task.")
    batch_size: int = Field(default=128, description="Images in a training batch.")
    checkpoints: tuple[int, ...] | None = unset(
        "every task, or ten steps if there are over 20", "After how many tasks to ask, such as 5,10,20."
    )
    every: int | None = unset(
        "never",
        "Ask inside tasks too: after every so many updates, about the tasks learned before. A run that is learned already cannot.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of matrix products in training: float32, bfloat16, or auto (the fastest on this machine; in NNs float32).",
    )
    flow: dict[str, Any] = Field(
        default_factory=dict,
        description="How tasks follow each other: lengths=200..1500 (updates, drawn at random), boundaries=inside (a batch), "
        "visits=0,1,0,2,1 or different=20 (tasks recur), linear=500, beta=4 or fuzzy=250 (gradual transitions), blurry=0.1 (this share of "
        "every batch is of other tasks), online=true (one pass over the data), drift=true (the task changes with every batch). "
        "docs/streams.md explains them.",
    )
    data: str | None = unset("the embedded one; with budget paper the full one", "The data set.")
    set: dict[str, Any] = Field(default_factory=dict, description="A parameter of the method (clbench show METHOD).")
    ask: dict[str, Any] = Field(
        default_factory=dict,
        description="A setting of the ask, such as objective=G, protocol=paper, images=500 (the first), images=all, sample=500 (others "
        "of each task) or scenario=gg. Several values make several asks.",
    )


class Execution(Strict):
    """How a request is carried out: nothing here decides a result."""

    data_root: Path | None = unset("CLBENCH_DATA, or else a cache folder", "The folder with data sets.")
    device: str = Field(default="auto", description=f"{devices.NAMES}.")
    results: Path = Field(default=Path("results"), description="The folder for results.")
    overwrite: Overwrite = Field(
        default="missing",
        description="missing: compute what is missing; always: start again; never: only read existing runs.",
    )
    on_divergence: OnDivergence = Field(
        default="stop",
        description="What to do if training diverges. stop: keep what was learned before; mark: continue and mark the rows.",
    )

    save_every: float = Field(
        default=60.0,
        ge=0,
        allow_inf_nan=False,
        description="How many seconds of work an interruption may cost; saving takes at most 2 % of the time. 0: save after every batch.",
    )

    @property
    def data_folder(self) -> str | None:
        """``data_root`` as text."""
        return None if self.data_root is None else str(self.data_root)


USUAL = Execution()
"""The defaults."""


def checked(model: type[Model], values: Mapping[str, Any], of: str = "a run") -> Model:
    """The settings ``of`` something in ``values``, checked; a ``UserError`` names the first wrong key or value."""
    for key in values:
        if key not in model.model_fields:
            raise unknown(f"setting of {of}", key, model.model_fields)
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise invalid(".".join(map(str, first["loc"])), first["input"], error) from None


def invalid(name: str, value: Any, error: ValidationError) -> UserError:
    """The error for a value that pydantic refuses, with its reason."""
    message = error.errors()[0]["msg"]
    return UserError(f"Invalid value {name}={value}: {message[0].lower()}{message[1:]}.")


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def parameters(model: type[BaseModel], positional: Sequence[str] = ()) -> Iterator[Parameter]:
    """A model's fields as parameters of a function, by keyword but for the ``positional`` ones."""
    for name, field in model.model_fields.items():
        kind = Parameter.POSITIONAL_OR_KEYWORD if name in positional else Parameter.KEYWORD_ONLY
        yield Parameter(name, kind, default=field.get_default(call_default_factory=True), annotation=field.annotation)


def described(model: type[BaseModel]) -> str:
    """A model's fields as a list, for a docstring."""
    lines = []
    for name, field in model.model_fields.items():
        usual = default_in_words(field)
        lines.append(f"- {name}: {field.description}" + (f" Default: {usual}." if usual else ""))
    return "\n".join(lines)


def default_in_words(field: FieldInfo) -> str:
    """A field's default as a person writes it or, if that is None, what it means; empty if there is nothing to say."""
    default = field.get_default(call_default_factory=True)
    if default is None:
        extra = field.json_schema_extra
        return str(extra["unset"]) if isinstance(extra, dict) else ""
    return ",".join(map(str, default)) if isinstance(default, tuple | dict) else str(default)


def signed(*parameters: Parameter) -> Callable[[Function], Function]:
    """A decorator that shows ``parameters``, and then the function's other ones, for a function that takes them as ``**options``."""
    names = {parameter.name for parameter in parameters}

    def sign(function: Function) -> Function:
        written = inspect.signature(function)
        others = [p for p in written.parameters.values() if p.name not in names and p.kind is not Parameter.VAR_KEYWORD]
        signed_function: Any = function
        signed_function.__signature__ = written.replace(parameters=[*parameters, *others])
        return function

    return sign
