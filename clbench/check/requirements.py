"""What is required of a method: one plain function for each requirement, named after it."""

import copy
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
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
from clbench.engine.asking import Score, examine
from clbench.engine.evaluator import Taught, evaluate, tasks_at_once, teach_together
from clbench.engine.lesson import Keep, Lesson, Midway, midway
from clbench.errors import UserError
from clbench.method import parameters
from clbench.results.metrics import forgetting
from clbench.scenario import Scenario
from clbench.seeding import generator
from clbench.stream import Stream

NAIVE_MUST_FORGET = 0.05
SHARE_FORGOTTEN = 0.9
"""A method that acts forgets at most this share of what naive fine-tuning forgets."""
FEW = 0.01
"""This share of what is learned together may differ from what is learned one by one: bytes of masks near a threshold."""
SPARE_BYTES, SPARE_SHARE = 2048, 1.1
"""Memory may grow by this share of the growth of the state, and so many bytes a task: counters, not copies."""


class Curve(NamedTuple):
    """A method on the long stream: its forgetting, and the mean accuracy on each task right after it was learned."""

    forgotten: float
    just_learned: float


def curve(trial: Trial, backbone: networks.Factory) -> Curve:
    """Teach the long stream with that network, and ask about all tasks so far after each task."""
    long = Stream(NAME, stream().tasks[:LONG_TASKS], CLASSES, (1, SIDE, SIDE))
    accuracies = np.full((LONG_TASKS, LONG_TASKS), np.nan)
    for event in evaluate(trial.fresh(backbone), long, [trial.ask], range(1, LONG_TASKS + 1), LONG):
        if isinstance(event, Score):
            accuracies[event.learned - 1, event.task] = event.accuracy
    return Curve(forgetting(accuracies), float(np.diagonal(accuracies).mean()))


@cache
def naive_curve(scenario: Scenario, shared: tuple[tuple[str, Any], ...], network: str | None) -> Curve:
    """The curve of naive fine-tuning with the parameters and the network that a method shares with it."""
    (naive,) = trials(registry.method("naive"), dict(shared), [scenario])
    forgetful = curve(naive, trial_network(network))
    if forgetful.forgotten < NAIVE_MUST_FORGET:
        raise UserError(
            f"With {dict(shared)} naive fine-tuning forgets nothing in {scenario.name}: there is nothing to compare the method with."
        )
    return forgetful


def acts(trial: Trial) -> Result:
    """Less forgetting than naive fine-tuning, and not by learning less."""
    if not trial.method.acts_against_forgetting:
        return trial.result(acts, True, "declares that it does nothing against forgetting")
    # Naive fine-tuning has its own parameters, or the method's if they name the optimiser: a rate alone means nothing.
    known = parameters(registry.method("naive").__init__)
    shared = (
        tuple(sorted((key, value) for key, value in trial.learning.items() if key in known))
        if "optimiser" in trial.learning
        else ()
    )
    network = trial.method.trial_network
    naive, mine = naive_curve(trial.scenario, shared, network), curve(trial, trial_network(network))
    finding = (
        f"forgets {mine.forgotten:.1%}, naive fine-tuning {naive.forgotten:.1%}; "
        f"right after a task its accuracy is {mine.just_learned:.1%}, naive's {naive.just_learned:.1%}"
    )
    if mine.forgotten > SHARE_FORGOTTEN * naive.forgotten:
        remedy = (
            "what it does against forgetting has no effect here; look for a penalty that is 0, an anchor or mask that follows "
            f"the live weights, or give it parameters that suit so short a stream (--set, or a Recipe for the stream {NAME!r})"
        )
        return trial.result(acts, False, finding, remedy)
    remedy = (
        f"it keeps old tasks by not learning new ones; give it parameters that suit so short a stream (--set, or a Recipe for "
        f"the stream {NAME!r}), or declare the `price` that it pays by design"
    )
    return trial.result(acts, mine.just_learned >= naive.just_learned - trial.method.price, finding, remedy)


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
    finding = f"{some(changed)} changed {when}" if changed else f"{len(frozen)} frozen tensors stayed the same, bit by bit"
    remedy = "keep it out of the optimiser (momentum and weight decay move what has no gradient), and change no tensor in place"
    return trial.result(keeps_frozen, not changed, finding, remedy)


