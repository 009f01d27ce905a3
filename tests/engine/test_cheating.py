"""Learners that cheat gain nothing: what the evaluation might give away, each of them uses."""

import copy
import random
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.engine.asking import Ask
from clbench.engine.evaluator import evaluate
from clbench.method import Brief, Method
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.stream import Split
from tests.engine.learners import ONCE, Blank, Make, scores

# Learners that cheat: each guesses the task from what the evaluation might give away


class Counter(Blank):
    """Numbers the calls of ``predict``."""

    name = "counts calls"
    calls = 0

    def guess(self, inputs: Tensor, task: int | None) -> int:
        self.calls += 1
        return (self.calls - 1) % TASKS


class SharedCounter(Counter):
    """Numbers the calls of all its copies."""

    name = "counts all calls"

    def guess(self, inputs: Tensor, task: int | None) -> int:
        type(self).calls += 1
        return (type(self).calls - 1) % TASKS


class Pointers(Blank):
    """Compares where data lie with where the data of each task lay, in training and in inference."""

    name = "compares data pointers"

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief)
        self.batches = 0
        self.task_at: dict[int, int] = {}

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        self.task_at[inputs.data_ptr()] = self.task_at[labels.data_ptr()] = self.batches // ONCE.updates
        self.batches += 1
        return None

    def end_task(self, data: Split) -> None:
        self.task_at[data.whole()[0].data_ptr()] = (self.batches - 1) // ONCE.updates

    def guess(self, inputs: Tensor, task: int | None) -> int:
        return self.task_at.get(inputs.data_ptr(), self.task_at.get(inputs.untyped_storage().data_ptr(), 0))


class Rememberer(Blank):
    """Remembers the inputs of every call, and the task where GG gives it, for later asks about the same images."""

    name = "remembers inputs"

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief)
        self.known: dict[bytes, int] = {}

    def guess(self, inputs: Tensor, task: int | None) -> int:
        key = inputs.numpy().tobytes()
        return self.known.setdefault(key, len(self.known) % TASKS if task is None else task)


class Foreteller(Blank):
    """Predicts the order of the tasks from the state of a global random generator, read when the learner is copied to be asked."""

    order: tuple[int, ...] = (0,) * 99

    def __deepcopy__(self, memo: dict) -> "Foreteller":
        twin = type(self)(self.brief)
        twin.order = tuple(self.foretold())
        return twin

    def guess(self, inputs: Tensor, task: int | None) -> int:
        first, *self.order = self.order
        return first

    @abstractmethod
    def foretold(self) -> list[int]:
        """The tasks that it expects to be asked about, in order."""


class PythonForeteller(Foreteller):
    name = "reads Python's random state"

    def foretold(self) -> list[int]:
        twin, order = random.Random(), list(range(TASKS))
        twin.setstate(random.getstate())
        twin.shuffle(order)
        return order


class NumpyForeteller(Foreteller):
    name = "reads NumPy's random state"

    def foretold(self) -> list[int]:
        twin = np.random.RandomState()
        twin.set_state(np.random.get_state())  # noqa: NPY002
        return twin.permutation(TASKS).tolist()


class TorchForeteller(Foreteller):
    name = "reads PyTorch's random state"

    def foretold(self) -> list[int]:
        return torch.randperm(TASKS, generator=torch.Generator().set_state(torch.get_rng_state())).tolist()


TASKS = 10
ATTEMPTS = 30
# Of 300 guesses 30 are right by chance, with a standard deviation of 5.5 (the fixed points of 30 permutations); a leak makes it 300.
# The probability of more than 90 is below 1e-16.
MOST_BY_CHANCE = 90
# Each with an order of the tasks that would give them away to it.
CHEATS: dict[type[Method], Callable[[], list[int]]] = {
    Counter: lambda: list(range(TASKS)),
    SharedCounter: lambda: list(range(TASKS)),
    Pointers: lambda: torch.randperm(TASKS).tolist(),
    Rememberer: lambda: torch.randperm(TASKS).tolist(),
    PythonForeteller: lambda: shuffled(list(range(TASKS))),
    NumpyForeteller: lambda: np.random.permutation(TASKS).tolist(),  # noqa: NPY002
    TorchForeteller: lambda: torch.randperm(TASKS).tolist(),
}


def shuffled(order: list[int]) -> list[int]:
    random.shuffle(order)
    return order


def each_cheat(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)(test)


@each_cheat
@pytest.mark.parametrize("scenario", [GNS, GNU, NNS], ids=lambda scenario: scenario.name)
def test_cheating_finds_no_task(cheat: type[Method], scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    asks = [Ask(scenario, {"attempt": attempt}) for attempt in range(ATTEMPTS)]
    if scenario.task_given_in_training:  # then GG may be asked as well, about the same images
        asks = [ask for each in asks for ask in (Ask(GG, each.parameters), each)]
    answers = scores(evaluate(cheat(make_brief(scenario)), make_stream(TASKS), asks, [TASKS], ONCE))
    guesses = [score.task_accuracy for score in answers if score.task_accuracy is not None]
    assert len(guesses) == ATTEMPTS * TASKS
    assert sum(guesses) <= MOST_BY_CHANCE


@each_cheat
def test_every_cheat_finds_every_task_where_nothing_is_done_against_it(
    cheat: type[Method], make_brief: Make, make_stream: Make
) -> None:
    """So that the test above shows something: the data as they lie, an order that can be known, and one learner for all asks."""
    method, stream = cheat(make_brief(GNU)), make_stream(TASKS)
    SharedCounter.calls = 0
    inputs = [task.train.whole()[0] for task in stream]
    for images, task in zip(inputs, stream, strict=True):
        for _ in range(ONCE.updates):
            method.observe(images, task.train.labels)
    if cheat is Rememberer:
        for task, images in enumerate(inputs):
            method.predict(images, task)
    examinee = copy.deepcopy(method) if issubclass(cheat, Foreteller) else method
    for task in CHEATS[cheat]():
        assert examinee.predict(inputs[task]).tasks.unique().tolist() == [task]
