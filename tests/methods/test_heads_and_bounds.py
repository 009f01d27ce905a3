"""Separate heads and the bounds; and for all methods with tensors of each task's own: zero forgetting and a complete state."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from clbench import registry, storage
from clbench.devices import compiler_found
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, evaluate, teach
from clbench.method import Method
from clbench.methods._per_task import redrawn
from clbench.methods.fine_tuned import UpperBound
from clbench.methods.independent import Independent
from clbench.methods.joint import Joint
from clbench.methods.lower_bound import LowerBound
from clbench.methods.naive import Naive
from clbench.methods.separate_heads import SeparateHeads
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split, Stream, Task

Make = Callable[..., Any]
State = dict[str, Tensor]
SCHEDULE = Schedule(updates=8, batch_size=32)
TASKS = 3
WEIGHTS = 64 * 64 + 64 * 4  # of the tiny network
STATISTICS = 2 * 6  # of the tiny convolution

# Name, learning parameters, and whether an earlier state can be had from a later one.
LEARNERS: list[tuple[str, dict[str, Any], bool]] = [
    ("psp", {}, False),
    ("psp", {"contexts": "binary", "store_contexts": True}, False),
    ("batche", {}, True),
    ("batche", {"trunk": "random", "outputs": 9}, True),
    ("separate-heads", {}, True),
    ("separate-heads", {"trunk": "random"}, True),
    ("upper-bound", {}, True),
    ("independent", {}, True),
    ("packnet", {}, True),
    ("piggyback", {}, True),
    ("wsn", {}, True),
]
BOUNDS: list[tuple[str, dict[str, Any], bool]] = [("joint", {"updates": 8}, False), ("lower-bound", {}, False)]


def name_of(learner: tuple[str, dict[str, Any], bool]) -> str:
    return " ".join([learner[0], *map(str, learner[1].values())])


@pytest.fixture(params=[False, True], ids=["mlp", "batch norm"])
def fresh(request: pytest.FixtureRequest, make_brief: Make, convolution: Make) -> Callable[..., Method]:
    """Makes learners with few updates' worth of learning rate, on a network without or with batch normalisation."""
    network = (convolution,) if request.param else ()

    def make(learner: tuple[str, dict[str, Any], bool], seed: int = 0) -> Method:
        name, parameters, _ = learner
        return registry.method(name)(make_brief(GG, *network, seed=seed), **{"learning_rate": 0.01} | parameters)

    return make


def through_a_file(state: State, path: Path) -> State:
    storage.save(state, path)
    assert path.stat().st_size == storage.file_bytes(state)
    return storage.load(path)


def same(mine: State, its: State) -> bool:
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def answers(method: Method, stream: Stream, tasks: int = TASKS) -> list[Tensor]:
    return [method.predict(stream[0].test.whole()[0], task).labels for task in range(tasks)]


@pytest.mark.parametrize("learner", LEARNERS + BOUNDS, ids=name_of)
def test_a_learner_resumes_from_its_state_as_if_it_had_not_stopped(
    learner: Any, fresh: Make, make_stream: Make, tmp_path: Path
) -> None:
    """And the stored state predicts the same, is not written to by those who gave or took it, and survives an evaluation."""
    stream, whole, interrupted = make_stream(TASKS), fresh(learner), fresh(learner)
    for index, task in enumerate(stream):
        teach(whole, task, index, SCHEDULE)
        copy.deepcopy(whole).predict(task.test.whole()[0], index)
        teach(interrupted, task, index, SCHEDULE)
        tensors = interrupted.learned(), interrupted.progress()
        state = [through_a_file(part, tmp_path / "state.safetensors") for part in tensors]
        before = answers(interrupted, stream, index + 1)
        follower = fresh(learner)
        follower.restore(*state)
        assert all(map(torch.equal, answers(follower, stream, index + 1), before))
        assert follower.components == interrupted.components
        if index + 1 < TASKS:
            teach(interrupted, stream[index + 1], index + 1, SCHEDULE)
            assert same(tensors[0] | tensors[1], state[0] | state[1])
        interrupted = follower
    assert same(interrupted.learned(), whole.learned())
    assert same(interrupted.progress(), whole.progress())


@pytest.mark.parametrize("learner", LEARNERS, ids=name_of)
def test_predictions_need_only_the_stored_state(learner: Any, fresh: Make, make_stream: Make) -> None:
    """Not even the seed of the brief: the stored one is used to draw again."""
    stream, method = make_stream(TASKS), fresh(learner)
    for index, task in enumerate(stream):
        teach(method, task, index, SCHEDULE)
    other = fresh(learner, seed=1)
    other.restore(method.learned())
    assert all(map(torch.equal, answers(other, stream), answers(method, stream)))


