"""What a method is checked on: a stream of a few permutations of 14 x 14 digits, networks, and a new learner for each requirement."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from clbench import networks, registry
from clbench.engine.asking import Ask
from clbench.engine.asks import typed
from clbench.engine.evaluator import teach
from clbench.engine.schedule import Schedule
from clbench.method import Brief, Method, Prediction, parameters
from clbench.scenario import Scenario
from clbench.seeding import generator
from clbench.stream import Split, Stream, Task

NAME = "check"
"""The name of the stream and of its networks in recipes."""
SIDE, CLASSES, TRAIN, TEST, TASKS = 14, 5, 500, 512, 6
LONG, SHORT = Schedule(updates=100, batch_size=32), Schedule(updates=20, batch_size=16)
LONG_TASKS = 3


@dataclass(frozen=True)
class Result:
    """One requirement in one scenario: whether the method met it, what was seen and, if it did not, what to do."""

    name: str
    scenario: str
    passed: bool
    message: str


def name_of(requirement: "Callable[..., Result]") -> str:
    """A requirement's name in words."""
    return requirement.__name__.replace("_", " ")


@dataclass(frozen=True, eq=False)
class Backbone:
    """The factory of networks in a brief; it records the outputs of every network that it built."""

    build: networks.Factory
    seed: int
    built: list[int] = field(default_factory=list)

    def __call__(self, outputs: int) -> nn.Module:
        self.built.append(outputs)
        return networks.seeded(self.build, outputs, self.seed)


@dataclass(frozen=True)
class Trial:
    """A method to check in one scenario, with its parameters; every requirement creates, teaches and asks a learner of its own."""

    method: type[Method]
    scenario: Scenario
    learning: Mapping[str, Any]
    asking: Mapping[str, Any]

    @property
    def told(self) -> bool:
        """Whether the method is told when a task begins and ends."""
        return self.scenario.task_given_in_training

    @property
    def ask(self) -> Ask:
        """The ask under the scenario."""
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
        """Teach one task of the short stream as the evaluator does, which names the task only if the scenario does."""
        teach(learner, stream()[task], task, SHORT)

    def answer(self, learner: Method, task: int) -> Prediction:
        """The answers about one task, asked as the evaluator does: with the task only if the scenario gives it."""
        given = task if self.scenario.task_given_in_inference else None
        with torch.no_grad():
            return learner.predict(stream()[task].test.whole()[0], given, **self.asking)

    def answers(self, learner: Method, tasks: Iterable[int]) -> dict[str, Tensor]:
        """Copies of the answers about tasks, asked in this order, by name."""
        answers = {task: self.answer(learner, task)._asdict() for task in tasks}
        return {f"task {task}'s {what}": t.clone() for task, p in answers.items() for what, t in p.items() if t is not None}

    def result(self, requirement: Callable[..., Result], passed: bool, finding: str, remedy: str = "") -> Result:
        """What a requirement returns: ``finding`` says what was seen, ``remedy`` what to do if the requirement is not met."""
        return Result(name_of(requirement), self.scenario.name, passed, finding if passed else f"{finding}: {remedy}")


# The streams and networks


@cache
def stream() -> Stream:
    """Permutations of the pixels of the digits 0 to 4; every task has its own copy of the images."""
    from clbench.data import load, mnist_5k

    data, draws = load("mnist-5k"), generator(0, "check")
    # In the package's order: the sample that methods' recipes for this stream were chosen on.
    train, test = (rows.argsort() for rows in mnist_5k.order())

    def some(images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        rows = (labels < CLASSES).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=draws)[:number]]
        return nn.functional.avg_pool2d(data.inputs(images[rows]), 28 // SIDE).flatten(1), labels[rows]

    halves = (
        some(data.train_images[train], data.train_labels[train], TRAIN),
        some(data.test_images[test], data.test_labels[test], TEST),
    )
    tasks = []
    for task in range(TASKS):
        pixels = torch.randperm(SIDE * SIDE, generator=draws)
        train_split, test_split = (Split(images[:, pixels].view(-1, 1, SIDE, SIDE), labels) for images, labels in halves)
        tasks.append(Task(train_split, test_split, f"permutation {task}"))
    return Stream(NAME, tasks, CLASSES, (1, SIDE, SIDE))


def normalised(outputs: int) -> nn.Module:
    """The network of the short stream: it has biases, and statistics that an update or an importance pass may change."""
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, outputs))


def plain(outputs: int) -> nn.Module:
    """The network of the long stream for methods that name no other."""
    return networks.mlp((1, SIDE, SIDE), (100, 100), outputs, bias=False)


def trial_network(name: str | None) -> networks.Factory:
    """The network of the long stream: the one that a method names, or a plain one."""
    return networks.resolve(name, (1, SIDE, SIDE)) if name else plain


def trials(method: type[Method], settings: Mapping[str, Any], scenarios: list[Scenario] | None = None) -> list[Trial]:
    """A trial, with all parameters filled in, for each of the ``scenarios`` (None: of all) that ``method`` serves."""
    served = [s for s in scenarios or registry.scenarios().values() if s in method.scenarios]
    return [_trial(method, scenario, settings) for scenario in served]


def _trial(method: type[Method], scenario: Scenario, settings: Mapping[str, Any]) -> Trial:
    recipe = method.recipe(NAME, NAME, scenario.name)
    # A subclass with parameters of its own inherits recipes for parameters that it may not have.
    learn = {key: value for key, value in recipe.learn.items() if key in parameters(method.__init__)}
    learning = typed(method.__init__, learn | dict(settings), f"learning parameter of {method.name}")
    asking = {} if scenario.task_given_in_inference else typed(method.predict, recipe.ask, f"asking parameter of {method.name}")
    return Trial(method, scenario, learning, {key: value for key, value in asking.items() if value is not None})
