"""One training step for every method: forward, backward and the optimiser's update in a single function, compiled if that pays.

A method provides its loss as a pure function of its trained tensors, which may be weights, scores of a mask or rank-one vectors. The
compiled and the plain step do the same arithmetic in a different order of operations, so that their results differ by rounding only.
"""

from __future__ import annotations  # as text: torch.compile cannot evaluate the annotations of an inner function

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad_and_value, vjp, vmap

from clbench import devices
from clbench.checks import above_zero, below_one, not_negative
from clbench.networks import Work, channels_last

Tensors = dict[str, Tensor]
Loss = Callable[[Tensors, dict[str, Any], Tensor, Tensor], tuple[Tensor, Tensors]]
"""(trained, given, inputs, labels) -> (the loss, other results of the forward pass, such as batch-norm statistics).

``given`` is a dictionary of tensors, or of such dictionaries, which the loss needs and does not train.
"""
Effective = Callable[[Tensors, dict[str, Any]], Tensors]
"""(trained, given) -> the tensors that the forward pass uses instead of the trained ones, such as masked weights, of any type."""
Rule = Callable[[Tensor, Tensor, Tensors, Tensor, Tensor], None]
"""(parameter, gradient, slots, step number from 1, factor of the learning rate): updates parameter and slots in place."""

COMPILE_SECONDS = 12
"""The time to compile a step, roughly, with one second more for each parameter tensor."""
SAVED_SECONDS = 5e-9
"""The time that a compiled step saves on a CPU, roughly, for each parameter and update."""
SAVED_BY_OUTPUT = 5e-10
"""The time that it saves, roughly, for each output value of a layer, because it merges normalisation and activations."""


@dataclass(frozen=True)
class Optimiser:
    """An update rule, and the names of its state tensors for each parameter, which begin at 0."""

    slots: tuple[str, ...]
    rule: Rule

    def fresh(self, trained: Tensors) -> dict[str, Tensors]:
        """The optimiser's state before the first step, by parameter and slot."""
        return {name: {slot: torch.zeros_like(tensor) for slot in self.slots} for name, tensor in trained.items()}


def rmsprop(learning_rate: float, *, alpha: float = 0.99, epsilon: float = 1e-8, weight_decay: float = 0.0) -> Optimiser:
    """RMSprop as in ``torch.optim.RMSprop``, without momentum, weight decay added to the gradient (Tieleman & Hinton 2012)."""
    above_zero(learning_rate=learning_rate, epsilon=epsilon)
    not_negative(weight_decay=weight_decay)
    below_one(alpha=alpha)

    def rule(parameter: Tensor, gradient: Tensor, slots: Tensors, step: Tensor, factor: Tensor) -> None:
        gradient = gradient + weight_decay * parameter if weight_decay else gradient
        slots["square"].mul_(alpha).add_((1 - alpha) * gradient * gradient)
        parameter.sub_(learning_rate * factor * gradient / (slots["square"].sqrt() + epsilon))

    return Optimiser(("square",), rule)


def adam(
    learning_rate: float, *, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8, weight_decay: float = 0.0
) -> Optimiser:
    """Adam as in ``torch.optim.Adam``, weight decay added to the gradient (Kingma & Ba 2014)."""
    first, second = betas
    above_zero(learning_rate=learning_rate, epsilon=epsilon)
    not_negative(weight_decay=weight_decay)
    below_one(first_beta=first, second_beta=second)

    def rule(parameter: Tensor, gradient: Tensor, slots: Tensors, step: Tensor, factor: Tensor) -> None:
        gradient = gradient + weight_decay * parameter if weight_decay else gradient
        slots["mean"].mul_(first).add_((1 - first) * gradient)
        slots["square"].mul_(second).add_((1 - second) * gradient * gradient)
        mean = slots["mean"] / (1 - first**step)
        parameter.sub_(learning_rate * factor * mean / ((slots["square"] / (1 - second**step)).sqrt() + epsilon))

    return Optimiser(("mean", "square"), rule)


