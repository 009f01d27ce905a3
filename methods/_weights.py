"""Shared by the methods that train the weights of one network: heads by scenario, the training step, and the state on disk.

The scenario decides what the last layer is (van de Ven & Tolias 2019):

- GG: a head for each task on a shared trunk; only the given task's head is used.
- GNu: outputs for every class of every task so far, which all compete in training and in prediction.
- GNs and NNs: one head, whose outputs mean the same in every task.
"""

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.method import Brief, Method, Prediction
from clbench.networks import bare_twin, head_names, in_parts
from clbench.seeding import derive
from clbench.training import LearningRate, LearningRateSchedule, Optimiser, Step, Tensors, TrainingState, named, part

TASKS_AT_A_TIME = 10
"""In GNu the last layer grows by this many tasks at a time, because each growth compiles the step again."""


class WeightMethod(Method):
    """A method that trains one network's weights. A subclass adds to the loss, or does something at the ends of tasks.

    ``trained``: the trunk and, under the last layer's own names, the present task's head (GG), the outputs of all tasks as one layer
    (GNu), or the only head (GNs, NNs). ``heads``: in GG, the heads of the finished tasks. ``task``: the present task.
    ``head_per_task``: each task has a head of its own (GG). ``grows``: one last layer has outputs for every task so far (GNu, and GG if
    ``heads_in_one_layer``).
    """

    heads_in_one_layer: ClassVar[bool] = False

    def __init__(
        self, brief: Brief, *, optimiser: Optimiser, schedule: LearningRateSchedule = "constant", restart: bool = True
    ) -> None:
        """``restart``: whether the optimiser is re-initialised for each task."""
        super().__init__(brief)
        self.restart = restart
        self.schedule = schedule
        self.rate = LearningRate("constant", 1)
        scenario = brief.scenario
        own_outputs = scenario.task_given_in_training and (scenario.task_given_in_inference or not scenario.labels_shared)
        self.head_per_task = scenario.task_given_in_inference and not self.heads_in_one_layer
        self.grows = own_outputs and not self.head_per_task
        self.network = brief.network(brief.classes).to(brief.device).eval()
        self.head = head_names(self.network, brief.classes, brief.input_shape)
        self.trained: Tensors = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.buffers: Tensors = {name: b.detach().clone() for name, b in self.network.named_buffers()}
        self.heads: list[Tensors] = []
        self.task = 0
        self.tasks_seen = 0
        self.optimiser = optimiser
        self.averages: tuple[str, ...] = optimiser.slots  # the part of its state that passes to the next task, without restart
        self.state = TrainingState(optimiser, self.trained)
        self.twin = bare_twin(self.network)
        self.step = Step(self.loss, optimiser, precision=brief.precision, compiled=brief.compiled)

    # What a subclass may change

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The loss that the step minimises, and the buffers after the forward pass. A pure function, because it is compiled."""
        buffers = {name: buffer.clone() for name, buffer in given["buffers"].items()}
        logits = functional_call(self.twin, trained | buffers, (inputs,)).float()
        if "competing" in given:
            logits = logits.masked_fill(~given["competing"], float("-inf"))
        return self.objective(logits, labels, given) + self.penalty(trained, given), buffers

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        """The loss of a batch: logits [b, outputs], labels counted over all outputs [b]. A pure function, because it is compiled."""
        return cross_entropy(logits, labels)

    def penalty(self, trained: Tensors, given: dict[str, Any]) -> Tensor | float:
        """The term added to the loss: a pure function of the trained tensors and of ``given``."""
        return 0.0

    def given(self) -> dict[str, Any]:
        """Tensors that ``objective`` and ``penalty`` need besides the trained ones. Their shapes stay the same within a task."""
        return {}

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        """Add a head or outputs if the scenario needs them, and re-initialise the optimiser (unless ``restart`` is off)."""
        self.task = task
        self.rate = LearningRate(self.schedule, updates)
        self.tasks_seen = max(self.tasks_seen, task + 1)
        if self.head_per_task and task > 0:
            self.heads.append({name: self.trained[name] for name in self.head})
            self.trained |= self.fresh_head(task)
        if self.grows:
            self._make_room(task + 1)
        before = self.state
        self.state = TrainingState(self.optimiser, self.trained)
        if not self.restart:
            self._carry_over(before.tensors())

    def _carry_over(self, state: Tensors) -> None:
        """Continue with an earlier optimiser state. New outputs, and in GG a new head, start at zero."""
        self.state.count.copy_(state["count"])
        for name, slots in self.state.slots.items():
            for slot in self.averages if name in self.lasting else ():
                earlier = state[f"{name}.{slot}"]
                slots[slot][: len(earlier)].copy_(earlier)

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        return self.update(inputs, labels + self.first_output)

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """One step on a batch whose labels are counted over all outputs. Returns the loss before it."""
        given = self.given() | {"buffers": self.buffers}
        if self.grows:
            given["competing"] = self.competing()
        loss, self.buffers = self.step(self.trained, given, self.state, inputs, labels, self.rate())
        return loss

    @property
    def first_output(self) -> int:
        """The index of the present task's first output."""
        return self.brief.classes * self.task if self.grows else 0

    def competing(self) -> Tensor:
        """If the last layer grows, which outputs belong to a task seen so far: bool [outputs]."""
        return torch.arange(len(self.trained[self.head[0]]), device=self.brief.device) < self.brief.classes * self.tasks_seen

    def fresh_head(self, task: int) -> Tensors:
        """A last layer for ``task``, initialised by the layer itself with random numbers of the task's own."""
        layer = copy.deepcopy(self.network.get_submodule(self.head[0].rpartition(".")[0])).cpu()
        reset = getattr(layer, "reset_parameters", None)
        if reset is not None and task > 0:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(derive(self.brief.seed, "head", task))
                reset()
        named = dict(layer.named_parameters())
        return {name: named[name.rpartition(".")[2]].detach().to(self.brief.device) for name in self.head}

    def _make_room(self, tasks: int) -> None:
        """Add outputs until there are enough for ``tasks`` tasks, each with initial values of its own."""
        present = len(self.trained[self.head[0]]) // self.brief.classes
        # The number depends on ``tasks`` alone, so that a restored method has as many as one that learned all tasks.
        needed = 1 + TASKS_AT_A_TIME * max(1, -(-(tasks - 1) // TASKS_AT_A_TIME))
        if present < needed:
            new = [self.fresh_head(task) for task in range(present, needed)]
            for name in self.head:
                self.trained[name] = torch.cat([self.trained[name], *(head[name] for head in new)])

    # For tensors of a subclass that have the shapes of the trained ones

    @property
    def lasting(self) -> list[str]:
        """The names of the trained tensors that later tasks train too. In GG a head is not among them: it is final when its task ends."""
        return [name for name in self.trained if not (self.head_per_task and name in self.head)]

    @property
    def outputs_seen(self) -> int:
        """The number of outputs of all tasks so far (with a head for each task: of one task)."""
        return self.brief.classes * (self.tasks_seen if self.grows else 1)

    def narrowed(self, tensors: Tensors) -> Tensors:
        """Tensors shaped like trained ones, cut to the outputs of the tasks so far: the part that has to be stored."""
        return {name: tensor[: self.outputs_seen] if name in self.head else tensor for name, tensor in tensors.items()}

    def widened(self, tensors: Tensors) -> Tensors:
        """The inverse of ``narrowed``: tensors shaped like the trained ones, with zeros for the outputs that were cut."""
        new = {name: torch.zeros_like(self.trained[name][len(tensors[name]) :]) for name in tensors if name in self.head}
        return {name: torch.cat([tensor, new[name]]) if name in new else tensor for name, tensor in tensors.items()}

    # Answering

    def evaluated(self, parameters: Tensors, inputs: Tensor) -> Tensor:
        """The outputs of the tasks so far [n, outputs seen] with these parameters, in evaluation mode. A pure function."""
        return functional_call(self.network, parameters | self.buffers, (inputs,))[:, : self.outputs_seen]

    def logits(self, inputs: Tensor, task: int | None = None) -> Tensor:
        """The outputs in evaluation mode: the given task's in GG, otherwise those of all tasks so far."""
        parameters = self.trained
        if self.head_per_task and task is not None and task < len(self.heads):
            parameters = self.trained | self.heads[task]
        return torch.cat([self.evaluated(parameters, part) for part in in_parts(inputs.to(self.brief.device))])

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        with torch.no_grad():
            best = self.logits(inputs, task).argmax(1)
        if not self.grows:
            return Prediction(best)
        return Prediction(best % self.brief.classes, best // self.brief.classes)

    # State

    def frozen_state(self) -> Tensors:
        """In GG the heads of finished tasks."""
        return {f"head {task}.{name}": tensor for task, head in enumerate(self.heads) for name, tensor in head.items()}

    def learned(self) -> Tensors:
        """Parameters and buffers; in GG the head of every task, in GNu the outputs of the tasks so far."""
        state = {name: tensor for name, tensor in self.trained.items() if name not in self.head}
        for name in self.head:
            if self.head_per_task:
                state[name] = torch.stack([*(head[name] for head in self.heads), self.trained[name]])
            else:
                state[name] = self.trained[name][: self.outputs_seen]
        state |= {f"buffer.{name}": buffer for name, buffer in self.buffers.items()}
        return {name: tensor.clone() for name, tensor in state.items()}

    def progress(self) -> Tensors:
        """The optimiser's state, unless it is re-initialised for each task."""
        if self.brief.scenario.task_given_in_training and self.restart:
            return {}
        slots = {slot: {name: self.state.slots[name][slot] for name in self.lasting} for slot in self.averages}
        named = {f"{name}.{slot}": tensor for slot, tensors in slots.items() for name, tensor in self.narrowed(tensors).items()}
        return {f"optimiser.{name}": tensor for name, tensor in (named | {"count": self.state.count}).items()}

    def task_progress(self) -> Tensors | None:
        """All that a batch may change: the trained tensors, the buffers, the optimiser's state and the place in its schedule."""
        rate = {"done": torch.tensor(self.rate.done)}
        return named(trained=self.trained, buffers=self.buffers, optimiser=self.state.tensors(), rate=rate)

    def restore_task(self, progress: Tensors) -> None:
        trained = part("trained", progress, self.brief.device)
        self.trained = {name: trained[name] for name in self.trained}  # in their order, in which a loss may add them up
        self.buffers = part("buffers", progress, self.brief.device)
        self.state.restore(part("optimiser", progress, self.brief.device))
        self.rate.done = int(progress["rate/done"])

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        stored = {name: tensor.to(self.brief.device, copy=True) for name, tensor in learned.items()}
        self.buffers = {name: stored[f"buffer.{name}"] for name in self.buffers}
        trained = {name: stored[name] for name in self.trained}
        first = stored[self.head[0]]
        if self.head_per_task:
            self.heads = [{name: stored[name][task] for name in self.head} for task in range(len(first) - 1)]
            trained |= {name: stored[name][-1] for name in self.head}
            self.tasks_seen = len(first)
        elif self.grows:
            self.tasks_seen = len(first) // self.brief.classes
        self.task = max(0, self.tasks_seen - 1)
        self.trained = trained
        if self.grows:
            self._make_room(self.tasks_seen)
        self.state = TrainingState(self.optimiser, self.trained)
        prefix = "optimiser."
        state = {name.removeprefix(prefix): t for name, t in (progress or {}).items() if name.startswith(prefix)}
        if state:
            self._carry_over(state)
