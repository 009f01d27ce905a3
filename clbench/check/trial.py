"""What a method is put to: a stream of a few permutations of 14 x 14 digits, networks, and a learner made and taught anew each time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from clbench import networks, registry
from clbench.engine.asks import typed
from clbench.engine.evaluator import Ask, Schedule, teach
from clbench.method import Brief, Method, Prediction, parameters
from clbench.scenario import Scenario
from clbench.seeding import generator
from clbench.stream import Split, Stream, Task

NAME = "check"
"""What recipes call the stream and its networks."""
SIDE, CLASSES, TRAIN, TEST, TASKS = 14, 5, 500, 512, 6
LONG, SHORT = Schedule(updates=100, batch_size=32), Schedule(updates=20, batch_size=16)
LONG_TASKS = 3


@dataclass(frozen=True)
class Result:
    """One requirement in one scenario: whether it was met, what was found and, if it was not met, what to do."""

    name: str
    scenario: str
    passed: bool
    message: str


def name_of(requirement: "Callable[..., Result]") -> str:
    """A requirement's name in words."""
    return requirement.__name__.replace("_", " ")


@dataclass(frozen=True, eq=False)
class Backbone:
    """The factory of networks in a brief: it also knows how often it was asked for one."""

    build: networks.Factory
    seed: int
    built: list[int] = field(default_factory=list)

    def __call__(self, outputs: int) -> nn.Module:
        self.built.append(outputs)
        return networks.seeded(self.build, outputs, self.seed)


@dataclass(frozen=True)
class Trial:
    """A method to be checked in one scenario, with its parameters: made, taught and asked anew by every requirement."""

    method: type[Method]
    scenario: Scenario
    learning: Mapping[str, Any]
    asking: Mapping[str, Any]

    @property
    def told(self) -> bool:
        """Whether the method is told of tasks while it learns."""
        return self.scenario.task_given_in_training

    @property
    def ask(self) -> Ask:
        """The scenario's question."""
        return Ask(self.scenario, self.asking)

    def fresh(self, build: networks.Factory | None = None, seed: int = 0) -> Method:
        """A learner that has learned nothing."""
        backbone = Backbone(build or normalised, seed)
        make: Callable[..., Method] = self.method
        brief = Brief(self.scenario, backbone, (1, SIDE, SIDE), CLASSES, seed)
        return make(brief, **self.learning)

    def taught(self, tasks: int, seed: int = 0) -> Method:
        """A learner that has learned the first tasks of the short stream."""
        learner = self.fresh(seed=seed)
        for task in range(tasks):
            self.teach(learner, task)
        return learner

    def teach(self, learner: Method, task: int) -> None:
        """Teach one task of the short stream as the evaluator does: told of the task only where the scenario tells."""
        teach(learner, stream()[task], task, SHORT)

    def answer(self, learner: Method, task: int) -> Prediction:
        """The answers about one task, put as the evaluator does: with the task only where the scenario gives it."""
        given = task if self.scenario.task_given_in_inference else None
        with torch.no_grad():
            return learner.predict(stream()[task].test.whole()[0], given, **self.asking)

    def answers(self, learner: Method, tasks: Iterable[int]) -> dict[str, Tensor]:
        """Copies of the answers about tasks, asked about in this order, by name."""
        given = {task: self.answer(learner, task)._asdict() for task in tasks}
        return {f"task {task}'s {what}": t.clone() for task, p in given.items() for what, t in p.items() if t is not None}

    def result(self, requirement: Callable[..., Result], passed: bool, found: str, remedy: str = "") -> Result:
        """What a requirement returns: ``remedy`` says what to do if it was not met."""
        return Result(name_of(requirement), self.scenario.name, passed, found if passed else f"{found}: {remedy}")


# What they are taught


@cache
def stream() -> Stream:
    """Permutations of the pixels of digits 0 to 4, every task with images of its own in memory."""
    from clbench.data import load, mnist_5k

    data, draws = load("mnist-5k"), generator(0, "check")
    # In the package's order: the sample that methods' recipes for this stream were chosen on.
    train, test = (rows.argsort() for rows in mnist_5k.order())

    def some(images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        rows = (labels < CLASSES).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=draws)[:number]]
        return nn.functional.avg_pool2d(data.inputs(images[rows]), 28 // SIDE).flatten(1), labels[rows]

    parts = (
        some(data.train_images[train], data.train_labels[train], TRAIN),
        some(data.test_images[test], data.test_labels[test], TEST),
    )
    tasks = []
    for task in range(TASKS):
        pixels = torch.randperm(SIDE * SIDE, generator=draws)
        learned, asked = (Split(images[:, pixels].view(-1, 1, SIDE, SIDE), labels) for images, labels in parts)
        tasks.append(Task(learned, asked, f"permutation {task}"))
    return Stream(NAME, tasks, CLASSES, (1, SIDE, SIDE))


def normalised(outputs: int) -> nn.Module:
    """The network of the short stream: biases, and statistics that an update or an importance pass may move."""
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, outputs))


def plain(outputs: int) -> nn.Module:
    """The network of the long stream, for methods that ask for no other."""
    return networks.mlp((1, SIDE, SIDE), (100, 100), outputs, bias=False)


def trial_network(name: str | None) -> networks.Factory:
    """The network of the long stream: the one that a method asks for by name, or a plain one."""
    return networks.resolve(name, (1, SIDE, SIDE)) if name else plain


def trials(method: type[Method], settings: Mapping[str, Any], scenarios: list[Scenario] | None = None) -> list[Trial]:
    """A trial in each scenario (of those given) that ``method`` serves, its parameters being filled in."""
    served = [s for s in scenarios or registry.scenarios().values() if s in method.scenarios]
    return [_trial(method, scenario, settings) for scenario in served]


def _trial(method: type[Method], scenario: Scenario, settings: Mapping[str, Any]) -> Trial:
    recipe = method.recipe(NAME, NAME, scenario.name)
    # A subclass with parameters of its own inherits recipes for parameters that it may not have.
    learn = {key: value for key, value in recipe.learn.items() if key in parameters(method.__init__)}
    learning = typed(method.__init__, learn | dict(settings), f"{method.name}'s learning parameters")
    asking = {} if scenario.task_given_in_inference else typed(method.predict, recipe.ask, f"{method.name}'s asking parameters")
    return Trial(method, scenario, learning, {key: value for key, value in asking.items() if value is not None})
