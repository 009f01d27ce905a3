"""Whether a method keeps the contract: a conformance suite for anyone's method, one plain function for each requirement.

Every requirement is put to the method in every scenario that it serves, on a stream of a few permutations of 14 x 14 digits (the embedded
data): a long one on which naive fine-tuning forgets, to see whether the method acts, and a short one on a network with batch normalisation
and biases for all else. ``clbench check METHOD`` prints what was found.
"""

import contextlib
import copy
import gc
import random
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clbench import networks, registry, storage
from clbench.errors import UserError
from clbench.evaluator import Ask, Schedule, Score, evaluate, examine, teach
from clbench.method import Brief, Method, Prediction, parameters
from clbench.metrics import forgetting
from clbench.scenario import Scenario
from clbench.seeding import generator
from clbench.spec import typed
from clbench.stream import Split, Stream, Task

Tensors = Mapping[str, Tensor]

NAME = "check"
"""What recipes call the stream and its networks."""
SIDE, CLASSES, TRAIN, TEST, TASKS = 14, 5, 500, 512, 6
LEARNING_RATE = 1e-3
"""Of naive fine-tuning, and of every method with a ``learning_rate``, unless a recipe for this stream or ``--set`` names another."""
LONG, SHORT = Schedule(updates=100, batch_size=32), Schedule(updates=20, batch_size=16)
LONG_TASKS = 3

NAIVE_MUST_FORGET = 0.05
SHARE_FORGOTTEN = 0.9
"""A method that acts forgets at most this share of what naive fine-tuning does."""
SPARE_BYTES, SPARE_SHARE = 2048, 1.1
"""Memory may grow by this share of the growth of the state, and so many bytes a task: counters, not copies."""


@dataclass(frozen=True)
class Result:
    """One requirement in one scenario: whether it was met, what was found and, if it was not met, what to do."""

    name: str
    scenario: str
    passed: bool
    message: str


def name_of(requirement: "Requirement") -> str:
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

    def result(self, requirement: "Requirement", passed: bool, found: str, remedy: str = "") -> Result:
        """What a requirement returns: ``remedy`` says what to do if it was not met."""
        return Result(name_of(requirement), self.scenario.name, passed, found if passed else f"{found}: {remedy}")


# What they are taught


@cache
def stream() -> Stream:
    """Permutations of the pixels of digits 0 to 4, every task with images of its own in memory."""
    from clbench.data import load

    data, draws = load("mnist-5k"), generator(0, "check")

    def some(images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        rows = (labels < CLASSES).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=draws)[:number]]
        return nn.functional.avg_pool2d(data.inputs(images[rows]), 28 // SIDE).flatten(1), labels[rows]

    parts = some(data.train_images, data.train_labels, TRAIN), some(data.test_images, data.test_labels, TEST)
    tasks = []
    for task in range(TASKS):
        pixels = torch.randperm(SIDE * SIDE, generator=draws)
        train, test = (Split(images[:, pixels].view(-1, 1, SIDE, SIDE), labels) for images, labels in parts)
        tasks.append(Task(train, test, f"permutation {task}"))
    return Stream(NAME, tasks, CLASSES, (1, SIDE, SIDE))


def normalised(outputs: int) -> nn.Module:
    """The network of the short stream: biases, and statistics that an update or an importance pass may move."""
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, outputs))


def plain(outputs: int) -> nn.Module:
    """The network of the long stream."""
    return networks.mlp((1, SIDE, SIDE), (100, 100), outputs, bias=False)


# The requirements


class Curve(NamedTuple):
    """How a method fared on the long stream: what it forgot, and the mean accuracy on each task right after it was learned."""

    forgotten: float
    learned: float


def curve(trial: Trial) -> Curve:
    """Teach the long stream, and ask about all tasks so far after each."""
    long = Stream(NAME, stream().tasks[:LONG_TASKS], CLASSES, (1, SIDE, SIDE))
    accuracies = np.full((LONG_TASKS, LONG_TASKS), np.nan)
    for event in evaluate(trial.fresh(plain), long, [trial.ask], range(1, LONG_TASKS + 1), LONG):
        if isinstance(event, Score):
            accuracies[event.learned - 1, event.task] = event.accuracy
    return Curve(forgetting(accuracies), float(np.diagonal(accuracies).mean()))


@cache
def naive_curve(scenario: Scenario, shared: tuple[tuple[str, Any], ...]) -> Curve:
    """How naive fine-tuning fares with the parameters that a method shares with it."""
    (naive,) = trials(registry.method("naive"), dict(shared), [scenario])
    found = curve(naive)
    if found.forgotten < NAIVE_MUST_FORGET:
        raise UserError(f"With {dict(shared)} naive fine-tuning forgets nothing in {scenario.name}: nothing can be said.")
    return found