def sgd(learning_rate: float, *, momentum: float = 0.0, weight_decay: float = 0.0) -> Optimiser:
    """Stochastic gradient descent as in ``torch.optim.SGD``."""
    above_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(momentum=momentum)

    def rule(parameter: Tensor, gradient: Tensor, slots: Tensors, step: Tensor, factor: Tensor) -> None:
        gradient = gradient + weight_decay * parameter if weight_decay else gradient
        if momentum:
            gradient = slots["velocity"].mul_(momentum).add_(gradient)
        parameter.sub_(learning_rate * factor * gradient)

    return Optimiser(("velocity",) if momentum else (), rule)


OPTIMISERS: dict[str, Callable[..., Optimiser]] = {"rmsprop": rmsprop, "adam": adam, "sgd": sgd}

WARM_UP = 0.05
"""The share of a task's updates in which the learning rate rises, if it does: the paper's 5 of 100 epochs."""


def constant(done: float) -> float:
    """The factor of a constant learning rate."""
    return 1.0


def linear(done: float) -> float:
    """The factor of a learning rate that falls to 0 along a line; ``done`` is the share of the task's updates so far, 0 to 1."""
    return 1 - done


def cosine(done: float) -> float:
    """The factor of a learning rate that falls to 0 along half a cosine."""
    return (1 + math.cos(math.pi * done)) / 2


def warm_cosine(done: float) -> float:
    """The same after a linear rise in the first ``WARM_UP`` of the updates."""
    return done / WARM_UP if done < WARM_UP else cosine((done - WARM_UP) / (1 - WARM_UP))


LearningRateSchedule = Literal["constant", "linear", "cosine", "warm-up-cosine"]
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "warm-up-cosine": warm_cosine,
}


class LearningRate:
    """The factor of the learning rate at each update of a task: call it once an update."""

    def __init__(self, schedule: str, updates: int) -> None:
        self.factor = SCHEDULES[schedule]
        self.updates = updates
        self.done = 0

    def __call__(self) -> float:
        factor = self.factor(min(1.0, (self.done + 0.5) / self.updates))
        self.done += 1
        return factor


def compiling_pays(updates: int, work: Work, batch_size: int) -> bool:
    """Whether a compiled step saves more time in ``updates`` steps than compiling takes, and a compiler is there.

    This depends on the amount of work, not on a measurement: equal runs must decide equally.
    """
    saved = work.parameters * SAVED_SECONDS + batch_size * work.outputs * SAVED_BY_OUTPUT
    return devices.compiler_found() and updates * saved > COMPILE_SECONDS + work.tensors


@cache
def _scalar(value: float, device: torch.device) -> Tensor:
    """A number as a tensor, so that a compiled step is not compiled again for another number."""
    return torch.tensor(value, device=device)


