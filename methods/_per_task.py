"""Shared by the methods in which every task has something of its own: its rows, its training, and the state on disk.

Task i is answered with what all tasks share and what is its own: a head, rank-one vectors, a mask, a whole network. Batch-norm statistics
are always a task's own: they begin afresh with it, are frozen when it ends, and are stored with it.
"""

import copy
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.layers import weights
from clbench.method import Brief, Method, Prediction
from clbench.networks import bare_twin, head_names, in_parts
from clbench.scenarios import GG
from clbench.seeding import derive
from clbench.stream import Split
from clbench.training import LearningRate, Optimiser, Schedule, Step, Tensors, TrainingState

OWN = "own/"
"""Before the stored name of what is each task's own: [tasks, *shape]."""
MASK, FREE, KEPT = ".mask", ".free", ".kept"
"""After the name of a weight: which of it are selected; which may be trained, and what the others are."""


class Rows(list[Tensors]):
    """What is each finished task's own. A row is never changed in place, so that copies of a method share it."""

    def __deepcopy__(self, memo: dict) -> "Rows":
        return Rows(self)

    def stacked(self) -> Tensors:
        """The rows as one tensor [tasks, *shape] for each name."""
        return {name: torch.stack([row[name] for row in self]) for name in (self[0] if self else ())}


