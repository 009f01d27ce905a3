"""Inferring the task without the masks: which task's images have such features? (``algorithm=statistics``)

Confidences of masks that were trained apart cannot be compared; densities over features that all tasks share can. The features f(x) are
random and never change, and every class of every task has a normal density over them (``_statistics.py``), so that

    log p(x | task) = log of the mean over the task's classes of p(f(x) | class),

summed over the images of evidence. The work is one pass through the random network for all tasks, and one product with each class's
weights.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from clbench.engine.probe import batch_use
from clbench.errors import UserError
from clbench.method import Brief
from clbench.networks import in_parts
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import Tensors

from .._statistics import ClassStatistics, Discriminants
from .layout import Base

Features = Callable[[Tensor], Tensor]
"""From inputs [n, *input_shape] to features [n, F]."""
HIDDEN, RANDOM = "hidden", "random-"
PREFIX = "classes."
"""Prefix of the stored names."""
IMAGES = 1024
"""Images of evidence at a time: the scores of 25,000 classes take 100 MB."""


def hidden_units(base: Base, inputs: Tensor) -> Tensor:
    """What goes into every layer of the unmasked random network, except into the first; means over the positions of maps and sequences."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, arguments: tuple[object, ...]) -> None:
        values = arguments[0] if arguments else None
        if isinstance(values, Tensor) and len(values) == len(inputs) and not any(values is other for _, other in seen):
            seen.append((layer, values))

    owners = dict.fromkeys(map(_owner, base.layout.shapes))
    hooks = [base.network.get_submodule(name).register_forward_pre_hook(note) for name in owners]
    try:
        functional_call(base.network, base.state(base.weights, base.fresh), (inputs,))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([inputs.new_empty(len(inputs), 0), *(_by_unit(layer, values) for layer, values in seen[1:])], 1)


def _owner(weight: str) -> str:
    """The name of the layer that uses a weight. A parametrisation's weight belongs to the layer around it."""
    layer, parametrised, _ = weight.partition(".parametrizations.")
    return layer if parametrised else weight.rpartition(".")[0]


def _by_unit(layer: nn.Module, values: Tensor) -> Tensor:
    """The inputs of a layer as [n, units]: convolutions have their units second, all others last."""
    units_last = values.movedim(1, -1) if isinstance(layer, _ConvNd) else values
    return units_last.unflatten(0, (len(values), 1)).flatten(1, -2).mean(1)


def random_units(number: int, brief: Brief, seed: int) -> Features:
    """A layer of its own: ReLU of random normal weights, drawn from the seed and never stored."""
    fan_in = math.prod(brief.input_shape)
    weights = (torch.randn(fan_in, number, generator=generator(seed, "features")) * math.sqrt(2 / fan_in)).to(brief.device)
    return lambda inputs: (inputs.flatten(1) @ weights).relu()


def features_of(name: str, base: Base, brief: Brief, seed: int) -> Features:
    """The features called ``name``: ``hidden``, or ``random-`` with a number of units. A ``UserError`` if there are none."""
    size = name.removeprefix(RANDOM)
    if name.startswith(RANDOM) and size.isdecimal() and int(size):
        return random_units(int(size), brief, seed)
    if name != HIDDEN:
        raise UserError(f"Unknown features statistics={name}: give hidden, or random-1000 for a random layer of 1000 units.")
    advice = "use statistics=random-1000, a random layer of 1000 units"
    if batch_use(brief).mixed:
        raise UserError(f"The network normalises over the batch, so that its hidden units are no features of one image: {advice}.")
    with torch.no_grad():
        trial = hidden_units(base, torch.zeros(2, *brief.input_shape, device=brief.device))
    if not trial.shape[1]:
        raise UserError(f"The network has no hidden units between its layers: {advice}.")
    return lambda inputs: hidden_units(base, inputs)


class TaskStatistics:
    """The densities of all tasks' classes over fixed random features. Class c of task i has the number i * classes + c."""

    def __init__(self, name: str, base: Base, brief: Brief, seed: int) -> None:
        self.features = features_of(name, base, brief, seed)
        self.brief = brief
        self.gathered: ClassStatistics | None = None
        self._discriminants: Discriminants | None = None

    def add(self, data: Split, task: int) -> None:
        """Add a task's training images, in one pass over them."""
        inputs, labels = data.whole()
        parts = in_parts(inputs.to(self.brief.device))
        with torch.no_grad():
            for part, own in zip(parts, labels.to(self.brief.device).split([len(part) for part in parts]), strict=True):
                features = self.features(part)
                if self.gathered is None:
                    self.gathered = ClassStatistics(features.shape[1], self.brief.device)
                self.gathered.add(features, own + task * self.brief.classes)
        if self.gathered is not None:
            self.gathered.make_room((task + 1) * self.brief.classes)  # a task may lack the last classes
        self._discriminants = None

    @property
    def discriminants(self) -> Discriminants:
        if self._discriminants is None:
            assert self.gathered is not None
            self._discriminants = self.gathered.discriminants()
        return self._discriminants

    def densities(self, groups: Tensor) -> Tensor:
        """log p(images | task), up to what all tasks share, for q groups of images [q, e, *input_shape]: [q, k]."""
        with torch.no_grad():
            features = torch.cat([self.features(part) for part in in_parts(groups.flatten(0, 1))])
            scores = self.discriminants.scores(features).unflatten(1, (-1, self.brief.classes))
            classes = self.discriminants.present.unflatten(0, (-1, self.brief.classes)).sum(1)
            of_image = scores.logsumexp(2) - classes.log()
        return of_image.unflatten(0, groups.shape[:2]).sum(1)

    def infer(self, groups: Tensor) -> Tensor:
        """The task of each of q groups of images [q, e, *input_shape], int64 [q]."""
        return self.densities(groups).argmax(1)

    # State

    def learned(self) -> Tensors:
        """What inferring needs."""
        if self.gathered is None and self._discriminants is None:
            return {}
        return {PREFIX + name: tensor for name, tensor in self.discriminants._asdict().items()}

    def progress(self) -> Tensors:
        """What adding a task needs."""
        return {PREFIX + name: tensor for name, tensor in self.gathered.state().items()} if self.gathered else {}

    def restore(self, learned: Tensors, progress: Tensors | None) -> None:
        """The inverse of both."""

        def own(tensors: Tensors) -> Tensors:
            return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}

        if stored := own(learned):
            self._discriminants = Discriminants(**{name: tensor.to(self.brief.device) for name, tensor in stored.items()})
        if state := own(progress or {}):
            self.gathered = ClassStatistics(state["means"].shape[1], self.brief.device)
            self.gathered.restore(state)