def ends_quietly(trial: Trial) -> Result:
    """The data at the end of a task, as in an importance pass, change no parameter and no buffer."""
    if not trial.told:
        return trial.result(ends_quietly, True, "is not told when a task ends")
    if trial.method.trains_at_end:
        return trial.result(ends_quietly, True, "declares that it learns at the end of a task")
    learners = trial.taught(1), trial.taught(1)
    for learner, number in zip(learners, (1, 2), strict=True):
        learner.begin_task(1, SHORT.updates)
        for batch in stream()[1].train.batches(SHORT.updates, SHORT.batch_size, generator(0, "end")):
            learner.observe(*batch)
        learner.end_task(stream()[number].train)
    changed = differing(*(learner.learned() for learner in learners))
    remedy = "measure on copies, in evaluation mode, or declare `trains_at_end = True` if it is meant"
    finding = f"the data given to end_task change {some(changed)}" if changed else "end_task's data change nothing learned"
    return trial.result(ends_quietly, not changed, finding, remedy)


def answers_alike(trial: Trial) -> Result:
    """Answers are well-formed, and depend neither on the order of the asks nor on earlier asks."""
    learner = trial.taught(3)
    examine(learner, stream(), [trial.ask], 3)  # its UserError says what is wrong with the form of an answer
    alone = {n: t for task in range(3) for n, t in trial.answers(copy.deepcopy(learner), [task]).items()}
    for order in ([0, 1, 2], [2, 0, 1]):
        changed = differing(alone, trial.answers(copy.deepcopy(learner), order))
        if changed:
            finding = f"{some(changed)} depend on the order in which tasks are asked about"
            return trial.result(answers_alike, False, finding, "predict must not remember: the evaluator shuffles the tasks")
    wrong = {n for n, t in alone.items() if not ((t >= 0) & (t < (CLASSES if n.endswith("labels") else 3))).all() and trial.told}
    finding = f"{some(wrong)} name labels or tasks that do not exist" if wrong else "gives the same answers in any order"
    remedy = "count labels within the task, from 0 to classes - 1, and tasks from 0"
    return trial.result(answers_alike, not wrong, finding, remedy)


