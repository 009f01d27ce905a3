"""The method: masks of hidden units learned, written into the Hopfield network, and found again for the images of an ask."""

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction, Recipe
from clbench.methods._check import for_check
from clbench.methods._inference import entropy
from clbench.methods.supsup.layout import random_base
from clbench.methods.supsup.masking import straight_through
from clbench.networks import bare_twin
from clbench.scenarios import GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import Step, Tensors, TrainingState, sgd

from .hopfield import RULES, State, descend, unstable

ACTIVATIONS = (nn.ReLU, nn.SiLU)
TRACED = 64
"""Images for which the recovery of a mask is traced."""
TOGETHER = 16
"""Groups of images for which masks are sought at a time."""
AUTHORS_UNITS = 4096
STEPS, STEP_SIZE, MOMENTUM, STRENGTH = 30, 500 / AUTHORS_UNITS, 0.9, 1.5e-3 * AUTHORS_UNITS
"""The authors' descent."""
GROUP = 64
"""The authors' test images that share a mask."""


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


class HopSupSup(Method):
    """Supermasks of hidden units in a Hopfield network of fixed size."""

    name = "hopsupsup"
    version = 2
    scenarios = frozenset({GNS, GNU})
    citation = "Wortsman et al.: Supermasks in Superposition. NeurIPS 2020, section 3.5"
    learning_depends_on = frozenset({"task_given_in_training"})
    transductive = True
    trial_network = "swish-1000x1000"
    price = 0.1  # masks of units leave less to choose from than masks of weights
    recipes = (
        for_check({"outputs": 30}),  # six tasks of five classes
        Recipe("*", "*", source="the authors' scripts (Figure 7): SplitMNIST, swish-2048x2048, one pass over each task"),
    )

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
        self.first = torch.zeros(self.size, dtype=torch.int8, device=brief.device)
        self.tasks = 0
        self.task = 0
        self.scores = torch.zeros(self.size, device=brief.device)
        self.state = TrainingState(self.optimiser, {"scores": self.scores})
        self._rows: dict[str, list[dict[str, Any]]] = {"recovery": [], "retention": []}

    def _begin_on(self, seed: int) -> None:
        """Make the random network of ``seed``, and the step that trains masks on it."""
        brief = self.brief
        self.seed = seed
        self.base = random_base(self.masked, seed, brief.device)
        self.twin = bare_twin(self.masked)  # in training mode: batch normalisation uses the batch's statistics
        # What autocast would convert at each use.
        multiplied, state = self.base.layout.shapes, self.base.state(self.base.weights, self.base.fresh)
        self.fixed = {name: tensor.to(brief.precision) if name in multiplied else tensor for name, tensor in state.items()}
        twin = self.twin

        def loss(trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
            fixed = {name: value.clone() for name, value in given["fixed"].items()}
            logits = functional_call(twin, fixed, (inputs, straight_through(trained["scores"])))
            return cross_entropy(logits.float(), labels), {}

        self.step = Step(loss, self.optimiser, precision=brief.precision, compiled=brief.compiled)

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        self.check_tasks(task + 1)
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
        if self.tasks == 1:
            self.first = z.to(torch.int8)
        self._rows["retention"].append({"stored": self.tasks, "lost": float(unstable(self.psi, self.first.float()))})
        inputs, _ = next(data.batches(1, TRACED, generator(self.seed, "traced", self.task)))
        images, mask = inputs.to(self.brief.device)[None], (z[None] + 1) / 2
        goal = float(self._doubt(images, mask))
        for step, (found, doubt, energy) in enumerate(self._recover(images)):
            distance = ((found >= 0) != (z >= 0)).float().mean()
            row = {"step": step, "distance": float(distance), "entropy": float(doubt), "energy": float(energy), "goal": goal}
            self._rows["recovery"].append({"task": self.task} | row)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``recovery``: how masks are found, for each task just learned; ``retention``: what is left of the first."""
        rows = {name: found for name, found in self._rows.items() if found}
        self._rows = {"recovery": [], "retention": []}
        return rows

    # Answering

    def check_ask(self, **parameters: Any) -> None:
        for what, least in {"group": 2, "steps": 1}.items():
            if parameters.get(what, least) < least:
                raise UserError(f"{what} must be {least} or more, not {parameters[what]}.")
        for what in ("step_size", "strength"):
            if not 0 < parameters.get(what, 1.0) < math.inf:
                raise UserError(f"{what} must be above 0 and finite, not {parameters[what]}.")
        if not 0 <= parameters.get("descent_momentum", 0.0) < 1:
            raise UserError(f"descent_momentum must be at least 0 and below 1, not {parameters['descent_momentum']}.")

    def decisions(self, images: int, **parameters: Any) -> int:
        return max(1, images // int(parameters.get("group", GROUP)))

    def check_tasks(self, tasks: int) -> None:
        if tasks * self.brief.classes > self.outputs:
            raise UserError(
                f"outputs={self.outputs} are too few for {tasks} tasks of {self.brief.classes} classes, as every class has its own: "
                f"learn with outputs={tasks * self.brief.classes} or more."
            )

    def predict(
        self,
        inputs: Tensor,
        task: int | None = None,
        *,
        group: int = GROUP,
        steps: int = STEPS,
        step_size: float = STEP_SIZE,
        descent_momentum: float = MOMENTUM,
        strength: float = STRENGTH,
    ) -> Prediction:
        """Find a mask for each ``group`` of images, drawn at random, by that many ``steps``, and answer with it.

        ``step_size`` (by hidden unit) and ``descent_momentum``; ``strength``: of the Hopfield network's energy against the entropy.
        """
        if len(inputs) < 2:
            raise UserError("HopSupSup needs two images or more to find a mask: batch normalisation has no statistics of one.")
        how: dict[str, Any] = {"steps": steps, "step_size": step_size, "momentum": descent_momentum, "strength": strength}
        # At random, for batch statistics of images of one class, as in data that are sorted, would hide the class.
        order = torch.randperm(len(inputs), generator=generator(self.seed, "groups"))
        # What is left over joins the last group: a few images have no batch statistics to speak of.
        alike = (max(1, len(inputs) // group) - 1) * group
        queries = list(inputs[order[:alike]].unflatten(0, (-1, group)).split(TOGETHER)) if alike else []
        queries.append(inputs[None, order[alike:]])
        best = []
        for query in queries:
            images = query.to(self.brief.device)
            masks = (self._recover(images, **how)[-1].z >= 0).float()
            best.append(self._logits(images, masks)[..., : self.brief.classes * self.tasks].argmax(-1).flatten())
        found = torch.cat(best)[order.argsort()]
        return Prediction(found % self.brief.classes, found // self.brief.classes)

    def _recover(self, images: Tensor, **how: Any) -> list[State]:
        """The descents to masks for groups of images [q, b, *input_shape]."""
        usual = {"steps": STEPS, "step_size": STEP_SIZE, "momentum": MOMENTUM, "strength": STRENGTH}
        start = (self.sum / max(1, self.tasks)).expand(len(images), -1)
        return descend(self.psi, start, partial(self._doubt, images), **(usual | how))

    def _doubt(self, images: Tensor, masks: Tensor) -> Tensor:
        """The mean entropies [q] of the outputs for groups of images [q, b, *input_shape], each with a mask of its own [q, d]."""
        return entropy(self._logits(images, masks), self.outputs).mean(1)

    def _logits(self, images: Tensor, masks: Tensor) -> Tensor:
        """All outputs [q, b, outputs] for groups of images [q, b, *input_shape], each with a mask of its own [q, d]."""
        # Of copies, for batch normalisation counts its batches in place.
        network = partial(functional_call, self.twin, {name: tensor.clone() for name, tensor in self.fixed.items()})
        with torch.autocast(images.device.type, dtype=self.brief.precision, enabled=self.brief.precision != torch.float32):
            # One after another: mapped over groups, products in bfloat16 take three times as long.
            return torch.stack([network(given) for given in zip(images, masks, strict=True)]).float()

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

    def progress(self) -> dict[str, Tensor]:
        return {"first": self.first.clone()}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        self._begin_on(int(learned["seed"]))
        self.psi = learned["psi"].to(self.brief.device, copy=True)
        self.sum = learned["sum"].to(self.brief.device, copy=True)
        self.tasks = int(learned["tasks"])
        if progress:
            self.first = progress["first"].to(self.brief.device, copy=True)