def acts(trial: Trial) -> Result:
    """Less forgetting than naive fine-tuning, and not by learning less."""
    if not trial.method.acts_against_forgetting:
        return trial.result(acts, True, "declares that it does nothing against forgetting")
    own = parameters(registry.method("naive").__init__)
    shared = tuple(sorted((key, value) for key, value in trial.learning.items() if key in own))
    naive, mine = naive_curve(trial.scenario, shared), curve(trial)
    found = (
        f"forgets {mine.forgotten:.1%} where naive fine-tuning forgets {naive.forgotten:.1%}; "
        f"right after a task its accuracy is {mine.learned:.1%}, naive's {naive.learned:.1%}"
    )
    if mine.forgotten > SHARE_FORGOTTEN * naive.forgotten:
        remedy = (
            "whatever it does against forgetting has no effect here; look for a penalty that is 0, an anchor or mask that follows "
            f"the live weights, or give it parameters that suit so short a stream (--set, or a Recipe for the stream {NAME!r})"
        )
        return trial.result(acts, False, found, remedy)
    remedy = (
        f"it holds on to old tasks by not learning new ones; give it parameters that suit so short a stream (--set, or a Recipe for "
        f"the stream {NAME!r}), or declare the `price` that it pays by design"
    )
    return trial.result(acts, mine.learned >= naive.learned - trial.method.price, found, remedy)


def keeps_frozen(trial: Trial) -> Result:
    """What is frozen stays the same, bit by bit, through updates and asks."""
    learner = trial.fresh()
    frozen, when, changed = _copies(learner.frozen_state()), "", set[str]()
    for task in range(3):
        trial.teach(learner, task)
        changed, when = _changed(frozen, learner.frozen_state()), f"while task {task} was learned"
        if not changed:
            trial.answers(learner, range(task + 1))
            changed, when = _changed(frozen, learner.frozen_state()), f"by an ask after task {task}"
        if changed:
            break
        frozen = _copies(learner.frozen_state())
    found = f"{_some(changed)} changed {when}" if changed else f"{len(frozen)} frozen tensors stayed the same, bit by bit"
    remedy = "keep it out of the optimiser (momentum and weight decay move what has no gradient), and change no tensor in place"
    return trial.result(keeps_frozen, not changed, found, remedy)


def ends_quietly(trial: Trial) -> Result:
    """What is seen at the end of a task, as by an importance pass, changes no parameter and no buffer."""
    if not trial.told:
        return trial.result(ends_quietly, True, "is not told when a task ends")
    if trial.method.trains_at_end:
        return trial.result(ends_quietly, True, "declares that it learns at the end of a task")
    learners = trial.taught(1), trial.taught(1)
    for learner, shown in zip(learners, (1, 2), strict=True):
        learner.begin_task(1, SHORT.updates)
        for batch in stream()[1].train.batches(SHORT.updates, SHORT.batch_size, generator(0, "end")):
            learner.observe(*batch)
        learner.end_task(stream()[shown].train)
    changed = _differing(*(learner.learned() for learner in learners))
    remedy = "measure on copies, in evaluation mode, or declare `trains_at_end = True` if it is meant"
    found = f"the data given to end_task change {_some(changed)}" if changed else "end_task's data change nothing learned"
    return trial.result(ends_quietly, not changed, found, remedy)


def answers_alike(trial: Trial) -> Result:
    """Answers are answers, and depend neither on the order of the asks nor on what was asked before."""
    learner = trial.taught(3)
    examine(learner, stream(), [trial.ask], 3)  # its UserError says what is wrong with the form of an answer
    alone = {n: t for task in range(3) for n, t in trial.answers(copy.deepcopy(learner), [task]).items()}
    for order in ([0, 1, 2], [2, 0, 1]):
        changed = _differing(alone, trial.answers(copy.deepcopy(learner), order))
        if changed:
            found = f"{_some(changed)} depend on the order in which tasks are asked about"
            return trial.result(answers_alike, False, found, "predict must not remember: the evaluator shuffles the tasks")
    wrong = {n for n, t in alone.items() if not ((t >= 0) & (t < (CLASSES if n.endswith("labels") else 3))).all() and trial.told}
    found = f"{_some(wrong)} name what there is not" if wrong else "answers alike in any order"
    remedy = "labels are counted within the task, from 0 to classes - 1, and tasks from 0"
    return trial.result(answers_alike, not wrong, found, remedy)


