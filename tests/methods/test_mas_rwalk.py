"""MAS and RWalk: importances against loops with plain autograd and by hand, and their effect."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench import networks
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.mas import MAS, sensitivity
from clbench.methods.naive import Naive
from clbench.methods.rwalk import RWalk, share_of_largest
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split
from tests.methods.learning import accuracies

Make = Callable[..., Any]


def biased(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, outputs))


def test_the_sensitivity_of_two_images_worked_by_hand() -> None:
    """f(x) = w x with w = 3: d (w x)^2 / dw = 2 w x^2, which is 6 for x = 1 and 24 for x = 2."""
    images = torch.tensor([[1.0], [2.0]])
    found = sensitivity(lambda p, x: x * p["w"], {"w": torch.tensor(3.0)}, images)
    assert float(found["w"]) == 15.0
    # The gradients of y^2 for y = x + b with b = 0 cancel: 2 and -2. Their absolute values do not.
    assert float(sensitivity(lambda p, x: x + p["b"], {"b": torch.tensor(0.0)}, torch.tensor([[1.0], [-1.0]]))["b"]) == 2.0


@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda s: s.name)
def test_mas_s_importance_and_penalty_against_loops(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    method, stream = MAS(make_brief(scenario, biased), strength=0.3, samples=10**6, learning_rate=0.01), make_stream(2)
    teach(method, stream[0], 0, Schedule(20, 16))
    few = Split(stream[0].train.images[:12], stream[0].train.labels[:12], stream[0].train.view)
    trained = {name: tensor.clone().requires_grad_() for name, tensor in method.trained.items()}
    lasting = [name for name in trained if scenario is not GG or name.startswith("1.")]
    expected = {name: torch.zeros_like(trained[name]) for name in lasting}
    for image in few.whole()[0]:
        outputs = functional_call(method.network, trained, (image[None],))[0, :4]
        for name, gradient in zip(lasting, torch.autograd.grad((outputs**2).sum(), [trained[n] for n in lasting]), strict=True):
            expected[name] += gradient.abs() / 12
    found = method.information(few)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    importance = {name: tensor.clone() for name, tensor in method.importance.items()}
    anchor = {name: tensor.clone() for name, tensor in method.anchor.items()}
    method.begin_task(1, 1)
    method.trained = {name: tensor + 0.1 for name, tensor in method.trained.items()}
    by_hand = sum(0.3 * float((w * (method.trained[name][: len(w)] - anchor[name]) ** 2).sum()) for name, w in importance.items())
    assert float(method.penalty(method.trained, method.given())) == pytest.approx(by_hand, rel=1e-4)


def test_two_tasks_of_rwalk_against_a_loop_with_plain_autograd(make_brief: Make, make_stream: Make) -> None:
    strength, alpha, epsilon, interval, rate = 2.0, 0.25, 0.01, 5, 0.1
    method = RWalk(
        make_brief(GNS, biased),
        strength=strength,
        alpha=alpha,
        epsilon=epsilon,
        interval=interval,
        optimiser="sgd",
        learning_rate=rate,
    )
    theta = {name: tensor.clone() for name, tensor in method.trained.items()}
    fisher: dict[str, Tensor] = {}
    score: dict[str, Tensor] = {}
    for index, task in enumerate(make_stream(3)):
        method.begin_task(index, 10)
        anchor = {name: tensor.clone() for name, tensor in theta.items()}
        weights = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
        if index:
            for part in (fisher, score):
                largest = max(float(tensor.max()) for tensor in part.values())
                weights = {name: weights[name] + part[name] / largest for name in weights}
        new = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
        squares, falls, since = ({name: fill(t) for name, t in theta.items()} for fill in (torch.zeros_like,) * 2 + (torch.clone,))
        for number, (inputs, labels) in enumerate(task.train.batches(10, 16, torch.Generator().manual_seed(index)), start=1):
            method.observe(inputs, labels)
            leaves = {name: tensor.clone().requires_grad_() for name, tensor in theta.items()}
            loss = cross_entropy(functional_call(method.network, leaves, (inputs,)), labels)
            gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
            for name, g in gradients.items():
                step = -rate * (g + 2 * strength * weights[name] * (theta[name] - anchor[name]))
                theta[name] = theta[name] + step
                falls[name] -= g * step
                squares[name] += g**2 / interval
            if number % interval == 0:
                for name in theta:
                    old = fisher.get(name)
                    fisher[name] = squares[name] if old is None else (1 - alpha) * old + alpha * squares[name]
                    distance = fisher[name] * (theta[name] - since[name]) ** 2 / 2
                    new[name] += falls[name].clamp(min=0) / (distance + epsilon)
                    squares[name], falls[name] = torch.zeros_like(theta[name]), torch.zeros_like(theta[name])
                    since[name] = theta[name].clone()
        method.end_task(task.train)
        score = {name: (score[name] + new[name]) / 2 if index else new[name] for name in new}
        for name in theta:
            torch.testing.assert_close(method.trained[name], theta[name], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(method.fisher[name], fisher[name], rtol=1e-3, atol=1e-7)
            torch.testing.assert_close(method.score[name], score[name], rtol=1e-2, atol=1e-4)


def test_shares_of_the_largest() -> None:
    shares = share_of_largest({"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.0])})
    assert shares["a"].tolist() == [0.25, 1.0]
    assert shares["b"].tolist() == [0.5]
    assert share_of_largest({"a": torch.zeros(2)})["a"].tolist() == [0.0, 0.0]


STRENGTHS: dict[tuple[Any, Any], dict[str, float]] = {
    (MAS, GG): {"strength": 0.03},
    (MAS, GNS): {"strength": 0.03},
    (RWalk, GG): {"strength": 0.3, "interval": 10},
    (RWalk, GNS): {"strength": 0.3, "interval": 10},
}


@pytest.mark.parametrize(("kind", "scenario"), STRENGTHS, ids=lambda value: value.name)
def test_it_forgets_less_than_naive_and_learns_as_much(kind: Any, scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    hidden = {"GG": 6, "GNs": 12}[scenario.name]
    brief = make_brief(scenario, lambda outputs: networks.mlp((1, 8, 8), (hidden,), outputs, bias=False))
    naive = accuracies(Naive(brief, learning_rate=0.01, restart=True), make_stream(5))
    scores = accuracies(kind(brief, learning_rate=0.01, restart=True, **STRENGTHS[kind, scenario]), make_stream(5))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive, scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < forgetting[0] / 2
    assert scores.diag().mean() > naive.diag().mean() - 0.05


def test_invalid_parameters_are_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match="alpha must be above 0 and at most 1"):
        RWalk(make_brief(GNS), alpha=0.0)
