"""Training a supermask: the straight-through gradient by finite differences, the optimiser by hand, and what must not move."""

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from clbench.engine.evaluator import Schedule, teach
from clbench.method import Brief
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.layout import Base, random_base, random_scores
from clbench.methods.supsup.training import LiveMask, MaskTraining
from clbench.scenarios import GG, GNU
from clbench.seeding import generator
from clbench.stream import Split, Stream
from clbench.training import rmsprop, sgd

CPU = torch.device("cpu")
RATE = 0.02


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))


def with_biases() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False))


NETWORKS = [plain, with_biases, normalised]


def batches(count: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randn(6, 4, generator=draws), torch.randint(3, (6,), generator=draws)


def loss(network: nn.Module, effective: Tensor, base: Base, inputs: Tensor, labels: Tensor) -> float:
    """The cross-entropy of a batch under effective weights [D], in double precision; batch norm normalises by the batch."""
    network = copy.deepcopy(network).double().train()
    state = {name: value.double() for name, value in base.fixed.items() if value.is_floating_point()}
    state |= base.layout.split(effective)
    return float(nn.functional.cross_entropy(functional_call(network, state, (inputs.double(),)), labels))


def score_gradient(base: Base, scores: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    """W * dL/dW_eff, as if the threshold were the identity; dL/dW_eff by finite differences."""
    step, weights = 1e-6, base.weights.double()
    effective, slope = weights * (scores >= 0), torch.empty_like(scores)
    for i, direction in enumerate(torch.eye(len(scores), dtype=torch.float64)):
        up, down = (loss(base.network, effective + sign * step * direction, base, inputs, labels) for sign in (1, -1))
        slope[i] = (up - down) / (2 * step)
    return weights * slope


@pytest.mark.parametrize("build", NETWORKS)
def test_the_gradient_is_passed_straight_through_the_threshold(build: Callable[[], nn.Module]) -> None:
    """A step of plain gradient descent shows the gradient itself, of which RMSprop hides the size."""
    base = random_base(build(), 0, CPU)
    live = LiveMask(MaskTraining(base, sgd(1.0)), random_scores(base.layout, generator(0, "scores")), base.fresh)
    for inputs, labels in batches(3):
        before = live.scores.double()
        live.update(inputs, labels)
        gradient = score_gradient(base, before, inputs, labels)
        assert gradient.abs().max() > 0.1
        assert torch.allclose(before - live.scores, gradient, atol=1e-5)


@pytest.mark.parametrize("build", NETWORKS)
def test_scores_follow_rmsprop(build: Callable[[], nn.Module]) -> None:
    base = random_base(build(), 0, CPU)
    live = LiveMask(MaskTraining(base, rmsprop(RATE)), random_scores(base.layout, generator(0, "scores")), base.fresh)
    scores, weights = live.scores.detach().double().clone(), base.weights.double()
    mean_square = torch.zeros_like(scores)
    for inputs, labels in batches(4):  # the first step tells only signs
        mask = (scores >= 0).double()
        gradient = score_gradient(base, scores, inputs, labels)
        mean_square = 0.99 * mean_square + 0.01 * gradient**2
        scores = scores - RATE * gradient / (mean_square.sqrt() + 1e-8)
        before = loss(base.network, weights * mask, base, inputs, labels)
        assert float(live.update(inputs, labels)) == pytest.approx(before, abs=1e-5)
        # A slope that batch norm makes vanish is noise, and RMSprop makes a step of it: those cannot be foretold.
        clear = (gradient == 0) | (gradient.abs() > 1e-4)
        assert clear.double().mean() > 0.8
        assert torch.allclose(live.scores.detach().double()[clear], scores[clear], atol=1e-4)
        scores = live.scores.detach().double().clone()  # so that rounding does not add up
    assert torch.equal(live.mask(), live.scores >= 0)


def test_a_score_of_zero_keeps_its_weight() -> None:
    base = random_base(plain(), 0, CPU)
    scores = torch.full((base.layout.size,), -1.0)
    scores[3] = 0.0
    live = LiveMask(MaskTraining(base, rmsprop(RATE)), scores, base.fresh)
    assert live.mask().nonzero().tolist() == [[3]]
    # In training too: the last layer's first row of weights is kept by scores of 0 alone.
    scores = torch.where(torch.arange(base.layout.size) < 20, 1.0, -1.0)
    scores[20:25] = 0.0
    live = LiveMask(MaskTraining(base, rmsprop(RATE)), scores, base.fresh)
    inputs, labels = next(batches(1))
    expected = loss(base.network, base.weights.double() * (scores >= 0), base, inputs, labels)
    assert expected != pytest.approx(math.log(3), abs=1e-2)
    assert float(live.update(inputs, labels)) == pytest.approx(expected, abs=1e-5)


def test_a_mask_gathers_running_statistics_of_its_own() -> None:
    base = random_base(normalised(), 0, CPU)
    live = LiveMask(MaskTraining(base, rmsprop(RATE)), random_scores(base.layout, generator(0, "scores")), base.fresh)
    mean, variance = torch.zeros(5), torch.ones(5)
    weights = base.layout.split(base.weights)["0.weight"]
    for inputs, labels in batches(3):
        hidden = inputs @ (weights * base.layout.split(live.mask())["0.weight"]).T
        mean = 0.9 * mean + 0.1 * hidden.mean(0)
        variance = 0.9 * variance + 0.1 * hidden.var(0, unbiased=True)
        live.update(inputs, labels)
    assert torch.allclose(live.statistics, torch.cat([mean, variance]), atol=1e-5)
    assert torch.equal(base.fresh, torch.cat([torch.zeros(5), torch.ones(5)]))


@pytest.mark.parametrize("build", NETWORKS)
def test_nothing_frozen_moves(build: Callable[[], nn.Module]) -> None:
    base = random_base(build(), 0, CPU)
    before = copy.deepcopy(base)
    for seed in (0, 1):  # the second mask starts where the first one did
        live = LiveMask(MaskTraining(base, rmsprop(RATE)), random_scores(base.layout, generator(seed, "scores")), base.fresh)
        for inputs, labels in batches(5, seed):
            live.update(inputs, labels)
    assert not torch.equal(live.scores.detach(), random_scores(base.layout, generator(1, "scores")))
    assert torch.equal(base.weights, before.weights)
    assert torch.equal(base.fresh, before.fresh)
    for mine, its in (
        (base.fixed, before.fixed),
        (dict(base.network.named_parameters()), dict(before.network.named_parameters())),
        (dict(base.network.named_buffers()), dict(before.network.named_buffers())),
    ):
        assert all(torch.equal(mine[name], its[name]) for name in its)
    assert not base.network.training


# The random network


@pytest.mark.parametrize(
    ("build", "fan_ins"),
    [
        (lambda: nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100)), {"0.weight": 64, "2.weight": 300}),
        (lambda: nn.Sequential(nn.Conv2d(3, 16, 5), nn.Conv2d(16, 32, 3, groups=2)), {"0.weight": 75, "1.weight": 72}),
    ],
)
def test_weights_are_signed_kaiming_constants(build: Callable[[], nn.Module], fan_ins: dict[str, int]) -> None:
    base = random_base(build(), 3, CPU)
    weights = base.layout.split(base.weights)
    assert list(weights) == list(fan_ins)
    for name, fan_in in fan_ins.items():
        assert torch.allclose(weights[name].abs(), torch.full_like(weights[name], math.sqrt(2) / math.sqrt(fan_in)))
        positive = (weights[name] > 0).double().mean()
        assert abs(positive - 0.5) < 5 * 0.5 / math.sqrt(weights[name].numel())