def reloads(trial: Trial) -> Result:
    """What is learned, put into a file and read into a fresh learner, predicts the same."""
    learner = trial.taught(3)
    before = trial.answers(learner, range(3))
    twin = trial.fresh()
    twin.restore(_through_a_file(learner.learned()))
    changed = _differing(before, trial.answers(twin, range(3)))
    found = f"{_some(changed)} differ after learned() was restored" if changed else "predicts the same from learned() alone"
    return trial.result(reloads, not changed, found, "learned() and restore() must hold everything that predict uses")


def resumes(trial: Trial) -> Result:
    """What is learned and what is in progress, through files, go on as if nothing had happened."""
    learner, twin = trial.taught(2), trial.fresh()
    twin.restore(_through_a_file(learner.learned()), _through_a_file(learner.progress()))
    for each in (learner, twin):
        trial.teach(each, 2)
    changed = _differing(*(_both(each) | trial.answers(each, range(3)) for each in (learner, twin)))
    found = f"after another task {_some(changed)} differ" if changed else "goes on identically, bit by bit"
    remedy = "progress() must hold what more is needed to go on: the optimiser, importances, counters, random generators"
    return trial.result(resumes, not changed, found, remedy)


def states_its_bytes(trial: Trial) -> Result:
    """The bytes that are reported are those of the files."""
    learner, wrong = trial.taught(2), []
    for what, tensors in {"learned()": learner.learned(), "progress()": learner.progress()}.items():
        with tempfile.TemporaryDirectory() as folder:
            storage.save(tensors, Path(folder) / "tensors")
            real, reported = (Path(folder) / "tensors").stat().st_size, storage.file_bytes(tensors)
        if real != reported:
            wrong.append(f"{what} takes {real} bytes, not {reported}")
    remedy = "give plain tensors of ordinary types and names"
    return trial.result(states_its_bytes, not wrong, "; ".join(wrong) or "files have the bytes that are reported", remedy)


def repeats(trial: Trial) -> Result:
    """The same seed gives the same result, another seed another."""
    first, again, other = trial.taught(2), trial.taught(2), trial.taught(2, seed=1)
    changed = _differing(_both(first), _both(again))
    if changed:
        remedy = "draw random numbers from clbench.seeding.generator(brief.seed, ...) alone"
        return trial.result(repeats, False, f"{_some(changed)} differ between two learners of one seed", remedy)
    # Without a network and with nothing drawn there may be nothing for a seed to change.
    assert isinstance(first.brief.network, Backbone)
    same = not _differing(_both(first), _both(other)) and bool(first.brief.network.built)
    found = "learners of two seeds learned the same" if same else "one result for one seed, another for another"
    return trial.result(repeats, not same, found, "take the network and every draw from the brief")


def draws_alone(trial: Trial) -> Result:
    """The global random generators are neither read nor disturbed."""
    states, disturbed = [], set[str]()
    for seed in (1, 2):
        with _global_generators(seed):
            before = _generator_states()
            learner = trial.taught(2)
            answers = trial.answers(learner, range(2))
            disturbed |= {which for which, state in _generator_states().items() if state != before[which]}
            states.append(_both(learner) | answers)
    remedy = "draw from clbench.seeding.generator(brief.seed, ...), and put forks around code that draws from a global one"
    if disturbed:
        return trial.result(draws_alone, False, f"the global generator of {', '.join(sorted(disturbed))} was used", remedy)
    changed = _differing(*states)
    found = f"{_some(changed)} depend on a global generator" if changed else "draws from generators of its own"
    return trial.result(draws_alone, not changed, found, remedy)


def leaves_no_trace(trial: Trial) -> Result:
    """A learner that was asked often learns the same as one that never was."""
    asked, never = trial.fresh(), trial.taught(3)
    for task in range(3):
        trial.teach(asked, task)
        before = _both(asked)
        trial.answers(asked, range(task + 1))
        changed = _differing(before, _both(asked))
        if changed:
            break
    else:
        changed = _differing(_both(asked), _both(never))
    found = f"asking changed {_some(changed)}" if changed else "asking changes nothing"
    remedy = "predict must leave everything as it was: set back modes, and copy what it changes"
    return trial.result(leaves_no_trace, not changed, found, remedy)


