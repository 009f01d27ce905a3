"""The contract of a continual learner: what it is told, what it must do, what it keeps."""

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.scenario import Scenario
from clbench.stream import Split


class Brief(NamedTuple):
    """All that a method is told before it learns."""

    scenario: Scenario
    network: Callable[[int], nn.Module]
    """A fresh backbone with that many outputs; the same one at every call."""
    input_shape: tuple[int, ...]
    classes: int
    """Labels that a task has (the largest, where tasks differ)."""
    seed: int
    device: torch.device = torch.device("cpu")
    precision: torch.dtype = torch.float32
    """The type in which matrix products may be computed in training: float32 or bfloat16."""
    compiled: bool = False
    """Whether there is so much to train that compiling the training step pays (``clbench.training.Step``)."""


class Prediction(NamedTuple):
    """Answers for n inputs: ``labels`` within the task, int64 [n], and the inferred ``tasks``, int64 [n], or None if it infers none."""

    labels: Tensor
    tasks: Tensor | None = None


@dataclass(frozen=True)
class Recipe:
    """Published parameters of a method for streams, networks and scenarios whose names match the patterns (``*`` is any text)."""

    stream: str
    network: str
    learn: Mapping[str, Any] = field(default_factory=dict)
    ask: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    scenario: str = "*"