class Step:
    """A training step: ``step(trained, given, state, inputs, labels)`` updates ``trained`` and ``state`` in place.

    Returns the loss before the update, detached, and the other results of the loss function. Matrix products are computed in
    ``precision``, everything else in float32. With ``effective``, the loss is a function of the tensors that ``effective`` computes from
    the trained ones. Each step ends with computing them for the next one, so that trained tensors are read and written once in a step.

    With ``own``, it is a step of several independent tasks together: trained tensors, inputs, labels and results have a leading dimension
    of tasks, and so have the tensors of ``given`` that ``own`` names.

    A step is also available in its two halves: ``look`` computes the loss and its gradients and changes nothing, and ``learn`` updates with
    them, or is left out. Together they take the time of the step.
    """

    def __init__(
        self,
        loss: Loss,
        optimiser: Optimiser,
        *,
        precision: torch.dtype,
        compiled: bool,
        effective: Effective | None = None,
        own: Collection[str] | None = None,
    ) -> None:
        self.optimiser = optimiser

        def value(used: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
            with torch.autocast(inputs.device.type, dtype=precision, enabled=precision != torch.float32):
                return loss(used, given, inputs, labels)

        def differentiated(*arguments: Any) -> tuple[Tensors, tuple[Tensor, Tensors]]:
            one = grad_and_value(value, has_aux=True)
            if own is None:
                return one(*arguments)
            # vmap outside, gradient inside: the other way round the gradients of weights come transposed, and updates are slow.
            by_task = {name: 0 if name in own else None for name in arguments[1]}
            return vmap(one, in_dims=(0, by_task, 0, 0))(*arguments)

        def learn(
            trained: Tensors,
            effective_now: Tensors | None,
            given: dict[str, Any],
            slots: dict[str, Tensors],
            count: Tensor,
            factor: Tensor,
            gradients: Tensors,
        ) -> None:
            count.add_(1)
            if effective is not None:
                pull_back = vjp(lambda trained: effective(trained, given), trained)[1]
                (gradients,) = pull_back(gradients)
            for name, parameter in trained.items():
                optimiser.rule(parameter, gradients[name], slots[name], count, factor)
            if effective is not None and effective_now is not None:
                for name, tensor in effective(trained, given).items():
                    effective_now[name].copy_(tensor)

        def step(
            trained: Tensors,
            effective_now: Tensors | None,
            given: dict[str, Any],
            slots: dict[str, Tensors],
            count: Tensor,
            factor: Tensor,
            inputs: Tensor,
            labels: Tensor,
        ) -> tuple[Tensor, Tensors]:
            used = trained if effective_now is None else effective_now
            gradients, (loss_value, rest) = differentiated(used, given, inputs, labels)
            learn(trained, effective_now, given, slots, count, factor, gradients)
            return loss_value, rest

        def prepared(function: Callable[..., Any]) -> Callable[..., Any]:
            return torch.compile(function, fullgraph=True, dynamic=False) if compiled else function

        if compiled:
            # A last layer that grows with the tasks is compiled again for each size; PyTorch would give up at the eighth.
            torch._dynamo.config.recompile_limit = 1000
        self._step, self._differentiated, self._learn = prepared(step), prepared(differentiated), prepared(learn)
        self._effective = effective

    def __call__(
        self, trained: Tensors, given: dict[str, Any], state: TrainingState, inputs: Tensor, labels: Tensor, factor: float = 1.0
    ) -> tuple[Tensor, Tensors]:
        rate = _scalar(factor, inputs.device)
        with torch.no_grad():
            self._prepare(trained, given, state)
            return self._step(trained, state.effective, given, state.slots, state.count, rate, channels_last(inputs), labels)

    def look(
        self, trained: Tensors, given: dict[str, Any], state: TrainingState, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensors, Tensors]:
        """The loss, the other results of the loss function, and the gradients for ``learn``. Nothing is changed."""
        with torch.no_grad():
            self._prepare(trained, given, state)
            used = trained if state.effective is None else state.effective
            gradients, (loss, rest) = self._differentiated(used, given, channels_last(inputs), labels)
            return loss, rest, gradients

    def learn(self, trained: Tensors, given: dict[str, Any], state: TrainingState, gradients: Tensors, factor: float = 1.0) -> None:
        """Update ``trained`` and ``state`` in place with the gradients of the last ``look``."""
        with torch.no_grad():
            rate = _scalar(factor, next(iter(gradients.values())).device)
            self._learn(trained, state.effective, given, state.slots, state.count, rate, gradients)

    def _prepare(self, trained: Tensors, given: dict[str, Any], state: TrainingState) -> None:
        if self._effective is not None and state.effective is None:
            state.effective = self._effective(trained, given)


def named(**parts: Tensors) -> Tensors:
    """Copies of the tensors of several parts in one dictionary, each under the name of its part and its own."""
    return {f"{part}/{name}": tensor.detach().clone() for part, tensors in parts.items() for name, tensor in tensors.items()}


def part(name: str, tensors: Tensors, device: torch.device) -> Tensors:
    """One of the parts that ``named`` put together, on ``device``."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): tensor.to(device) for key, tensor in tensors.items() if key.startswith(prefix)}


class TrainingState:
    """The optimiser's state between the steps of one training: a count, and its slots for each trained tensor."""

    def __init__(self, optimiser: Optimiser, trained: Tensors) -> None:
        device = next(iter(trained.values())).device if trained else None
        self.count = torch.zeros((), device=device)
        self.slots = optimiser.fresh(trained)
        self.effective: Tensors | None = None  # computed by the first step, from the trained tensors

    def tensors(self) -> Tensors:
        """The state by name, to be saved on disk."""
        named = {f"{name}.{slot}": tensor for name, slots in self.slots.items() for slot, tensor in slots.items()}
        return named | {"count": self.count}

    def restore(self, tensors: Tensors) -> None:
        """Restore the state that ``tensors`` returned."""
        self.effective = None
        self.count.copy_(tensors["count"])
        for name, slots in self.slots.items():
            for slot, tensor in slots.items():
                tensor.copy_(tensors[f"{name}.{slot}"])
