"""The contract of a continual learner: what it gets, what it must do, what it stores."""

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
    """Everything that a method is told before it learns."""

    scenario: Scenario
    network: Callable[[int], nn.Module]
    """Builds a network with that many outputs; the same initial one at every call."""
    input_shape: tuple[int, ...]
    classes: int
    """The number of labels of a task (of the largest one, if tasks differ)."""
    seed: int
    device: torch.device = torch.device("cpu")
    precision: torch.dtype = torch.float32
    """The type in which matrix products may be computed in training: float32 or bfloat16."""
    compiled: bool = False
    """Whether training is long enough for a compiled training step to pay (``clbench.training.Step``)."""


class Prediction(NamedTuple):
    """Answers for n inputs: ``labels`` within the task, int64 [n], and the inferred ``tasks``, int64 [n], or None if it infers none."""

    labels: Tensor
    tasks: Tensor | None = None


@dataclass(frozen=True)
class Recipe:
    """Published parameters of a method for streams, networks and scenarios whose names match the patterns (``*`` is any text).

    A recipe with a ``name`` can be asked for (``--recipe``): its ``run`` has the other settings of the publication, by the names of
    ``clbench.engine.settings.Request``: network, tasks, updates, batch_size, data.
    """

    stream: str
    network: str
    learn: Mapping[str, Any] = field(default_factory=dict)
    ask: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    scenario: str = "*"
    name: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)