class Method(abc.ABC):
    """A continual learner. One file in ``methods/``, or anywhere, with a subclass of this is all that it takes to add one.

    A subclass declares ``name``, the ``scenarios`` that it can serve, and typed keyword parameters (with defaults) of ``__init__`` and
    ``predict``: ``--set``, ``--ask`` and ``clbench show`` read them from the signatures. Its module's docstring gives the formula, the
    citation, deviations, and what it stores. All its randomness comes from generators seeded from ``brief.seed`` (``clbench.seeding``).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Part of a run's hash: raise it when a mended bug changes results."""
    scenarios: ClassVar[frozenset[Scenario]]
    citation: ClassVar[str] = ""
    learning_depends_on: ClassVar[frozenset[str]] = frozenset(
        {"task_given_in_training", "task_given_in_inference", "labels_shared"}
    )
    """The questions of the scenario whose answers change what is learned. Scenarios that agree on them share one training."""
    recipes: ClassVar[Sequence[Recipe]] = ()
    """Published parameters; the first whose patterns match applies."""
    transductive: ClassVar[bool] = False
    """True if ``predict`` uses all the inputs of a call to decide about each of them: every result then says so."""
    acts_against_forgetting: ClassVar[bool] = True
    """False for naive fine-tuning and lower bounds; of all others ``clbench check`` demands less forgetting than naive fine-tuning's."""
    price: ClassVar[float] = 0.03
    """How far its accuracy on a task just learned may lie below naive fine-tuning's in ``clbench check``: more on a frozen trunk, say."""
    trial_network: ClassVar[str | None] = None
    """A network that it needs something of (normalised activations, say): ``clbench check`` judges it and naive fine-tuning on that."""
    trains_at_end: ClassVar[bool] = False
    """True if the data that ``end_task`` gets change ``learned`` (joint training, class means); otherwise it may only measure."""

    def __init__(self, brief: Brief) -> None:
        self.brief = brief

    def begin_task(self, task: int, updates: int) -> None:
        """Task number ``task`` begins and brings ``updates`` batches. Called only where the task is given in training."""

    @property
    def tasks_at_once(self) -> int:
        """How many tasks it can learn at a time, with the result of one after another (else 1). Needs the task in training.

        Such tasks begin by ``begin_tasks`` and bring batches to ``observe_tasks``; then ``end_task`` is called for one after another, and
        after each the state is to be that after this task.
        """
        return 1

    def begin_tasks(self, tasks: range, updates: int) -> None:
        """These ``tasks_at_once`` tasks begin and bring ``updates`` batches each."""
        raise UserError(f"{self.name} declares more than one of tasks_at_once and does not define this method.")

    def observe_tasks(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        """Learn from a batch of each of t tasks: inputs [t, b, *input_shape], labels [t, b]. Returns losses [t], detached, or None."""
        raise UserError(f"{self.name} declares more than one of tasks_at_once and does not define this method.")

    @abc.abstractmethod
    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        """Learn from one batch: inputs [b, *input_shape], labels int64 [b]. Returns the batch's loss (a scalar, detached) or None."""

    def end_task(self, data: Split) -> None:
        """The task ends; ``data`` is its training split again, without augmentation (for a Fisher matrix or exemplars).

        Called only where the task is given in training.
        """

    @abc.abstractmethod
    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        """Answer for the test inputs [n, *input_shape] of one task; ``task`` is given only in GG.

        Called with all of a task's test inputs at once, in inference mode of the caller's: a method that needs gradients enables them.
        Must leave no trace in what is learned.
        """

    def shared_pass(self, **parameters: Any) -> str | None:
        """A name for what ``predict`` with these parameters has in common with other asks, or None: it is answered by itself.

        Asks without a task that have a name in common are put together, to ``predict_together``.
        """
        return None

    def predict_together(self, inputs: Tensor, asks: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Prediction]:
        """Answer several asks of one ``shared_pass`` as ``predict`` would answer each: (how many of the first inputs, its parameters)."""
        return [self.predict(inputs[:count], **parameters) for count, parameters in asks]

    def decisions(self, images: int, **parameters: Any) -> int:
        """How many times ``predict`` with these parameters decides about a task for so many ``images`` of one: once for each ``group``."""
        return -(-images // int(parameters.get("group", 1)))

    def check_ask(self, **parameters: Any) -> None:
        """Raise a ``UserError`` if ``predict`` could not answer, for lack of what was learned with these parameters, say.

        Called before anything is learned, with those keyword parameters of each ask that are not None.
        """

    @classmethod
    def ask_version(cls, **parameters: Any) -> int:
        """The version of the answers to an ask with these parameters: raise it when a mended bug changes them and not what is learned.

        What was learned is kept; the ask is put again, and stands beside what the earlier version answered, under another name.
        """
        return 1

    def check_tasks(self, tasks: int) -> None:
        """Raise a ``UserError`` if it cannot learn so many tasks. Called before anything is learned."""

    def notes(self, tasks: int, updates: int) -> Sequence[str]:
        """Sentences that whoever reads the results of so many tasks and updates a task must know. Runs keep and say them.

        Called before anything is learned.
        """
        return ()

    @abc.abstractmethod
    def learned(self) -> dict[str, Tensor]:
        """Enough to predict on every task so far. The size of a file of these tensors is the method's stored bytes."""

    def progress(self) -> dict[str, Tensor]:
        """What more is needed to go on learning after the present task."""
        return {}

    @abc.abstractmethod
    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        """Take up the state of ``learned`` (to predict) and, if given, of ``progress`` (to go on learning), in a fresh method."""

    @classmethod
    def rewind(cls, learned: dict[str, Tensor], tasks: int) -> dict[str, Tensor] | None:
        """The state ``learned`` as it was after the first ``tasks`` tasks, or None if that cannot be had from a later one.

        Methods that keep separate state for each task can answer questions about any earlier checkpoint from their last state. Called
        only where the task was given in training.
        """
        return None

    @property
    def components(self) -> int | None:
        """How many task-specific components (masks, contexts, heads) are kept now; None for a method without any."""
        return None

    def frozen_state(self) -> dict[str, Tensor]:
        """Tensors that from now on must not change by a bit, themselves and not copies: a random or finished trunk, a finished mask.

        More may be added as tasks end; none may go. ``clbench check`` compares them.
        """
        return {}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of diagnostics since the last call, by the name of the CSV file that they are appended to."""
        return {}

    @classmethod
    def recipe(cls, stream: str, network: str, scenario: str) -> Recipe:
        """The published parameters for a stream, a network and a scenario: the first recipe whose patterns match, or an empty one."""
        asked = (stream, network, scenario)
        matching = (r for r in cls.recipes if all(map(fnmatch, asked, (r.stream, r.network, r.scenario))))
        return next(matching, Recipe(stream, network, scenario=scenario))


@dataclass(frozen=True)
class Parameter:
    """A keyword parameter of a method's ``__init__`` or ``predict``: its name, type as written, and default."""

    name: str
    annotation: Any
    default: Any


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The keyword-only parameters of ``function``, by name, read from its signature."""
    signature = inspect.signature(function, eval_str=True)
    return {
        p.name: Parameter(p.name, p.annotation, p.default)
        for p in signature.parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