def test_biases_are_0_and_scales_1_and_neither_is_masked() -> None:
    base = random_base(normalised(), 0, CPU)
    assert list(base.layout.shapes) == ["0.weight", "3.weight"]
    assert torch.equal(base.fixed["0.bias"], torch.zeros(5))
    assert torch.equal(base.fixed["1.bias"], torch.zeros(5))
    assert torch.equal(base.fixed["1.weight"], torch.ones(5))


def test_scores_are_uniform_within_one_over_the_root_of_the_fan_in() -> None:
    base = random_base(nn.Sequential(nn.Linear(100, 200), nn.Linear(200, 50)), 0, CPU)
    scores = base.layout.split(random_scores(base.layout, generator(0, "scores")))
    for name, fan_in in {"0.weight": 100, "1.weight": 200}.items():
        bound = 1 / math.sqrt(fan_in)
        assert 0.98 * bound < scores[name].max() <= bound
        assert -bound <= scores[name].min() < -0.98 * bound
        assert abs(scores[name].mean()) < 0.05 * bound


def test_the_seed_determines_weights_and_scores(make_brief: Callable[..., Brief]) -> None:
    def weights(seed: int, noise: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(noise)
        brief = make_brief(GNU, seed=seed)
        # Whatever the network itself was initialised with.
        brief = brief._replace(network=lambda outputs: nn.Sequential(nn.Flatten(), nn.Linear(64, outputs)))
        method = SupSup(brief)
        method.begin_task(0, 1)
        assert method.live is not None
        return method.base.weights, method.live.scores.detach()

    for mine, its, other in zip(weights(5, noise=0), weights(5, noise=1), weights(6, noise=0), strict=True):
        assert torch.equal(mine, its)
        assert not torch.equal(mine, other)


# Whole tasks


def learn(method: SupSup, stream: Stream, updates: int = 25) -> list[Tensor]:
    """Teach every task, and return the scores that each began with."""
    began = []
    for index, task in enumerate(stream):
        method.begin_task(index, updates)
        assert method.live is not None
        began.append(method.live.scores.detach().clone())
        for inputs, labels in task.train.batches(updates, 16, torch.Generator().manual_seed(index)):
            method.observe(inputs, labels)
        method.end_task(task.train)
    return began


def test_random_starts_differ_between_tasks(make_brief: Callable[..., Brief], make_stream: Callable[..., Stream]) -> None:
    first, second = learn(SupSup(make_brief(GG), learning_rate=RATE), make_stream(2))
    assert not torch.equal(first, second)


def test_transfer_starts_at_the_mean_of_all_earlier_scores(
    make_brief: Callable[..., Brief], make_stream: Callable[..., Stream]
) -> None:
    method, finished = SupSup(make_brief(GG), learning_rate=RATE, start="transfer"), []
    original = method.end_task

    def end_task(data: Split) -> None:
        assert method.live is not None
        finished.append(method.live.scores.detach().clone())
        original(data)

    method.end_task = end_task  # type: ignore[method-assign]
    began = learn(method, make_stream(4))
    assert torch.equal(began[0], learn(SupSup(make_brief(GG), learning_rate=RATE), make_stream(1))[0])
    for task in (1, 2, 3):
        assert torch.allclose(began[task], torch.stack(finished[:task]).mean(0), atol=1e-6)
    # Real scores are averaged: masks of 0 and 1 have a mean of at least 0, and would all be kept.
    assert (began[3] < 0).any()


def test_bfloat16_trains(make_brief: Callable[..., Brief], make_stream: Callable[..., Stream]) -> None:
    stream, losses_by_way = make_stream(1), {}
    for precision in (torch.float32, torch.bfloat16):
        method = SupSup(make_brief(GG, precision=precision), learning_rate=RATE)
        losses = teach(method, stream[0], 0, Schedule(60, 16)).losses
        assert method.bank.mask(0).dtype == torch.bool
        inputs, labels = stream[0].test.whole()
        losses_by_way[precision] = losses
        assert losses[-1] < losses[0] / 2
        assert (method.predict(inputs, 0).labels == labels).float().mean() > 0.9
    assert losses_by_way[torch.float32] != losses_by_way[torch.bfloat16]
    assert losses_by_way[torch.float32][0] == pytest.approx(losses_by_way[torch.bfloat16][0], rel=0.05)


def test_a_vector_that_is_no_bias_keeps_its_initial_value() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.PReLU(3, init=0.1), nn.BatchNorm1d(3), nn.Linear(3, 2))
    base = random_base(network, 0, torch.device("cpu"))
    assert base.fixed["1.weight"].tolist() == pytest.approx([0.1] * 3)
    assert base.fixed["2.weight"].tolist() == [1] * 3
    assert not base.fixed["0.bias"].any()
    assert not base.fixed["3.bias"].any()
    recurrent = random_base(nn.LSTM(4, 3), 0, torch.device("cpu"))
    assert {name for name in recurrent.fixed if "bias" in name} == {"bias_ih_l0", "bias_hh_l0"}
    assert not any(value.any() for name, value in recurrent.fixed.items())


def layer_normalised(outputs: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm([1, 8, 8], bias=False), nn.Flatten(), nn.Linear(64, outputs))


def orthogonal(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(64, 16)), nn.ReLU(), nn.Linear(16, outputs))


def bilinear(outputs: int) -> nn.Module:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(64, 64, outputs)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(inputs.flatten(1), inputs.flatten(1))

    return Twice()


@pytest.mark.parametrize("network", [layer_normalised, orthogonal, bilinear])
def test_in_bfloat16_only_layers_that_multiply_have_weights_of_that_type(
    network: Callable[[int], nn.Module], make_brief: Callable[..., Brief], make_stream: Callable[..., Stream]
) -> None:
    method = SupSup(make_brief(GNU, network, precision=torch.bfloat16), outputs=10)
    teach(method, make_stream(1)[0], 0, Schedule(5, 16, 0))
    assert method.live is None
    plain = SupSup(make_brief(GNU, network), outputs=10)
    for each in (method, plain):
        each.begin_task(1, 1)
    inputs, labels = make_stream(1)[0].test.whole(16)
    losses = [each.observe(inputs, labels) for each in (method, plain)]
    assert torch.allclose(*[loss for loss in losses if loss is not None], rtol=0.05)
