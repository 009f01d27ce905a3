"""The method: masks of hidden units are learned, written into the Hopfield network, and found again for the images of an ask."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.checks import above_zero, below_one
from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction, Recipe
from clbench.methods._check import for_check
from clbench.methods._objectives import entropy
from clbench.methods.supsup.layout import random_base
from clbench.methods.supsup.masking import straight_through
from clbench.networks import bare_twin
from clbench.scenarios import GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import Step, Tensors, TrainingState, named, part, sgd

from .hopfield import RULES, State, descend, descend_by_signs, recall, signs, unstable

ACTIVATIONS = (nn.ReLU, nn.SiLU)
GROUP = 64
"""Images in a batch of the search."""
NOISE = 0.5
"""The standard deviation of the noise added to the mean of all z for each restart of the search for a task."""
STARTS = 64
"""Random strings for each stored mask, some of which fall into it."""
TOGETHER = 16
"""Masks searched for at a time."""
AUTHORS_UNITS = 4096
STEPS, STEP_SIZE, MOMENTUM, STRENGTH = 30, 500 / AUTHORS_UNITS, 0.9, 1.5e-3 * AUTHORS_UNITS
"""The parameters of the authors' descent."""
DECAY = 1e-4 * AUTHORS_UNITS
"""The authors' weight decay in it: a step of the search for a task shrinks z by a twentieth."""


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
        masks = iter(mask.split(self.widths))
        x = inputs
        for layer in self.layers:
            if isinstance(layer, ACTIVATIONS):
                of_layer = next(masks).view(-1, *[1] * (x.ndim - 2))
                x = layer(x) * of_layer if self.after else layer(x * of_layer)
            else:
                x = layer(x)
        return x


