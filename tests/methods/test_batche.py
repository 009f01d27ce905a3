"""BatchE: rank-one factors as explicit weights, a trunk that stays as it is, and task inference against its formula and differences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, evaluate, teach
from clbench.errors import UserError
from clbench.methods.batche import BatchE
from clbench.scenarios import GG, GNS, GNU

Make = Callable[..., Any]
SCHEDULE = Schedule(updates=20, batch_size=32)
TASKS = 3
OUTPUTS = 12


@pytest.fixture(scope="module", params=["mlp", "convolution"])
def taught(request: pytest.FixtureRequest, make_brief: Make, make_stream: Make, convolution: Make) -> BatchE:
    """A learner of three tasks, with superfluous outputs."""
    network = () if request.param == "mlp" else (convolution,)
    method = BatchE(make_brief(GNU, *network), outputs=OUTPUTS, learning_rate=0.01)
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
    return method


def explicit_weights(method: BatchE, task: int) -> dict[str, Tensor]:
    """W * (s t') in float64, by NumPy's outer product; a kernel is scaled as one."""
    weights = {name: tensor.double() for name, tensor in method.shared.items()}
    row = method.rows[task]
    for name in method.weights:
        outer = torch.from_numpy(np.outer(row[f"{name}.s"].double(), row[f"{name}.t"].double()))
        weights[name] = weights[name] * outer.view(*outer.shape, *[1] * (weights[name].ndim - 2))
    return weights


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_task_is_answered_with_its_explicit_weights(taught: BatchE) -> None:
    for task in range(TASKS):
        statistics = {name: taught.rows[task][name] for name in taught.statistics}
        explicit = {name: tensor.float() for name, tensor in explicit_weights(taught, task).items()}
        state = taught.fresh_buffers | explicit | statistics
        expected = functional_call(taught.network, state, (images(10),))
        assert torch.allclose(taught.logits(images(10), task), expected, atol=1e-5)


def test_vectors_start_as_random_signs_of_their_own(make_brief: Make) -> None:
    method = BatchE(make_brief(GG))
    first, second = method.fresh_own(0), method.fresh_own(1)
    assert {name: len(vector) for name, vector in first.items()} == {
        "fc1.weight.s": 64,
        "fc1.weight.t": 64,
        "fc2.weight.s": 4,
        "fc2.weight.t": 64,
    }
    assert all(set(vector.tolist()) <= {-1.0, 1.0} for vector in first.values())
    assert (first["fc1.weight.s"] != second["fc1.weight.s"]).any()
    assert (first["fc1.weight.s"] != first["fc1.weight.t"]).any()


@pytest.mark.parametrize("trunk", ["first-task", "random"])
def test_the_trunk_is_bit_identical_after_the_first_task(
    trunk: Any, make_brief: Make, make_stream: Make, convolution: Make
) -> None:
    """Adam's moments and weight decay would move it if it were among the trained tensors, even with gradients of 0."""
    method = BatchE(make_brief(GG, convolution), trunk=trunk, weight_decay=0.1)
    stream, before = make_stream(TASKS), method.shared
    teach(method, stream[0], 0, SCHEDULE)
    trunk_after = {name: tensor.clone() for name, tensor in method.shared.items()}
    assert all(torch.equal(trunk_after[name], tensor) == (trunk == "random") for name, tensor in before.items())
    vectors = {name: tensor.clone() for name, tensor in method.rows[0].items()}
    for index in (1, 2):
        teach(method, stream[index], index, SCHEDULE)
        assert all(torch.equal(method.shared[name], tensor) for name, tensor in trunk_after.items())
    assert all(torch.equal(method.rows[0][name], tensor) for name, tensor in vectors.items())
    assert all((method.rows[1][name] != method.rows[2][name]).any() for name in vectors)


def test_each_part_of_training_has_its_own_learning_rate(make_brief: Make, make_stream: Make) -> None:
    """The first steps of Adam change everything by the learning rate."""
    method = BatchE(make_brief(GG), learning_rate=1e-3, vector_learning_rate=1e-1, weight_decay=0)
    for index, rate in ((0, 1e-3), (1, 1e-1)):
        before = method.fresh_own(index)
        teach(method, make_stream(2)[index], index, Schedule(updates=1, batch_size=32))
        moved = (method.rows[index]["fc1.weight.t"] - before["fc1.weight.t"]).abs()
        assert moved.median() == pytest.approx(rate, rel=0.01)


# Task inference


class Superposition:
    """The explicit superposition, in float64."""

    def __init__(self, method: BatchE) -> None:
        self.method = method
        self.network = method.brief.network(OUTPUTS).double().eval()
        of_tasks = [explicit_weights(method, task) for task in range(TASKS)]
        of_tasks = [
            of_task | {name: row[name].double() for name in method.statistics}
            for of_task, row in zip(of_tasks, method.rows, strict=True)
        ]
        self.stacked = {name: torch.stack([of_task[name] for of_task in of_tasks]) for name in of_tasks[0]}

    def state(self, alpha: Tensor) -> dict[str, Tensor]:
        fixed = {name: tensor for name, tensor in self.method.shared.items() if name not in self.method.weights}
        mixed = {name: torch.tensordot(alpha, of_tasks, 1) for name, of_tasks in self.stacked.items()}
        return mixed | {name: tensor.double() for name, tensor in fixed.items()}

    def logits(self, state: dict[str, Tensor], group: Tensor) -> Tensor:
        return functional_call(self.network, state, (group.double(),))


def objective_of(logits: Tensor, objective: str, weights: Tensor | None = None) -> Tensor:
    """H; or, for G, a function with its masked gradient: the superfluous outputs, weighted with their probabilities at uniform alpha."""
    if objective == "H":
        return torch.distributions.Categorical(logits=logits).entropy().mean()
    return ((logits.softmax(-1) if weights is None else weights).detach()[:, 4:] * logits[:, 4:]).sum(-1).mean()


@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize("evidence", [1, 6])
def test_the_one_shot_derivative_is_that_of_the_explicit_superposition(taught: BatchE, objective: str, evidence: int) -> None:
    explicit = Superposition(taught)
    groups = images(4 * evidence).unflatten(0, (4, evidence))
    uniform = torch.full((TASKS,), 1 / TASKS, dtype=torch.float64)
    steps = 1e-5 * torch.eye(TASKS, dtype=torch.float64)
    slopes = taught.slope(groups, objective)
    assert slopes.shape == (4, TASKS)
    for group, slope in zip(groups, slopes.double(), strict=True):
        at_uniform = explicit.logits(explicit.state(uniform), group).softmax(-1)

        def value(alpha: Tensor, group: Tensor = group, at_uniform: Tensor = at_uniform) -> Tensor:
            return objective_of(explicit.logits(explicit.state(alpha), group), objective, at_uniform)

        differences = torch.stack([(value(uniform + step) - value(uniform - step)) / 2e-5 for step in steps])
        assert torch.allclose(slope, differences, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("objective", ["H", "G"])
def test_the_one_shot_derivative_is_the_published_formula(objective: str, make_brief: Make, make_stream: Make) -> None:
    """dH/dalpha_i = s_i' (W * dH/dW_eff) t_i, summed over the weights."""
    method = BatchE(make_brief(GNU), outputs=OUTPUTS, learning_rate=0.01)
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
    explicit = Superposition(method)
    state = {name: t.requires_grad_() for name, t in explicit.state(torch.full((TASKS,), 1 / TASKS, dtype=torch.float64)).items()}
    group = images(5)
    gradients = torch.autograd.grad(objective_of(explicit.logits(state, group), objective), list(state.values()))
    by_formula = torch.zeros(TASKS, dtype=torch.float64)
    for name, gradient in zip(state, gradients, strict=True):
        scaled = method.shared[name].double() * gradient
        by_formula += torch.stack([row[f"{name}.s"].double() @ scaled @ row[f"{name}.t"].double() for row in method.rows])
    assert torch.allclose(method.slope(group[None], objective)[0].double(), by_formula, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("algorithm", ["large-batch-entropy", "large-batch-probability"])
def test_large_batch_inference_tries_every_task(taught: BatchE, algorithm: Any) -> None:
    inputs = images(50)
    prediction = taught.predict(inputs, algorithm=algorithm, group=20, evidence=20)
    assert prediction.tasks is not None
    for first in (0, 20, 40):  # the last group is smaller
        probabilities = [taught.logits(inputs[first : first + 20], task).softmax(1) for task in range(TASKS)]
        if algorithm == "large-batch-entropy":
            best = min(range(TASKS), key=lambda task: float(-(probabilities[task] * probabilities[task].log()).sum(1).mean()))
        else:
            best = max(range(TASKS), key=lambda task: float(probabilities[task].amax(1).mean()))
        assert prediction.tasks[first : first + 20].tolist() == [best] * len(inputs[first : first + 20])
        assert torch.equal(prediction.labels[first : first + 20], taught.predict(inputs[first : first + 20], best).labels)


def test_one_shot_takes_the_task_of_the_steepest_fall(taught: BatchE) -> None:
    inputs = images(50)
    for objective in ("H", "G"):
        prediction = taught.predict(inputs, objective=objective, group=8, evidence=3)
        assert prediction.tasks is not None
        for first in range(0, 50, 8):
            evidence = inputs[first : min(first + 3, first + 8, 50)]
            expected = int(taught.slope(evidence[None], objective).argmin())
            assert set(prediction.tasks[first : first + 8].tolist()) == {expected}


def halved(explicit: Superposition, group: Tensor, objective: str) -> int:
    """Binary as a loop: differentiate at the mean of the tasks left, and leave the better half."""
    candidates = list(range(TASKS))
    while len(candidates) > 1:
        alpha = torch.zeros(TASKS, dtype=torch.float64)
        alpha[candidates] = 1 / len(candidates)
        at = explicit.logits(explicit.state(alpha), group).softmax(-1)
        slope = {}
        for task in candidates:
            step = 1e-5 * torch.eye(TASKS, dtype=torch.float64)[task]
            up, down = (
                objective_of(explicit.logits(explicit.state(a), group), objective, at) for a in (alpha + step, alpha - step)
            )
            slope[task] = float(up - down)
        candidates = sorted(candidates, key=slope.__getitem__)[: math.ceil(len(candidates) / 2)]
    return candidates[0]


@pytest.mark.parametrize("objective", ["H", "G"])
@pytest.mark.parametrize(("group", "evidence"), [(1, 1), (8, 3), (20, 20)])
def test_binary_halves_the_tasks(taught: BatchE, objective: Any, group: int, evidence: int) -> None:
    explicit, inputs = Superposition(taught), images(40)
    prediction = taught.predict(inputs, algorithm="binary", objective=objective, group=group, evidence=evidence)
    assert prediction.tasks is not None
    for first in range(0, 40, group):
        expected = halved(explicit, inputs[first : first + evidence], objective)
        assert set(prediction.tasks[first : first + group].tolist()) == {expected}
        labels = taught.predict(inputs[first : first + group], expected).labels
        assert torch.equal(prediction.labels[first : first + group], labels)


def test_one_learned_task_is_the_only_answer(make_brief: Make, make_stream: Make) -> None:
    method = BatchE(make_brief(GNU), outputs=OUTPUTS)
    teach(method, make_stream(1)[0], 0, SCHEDULE)
    for algorithm in ("one-shot", "binary", "large-batch-entropy", "large-batch-probability"):
        assert set(method.predict(images(5), algorithm=algorithm).tasks.tolist()) == {0}


@pytest.mark.parametrize("algorithm", ["one-shot", "binary"])
def test_many_groups_take_several_passes(taught: BatchE, algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = taught.predict(images(30), algorithm=algorithm, group=1)
    monkeypatch.setattr("clbench.methods.batche.GRADIENT_BYTES", 1)
    split = taught.predict(images(30), algorithm=algorithm, group=1)
    assert torch.equal(whole.tasks, split.tasks)


def test_superfluous_outputs_are_never_answers(taught: BatchE) -> None:
    assert int(taught.predict(images(200), 0).labels.max()) < 4
    assert int(taught.predict(images(200), group=1).labels.max()) < 4


def test_asks_without_an_answer_are_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match="superfluous"):
        BatchE(make_brief(GNU)).check_ask(objective="G")
    method = BatchE(make_brief(GNU), outputs=OUTPUTS)
    method.check_ask(objective="G")
    method.check_ask(algorithm="binary", objective="G")
    with pytest.raises(UserError, match="evidence"):
        method.check_ask(group=4, evidence=5)
    with pytest.raises(UserError, match="one-shot"):
        method.check_ask(algorithm="large-batch-entropy", objective="G")
    with pytest.raises(UserError, match="outputs"):
        BatchE(make_brief(GNU), outputs=3)


def test_large_batches_distinguish_tasks(make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(TASKS)
    for scenario in (GNS, GNU):
        method = BatchE(make_brief(scenario), outputs=OUTPUTS, learning_rate=0.003)
        ask = Ask(scenario, {"algorithm": "large-batch-entropy", "group": 20, "evidence": 20})
        events = evaluate(method, stream, [ask, Ask(GG)], [TASKS], Schedule(updates=80, batch_size=32))
        scores = [event for event in events if isinstance(event, Score)]
        assert all(score.task_accuracy == 1 for score in scores[:TASKS])
        assert [score.accuracy for score in scores[:TASKS]] == [score.accuracy for score in scores[TASKS:]]


@pytest.mark.parametrize("trunk", ["first-task", "random"])
def test_bytes_are_the_vectors_and_the_trunk_or_its_seed(
    trunk: Any, make_brief: Make, make_stream: Make, convolution: Make
) -> None:
    method = BatchE(make_brief(GG, convolution), trunk=trunk)
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
    vectors, statistics, weights = 6 + 1 + 4 + 54, 2 * 6, 6 * 9 + 6 + 2 * 6 + 54 * 4
    of_trunk = 4 * weights if trunk == "first-task" else 8
    assert sum(tensor.nbytes for tensor in method.learned().values()) == of_trunk + TASKS * 4 * (vectors + statistics)


def test_a_random_trunk_is_kaiming_normal(make_brief: Make) -> None:
    def wide(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2000), nn.Linear(2000, outputs))

    shared = BatchE(make_brief(GG, wide), trunk="random").shared
    assert float(shared["1.weight"].std()) == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert float(shared["2.weight"].std()) == pytest.approx((2 / 2000) ** 0.5, rel=0.05)
    assert not shared["1.bias"].any()
