"""Shared by the methods that score each class by itself: classes of all tasks are counted together, and the highest score wins.

Class number k belongs to task k // classes. In GG the classes of the given task compete; in GNs and GNu those of all tasks, so that the
task of the best class is the inferred one. All three share one training.
"""

import abc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clbench.method import Brief, Method, Prediction
from clbench.networks import bare_twin, in_parts, seeded
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import derive
from clbench.stream import Split
from clbench.training import LearningRate, LearningRateSchedule, Optimiser, Step, Tensors, TrainingState, named, part

from ._per_task import FrozenRows


def answers(scores: Tensor, classes: int, task: int | None) -> Prediction:
    """The best class for scores [n, classes of all tasks]: among those of the given task, or of all tasks."""
    if task is not None:
        return Prediction(scores[:, classes * task : classes * (task + 1)].argmax(1))
    best = scores.argmax(1)
    return Prediction(best % classes, best // classes)


class ModelPerClass(Method):
    """A method that trains a model of its own for each class, on the images of this class alone.

    ``models``: the parameters of the model of each class of the finished tasks. A subclass says what a model is (``network``), its
    ``loss``, and its ``scores``.
    """

    scenarios = frozenset({GG, GNS, GNU})
    learning_depends_on = frozenset({"task_given_in_training"})

    def __init__(
        self, brief: Brief, network: nn.Module, *, optimiser: Optimiser, schedule: LearningRateSchedule = "constant"
    ) -> None:
        super().__init__(brief)
        self.network = network.to(brief.device).eval()
        self.twin = bare_twin(self.network)
        self.schedule = schedule
        self.models = FrozenRows()
        self.present: list[tuple[Tensors, TrainingState]] = []
        # Not compiled: the number of a class's images differs from batch to batch.
        self.step = Step(self.loss, optimiser, precision=brief.precision, compiled=False)

    @abc.abstractmethod
    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The loss of a class's model on images of this class. A pure function."""

    @abc.abstractmethod
    def scores(self, inputs: Tensor, models: list[Tensors], first: int, **asking: Any) -> Tensor:
        """The scores [n, models] of the classes from ``first`` on, which have these models; the highest wins."""

    def given(self, inputs: Tensor) -> dict[str, Any]:
        """Tensors that ``loss`` needs besides the trained ones, for a batch of all classes: [b, ...] each."""
        return {}

    @abc.abstractmethod
    def fresh(self, number: int) -> Tensors:
        """The model of class ``number`` before its first image."""

    def begin_task(self, task: int, updates: int) -> None:
        self.rate = LearningRate(self.schedule, updates)
        numbers = range(len(self.models), len(self.models) + self.brief.classes)
        models = [{name: tensor.clone() for name, tensor in self.fresh(number).items()} for number in numbers]
        self.present = [(model, TrainingState(self.step.optimiser, model)) for model in models]

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        factor, given, total = self.rate(), self.given(inputs), torch.zeros((), device=inputs.device)
        for label in labels.unique().tolist():
            rows = (labels == label).nonzero().squeeze(1)
            own = {name: tensor[rows] for name, tensor in given.items()}
            model, state = self.present[label]
            loss, _ = self.step(model, own, state, inputs[rows], labels[rows], factor)
            total += loss * len(rows) / len(labels)
        return total

    def end_task(self, data: Split) -> None:
        self.models.extend(model for model, _ in self.present)
        self.present = []

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        return self.answer(inputs, task)

    def answer(self, inputs: Tensor, task: int | None, **asking: Any) -> Prediction:
        """The prediction, with the parameters of the ask that ``scores`` takes."""
        classes = self.brief.classes
        first, models = (0, list(self.models)) if task is None else (classes * task, self.models[classes * task :][:classes])
        scores = [self.scores(few, models, first, **asking) for few in in_parts(inputs.to(self.brief.device))]
        return answers(torch.cat(scores), classes, None if task is None else 0)

    @property
    def components(self) -> int | None:
        """The number of tasks whose classes have models."""
        return len(self.models) // self.brief.classes

    def frozen_state(self) -> Tensors:
        """The models of finished tasks."""
        return {f"{number}/{name}": tensor for number, model in enumerate(self.models) for name, tensor in model.items()}

    def learned(self) -> Tensors:
        """The models of all classes, [classes so far, *shape] each."""
        return self.models.stacked()

    def task_progress(self) -> Tensors | None:
        """The models of the present classes, the states of their optimisers, and the place in the learning rate's schedule."""
        parts = {f"model{k}": model for k, (model, _) in enumerate(self.present)}
        parts |= {f"optimiser{k}": state.tensors() for k, (_, state) in enumerate(self.present)}
        return named(**parts, rate={"done": torch.tensor(self.rate.done)})

    def restore_task(self, progress: Tensors) -> None:
        for k, (model, state) in enumerate(self.present):
            stored = part(f"model{k}", progress, self.brief.device)
            for name, tensor in model.items():
                tensor.copy_(stored[name])
            state.restore(part(f"optimiser{k}", progress, self.brief.device))
        self.rate.done = int(progress["rate/done"])

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        stored = {name: tensor.to(self.brief.device, copy=True) for name, tensor in learned.items()}
        names = [name for name in stored if name in dict(self.network.named_parameters())]
        self.models = FrozenRows(dict(zip(names, row, strict=True)) for row in zip(*(stored[name] for name in names), strict=True))


def drawn(network: Callable[[], nn.Module], seed: int, *purpose: object) -> nn.Module:
    """A network whose initial values depend on the seed and the purpose alone."""
    return seeded(lambda _: network(), 0, derive(seed, *purpose))


def parameters_of(network: nn.Module, device: torch.device) -> Tensors:
    """The parameters of a network, by name."""
    return {name: parameter.detach().to(device) for name, parameter in network.named_parameters()}
