"""HopSupSup: supermasks as attractors of a Hopfield network of fixed size (section 3.5 of the paper; Hopfield 1982; Storkey 1997).

A mask m, of hidden units and not of weights, is learned for each task on a random frozen network, and written as z = 2 m - 1 into
Psi [d, d], d being the number of hidden units; the mask itself is then forgotten. ``hebb``, as the paper writes it, and ``storkey``, as
the authors' code does (h = Psi z):

    Psi <- Psi + z z' / d
    Psi_uv <- Psi_uv + (z_u z_v - z_u h_vu - h_uv z_v) / d,    h_uv = h_u - Psi_uu z_u - Psi_uv z_v

To answer, a mask is found for each group of test images by T steps of gradient descent with momentum, from the mean of all stored z, on

    strength (t / T) (-z' Psi z / 2) + (1 - t / T) H(p(x, (z + 1) / 2))

the energy, whose minima are stored masks, and the entropy, which is low for the right one. (The paper's energy lacks the minus: stored
strings would be its maxima.) The signs of z at the end are the mask. Every class of every task has an output of its own.

Where the mask acts: on each hidden layer's activations (``output``, equation 5), or on what goes into them (``normalised``, as the authors'
code masks the normalised pre-activations). It needs a network that is an ``nn.Sequential``, such as ``swish-2048x2048``.

Deviations: z is clipped to [-1, 1] after each step. Batch normalisation uses the batch's statistics, in training and in answering, which
makes the method transductive, as in the authors' code.

A first version, and therefore no part of the zoo yet: on the short stream and the plain network of ``clbench check`` it does not learn
enough to be judged. On SplitMNIST with its own network it finds the masks.

Stores, to predict: Psi, the sum of all z, their number, and the seed of the weights: the same however many tasks there are. To go on:
nothing more. The table ``recovery`` has, for each task just learned, how a mask is found for its first training images: the share of units
that differ from the true mask, entropy (nats) and energy, by step.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn.functional import cross_entropy

from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction, Recipe
from clbench.methods._inference import entropy
from clbench.methods.supsup.layout import random_base
from clbench.methods.supsup.masking import straight_through
from clbench.networks import bare_twin
from clbench.scenarios import GNS, GNU
from clbench.stream import Split
from clbench.training import Step, Tensors, TrainingState, sgd

ACTIVATIONS = (nn.ReLU, nn.SiLU)
TRACED = 64
"""Images for which the recovery of a mask is traced."""


class Masked(nn.Module):
    """A sequential network whose hidden units are masked: called with inputs [n, ...] and a mask [d] of all hidden units."""

    def __init__(self, network: nn.Module, place: str, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if not isinstance(network, nn.Sequential):
            raise UserError("HopSupSup masks the layers of an nn.Sequential: use a network such as swish-2048x2048.")
        self.layers = network
        self.after = place == "output"
        self.widths = self._measure(input_shape)

    def _measure(self, input_shape: tuple[int, ...]) -> list[int]:
        """The number of units at each activation."""
        x, widths = torch.zeros(2, *input_shape), []
        with torch.no_grad():
            for layer in self.layers:
                x = layer(x)
                widths += [x.shape[1]] if isinstance(layer, ACTIVATIONS) else []
        return widths

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        parts = iter(mask.split(self.widths))
        x = inputs
        for layer in self.layers:
            if isinstance(layer, ACTIVATIONS):
                part = next(parts)
                part = part.view(-1, *[1] * (x.ndim - 2))
                x = layer(x) * part if self.after else layer(x * part)
            else:
                x = layer(x)
        return x


def hebb(psi: Tensor, z: Tensor) -> Tensor:
    """Psi [d, d] with z [d] of -1 and 1 stored by Hebb's rule."""
    return psi + torch.outer(z, z) / len(z)


def storkey(psi: Tensor, z: Tensor) -> Tensor:
    """Psi [d, d] with z [d] of -1 and 1 stored by Storkey's rule, whose local fields leave out both units of a pair."""
    field = psi @ z - psi.diagonal() * z
    pull = torch.outer(z, field)
    return psi + (torch.outer(z, z) - pull - pull.T + 2 * psi) / len(z)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hebb": hebb, "storkey": storkey}


class State(NamedTuple):
    """Where a descent is: z [d], the entropy (nats) and the energy there."""

    z: Tensor
    entropy: Tensor
    energy: Tensor


def descend(
    psi: Tensor,
    start: Tensor,
    doubt: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    momentum: float,
    strength: float,
) -> list[State]:
    """The states before each of ``steps`` steps and after the last; ``doubt`` gives the entropy for a mask [d] from 0 to 1."""
    z, velocity, states = start, torch.zeros_like(start), []
    value = grad_and_value(lambda z: doubt((z + 1) / 2))
    for step in range(steps + 1):
        slope, found = value(z)
        field = psi @ z
        states.append(State(z, found, -(z @ field) / 2))
        share = step / steps
        velocity = momentum * velocity + (1 - share) * slope - strength * share * field
        z = (z - step_size * velocity).clamp(-1, 1)
    return states