@pytest.mark.parametrize("learner", LEARNERS, ids=name_of)
def test_an_earlier_state_follows_from_a_later_one_if_nothing_is_forgotten(learner: Any, fresh: Make, make_stream: Make) -> None:
    stream, method, then = make_stream(TASKS), fresh(learner), []
    for index, task in enumerate(stream):
        teach(method, task, index, SCHEDULE)
        then.append((method.learned(), answers(method, stream, index + 1)))
    for tasks, (state, answered) in enumerate(then, start=1):
        rewound = method.rewind(method.learned(), tasks)
        if not learner[2]:
            assert rewound is None
            continue
        assert rewound is not None
        assert storage.file_bytes(rewound) == storage.file_bytes(state)
        assert learner[0] == "wsn" or same(rewound, state)  # weights that no mask uses yet are still trained
        earlier = fresh(learner)
        earlier.restore(rewound)
        assert earlier.components == tasks
        assert all(map(torch.equal, answers(earlier, stream, tasks), answered))


@pytest.mark.parametrize("learner", [learner for learner in LEARNERS if learner[2]], ids=name_of)
def test_what_is_learned_is_never_forgotten(learner: Any, fresh: Make, make_stream: Make) -> None:
    stream, method, outputs = make_stream(TASKS), fresh(learner), []
    inputs, _ = stream[0].test.whole()
    for index, task in enumerate(stream):
        teach(method, task, index, SCHEDULE)
        outputs.append(method.logits(inputs, index).clone())
    assert all(torch.equal(method.logits(inputs, task), expected) for task, expected in enumerate(outputs))
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("learner", LEARNERS, ids=name_of)
def test_frozen_state_grows_and_never_changes(learner: Any, fresh: Make, make_stream: Make) -> None:
    method = fresh(learner)
    frozen: State = {}
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
        now = method.frozen_state()
        assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
        assert len(now) > len(frozen) or name_of(learner) == "psp"  # whose tasks have nothing of their own on a plain network
        frozen = {name: tensor.clone() for name, tensor in now.items()}


@pytest.mark.parametrize("learner", LEARNERS + BOUNDS, ids=name_of)
def test_the_same_seed_learns_the_same_and_another_seed_does_not(learner: Any, fresh: Make, make_stream: Make) -> None:
    learned = []
    for seed, other in ((0, 1), (0, 2), (1, 3)):
        torch.manual_seed(other)  # the global generator has no say
        method = fresh(learner, seed=seed)
        for index, task in enumerate(make_stream(2)):
            teach(method, task, index, SCHEDULE)
        learned.append(method.learned())
    assert same(learned[0], learned[1])
    assert not same(learned[0], learned[2])


@pytest.mark.parametrize("learner", LEARNERS, ids=name_of)
def test_every_task_has_its_own_statistics(learner: Any, make_brief: Make, convolution: Make, make_stream: Make) -> None:
    """The mean of the first layer's outputs over the task's own batches, re-initialised for the task and frozen when it ends."""
    name, parameters, _ = learner
    method = registry.method(name)(make_brief(GG, convolution), **{"learning_rate": 0.01} | parameters)
    for index, task in enumerate(make_stream(2)):
        teach(method, task, index, SCHEDULE)
    first, second = (method.learned()[f"own/1.{which}"] for which in ("running_mean", "running_var"))
    assert first.shape == second.shape == (2, 6)
    assert (first[0] != first[1]).any()
    assert (second[0] != second[1]).any()


@pytest.mark.parametrize("learner", LEARNERS + BOUNDS, ids=name_of)
def test_every_learner_learns_the_present_task(learner: Any, make_brief: Make, make_stream: Make) -> None:
    name, parameters, _ = learner
    rates = {"batche": {"learning_rate": 0.003}, "piggyback": {"mask_learning_rate": 0.003}, "joint": {"updates": 60}}
    method = registry.method(name)(make_brief(GG), **{"learning_rate": 0.001} | parameters | rates.get(name, {}))
    events = evaluate(method, make_stream(2), [Ask(GG)], [1, 2], Schedule(updates=60, batch_size=32))
    accuracy = {(score.learned, score.task): score.accuracy for score in events if isinstance(score, Score)}
    assert accuracy[1, 0] > 0.85
    assert accuracy[2, 1] > 0.85