def answers_together(trial: Trial) -> Result:
    """Asks that share a pass get the answers that each gets alone."""
    shared = None if trial.scenario.task_given_in_inference else trial.fresh().shared_pass(**trial.asking)
    if shared is None:
        return trial.result(answers_together, True, "answers each ask alone")
    learner, changed = trial.taught(2), set[str]()
    for task in range(2):
        inputs, _ = stream()[task].test.whole()
        asks = [(count, trial.asking) for count in (len(inputs), len(inputs) // 3)]
        with torch.no_grad():
            together = learner.predict_together(inputs, asks)
            alone = [learner.predict(inputs[:count], **trial.asking) for count, _ in asks]
        pairs = zip(alone, together, strict=True)
        changed |= {f"task {task}'s {name}" for one, other in pairs for name in differing(present(one), present(other))}
    finding = (
        f"{some(changed)} differ from predict's" if changed else f"answers asks that share {shared!r} as it answers each alone"
    )
    return trial.result(answers_together, not changed, finding, "predict_together must give what predict gives")


def learns_together(trial: Trial) -> Result:
    """Learning several tasks at a time gives the result of learning them one after another."""
    together, alone = trial.fresh(), trial.fresh()
    if together.tasks_at_once == 1:
        return trial.result(learns_together, True, "learns one task after another")
    for taught in teach_together(together, stream(), range(together.tasks_at_once), SHORT):
        trial.teach(alone, taught.learned - 1)
        states = [{name: tensor.double() for name, tensor in both(each).items()} for each in (together, alone)]
        changed = {n for n in states[0] | states[1] if not _close(*(state.get(n) for state in states))}
        if changed:
            break
    finding = (
        f"after {taught.learned} tasks {some(changed)} differ"
        if changed
        else f"learns {taught.learned} tasks at a time with the result of one after another"
    )
    remedy = "observe_tasks and observe must give the same but for rounding, and end_task must leave the state after only the tasks so far"
    return trial.result(learns_together, not changed, finding, remedy)


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether both exist and are the same but for rounding, which may flip a few bits of packed masks."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return int((~torch.isclose(one, other, rtol=1e-3, atol=1e-5)).sum()) <= FEW * one.numel()


def reloads(trial: Trial) -> Result:
    """What is learned, saved to a file and restored in a fresh learner, predicts the same."""
    learner = trial.taught(3)
    before = trial.answers(learner, range(3))
    twin = trial.fresh()
    twin.restore(through_a_file(learner.learned()))
    changed = differing(before, trial.answers(twin, range(3)))
    finding = f"{some(changed)} differ after learned() was restored" if changed else "predicts the same from learned() alone"
    return trial.result(reloads, not changed, finding, "learned() and restore() must hold everything that predict uses")


def resumes(trial: Trial) -> Result:
    """What is learned and what is in progress, saved to files and restored, continue as if nothing had happened."""
    learner, twin = trial.taught(2), trial.fresh()
    twin.restore(through_a_file(learner.learned()), through_a_file(learner.progress()))
    for each in (learner, twin):
        trial.teach(each, 2)
    changed = differing(*(both(each) | trial.answers(each, range(3)) for each in (learner, twin)))
    finding = f"after another task {some(changed)} differ" if changed else "continues identically, bit by bit"
    remedy = "progress() must hold what else is needed to resume: the optimiser, importances, counters, random generators"
    return trial.result(resumes, not changed, finding, remedy)


def resumes_inside_a_task(trial: Trial) -> Result:
    """What is in progress between two batches, saved to a file and restored, continues as if nothing had happened."""
    learner, states = trial.fresh(), list[Midway]()
    at_once = tasks_at_once(learner, SHORT)
    for first in range(0, 2, at_once):  # two tasks, because a restored method may differ from the second on
        _drain(teach_together(learner, stream(), range(first, first + at_once), SHORT))
    before = through_a_file(learner.learned()), through_a_file(learner.progress())

    def interrupt(lesson: Lesson) -> None:
        if lesson.batches in (1, SHORT.updates // 2, SHORT.updates):
            state = midway(learner, lesson, {})
            states.extend([] if state is None else [Midway.from_plain(through_a_file(state.plain()))])

    group, changed = range(2, 2 + at_once), set[str]()
    _drain(teach_together(learner, stream(), group, SHORT, keep=Keep(after_batch=interrupt)))
    if not states:
        return trial.result(resumes_inside_a_task, True, "begins an interrupted task again")
    whole = both(learner) | trial.answers(learner, range(2))
    for state in states:
        twin = trial.fresh()
        twin.restore(*(before if trial.told else (state.part("learned"), state.part("progress"))))
        _drain(teach_together(twin, stream(), group, SHORT, state))
        changed |= differing(whole, both(twin) | trial.answers(twin, range(2)))
    finding = f"after an interrupted task {some(changed)} differ" if changed else "continues identically, bit by bit"
    remedy = "task_progress() must hold all that a batch changes: trained tensors, buffers, optimiser, counters, memories (or return None)"
    if not trial.told:
        remedy = "learned() and progress() must hold, between any two batches, all that is needed to resume"
    return trial.result(resumes_inside_a_task, not changed, finding, remedy)


def _drain(events: Iterator[Taught]) -> None:
    deque(events, maxlen=0)


def states_its_bytes(trial: Trial) -> Result:
    """The reported bytes are the sizes of the files."""
    learner, wrong = trial.taught(2), []
    for what, tensors in {"learned()": learner.learned(), "progress()": learner.progress()}.items():
        with tempfile.TemporaryDirectory() as folder:
            storage.save(tensors, Path(folder) / "tensors")
            real, reported = (Path(folder) / "tensors").stat().st_size, storage.file_bytes(tensors)
        if real != reported:
            wrong.append(f"{what} takes {real} bytes, not {reported}")
    remedy = "give plain tensors of ordinary types and names"
    return trial.result(states_its_bytes, not wrong, "; ".join(wrong) or "files have the reported bytes", remedy)


def repeats(trial: Trial) -> Result:
    """The same seed gives the same result, another seed another result."""
    first, again, other = trial.taught(2), trial.taught(2), trial.taught(2, seed=1)
    changed = differing(both(first), both(again))
    if changed:
        remedy = "draw random numbers only from clbench.generator(brief.seed, ...)"
        return trial.result(repeats, False, f"{some(changed)} differ between two learners of one seed", remedy)
    # A method without a network and without random draws may have nothing that a seed could change.
    assert isinstance(first.brief.network, Backbone)
    same = not differing(both(first), both(other)) and bool(first.brief.network.built)
    finding = "learners of two seeds learned the same" if same else "the same result for the same seed, another for another seed"
    return trial.result(repeats, not same, finding, "take the network and every draw from the brief")


def draws_alone(trial: Trial) -> Result:
    """The method neither reads nor changes the global random generators."""
    states, disturbed = [], set[str]()
    for seed in (1, 2):
        with global_generators(seed):
            before = generator_states()
            learner = trial.taught(2)
            answers = trial.answers(learner, range(2))
            disturbed |= {which for which, state in generator_states().items() if state != before[which]}
            states.append(both(learner) | answers)
    remedy = (
        "draw from clbench.generator(brief.seed, ...), and wrap code that draws from a global generator in torch.random.fork_rng"
    )
    if disturbed:
        return trial.result(draws_alone, False, f"the global generator of {', '.join(sorted(disturbed))} was used", remedy)
    changed = differing(*states)
    finding = f"{some(changed)} depend on a global generator" if changed else "draws from its own generators"
    return trial.result(draws_alone, not changed, finding, remedy)


def leaves_no_trace(trial: Trial) -> Result:
    """A learner that is asked after every task learns the same as one that is never asked."""
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
    finding = f"asking changed {some(changed)}" if changed else "asking changes nothing"
    remedy = "predict must leave everything as it was: restore modes, and change copies only"
    return trial.result(leaves_no_trace, not changed, finding, remedy)


def stays_small(trial: Trial) -> Result:
    """Memory grows from task to task by no more than the state that is stored."""
    learner, sizes = trial.fresh(), []
    for task in range(TASKS):
        trial.teach(learner, task)
        state = sum(tensor.numel() * tensor.element_size() for tensor in both(learner).values())
        sizes.append((reachable_bytes(learner), state))
    # The median, because memory may be allocated for many tasks at once.
    growth = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(sizes[2:])]
    memory, state = sorted(growth, key=lambda pair: pair[0] - pair[1])[len(growth) // 2]
    finding = f"another task takes {memory} bytes of memory and {state} bytes of state"
    remedy = "keep nothing of a task that is not in learned() or progress(): data, gradients, copies of the network"
    return trial.result(stays_small, memory <= SPARE_SHARE * max(0, state) + SPARE_BYTES, finding, remedy)


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
    resumes_inside_a_task,
    states_its_bytes,
    repeats,
    draws_alone,
    leaves_no_trace,
    stays_small,
)