class HopSupSup(Method):
    """Supermasks of hidden units in a Hopfield network of fixed size."""

    name = "hopsupsup"
    scenarios = frozenset({GNS, GNU})
    citation = "Wortsman et al.: Supermasks in Superposition. NeurIPS 2020, section 3.5"
    learning_depends_on = frozenset({"task_given_in_training"})
    transductive = True
    recipes = (Recipe("*", "*", source="the authors' scripts (Figure 7): SplitMNIST, swish-2048x2048, one pass over each task"),)

    def __init__(
        self,
        brief: Brief,
        *,
        outputs: int = 10,
        storage: Literal["storkey", "hebb"] = "storkey",
        masked: Literal["output", "normalised"] = "output",
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
    ) -> None:
        """``outputs``: of all classes of all tasks; ``storage``: the rule that writes masks; ``masked``: where a mask acts; SGD's
        ``learning_rate``, ``momentum`` and ``weight_decay`` for the scores, which start at 0."""
        super().__init__(brief)
        self.outputs = outputs
        self.store = RULES[storage]
        self.optimiser = sgd(learning_rate, momentum=momentum, weight_decay=weight_decay)
        self.masked = Masked(brief.network(outputs), masked, brief.input_shape)
        self.size = sum(self.masked.widths)
        self._begin_on(brief.seed)
        self.psi = torch.zeros(self.size, self.size, device=brief.device)
        self.sum = torch.zeros(self.size, device=brief.device)
        self.tasks = 0
        self.task = 0
        self.scores = torch.zeros(self.size, device=brief.device)
        self.state = TrainingState(self.optimiser, {"scores": self.scores})
        self._rows: list[dict[str, Any]] = []

    def _begin_on(self, seed: int) -> None:
        """Make the random network of ``seed``, and the step that trains masks on it."""
        brief = self.brief
        self.seed = seed
        self.base = random_base(self.masked, seed, brief.device)
        self.twin = bare_twin(self.masked)  # in training mode: batch normalisation uses the batch's statistics
        self.fixed = self.base.state(self.base.weights, self.base.fresh)
        twin = self.twin

        def loss(trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
            fixed = {name: value.clone() for name, value in given["fixed"].items()}
            logits = functional_call(twin, fixed, (inputs, straight_through(trained["scores"])))
            return cross_entropy(logits.float(), labels), {}

        self.step = Step(loss, self.optimiser, precision=brief.precision, compiled=brief.compiled)

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        if (task + 1) * self.brief.classes > self.outputs:
            raise UserError(
                f"outputs={self.outputs} are too few for {task + 1} tasks of {self.brief.classes} classes: learn with more."
            )
        self.task = task
        self.scores = torch.zeros_like(self.scores)
        self.state = TrainingState(self.optimiser, {"scores": self.scores})

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        labels = labels + self.brief.classes * self.task
        loss, _ = self.step({"scores": self.scores}, {"fixed": self.fixed}, self.state, inputs, labels)
        return loss

    def end_task(self, data: Split) -> None:
        z = torch.where(self.scores >= 0, 1.0, -1.0)
        self.psi = self.store(self.psi, z)
        self.sum = self.sum + z
        self.tasks += 1
        inputs, _ = data.whole(TRACED)
        for step, (found, doubt, energy) in enumerate(self._recover(inputs.to(self.brief.device))):
            distance = ((found >= 0) != (z >= 0)).float().mean()
            row = {"step": step, "distance": float(distance), "entropy": float(doubt), "energy": float(energy)}
            self._rows.append({"task": self.task} | row)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``recovery``: how masks are found, for each task just learned."""
        rows, self._rows = self._rows, []
        return {"recovery": rows} if rows else {}

    # Answering

    def check_ask(self, **parameters: Any) -> None:
        for what in ("group", "steps", "step_size", "strength"):
            if parameters.get(what, 1) <= 0:
                raise UserError(f"{what} must be above 0, not {parameters[what]}.")

    def predict(
        self,
        inputs: Tensor,
        task: int | None = None,
        *,
        group: int = 64,
        steps: int = 30,
        step_size: float = 500.0,
        momentum: float = 0.9,
        strength: float = 1.5e-3,
    ) -> Prediction:
        """Find a mask for each ``group`` of consecutive images by that many ``steps`` of that size and momentum, and answer with it.

        ``strength``: of the Hopfield network's energy against the entropy.
        """
        how = {"steps": steps, "step_size": step_size, "momentum": momentum, "strength": strength}
        best = []
        for images in inputs.to(self.brief.device).split(group):
            mask = (self._recover(images, **how)[-1].z >= 0).float()
            best.append(self._logits(images, mask)[:, : self.brief.classes * self.tasks].argmax(1))
        found = torch.cat(best)
        return Prediction(found % self.brief.classes, found // self.brief.classes)

    def _recover(self, images: Tensor, **how: Any) -> list[State]:
        """The descent to a mask for one group of images."""
        usual = {"steps": 30, "step_size": 500.0, "momentum": 0.9, "strength": 1.5e-3}

        def doubt(mask: Tensor) -> Tensor:
            return entropy(self._logits(images, mask), self.outputs).mean()

        return descend(self.psi, self.sum / max(1, self.tasks), doubt, **(usual | how))

    def _logits(self, images: Tensor, mask: Tensor) -> Tensor:
        """All outputs [n, outputs] with a mask [d]."""
        return functional_call(self.twin, {name: value.clone() for name, value in self.fixed.items()}, (images, mask))

    # State

    @property
    def components(self) -> int:
        """Masks written into the Hopfield network."""
        return self.tasks

    def frozen_state(self) -> dict[str, Tensor]:
        """The random weights."""
        return {"weights": self.base.weights}

    def learned(self) -> dict[str, Tensor]:
        kept = {"psi": self.psi, "sum": self.sum}
        return {name: tensor.clone() for name, tensor in kept.items()} | {
            "seed": torch.tensor(self.seed),
            "tasks": torch.tensor(self.tasks),
        }

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        self._begin_on(int(learned["seed"]))
        self.psi = learned["psi"].to(self.brief.device, copy=True)
        self.sum = learned["sum"].to(self.brief.device, copy=True)
        self.tasks = int(learned["tasks"])