@pytest.mark.slow
@pytest.mark.skipif(not compiler_found(), reason="needs a C++ compiler")
@pytest.mark.parametrize("learner", LEARNERS, ids=name_of)
def test_the_step_is_compiled_at_most_twice_for_any_number_of_tasks(learner: Any, make_brief: Make, make_stream: Make) -> None:
    """Once for the first task and once for the others, also if another learner resumes from the state."""
    name, parameters, _ = learner
    torch._dynamo.reset()
    counters.clear()
    plain, compiled = (registry.method(name)(make_brief(GG)._replace(compiled=c), **parameters) for c in (False, True))
    for index, task in enumerate(make_stream(4)):
        teach(plain, task, index, SCHEDULE)
        teach(compiled, task, index, SCHEDULE)
        if index == 1:
            before = compiled
            compiled = registry.method(name)(before.brief, **parameters)
            compiled.restore(before.learned(), before.progress())
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    learned = compiled.learned()
    assert all(
        torch.allclose(tensor, learned[key], atol=1e-4) for key, tensor in plain.learned().items() if tensor.is_floating_point()
    )
    copy.deepcopy(compiled).predict(task.test.whole()[0], 0)


def test_seed_and_task_determine_initial_values(make_brief: Make, convolution: Make) -> None:
    network = make_brief(GG, convolution).network(4)
    names = ("0.weight", "0.bias", "4.weight")
    before = torch.get_rng_state()
    weights = [redrawn(network, names, *which) for which in ((0, 1), (0, 1), (1, 1), (0, 2))]
    assert torch.equal(torch.get_rng_state(), before)
    assert weights[0].keys() == set(names)
    assert same(weights[0], weights[1])
    for other in weights[2:]:
        assert all((weights[0][name] != other[name]).all() for name in names)
    bound = (1 / 54) ** 0.5  # PyTorch's default for a linear layer of 54 inputs
    assert 0.9 * bound < float(weights[0]["4.weight"].abs().max()) <= bound


# Separate heads


@pytest.mark.parametrize("trunk", ["first-task", "random"])
def test_only_heads_are_trained_on_a_frozen_trunk(trunk: Any, make_brief: Make, make_stream: Make) -> None:
    method = SeparateHeads(make_brief(GG), trunk=trunk)
    before = dict(method.shared)
    stream = make_stream(TASKS)
    teach(method, stream[0], 0, SCHEDULE)
    shared = {name: tensor.clone() for name, tensor in method.shared.items()}
    assert same(shared, before) == (trunk == "random")
    for index in (1, 2):
        method.begin_task(index, 1)
        assert method.trained.keys() == {"fc2.weight"}
        teach(method, stream[index], index, SCHEDULE)
        assert same(method.shared, shared)
    heads = method.learned()["own/fc2.weight"]
    assert heads.shape == (TASKS, 4, 64)
    of_trunk = 4 * 64 * 64 if trunk == "first-task" else 8
    assert sum(tensor.nbytes for tensor in method.learned().values()) == of_trunk + TASKS * 4 * 4 * 64


# Bounds


def test_the_upper_bound_is_fine_tuned_from_task_to_task_with_a_new_head(make_brief: Make, make_stream: Make) -> None:
    method = UpperBound(make_brief(GG))
    stream = make_stream(2)
    teach(method, stream[0], 0, SCHEDULE)
    method.begin_task(1, 1)
    assert torch.equal(method.trained["fc1.weight"], method.rows[0]["fc1.weight"])
    assert (method.trained["fc2.weight"] != method.rows[0]["fc2.weight"]).all()
    first = {name: tensor.clone() for name, tensor in method.rows[0].items()}
    teach(method, stream[1], 1, SCHEDULE)
    assert same(method.rows[0], first)
    assert (method.rows[1]["fc1.weight"] != first["fc1.weight"]).any()


