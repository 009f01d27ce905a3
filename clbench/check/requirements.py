"""What is required of a method: a plain function for each, named for what it demands."""

import copy
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench import networks, registry, storage
from clbench.check.compare import (
    both,
    changes,
    copies,
    differing,
    generator_states,
    global_generators,
    present,
    reachable_bytes,
    some,
    through_a_file,
)
from clbench.check.trial import (
    CLASSES,
    LONG,
    LONG_TASKS,
    NAME,
    SHORT,
    SIDE,
    TASKS,
    Backbone,
    Result,
    Trial,
    stream,
    trial_network,
    trials,
)
from clbench.engine.evaluator import Score, evaluate, examine, teach_together
from clbench.errors import UserError
from clbench.method import parameters
from clbench.results.metrics import forgetting
from clbench.scenario import Scenario
from clbench.seeding import generator
from clbench.stream import Stream

NAIVE_MUST_FORGET = 0.05
SHARE_FORGOTTEN = 0.9
"""A method that acts forgets at most this share of what naive fine-tuning does."""
FEW = 0.01
"""Of what is learned at a time, this share may differ from what is learned one by one: bytes of masks near a threshold."""
SPARE_BYTES, SPARE_SHARE = 2048, 1.1
"""Memory may grow by this share of the growth of the state, and so many bytes a task: counters, not copies."""


class Curve(NamedTuple):
    """How a method fared on the long stream: what it forgot, and the mean accuracy on each task right after it was learned."""

    forgotten: float
    learned: float


def curve(trial: Trial, backbone: networks.Factory) -> Curve:
    """Teach the long stream with that network, and ask about all tasks so far after each."""
    long = Stream(NAME, stream().tasks[:LONG_TASKS], CLASSES, (1, SIDE, SIDE))
    accuracies = np.full((LONG_TASKS, LONG_TASKS), np.nan)
    for event in evaluate(trial.fresh(backbone), long, [trial.ask], range(1, LONG_TASKS + 1), LONG):
        if isinstance(event, Score):
            accuracies[event.learned - 1, event.task] = event.accuracy
    return Curve(forgetting(accuracies), float(np.diagonal(accuracies).mean()))


@cache
def naive_curve(scenario: Scenario, shared: tuple[tuple[str, Any], ...], network: str | None) -> Curve:
    """How naive fine-tuning fares with the parameters and the network that a method shares with it."""
    (naive,) = trials(registry.method("naive"), dict(shared), [scenario])
    found = curve(naive, trial_network(network))
    if found.forgotten < NAIVE_MUST_FORGET:
        raise UserError(f"With {dict(shared)} naive fine-tuning forgets nothing in {scenario.name}: nothing can be said.")
    return found


def acts(trial: Trial) -> Result:
    """Less forgetting than naive fine-tuning, and not by learning less."""
    if not trial.method.acts_against_forgetting:
        return trial.result(acts, True, "declares that it does nothing against forgetting")
    # Naive fine-tuning has its own parameters, or the method's where those name the optimiser: a rate alone means nothing.
    own = parameters(registry.method("naive").__init__)
    shared = (
        tuple(sorted((key, value) for key, value in trial.learning.items() if key in own)) if "optimiser" in trial.learning else ()
    )
    network = trial.method.trial_network
    naive, mine = naive_curve(trial.scenario, shared, network), curve(trial, trial_network(network))
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
    frozen, when, changed = copies(learner.frozen_state()), "", set[str]()
    for task in range(3):
        trial.teach(learner, task)
        changed, when = changes(frozen, learner.frozen_state()), f"while task {task} was learned"
        if not changed:
            trial.answers(learner, range(task + 1))
            changed, when = changes(frozen, learner.frozen_state()), f"by an ask after task {task}"
        if changed:
            break
        frozen = copies(learner.frozen_state())
    found = f"{some(changed)} changed {when}" if changed else f"{len(frozen)} frozen tensors stayed the same, bit by bit"
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
    changed = differing(*(learner.learned() for learner in learners))
    remedy = "measure on copies, in evaluation mode, or declare `trains_at_end = True` if it is meant"
    found = f"the data given to end_task change {some(changed)}" if changed else "end_task's data change nothing learned"
    return trial.result(ends_quietly, not changed, found, remedy)


def answers_alike(trial: Trial) -> Result:
    """Answers are answers, and depend neither on the order of the asks nor on what was asked before."""
    learner = trial.taught(3)
    examine(learner, stream(), [trial.ask], 3)  # its UserError says what is wrong with the form of an answer
    alone = {n: t for task in range(3) for n, t in trial.answers(copy.deepcopy(learner), [task]).items()}
    for order in ([0, 1, 2], [2, 0, 1]):
        changed = differing(alone, trial.answers(copy.deepcopy(learner), order))
        if changed:
            found = f"{some(changed)} depend on the order in which tasks are asked about"
            return trial.result(answers_alike, False, found, "predict must not remember: the evaluator shuffles the tasks")
    wrong = {n for n, t in alone.items() if not ((t >= 0) & (t < (CLASSES if n.endswith("labels") else 3))).all() and trial.told}
    found = f"{some(wrong)} name what there is not" if wrong else "answers alike in any order"
    remedy = "labels are counted within the task, from 0 to classes - 1, and tasks from 0"
    return trial.result(answers_alike, not wrong, found, remedy)