def stays_small(trial: Trial) -> Result:
    """Memory grows from task to task by no more than the state that is stored."""
    learner, sizes = trial.fresh(), []
    for task in range(TASKS):
        trial.teach(learner, task)
        state = sum(tensor.numel() * tensor.element_size() for tensor in _both(learner).values())
        sizes.append((reachable_bytes(learner), state))
    # The median, as memory may be taken for many tasks at once.
    growth = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(sizes[2:])]
    memory, state = sorted(growth, key=lambda grown: grown[0] - grown[1])[len(growth) // 2]
    found = f"another task takes {memory} bytes of memory and {state} bytes of state"
    remedy = "keep nothing of a task that learned() and progress() do not count: data, gradients, copies of the network"
    return trial.result(stays_small, memory <= SPARE_SHARE * max(0, state) + SPARE_BYTES, found, remedy)


Requirement = Callable[[Trial], Result]

REQUIREMENTS: tuple[Requirement, ...] = (
    acts,
    keeps_frozen,
    ends_quietly,
    answers_alike,
    reloads,
    resumes,
    states_its_bytes,
    repeats,
    draws_alone,
    leaves_no_trace,
    stays_small,
)


# Checking


def check(method: type[Method], settings: Mapping[str, Any] | None = None) -> Iterator[Result]:
    """Put every requirement to ``method`` in every scenario that it serves; ``settings`` are learning parameters.

    Raises a ``UserError`` for settings that it does not have or refuses.
    """
    for trial in trials(method, settings or {}):
        with _one_thread():
            trial.fresh()
            for requirement in REQUIREMENTS:
                yield _tried(requirement, trial)


def trials(method: type[Method], settings: Mapping[str, Any], scenarios: list[Scenario] | None = None) -> list[Trial]:
    """A trial in each scenario (of those given) that ``method`` serves, its parameters being filled in."""
    served = [s for s in scenarios or registry.scenarios().values() if s in method.scenarios]
    return [_trial(method, scenario, settings) for scenario in served]


def _trial(method: type[Method], scenario: Scenario, settings: Mapping[str, Any]) -> Trial:
    recipe = method.recipe(NAME, NAME, scenario.name)
    rate = {"learning_rate": LEARNING_RATE} if "learning_rate" in parameters(method.__init__) else {}
    learning = typed(method.__init__, rate | dict(recipe.learn) | dict(settings), f"{method.name}'s learning parameters")
    asking = {} if scenario.task_given_in_inference else typed(method.predict, recipe.ask, f"{method.name}'s asking parameters")
    return Trial(method, scenario, learning, {key: value for key, value in asking.items() if value is not None})


def _tried(requirement: Requirement, trial: Trial) -> Result:
    """The requirement's result; an exception is one too."""
    try:
        return requirement(trial)
    except Exception as error:  # a method under test may raise anything
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return Result(name_of(requirement), trial.scenario.name, False, f"raised {what}")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Networks so small are fastest on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Comparing


def _copies(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _both(learner: Method) -> dict[str, Tensor]:
    """Copies of all that is learned and in progress."""
    return _copies(learner.learned()) | {f"progress {name}": tensor for name, tensor in _copies(learner.progress()).items()}


def _differing(one: Tensors, other: Tensors) -> set[str]:
    """The names of tensors that are not in both, or not the same bit by bit."""
    return _changed(one, other) | _changed(other, one)


def _changed(before: Tensors, after: Tensors) -> set[str]:
    """The names of tensors that are gone, or not the same bit by bit."""
    return {name for name, tensor in before.items() if name not in after or not _same(tensor, after[name])}


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.detach().cpu().flatten().contiguous().view(torch.uint8) for tensor in (one, other)))


def _some(names: set[str]) -> str:
    """The first few of the names."""
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _through_a_file(tensors: Tensors) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        storage.save(tensors, Path(folder) / "tensors")
        return _copies(storage.load(Path(folder) / "tensors"))


@contextlib.contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """The global generators seeded with ``seed``, and afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one is meant)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _generator_states() -> dict[str, Any]:
    return {
        "PyTorch": torch.get_rng_state().tolist(),
        "NumPy": repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        "Python": random.getstate(),
    }


def reachable_bytes(thing: Any) -> int:
    """The bytes of all tensors and arrays that ``thing`` keeps alive, each memory once."""
    seen: dict[int, Any] = {}
    memories: dict[int, int] = {}
    waiting = [thing]
    while waiting:
        here = waiting.pop()
        if id(here) in seen or isinstance(here, type | ModuleType):
            continue
        seen[id(here)] = here
        if isinstance(here, Tensor) and here.device.type != "meta":
            memories[here.untyped_storage().data_ptr()] = here.untyped_storage().nbytes()
            waiting.append(here.grad)
        elif isinstance(here, np.ndarray):
            memories[here.ctypes.data] = here.nbytes
        # A function keeps what is in its closure; all else that it refers to belongs to its module.
        waiting.extend(here.__closure__ or () if isinstance(here, FunctionType) else gc.get_referents(here))
    return sum(memories.values())
