"""The training step: its optimisers against PyTorch's, the compiled step against the plain one, and when compiling pays."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import devices, networks, training
from clbench.training import Optimiser, Step, TrainingState, adam, rmsprop, sgd

CASES = [
    (rmsprop(0.01), lambda p: torch.optim.RMSprop(p, lr=0.01)),
    (adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    (adam(0.01, weight_decay=0.1), lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
    (sgd(0.01), lambda p: torch.optim.SGD(p, lr=0.01)),
    (sgd(0.01, momentum=0.9, weight_decay=0.1), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)),
]


def quadratic(
    trained: dict[str, Tensor], given: dict[str, Any], inputs: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    error = inputs @ trained["w"] + trained["b"] - labels
    return (error**2).mean() + given["more"], {"seen": inputs.mean()}


def halved(trained: dict[str, Tensor], given: dict[str, Any]) -> dict[str, Tensor]:
    """Effective tensors that are not the trained ones."""
    return {name: tensor / 2 for name, tensor in trained.items()}


def problem() -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    draws = torch.Generator().manual_seed(0)
    trained = {"w": torch.randn(5, generator=draws), "b": torch.randn((), generator=draws)}
    return trained, [(torch.randn(7, 5, generator=draws), torch.randn(7, generator=draws)) for _ in range(6)]


@pytest.mark.parametrize(("ours", "theirs"), CASES)
def test_optimisers_do_what_pytorchs_do(ours: Optimiser, theirs: Any) -> None:
    trained, batches = problem()
    reference = {name: value.clone().requires_grad_() for name, value in trained.items()}
    optimiser = theirs(list(reference.values()))
    step, state = Step(quadratic, ours, precision=torch.float32, compiled=False), TrainingState(ours, trained)
    for inputs, labels in batches:
        expected, _ = quadratic(reference, {"more": torch.tensor(2.0)}, inputs, labels)
        optimiser.zero_grad()
        expected.backward()
        optimiser.step()
        loss, rest = step(trained, {"more": torch.tensor(2.0)}, state, inputs, labels)
        assert torch.allclose(loss, expected)
        assert not loss.requires_grad
        assert torch.equal(rest["seen"], inputs.mean())
        for name, value in reference.items():
            assert torch.allclose(trained[name], value.detach(), atol=1e-6)


@pytest.mark.parametrize("ours", [case[0] for case in CASES])
def test_a_factor_scales_the_learning_rate(ours: Optimiser) -> None:
    moved = []
    for factor in (1.0, 0.25):
        trained, [(inputs, labels), *_] = problem()
        before = trained["w"].clone()
        step = Step(quadratic, ours, precision=torch.float32, compiled=False)
        step(trained, {"more": torch.tensor(0.0)}, TrainingState(ours, trained), inputs, labels, factor)
        moved.append(trained["w"] - before)
    assert torch.allclose(moved[1], 0.25 * moved[0], atol=1e-6)


@pytest.mark.parametrize("ours", [case[0] for case in CASES])
def test_a_restored_state_continues_training(ours: Optimiser) -> None:
    trained, batches = problem()
    tensors = {"more": torch.tensor(0.0)}
    step, state = Step(quadratic, ours, precision=torch.float32, compiled=False), TrainingState(ours, trained)
    for batch in batches[:3]:
        step(trained, tensors, state, *batch)
    twin = {name: value.clone() for name, value in trained.items()}
    taken_up = TrainingState(ours, twin)
    taken_up.restore({name: tensor.clone() for name, tensor in state.tensors().items()})
    for batch in batches[3:]:
        step(trained, tensors, state, *batch)
        step(twin, tensors, taken_up, *batch)
    assert all(torch.equal(trained[name], twin[name]) for name in trained)


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not devices.compiler_found(), reason="no C++ compiler"))]
)
def test_a_step_in_two_halves_is_the_step_and_the_first_half_changes_nothing(compiled: bool) -> None:
    ours = rmsprop(0.01)
    step = Step(quadratic, ours, precision=torch.float32, compiled=compiled, effective=halved)
    whole, batches = problem()
    parts, _ = problem()
    states = TrainingState(ours, whole), TrainingState(ours, parts)
    given = {"more": torch.tensor(2.0)}
    for number, batch in enumerate(batches):
        before = [tensor.clone() for tensor in (*parts.values(), *states[1].tensors().values())]
        loss, rest, gradients = step.look(parts, given, states[1], *batch)
        after = [*parts.values(), *states[1].tensors().values()]
        assert all(map(torch.equal, before, after))
        if number == 2:  # not learned: nothing has to be undone
            continue
        step.learn(parts, given, states[1], gradients, 0.5)
        expected, expected_rest = step(whole, given, states[0], *batch, 0.5)
        assert torch.allclose(loss, expected, rtol=1e-5)
        assert torch.allclose(rest["seen"], expected_rest["seen"])
        assert all(torch.allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6) for name in whole)


@pytest.mark.skipif(not devices.compiler_found(), reason="no C++ compiler")
def test_the_compiled_step_differs_by_rounding_alone() -> None:
    results = []
    for compiled in (False, True):
        trained, batches = problem()
        ours = rmsprop(0.01)
        step, state = Step(quadratic, ours, precision=torch.float32, compiled=compiled), TrainingState(ours, trained)
        losses = [step(trained, {"more": torch.tensor(0.0)}, state, *batch)[0] for batch in batches]
        results.append((torch.stack(losses), trained))
    (plain_losses, plain), (compiled_losses, compiled_trained) = results
    assert torch.allclose(plain_losses, compiled_losses, rtol=1e-5)
    assert all(torch.allclose(plain[name], compiled_trained[name], rtol=1e-4, atol=1e-6) for name in plain)


def test_compiling_pays_for_much_work_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "compiler_found", lambda: True)
    lenet, resnet = networks.Work(300_000, 3, 1_600), networks.Work(1_100_000, 21, 440_000)
    assert training.compiling_pays(50_000, lenet, 128)
    assert not training.compiling_pays(1_500, lenet, 128)
    assert training.compiling_pays(1_500, resnet, 128)
    assert not training.compiling_pays(1_500, resnet, 1)
    monkeypatch.setattr(devices, "compiler_found", lambda: False)
    assert not training.compiling_pays(50_000, lenet, 128)


def test_a_linear_learning_rate_falls_by_the_same_amount_at_each_update() -> None:
    rate = training.LearningRate("linear", 4)
    assert [rate() for _ in range(4)] == [0.875, 0.625, 0.375, 0.125]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warm-up-cosine"])
def test_learning_rates_follow_their_schedules(schedule: str) -> None:
    """Against torch's own cosine and, for the rise, a straight line."""
    rate = training.LearningRate(schedule, 200)
    factors = [rate() for _ in range(200)]
    if schedule == "constant":
        assert set(factors) == {1.0}
        return
    rise = 10 if schedule == "warm-up-cosine" else 0
    assert factors[:rise] == pytest.approx([(step + 0.5) / 10 for step in range(rise)])
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0), 2 * (200 - rise)
    )
    usual = []
    for _ in range(2 * (200 - rise)):
        usual.append(theirs.get_last_lr()[0])
        theirs.optimizer.step()
        theirs.step()
    assert factors[rise:] == pytest.approx(usual[1::2])  # in the middle of each step