class HopSupSup(Method):
    """Supermasks of hidden units in a Hopfield network of fixed size."""

    name = "hopsupsup"
    version = 3
    scenarios = frozenset({GNS, GNU})
    citation = "Wortsman et al.: Supermasks in Superposition. NeurIPS 2020, section 3.5"
    learning_depends_on = frozenset({"task_given_in_training"})
    transductive = True
    trial_network = "swish-1000x1000"
    price = 0.1  # masks of units have fewer choices than masks of weights
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
        memory: Literal["joint", "layers"] = "joint",
        masked: Literal["output", "normalised"] = "output",
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
    ) -> None:
        """``outputs``: one for each class of each task; ``storage``: the rule that stores masks; ``memory``: one Psi of all hidden
        units, or one of each layer's, as in the authors' code; ``masked``: where a mask acts; SGD's ``learning_rate``,
        ``momentum`` and ``weight_decay`` for the scores, which start at 0."""
        super().__init__(brief)
        if outputs < brief.classes:
            raise UserError(f"outputs={outputs} is below the {brief.classes} classes of a task: give at least that many.")
        self.outputs = outputs
        self.store = RULES[storage]
        self.optimiser = sgd(learning_rate, momentum=momentum, weight_decay=weight_decay)
        self.masked = Masked(brief.network(outputs), masked, brief.input_shape)
        self.size = sum(self.masked.widths)
        self._set_base(brief.seed)
        blocks = [self.size] if memory == "joint" else self.masked.widths
        self.memory = tuple(torch.zeros(units, units, device=brief.device) for units in blocks)
        self.sum = torch.zeros(self.size, device=brief.device)
        self.first = torch.zeros(self.size, dtype=torch.int8, device=brief.device)
        self.tasks = 0
        self.task = 0
        self.scores = torch.zeros(self.size, device=brief.device)
        self.state = TrainingState(self.optimiser, {"scores": self.scores})
        self._rows: dict[str, list[dict[str, Any]]] = {"recovery": [], "retention": []}

    def _set_base(self, seed: int) -> None:
        """Create the random network of ``seed``, and the step that trains masks on it."""
        brief = self.brief
        self.seed = seed
        self.base = random_base(self.masked, seed, brief.device)
        self.twin = bare_twin(self.masked)  # in training mode: batch normalisation uses the batch's statistics
        # Converted once: autocast would do it at each use.
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
        z = signs(self.scores)
        blocks = z.split([len(psi) for psi in self.memory])
        self.memory = tuple(self.store(psi, block) for psi, block in zip(self.memory, blocks, strict=True))
        self.sum = self.sum + z
        self.tasks += 1
        if self.tasks == 1:
            self.first = z.to(torch.int8)
        self._rows["retention"].append({"stored": self.tasks, "lost": float(unstable(self.memory, self.first.float()))})
        for search, states, goal in self._traced(data, (z + 1) / 2):
            for step, (position, doubt, energy) in enumerate(states):
                distance = (signs(position) != z).float().mean()
                row = {"step": step, "distance": float(distance), "entropy": float(doubt), "energy": float(energy), "goal": goal}
                self._rows["recovery"].append({"task": self.task, "search": search} | row)

    def _traced(self, data: Split, mask: Tensor) -> Iterator[tuple[str, list[State], float]]:
        """For each search: its states for some training images, and their entropy with the true mask."""
        for search, batches in {"group": 1, "task": STEPS}.items():
            inputs, _ = next(data.batches(1, batches * GROUP, generator(self.seed, "traced", self.task)))
            groups = inputs.unflatten(0, (batches, GROUP))
            if search == "group":
                states = self.recover(groups.to(self.brief.device))
            else:
                orders = torch.arange(len(inputs)).view(1, batches, GROUP)
                states = self._recover_task(inputs, orders, torch.zeros(1, self.size))
            yield search, states, self._mean_doubt([groups], mask)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``recovery``: how masks are found, for each task just learned; ``retention``: how much of the first mask is left."""
        rows = {name: rows for name, rows in self._rows.items() if rows}
        self._rows = {"recovery": [], "retention": []}
        return rows

    # Answering

    def check_ask(self, **parameters: Any) -> None:
        for what, least in {"group": 2, "steps": 1, "restarts": 1}.items():
            if parameters.get(what, least) < least:
                raise UserError(f"{what} must be {least} or more, not {parameters[what]}.")
        search = parameters.get("search", "recall")
        if "restarts" in parameters and search != "task":
            raise UserError("restarts belong to search=task: leave them out, or ask with search=task.")
        above_zero(step_size=parameters.get("step_size"), strength=parameters.get("strength"))
        below_one(descent_momentum=parameters.get("descent_momentum"))

    def decisions(self, images: int, **parameters: Any) -> int:
        return 1 if parameters.get("search", "recall") == "task" else max(1, images // int(parameters.get("group", GROUP)))

    def check_tasks(self, tasks: int) -> None:
        if tasks * self.brief.classes > self.outputs:
            raise UserError(
                f"outputs={self.outputs} are too few for {tasks} tasks of {self.brief.classes} classes, because each class needs its own: "
                f"learn with outputs={tasks * self.brief.classes} or more."
            )

    def predict(
        self,
        inputs: Tensor,
        task: int | None = None,
        *,
        search: Literal["recall", "task", "group"] = "recall",
        restarts: int | None = None,
        group: int = GROUP,
        steps: int | None = None,
        step_size: float = STEP_SIZE,
        descent_momentum: float = MOMENTUM,
        strength: float = STRENGTH,
    ) -> Prediction:
        """Find a mask for each ``group`` of images, drawn at random, or for all images (``search=task``), and answer with it.

        ``recall``: of the memory's deepest attractors, the one with the lowest entropy. ``task``: the authors' search, with a step on each
        group in turn. It runs ``restarts`` times (default: once), from other starts and with other groups, and uses the mask with the
        lowest entropy. ``group``: a descent for each group. ``steps`` (default: 30; for a task one on each group, at least 30),
        ``step_size`` (per hidden unit), ``descent_momentum`` and ``strength`` (of the energy against the entropy) set the descents.
        """
        if len(inputs) < 2:
            raise UserError("HopSupSup needs two images or more to find a mask: batch normalisation has no statistics of one.")
        how: dict[str, Any] = {"step_size": step_size, "momentum": descent_momentum, "strength": strength}
        # At random: in sorted data a group has images of one class, and its batch statistics would hide the class.
        order = torch.randperm(len(inputs), generator=generator(self.seed, "groups"))
        # The rest joins the last group: the batch statistics of a few images say little.
        alike = (max(1, len(inputs) // group) - 1) * group
        queries = list(inputs[order[:alike]].unflatten(0, (-1, group)).split(TOGETHER)) if alike else []
        queries.append(inputs[None, order[alike:]])
        if search == "recall":
            candidates = self._recalled()
        elif search == "task":
            candidates = self._mask_of_task(inputs, queries, group, steps, restarts or 1, how)[None]
        best = []
        for query in queries:
            images = query.to(self.brief.device)
            if search == "group":
                masks = (self.recover(images, steps=steps or STEPS, **how)[-1].z >= 0).float()
            else:
                doubts = [self.doubt(images, mask.expand(len(images), -1)) for mask in candidates]
                masks = candidates[torch.stack(doubts).argmin(0)]
            best.append(self._logits(images, masks)[..., : self.brief.classes * self.tasks].argmax(-1).flatten())
        outputs = torch.cat(best)[order.argsort()]
        return Prediction(outputs % self.brief.classes, outputs // self.brief.classes)

    def _recalled(self) -> Tensor:
        """The masks [k, d] in the memory that random strings fall into."""
        draws = torch.rand(STARTS * self.tasks, self.size, generator=generator(self.seed, "recall"))
        strings = recall(self.memory, self.sum, self.tasks, signs(draws - 0.5).to(self.brief.device))
        return (strings + 1) / 2

    def _mask_of_task(
        self, inputs: Tensor, queries: Sequence[Tensor], group: int, steps: int | None, restarts: int, how: Mapping[str, Any]
    ) -> Tensor:
        """The mask [d] for all ``inputs``: of the ends of the descents, the one with the lowest entropy for the groups ``queries``."""
        images = Split(inputs, torch.zeros(len(inputs), dtype=torch.int64))
        size = min(group, len(inputs))
        steps = steps or max(STEPS, -(-len(inputs) // size))
        draws = [generator(self.seed, "orders", restart) for restart in range(restarts)]
        orders = torch.stack([torch.stack(list(images.order(steps, size, of_restart))) for of_restart in draws])
        noise = [torch.randn(self.size, generator=generator(self.seed, "starts", restart)) for restart in range(restarts)]
        noise[0] = torch.zeros(self.size)
        rounds = zip(orders.split(TOGETHER), torch.stack(noise).split(TOGETHER), strict=True)
        ends = torch.cat([self._recover_task(inputs, batches, NOISE * added, **how)[-1].z >= 0 for batches, added in rounds])
        masks = ends.unique(dim=0).float()
        return min(masks, key=partial(self._mean_doubt, queries))

    def recover(self, images: Tensor, **how: Any) -> list[State]:
        """The descents to masks for groups of images [q, b, *input_shape]."""
        defaults = {"steps": STEPS, "step_size": STEP_SIZE, "momentum": MOMENTUM, "strength": STRENGTH}
        start = (self.sum / max(1, self.tasks)).expand(len(images), -1)
        return descend(self.memory, start, partial(self.doubt, images), **(defaults | how))

    def _recover_task(self, inputs: Tensor, orders: Tensor, added: Tensor, **how: Any) -> list[State]:
        """The descents to a mask for the images [n, *input_shape] of a task, one for each order [q, T, b] of their batches.

        They start at the mean of all z plus ``added`` [q, d].
        """
        defaults = {"step_size": STEP_SIZE, "momentum": MOMENTUM, "strength": STRENGTH, "decay": DECAY}
        steps = orders.shape[1]

        def doubt(masks: Tensor, step: int) -> Tensor:
            return self.doubt(inputs[orders[:, step % steps]].to(self.brief.device), masks)

        start = self.sum / max(1, self.tasks) + added.to(self.brief.device)
        return descend_by_signs(self.memory, start, doubt, steps=steps, **(defaults | how))

    def _mean_doubt(self, groups: Sequence[Tensor], mask: Tensor) -> float:
        """The mean entropy for all groups of images, [q, b, *input_shape] each, with one mask [d]."""
        doubts = [self.doubt(images.to(self.brief.device), mask.expand(len(images), -1)) for images in groups]
        return float(torch.cat(doubts).mean())

    def doubt(self, images: Tensor, masks: Tensor) -> Tensor:
        """The mean entropies [q] of the outputs for groups of images [q, b, *input_shape], each with a mask of its own [q, d]."""
        return entropy(self._logits(images, masks), self.outputs).mean(1)

    def _logits(self, images: Tensor, masks: Tensor) -> Tensor:
        """All outputs [q, b, outputs] for groups of images [q, b, *input_shape], each with a mask of its own [q, d]."""
        # Copies, because batch normalisation counts its batches in place.
        network = partial(functional_call, self.twin, {name: tensor.clone() for name, tensor in self.fixed.items()})
        with torch.autocast(images.device.type, dtype=self.brief.precision, enabled=self.brief.precision != torch.float32):
            # One group after another: with vmap, products in bfloat16 take three times as long.
            return torch.stack([network(group) for group in zip(images, masks, strict=True)]).float()

    # State

    @property
    def _blocks(self) -> list[str]:
        """The names of the memory's blocks."""
        return ["psi"] if len(self.memory) == 1 else [f"psi{layer}" for layer in range(1, len(self.memory) + 1)]

    @property
    def components(self) -> int:
        """The number of masks in the Hopfield network."""
        return self.tasks

    def frozen_state(self) -> dict[str, Tensor]:
        """The random weights."""
        return {"weights": self.base.weights}

    def learned(self) -> dict[str, Tensor]:
        tensors = {**dict(zip(self._blocks, self.memory, strict=True)), "sum": self.sum}
        return {name: tensor.clone() for name, tensor in tensors.items()} | {
            "seed": torch.tensor(self.seed),
            "tasks": torch.tensor(self.tasks),
        }

    def progress(self) -> dict[str, Tensor]:
        return {"first": self.first.clone()}

    def task_progress(self) -> Tensors | None:
        """The scores and the optimiser's state."""
        return named(trained={"scores": self.scores}, optimiser=self.state.tensors())

    def restore_task(self, progress: Tensors) -> None:
        self.scores = progress["trained/scores"].to(self.brief.device)
        self.state.restore(part("optimiser", progress, self.brief.device))

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        self._set_base(int(learned["seed"]))
        self.memory = tuple(learned[name].to(self.brief.device, copy=True) for name in self._blocks)
        self.sum = learned["sum"].to(self.brief.device, copy=True)
        self.tasks = int(learned["tasks"])
        if progress:
            self.first = progress["first"].to(self.brief.device, copy=True)