class Method(abc.ABC):
    """A continual learner. To add one, write one file with a subclass of this, in ``methods/`` or anywhere.

    A subclass declares its ``name``, the ``scenarios`` that it serves, and typed keyword parameters (with defaults) of ``__init__`` and
    ``predict``, which ``--set``, ``--ask`` and ``clbench show`` read from the signatures. The docstring of its module gives the formula,
    the citation, deviations, and what it stores. All its random numbers come from generators seeded by ``brief.seed``
    (``clbench.seeding``).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """A part of a run's hash: raise it when a bug fix changes results."""
    scenarios: ClassVar[frozenset[Scenario]]
    citation: ClassVar[str] = ""
    learning_depends_on: ClassVar[frozenset[str]] = frozenset(
        {"task_given_in_training", "task_given_in_inference", "labels_shared"}
    )
    """The questions of the taxonomy whose answers change what is learned. Scenarios that agree on them share one training."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Learning parameters that the method did not always have. At their defaults, which stay as they are, a run does not record them, so
    that earlier runs keep their names."""
    recipes: ClassVar[Sequence[Recipe]] = ()
    """Published parameters; the first whose patterns match applies."""
    transductive: ClassVar[bool] = False
    """True if ``predict`` uses all inputs of a call to decide about each of them: every result then says so."""
    acts_against_forgetting: ClassVar[bool] = True
    """False for naive fine-tuning and lower bounds. ``clbench check`` requires all others to forget less than naive fine-tuning."""
    price: ClassVar[float] = 0.03
    """How far below naive fine-tuning its accuracy on a task just learned may be in ``clbench check``: more with a frozen trunk, say."""
    trial_network: ClassVar[str | None] = None
    """The network on which ``clbench check`` compares it with naive fine-tuning, if it needs a special one."""
    trains_at_end: ClassVar[bool] = False
    """True if ``end_task`` learns from its data (joint training, class means); otherwise it may only measure on them."""

    def __init__(self, brief: Brief) -> None:
        self.brief = brief

    def begin_task(self, task: int, updates: int) -> None:
        """Task number ``task`` begins, with ``updates`` batches. Called only if the task is given in training."""

    @property
    def tasks_at_once(self) -> int:
        """The number of tasks that it can learn together with the same result as one after another, else 1. Needs the task in training.

        Such tasks begin with ``begin_tasks``, and their batches go to ``observe_tasks``. Then ``end_task`` is called for each in turn,
        after which the state must be that after this task.
        """
        return 1

    def begin_tasks(self, tasks: range, updates: int) -> None:
        """These ``tasks_at_once`` tasks begin, with ``updates`` batches each."""
        raise UserError(f"{self.name} has tasks_at_once above 1: it must define begin_tasks and observe_tasks.")

    def observe_tasks(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        """Learn from a batch of each of t tasks: inputs [t, b, *input_shape], labels [t, b]. Returns losses [t], detached, or None."""
        raise UserError(f"{self.name} has tasks_at_once above 1: it must define begin_tasks and observe_tasks.")

    @abc.abstractmethod
    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        """Learn from one batch: inputs [b, *input_shape], labels int64 [b]. Returns the batch's loss (a scalar, detached) or None."""

    def end_task(self, data: Split) -> None:
        """The task ends; ``data`` is its training split once more, without augmentation (for a Fisher matrix or exemplars).

        Called only if the task is given in training.
        """

    @abc.abstractmethod
    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        """Answer for the test inputs [n, *input_shape] of one task; ``task`` is given only in GG.

        Called once for all test inputs of a task, under ``torch.no_grad``: a method that needs gradients enables them. It must not change
        what is learned.
        """

    def shared_pass(self, **parameters: Any) -> str | None:
        """The name of the computation that ``predict`` with these parameters can share with other asks; None if there is none.

        Asks with the same name, and without a given task, go to ``predict_together``.
        """
        return None

    def predict_together(self, inputs: Tensor, asks: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Prediction]:
        """Answer several asks of one ``shared_pass`` as ``predict`` would: each is the number of its first inputs, and its parameters."""
        return [self.predict(inputs[:count], **parameters) for count, parameters in asks]

    def decisions(self, images: int, **parameters: Any) -> int:
        """The number of decisions about the task for so many images in ``predict`` with these parameters: one for each ``group``."""
        return -(-images // int(parameters.get("group", 1)))

    def check_ask(self, **parameters: Any) -> None:
        """Raise a ``UserError`` if ``predict`` cannot answer with these parameters, because of how the method was set up, say.

        Called before anything is learned, with the keyword parameters of each ask that are not None.
        """

    @classmethod
    def ask_version(cls, **parameters: Any) -> int:
        """The version of the answers to an ask with these parameters: raise it when a bug fix changes answers and not what is learned.

        Runs then keep what they learned and are asked again; the new answers are stored beside those of the earlier version.
        """
        return 1

    def check_tasks(self, tasks: int) -> None:
        """Raise a ``UserError`` if the method cannot learn so many tasks. Called before anything is learned."""

    def notes(self, tasks: int, updates: int) -> Sequence[str]:
        """Sentences that readers of results with so many tasks, and updates for each, must know. Runs record them.

        Called before anything is learned.
        """
        return ()

    @abc.abstractmethod
    def learned(self) -> dict[str, Tensor]:
        """All that it needs to predict on every task so far. The size of a file of these tensors is the method's stored bytes."""

    def progress(self) -> dict[str, Tensor]:
        """What it needs, beyond ``learned``, to resume learning after the current task."""
        return {}

    @abc.abstractmethod
    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        """Restore, in a fresh method, the state of ``learned`` (to predict) and, if given, of ``progress`` (to resume learning)."""

    def task_progress(self) -> dict[str, Tensor] | None:
        """What the updates since ``begin_task`` have changed, to resume inside a task; None if an interrupted task has to begin again.

        Called between two updates, and before ``end_task``; only if the task is given in training. A method that is not told where tasks
        begin resumes from ``learned`` and ``progress``, which must hold everything between any two updates.
        """
        return None

    def restore_task(self, progress: dict[str, Tensor]) -> None:
        """Restore what ``task_progress`` returned, in a method in which the same task (or tasks) has just begun."""
        raise UserError(f"{self.name} defines task_progress: it must define restore_task too.")

    @classmethod
    def rewind(cls, learned: dict[str, Tensor], tasks: int) -> dict[str, Tensor] | None:
        """The state ``learned`` as it was after the first ``tasks`` tasks; None if a later state does not hold it.

        Methods with separate state for each task can be asked at any earlier checkpoint, from their last state. Called only if the task was
        given in training.
        """
        return None

    @property
    def components(self) -> int | None:
        """The number of task-specific components (masks, contexts, heads) that are stored now; None for a method without any."""
        return None

    @property
    def in_training(self) -> int | None:
        """The component that it trains now, if it chooses that itself because no task is given; None otherwise, and before its choice.

        It is read after each batch: ``boundaries.csv`` compares the changes with the true ones.
        """
        return None

    def frozen_state(self) -> dict[str, Tensor]:
        """Tensors that must never change from now on, not copies of them: a random or finished trunk, a finished mask.

        Tensors may be added when tasks end, none may be removed. ``clbench check`` compares them bit by bit.
        """
        return {}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of diagnostics since the last call, by the name of the CSV table to which they are appended."""
        return {}

    @classmethod
    def recipe(cls, stream: str, network: str, scenario: str) -> Recipe:
        """The published parameters for a stream, a network and a scenario: the first recipe whose patterns match, or an empty one."""
        names = (stream, network, scenario)
        matching = (r for r in cls.recipes if all(map(fnmatch, names, (r.stream, r.network, r.scenario))))
        return next(matching, Recipe(stream, network, scenario=scenario))


@dataclass(frozen=True)
class Parameter:
    """A keyword parameter of a method's ``__init__`` or ``predict``: its name, annotation and default."""

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