def answers_together(trial: Trial) -> Result:
    """Asks that share a pass are answered as each by itself."""
    shared = None if trial.scenario.task_given_in_inference else trial.fresh().shared_pass(**trial.asking)
    if shared is None:
        return trial.result(answers_together, True, "answers each ask by itself")
    learner, changed = trial.taught(2), set[str]()
    for task in range(2):
        inputs, _ = stream()[task].test.whole()
        asks = [(count, trial.asking) for count in (len(inputs), len(inputs) // 3)]
        with torch.no_grad():
            together = learner.predict_together(inputs, asks)
            alone = [learner.predict(inputs[:count], **trial.asking) for count, _ in asks]
        pairs = zip(alone, together, strict=True)
        changed |= {f"task {task}'s {name}" for one, other in pairs for name in differing(present(one), present(other))}
    found = f"{some(changed)} differ from predict's" if changed else f"answers asks of {shared!r} as each by itself"
    return trial.result(answers_together, not changed, found, "predict_together must give what predict gives")


def learns_together(trial: Trial) -> Result:
    """Tasks that are learned at a time are learned as one after another."""
    together, alone = trial.fresh(), trial.fresh()
    if together.tasks_at_once == 1:
        return trial.result(learns_together, True, "learns one task after another")
    for taught in teach_together(together, stream(), range(together.tasks_at_once), SHORT):
        trial.teach(alone, taught.learned - 1)
        states = [{name: tensor.double() for name, tensor in both(each).items()} for each in (together, alone)]
        changed = {n for n in states[0] | states[1] if not _close(*(state.get(n) for state in states))}
        if changed:
            break
    found = (
        f"after {taught.learned} tasks {some(changed)} differ"
        if changed
        else f"learns {taught.learned} tasks at a time as one by one"
    )
    remedy = (
        "observe_tasks and observe must give the same but for rounding, and end_task must leave what only the tasks so far make"
    )
    return trial.result(learns_together, not changed, found, remedy)


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether both are there and the same but for rounding, which may turn a few bits of packed masks."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return int((~torch.isclose(one, other, rtol=1e-3, atol=1e-5)).sum()) <= FEW * one.numel()


def reloads(trial: Trial) -> Result:
    """What is learned, put into a file and read into a fresh learner, predicts the same."""
    learner = trial.taught(3)
    before = trial.answers(learner, range(3))
    twin = trial.fresh()
    twin.restore(through_a_file(learner.learned()))
    changed = differing(before, trial.answers(twin, range(3)))
    found = f"{some(changed)} differ after learned() was restored" if changed else "predicts the same from learned() alone"
    return trial.result(reloads, not changed, found, "learned() and restore() must hold everything that predict uses")


def resumes(trial: Trial) -> Result:
    """What is learned and what is in progress, through files, go on as if nothing had happened."""
    learner, twin = trial.taught(2), trial.fresh()
    twin.restore(through_a_file(learner.learned()), through_a_file(learner.progress()))
    for each in (learner, twin):
        trial.teach(each, 2)
    changed = differing(*(both(each) | trial.answers(each, range(3)) for each in (learner, twin)))
    found = f"after another task {some(changed)} differ" if changed else "goes on identically, bit by bit"
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
    changed = differing(both(first), both(again))
    if changed:
        remedy = "draw random numbers from clbench.seeding.generator(brief.seed, ...) alone"
        return trial.result(repeats, False, f"{some(changed)} differ between two learners of one seed", remedy)
    # Without a network and with nothing drawn there may be nothing for a seed to change.
    assert isinstance(first.brief.network, Backbone)
    same = not differing(both(first), both(other)) and bool(first.brief.network.built)
    found = "learners of two seeds learned the same" if same else "one result for one seed, another for another"
    return trial.result(repeats, not same, found, "take the network and every draw from the brief")


def draws_alone(trial: Trial) -> Result:
    """The global random generators are neither read nor disturbed."""
    states, disturbed = [], set[str]()
    for seed in (1, 2):
        with global_generators(seed):
            before = generator_states()
            learner = trial.taught(2)
            answers = trial.answers(learner, range(2))
            disturbed |= {which for which, state in generator_states().items() if state != before[which]}
            states.append(both(learner) | answers)
    remedy = "draw from clbench.seeding.generator(brief.seed, ...), and put forks around code that draws from a global one"
    if disturbed:
        return trial.result(draws_alone, False, f"the global generator of {', '.join(sorted(disturbed))} was used", remedy)
    changed = differing(*states)
    found = f"{some(changed)} depend on a global generator" if changed else "draws from generators of its own"
    return trial.result(draws_alone, not changed, found, remedy)


def leaves_no_trace(trial: Trial) -> Result:
    """A learner that was asked often learns the same as one that never was."""
    asked, never = trial.fresh(), trial.taught(3)
    for task in range(3):
        trial.teach(asked, task)
        before = both(asked)
        trial.answers(asked, range(task + 1))
        changed = differing(before, both(asked))
        if changed:
            break
    else:
        changed = differing(both(asked), both(never))
    found = f"asking changed {some(changed)}" if changed else "asking changes nothing"
    remedy = "predict must leave everything as it was: set back modes, and copy what it changes"
    return trial.result(leaves_no_trace, not changed, found, remedy)


def stays_small(trial: Trial) -> Result:
    """Memory grows from task to task by no more than the state that is stored."""
    learner, sizes = trial.fresh(), []
    for task in range(TASKS):
        trial.teach(learner, task)
        state = sum(tensor.numel() * tensor.element_size() for tensor in both(learner).values())
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
    answers_together,
    learns_together,
    reloads,
    resumes,
    states_its_bytes,
    repeats,
    draws_alone,
    leaves_no_trace,
    stays_small,
)