class PerTaskMethod(Method):
    """A method in which every task has something of its own.

    ``linear``: the names of the weights that layers multiply by; ``shared``: what all tasks share, by name; ``rows``: what is each
    finished task's own, statistics included. In training, what is the task's own learns with ``optimiser`` and the shared tensors while
    ``learns_shared`` says so, and with ``later`` alone when it does not.
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
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__(brief)
        self.schedule = schedule
        self.network = (network or brief.network(brief.classes)).to(brief.device).eval()
        self.linear = weights(self.network)
        self.initial: Tensors = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.fresh_buffers: Tensors = {name: b.detach().clone() for name, b in self.network.named_buffers()}
        self.statistics = [name for name, buffer in self.fresh_buffers.items() if buffer.is_floating_point()]
        self.seed = brief.seed
        self.frozen = False  # True: what is shared is never trained, and its seed is stored in its place
        self.shared: Tensors = {}
        self.rows = Rows()
        self.twin = bare_twin(self.network)
        self.steps = [
            Step(self.loss, rule, precision=brief.precision, compiled=brief.compiled) for rule in (optimiser, later or optimiser)
        ]

    # What a subclass may change

    def initial_shared(self) -> Tensors:
        """What all tasks share, before the first: drawn from ``seed`` where it is ``frozen``."""
        return {}

    def fresh_own(self, task: int) -> Tensors:
        """What is trained as the task's own, before its first batch."""
        return {}

    def learns_shared(self, task: int) -> bool:
        """Whether the task trains what is shared as well."""
        return task == 0 and not self.frozen

    def fixed(self, task: int) -> Tensors:
        """What the task's training needs beside what is shared and its own, and does not train."""
        return {}

    def effective(self, tensors: Tensors) -> Tensors:
        """The network's parameters, from what is shared, the task's own and what is fixed. A pure function, as it is compiled."""
        return tensors

    def finished(self, task: int) -> Tensors:
        """What is kept as the task's own after its last batch, beside its statistics."""
        return {name: self.trained[name] for name in self.own}

    def settled(self) -> Tensors:
        """What of the shared tensors no later task changes."""
        return {} if self.learns_shared(len(self.rows)) else self.shared

    def own_of(self, task: int) -> Tensors:
        """What was kept as the task's own, in the form that ``effective`` takes."""
        return {name: tensor for name, tensor in self.rows[task].items() if name not in self.statistics}

    # Learning

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """What the step minimises, and the buffers after the forward pass."""
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
        """Train copies of these tensors from now on, with a fresh optimiser."""
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
        """Initial values of the task's own: those of the network for the first, else drawn as each layer draws them itself."""
        return {name: self.initial[name] for name in names} if task == 0 else redrawn(self.network, names, self.seed, task)

    # Answering

    def state_of(self, task: int) -> Tensors:
        """Parameters and buffers that answer for a finished task."""
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
        """Tasks that have something of their own."""
        return len(self.rows)

    def frozen_state(self) -> Tensors:
        """What is the finished tasks' own, and what of the shared tensors is settled."""
        return {f"{task}/{name}": tensor for task, row in enumerate(self.rows) for name, tensor in row.items()} | self.settled()

    def learned(self) -> Tensors:
        kept = {"seed": torch.tensor(self.seed)} if self.frozen else dict(self.shared)
        return kept | {OWN + name: tensor for name, tensor in self.rows.stacked().items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        held = {name: tensor.to(self.brief.device, copy=True) for name, tensor in learned.items()}
        if self.frozen:
            self.seed = int(held["seed"])
            self.shared = self.initial_shared()
        else:
            self.shared = {name: held[name] for name in self.shared}
        own = {name.removeprefix(OWN): tensor for name, tensor in held.items() if name.startswith(OWN)}
        self.rows = Rows(dict(zip(own, row, strict=True)) for row in zip(*own.values(), strict=True))

    @classmethod
    def rewind(cls, learned: Tensors, tasks: int) -> Tensors | None:
        """What is shared does not change after the first task, and a finished task's own never: an earlier state is the first rows."""
        return {name: tensor[:tasks] if name.startswith(OWN) else tensor for name, tensor in learned.items()}


class MaskMethod(PerTaskMethod):
    """A method whose tasks select among the trunk's weights by masks, and have a head each.

    ``maskable``: the names of the trunk's weights. Masks are kept packed, under the name of their weight and ``MASK``; ``effective`` gets
    them as booleans.
    """

    def __init__(self, brief: Brief, *, optimiser: Optimiser, later: Optimiser | None = None) -> None:
        super().__init__(brief, optimiser=optimiser, later=later)
        self.maskable = tuple(name for name in self.trunk if name in self.linear)

    def effective(self, tensors: Tensors) -> Tensors:
        return {name: self.masked(name, tensors) if name in self.maskable else tensors[name] for name in self.initial}

    def masked(self, name: str, tensors: Tensors) -> Tensor:
        """One of the maskable weights as it takes effect. A pure function, as it is compiled."""
        mask = tensors.get(name + MASK)
        return tensors[name] if mask is None else tensors[name] * mask

    def own_of(self, task: int) -> Tensors:
        shapes = {name + MASK: self.initial[name].shape for name in self.maskable}
        return {name: unpack(own, shapes[name]) if name in shapes else own for name, own in super().own_of(task).items()}


def straight_through(mask: Tensor, score: Tensor) -> Tensor:
    """The mask, with the derivative of the score that it was made of."""
    return mask + (score - score.detach())


def free_or_kept(name: str, tensors: Tensors) -> Tensor:
    """A weight of which only a part is ``FREE``: there as it is trained, elsewhere as ``KEPT``, whatever the optimiser does to it."""
    return torch.where(tensors[name + FREE], tensors[name], tensors[name + KEPT]) if name + FREE in tensors else tensors[name]


def redrawn(network: nn.Module, names: Iterable[str], seed: int, task: int) -> Tensors:
    """Other initial values of the named parameters, for ``task``: every layer initialises itself anew, from ``seed`` and the task."""
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    drawn: Tensors = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "parameters", task))
        for prefix in layers:
            layer = copy.deepcopy(network.get_submodule(prefix)).cpu()
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
            own = layer.named_parameters(prefix, recurse=False)
            drawn |= {name: p.detach().to(next(network.parameters()).device) for name, p in own}
    return {name: drawn[name] for name in names}


def random_parameters(
    tensors: Tensors, linear: Collection[str], draws: torch.Generator, initialise: Callable[..., Tensor]
) -> Tensors:
    """Parameters of the same shapes: ``linear`` ones initialised by ``initialise``, biases 0, scales 1, and all else as it is."""

    def drawn(name: str, like: Tensor) -> Tensor:
        if name not in linear:
            return like if like.ndim >= 2 else torch.full_like(like, 0.0 if name.endswith("bias") else 1.0)
        return initialise(torch.empty(like.shape), generator=draws).to(like.device)

    return {name: drawn(name, tensor) for name, tensor in tensors.items()}


def pack(mask: Tensor) -> Tensor:
    """Booleans of any shape as bits: uint8 [ceil(n / 8)]."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy())).to(mask.device)


def unpack(bits: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of ``pack``: booleans of ``shape``."""
    flat = np.unpackbits(bits.cpu().numpy(), count=shape.numel())
    return torch.from_numpy(flat).to(bits.device, torch.bool).view(shape)
