"""Shared by the methods that give every task something of its own: the tensors of each task, the training, and the state on disk.

Task i is answered with the tensors that all tasks share and with its own: a head, rank-one vectors, a mask, a whole network. Batch-norm
statistics are always a task's own: they are re-initialised for it, frozen when it ends, and stored with it.
"""

import copy
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.method import Brief, Method, Prediction
from clbench.networks import bare_twin, head_names, in_parts, weights
from clbench.scenarios import GG
from clbench.seeding import derive
from clbench.stream import Split
from clbench.training import LearningRate, LearningRateSchedule, Optimiser, Step, Tensors, TrainingState, named, part

from ._bits import unpack

OWN = "own/"
"""Prefix of the stored names of each task's own tensors: [tasks, *shape]."""
MASK, FREE, KEPT = ".mask", ".free", ".kept"
"""Suffixes of a weight's name: the elements that a mask selects; the elements that may be trained, and the values of the others."""


class FrozenRows(list[Tensors]):
    """The tensors of each finished task. A row is never changed in place, so that copies of a method share it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenRows":
        return FrozenRows(self)

    def stacked(self) -> Tensors:
        """The rows as one tensor [tasks, *shape] for each name."""
        return {name: torch.stack([row[name] for row in self]) for name in (self[0] if self else ())}


class PerTaskMethod(Method):
    """A method in which every task has tensors of its own.

    ``linear``: the names of the weights that layers multiply by; ``shared``: the tensors that all tasks share, by name; ``rows``: each
    finished task's own tensors, statistics included. If ``learns_shared``, ``optimiser`` trains the task's own tensors together with the
    shared ones; otherwise ``later`` trains the task's own tensors alone.
    """

    scenarios = frozenset({GG})
    learning_depends_on = frozenset({"task_given_in_training"})

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Optimiser,
        later: Optimiser | None = None,
        network: nn.Module | None = None,
        schedule: LearningRateSchedule = "constant",
    ) -> None:
        super().__init__(brief)
        self.schedule = schedule
        self.network = (network or brief.network(brief.classes)).to(brief.device).eval()
        self.linear = weights(self.network)
        self.initial: Tensors = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.fresh_buffers: Tensors = {name: b.detach().clone() for name, b in self.network.named_buffers()}
        self.statistics = [name for name, buffer in self.fresh_buffers.items() if buffer.is_floating_point()]
        self.seed = brief.seed
        self.frozen = False  # True: the shared tensors are never trained, and their seed is stored instead
        self.shared: Tensors = {}
        self.rows = FrozenRows()
        self.twin = bare_twin(self.network)
        self.steps = [
            Step(self.loss, rule, precision=brief.precision, compiled=brief.compiled) for rule in (optimiser, later or optimiser)
        ]

    # What a subclass may change

    def initial_shared(self) -> Tensors:
        """The shared tensors before the first task: drawn from ``seed`` if they are ``frozen``."""
        return {}

    def fresh_own(self, task: int) -> Tensors:
        """The task's own trained tensors before its first batch."""
        return {}

    def learns_shared(self, task: int) -> bool:
        """Whether the task trains the shared tensors too."""
        return task == 0 and not self.frozen

    def fixed(self, task: int) -> Tensors:
        """Further tensors that the task's training needs and does not change."""
        return {}

    def effective(self, tensors: Tensors) -> Tensors:
        """The network's parameters, from the shared, own and fixed tensors. A pure function, because it is compiled."""
        return tensors

    def finished(self, task: int) -> Tensors:
        """The tensors to store for the task after its last batch, besides its statistics."""
        return {name: self.trained[name] for name in self.own}

    def settled(self) -> Tensors:
        """The shared tensors that no later task changes."""
        return {} if self.learns_shared(len(self.rows)) else self.shared

    def own_of(self, task: int) -> Tensors:
        """The finished task's own tensors, in the form that ``effective`` takes."""
        return {name: tensor for name, tensor in self.rows[task].items() if name not in self.statistics}

    # Learning

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The loss that the step minimises, and the buffers after the forward pass."""
        buffers = {name: buffer.clone() for name, buffer in given["buffers"].items()}
        logits = functional_call(self.twin, self.effective(given["fixed"] | trained) | buffers, (inputs,))
        return cross_entropy(logits.float(), labels), buffers

    def begin_task(self, task: int, updates: int) -> None:
        self.task = task
        self.rate = LearningRate(self.schedule, updates)
        self.own = self.fresh_own(task)
        learns_shared = self.learns_shared(task)
        trained = self.own | (self.shared if learns_shared else {})
        self.given = {"fixed": ({} if learns_shared else self.shared) | self.fixed(task), "buffers": self.fresh_buffers}
        self._train(trained, self.steps[0 if learns_shared else 1])

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        loss, self.given["buffers"] = self.step(self.trained, self.given, self.state, inputs, labels, self.rate())
        return loss

    def end_task(self, data: Split) -> None:
        self.rows.append(self.finished(self.task) | {name: self.given["buffers"][name] for name in self.statistics})
        self.shared = {name: self.trained.get(name, tensor) for name, tensor in self.shared.items()}
        self.given = {}
        self._train({}, self.step)

    def _train(self, trained: Tensors, step: Step) -> None:
        """Train copies of these tensors from now on, with a re-initialised optimiser."""
        self.trained = {name: tensor.clone() for name, tensor in trained.items()}
        self.step = step
        self.state = TrainingState(step.optimiser, self.trained)

    @cached_property
    def head(self) -> tuple[str, ...]:
        """The names of the last layer's parameters."""
        return head_names(self.network, self.brief.classes, self.brief.input_shape)

    @cached_property
    def trunk(self) -> tuple[str, ...]:
        """The names of all other parameters."""
        return tuple(name for name in self.initial if name not in self.head)

    def fresh_parameters(self, names: Iterable[str], task: int) -> Tensors:
        """Initial values for the task: the network's for the first one, otherwise each layer draws new ones."""
        return {name: self.initial[name] for name in names} if task == 0 else redrawn(self.network, names, self.seed, task)

    # Answering

    def state_of(self, task: int) -> Tensors:
        """The network's parameters and buffers for a finished task."""
        statistics = {name: self.rows[task][name] for name in self.statistics}
        return self.effective(self.shared | self.own_of(task)) | self.fresh_buffers | statistics

    def logits(self, inputs: Tensor, task: int) -> Tensor:
        """The outputs for a finished task, in evaluation mode."""
        state = self.state_of(task)
        return torch.cat([functional_call(self.network, state, (part,)) for part in in_parts(inputs.to(self.brief.device))])

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        assert task is not None
        with torch.no_grad():
            return Prediction(self.logits(inputs, task)[:, : self.brief.classes].argmax(1))

    # State

    @property
    def components(self) -> int | None:
        """The number of tasks with tensors of their own."""
        return len(self.rows)

    def frozen_state(self) -> Tensors:
        """The finished tasks' own tensors, and the shared ones that no later task changes."""
        return {f"{task}/{name}": tensor for task, row in enumerate(self.rows) for name, tensor in row.items()} | self.settled()

    def learned(self) -> Tensors:
        shared = {"seed": torch.tensor(self.seed)} if self.frozen else dict(self.shared)
        return shared | {OWN + name: tensor for name, tensor in self.rows.stacked().items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        stored = {name: tensor.to(self.brief.device, copy=True) for name, tensor in learned.items()}
        if self.frozen:
            self.seed = int(stored["seed"])
            self.shared = self.initial_shared()
        else:
            self.shared = {name: stored[name] for name in self.shared}
        stacked = {name.removeprefix(OWN): tensor for name, tensor in stored.items() if name.startswith(OWN)}
        self.rows = FrozenRows(dict(zip(stacked, row, strict=True)) for row in zip(*stacked.values(), strict=True))

    def task_progress(self) -> Tensors | None:
        """All that a batch may change: the trained tensors, the buffers, the optimiser's state and the place in its schedule."""
        rate = {"done": torch.tensor(self.rate.done)}
        return named(trained=self.trained, buffers=self.given["buffers"], optimiser=self.state.tensors(), rate=rate)

    def restore_task(self, progress: Tensors) -> None:
        trained = part("trained", progress, self.brief.device)
        self.trained = {name: trained[name] for name in self.trained}  # in their order, in which a loss may add them up
        self.given["buffers"] = part("buffers", progress, self.brief.device)
        self.state.restore(part("optimiser", progress, self.brief.device))
        self.rate.done = int(progress["rate/done"])

    @classmethod
    def rewind(cls, learned: Tensors, tasks: int) -> Tensors | None:
        """The first rows: shared tensors stay the same after the first task, and a finished task's own tensors always do."""
        return {name: tensor[:tasks] if name.startswith(OWN) else tensor for name, tensor in learned.items()}


class MaskMethod(PerTaskMethod):
    """A method whose tasks each have a mask that selects weights of the trunk, and a head.

    ``maskable``: the names of the trunk's weights. Masks are stored packed, under the name of their weight and ``MASK``; ``effective``
    gets them as booleans.
    """

    def __init__(self, brief: Brief, *, optimiser: Optimiser, later: Optimiser | None = None) -> None:
        super().__init__(brief, optimiser=optimiser, later=later)
        self.maskable = tuple(name for name in self.trunk if name in self.linear)

    def effective(self, tensors: Tensors) -> Tensors:
        return {name: self.masked(name, tensors) if name in self.maskable else tensors[name] for name in self.initial}

    def masked(self, name: str, tensors: Tensors) -> Tensor:
        """The effective values of one maskable weight. A pure function, because it is compiled."""
        mask = tensors.get(name + MASK)
        return tensors[name] if mask is None else tensors[name] * mask

    def own_of(self, task: int) -> Tensors:
        shapes = {name + MASK: self.initial[name].shape for name in self.maskable}
        return {
            name: unpack(tensor, shapes[name].numel()).bool().view(shapes[name]) if name in shapes else tensor
            for name, tensor in super().own_of(task).items()
        }


def straight_through(mask: Tensor, score: Tensor) -> Tensor:
    """The mask, with the derivative of the score that it was computed from."""
    return mask + (score - score.detach())


def free_or_kept(name: str, tensors: Tensors) -> Tensor:
    """A weight of which only the ``FREE`` elements are trained: the others have their ``KEPT`` values, whatever the optimiser does."""
    return torch.where(tensors[name + FREE], tensors[name], tensors[name + KEPT]) if name + FREE in tensors else tensors[name]


def redrawn(network: nn.Module, names: Iterable[str], seed: int, task: int) -> Tensors:
    """New initial values of the named parameters for ``task``: every layer initialises itself again, from ``seed`` and the task."""
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    drawn: Tensors = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "parameters", task))
        for prefix in layers:
            layer = copy.deepcopy(network.get_submodule(prefix)).cpu()
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
            device = next(network.parameters()).device
            drawn |= {name: p.detach().to(device) for name, p in layer.named_parameters(prefix, recurse=False)}
    return {name: drawn[name] for name in names}


def random_parameters(
    tensors: Tensors, linear: Collection[str], draws: torch.Generator, initialise: Callable[..., Tensor]
) -> Tensors:
    """Parameters of the same shapes: ``initialise`` draws the ``linear`` ones, biases are 0, scales 1, and all others stay as they are."""

    def drawn(name: str, like: Tensor) -> Tensor:
        if name not in linear:
            return like if like.ndim >= 2 else torch.full_like(like, 0.0 if name.endswith("bias") else 1.0)
        return initialise(torch.empty(like.shape), generator=draws).to(like.device)

    return {name: drawn(name, tensor) for name, tensor in tensors.items()}