def test_an_independent_network_does_not_depend_on_other_tasks(make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(3)
    methods = [Independent(make_brief(GG)) for _ in range(2)]
    for method, first in zip(methods, (0, 2), strict=True):
        teach(method, stream[first], 0, SCHEDULE)
        teach(method, stream[1], 1, SCHEDULE)
    assert same(methods[0].rows[1], methods[1].rows[1])
    assert not same(methods[0].rows[0], methods[1].rows[0])


@pytest.mark.parametrize("bound", [UpperBound, Independent])
def test_a_bound_of_copies_stores_all_parameters_for_each_task(
    bound: Any, make_brief: Make, make_stream: Make, convolution: Make
) -> None:
    for network, floats in (((), WEIGHTS), ((convolution,), 6 * 9 + 6 + 2 * 6 + 54 * 4 + STATISTICS)):
        method = bound(make_brief(GG, *network))
        for index, task in enumerate(make_stream(TASKS)):
            teach(method, task, index, SCHEDULE)
        assert sum(tensor.nbytes for tensor in method.learned().values()) == TASKS * 4 * floats
        assert method.progress() == {}
        assert method.components == TASKS


def test_the_lower_bound_is_naive_fine_tuning_in_gg(make_brief: Make, make_stream: Make, convolution: Make) -> None:
    brief = make_brief(GG, convolution)
    methods = [LowerBound(brief), Naive(brief, restart=True)]
    for method in methods:
        for index, task in enumerate(make_stream(TASKS)):
            teach(method, task, index, SCHEDULE)
    assert same(methods[0].learned(), methods[1].learned())
    assert LowerBound.scenarios == {GG}


def unequal(stream: Stream) -> Stream:
    """The stream with 40 images in its first task, 120 in the second, 200 in the third."""

    def shortened(task: Task, images: int) -> Task:
        return Task(Split(task.train.images[:images], task.train.labels[:images], task.train.view), task.test, task.name)

    tasks = [shortened(task, 80 * index + 40) for index, task in enumerate(stream)]
    return Stream(stream.name, tasks, stream.classes, stream.input_shape)


@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda scenario: scenario.name)
def test_joint_training_draws_uniformly_from_the_data_of_all_tasks(scenario: Any, make_brief: Make, make_stream: Make) -> None:
    stream = unequal(make_stream(TASKS))
    method = Joint(make_brief(scenario), updates=100)
    seen: list[tuple[Tensor, Tensor]] = []
    for index, task in enumerate(stream):
        method.begin_task(index, 8)
        for batch in task.train.batches(2, 32, torch.Generator().manual_seed(0)):
            assert method.observe(*batch) is None
        method.update = lambda inputs, labels: seen.append((inputs, labels))
        seen.clear()
        method.end_task(task.train)
    inputs, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert len(seen) == 100
    assert all(len(batch) == 32 for batch, _ in seen)
    for index, task in enumerate(stream):
        own_inputs, own_labels = task.train.whole()
        distance = torch.cdist(inputs.flatten(1), own_inputs.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        drawn_here = distance.amin(1) < 1e-3
        assert float(drawn_here.float().mean()) == pytest.approx(len(task.train) / 360, abs=0.03)
        assert len(distance[drawn_here].argmin(1).unique()) == len(task.train)  # every image of it was drawn
        offset = 0 if scenario == GNS else 4 * index
        assert torch.equal(labels[drawn_here], own_labels[distance[drawn_here].argmin(1)] + offset)


def test_in_gg_only_the_outputs_of_an_images_own_task_compete(make_brief: Make) -> None:
    method = Joint(make_brief(GG))
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 5, 5, 11, 6])
    loss = method.objective(logits, labels, {})
    expected = [logits[i, label // 4 * 4 :][:4].log_softmax(0)[label % 4] for i, label in enumerate(labels.tolist())]
    assert torch.allclose(loss, -torch.stack(expected).mean())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient.view(5, 3, 4).abs().sum(2) > 0).sum(1).tolist() == [1] * 5


@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda scenario: scenario.name)
def test_joint_training_answers_all_tasks_at_once(scenario: Any, make_brief: Make, make_stream: Make) -> None:
    method = Joint(make_brief(scenario), learning_rate=0.001)
    events = evaluate(method, make_stream(TASKS), [Ask(scenario)], [TASKS], Schedule(updates=40, batch_size=32))
    assert all(event.accuracy > 0.85 for event in events if isinstance(event, Score))
    bytes_to_resume = sum(tensor.nbytes for tensor in method.progress().values())
    assert bytes_to_resume == TASKS * 200 * (4 * 64 + 8)


def test_copies_of_a_joint_learner_share_its_data(make_brief: Make, make_stream: Make) -> None:
    """An evaluation copies the learner: it must not copy every image that was ever seen."""
    method = Joint(make_brief(GG), updates=1)
    teach(method, make_stream(1)[0], 0, SCHEDULE)
    assert copy.deepcopy(method).data[0]["inputs"].data_ptr() == method.data[0]["inputs"].data_ptr()
