"""Bayesian gradient descent: updates against the explicit formula, in which direction it moves, and it acts."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clbench import networks
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.bgd import BGD, bayesian_descent
from clbench.methods.naive import Naive
from clbench.scenarios import GNS, NNS
from clbench.seeding import generator
from tests.methods.learning import accuracies

Make = Callable[..., Any]
ONE = torch.tensor(1.0)


def test_the_rule_worked_by_hand() -> None:
    """mu - eta sigma^2 E[g], and sigma (sqrt(1 + x^2) - x) with x = sigma E[g e] / 2 = 3/4: sigma halves."""
    posterior = torch.tensor([[1.0], [0.5]])
    bayesian_descent(2.0).rule(posterior, torch.tensor([[4.0], [3.0]]), {}, ONE, ONE)
    assert posterior.flatten().tolist() == [1.0 - 2 * 0.25 * 4, 0.25]


def test_updates_against_the_explicit_formula(make_brief: Make, make_stream: Make) -> None:
    eta, samples = 0.7, 4
    method = BGD(make_brief(NNS), deviation=0.05, samples=samples, rate=eta)
    mean = {name: tensor.double().clone() for name, tensor in method.trained.items()}
    deviation = {name: torch.full_like(tensor, 0.05) for name, tensor in mean.items()}
    for step, (inputs, labels) in enumerate(make_stream(1)[0].train.batches(5, 16, torch.Generator().manual_seed(0))):
        draws = generator(method.brief.seed, "noise", step)
        noise = {name: torch.randn(samples, *tensor.shape, generator=draws).double() for name, tensor in mean.items()}
        reported = method.observe(inputs, labels)
        sums: dict[str, list[Tensor]] = {name: [torch.zeros_like(t), torch.zeros_like(t)] for name, t in mean.items()}
        losses = []
        for k in range(samples):
            theta = {name: nn.Parameter(mean[name] + deviation[name] * noise[name][k]) for name in mean}
            logits = (inputs.double().flatten(1) @ theta["fc1.weight"].T).relu() @ theta["fc2.weight"].T
            loss = cross_entropy(logits, labels, reduction="sum")
            losses.append(loss.item() / len(labels))
            for name, gradient in zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True):
                sums[name][0] += gradient / samples
                sums[name][1] += gradient * noise[name][k] / samples
        assert reported is not None
        assert math.isclose(reported.item(), sum(losses) / samples, rel_tol=1e-4)
        for name, (by_mean, by_noise) in sums.items():
            sigma = deviation[name]
            mean[name] = mean[name] - eta * sigma**2 * by_mean
            deviation[name] = sigma * (1 + (sigma * by_noise / 2) ** 2).sqrt() - sigma**2 * by_noise / 2
            torch.testing.assert_close(method.trained[name].double(), mean[name], rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(method.progress()[f"deviation.{name}"].double(), deviation[name], rtol=1e-3, atol=1e-5)


def test_a_weight_that_the_data_do_not_determine_keeps_mean_and_deviation(make_brief: Make, make_stream: Make) -> None:
    method = BGD(make_brief(NNS), deviation=0.05)
    before = method.trained["fc1.weight"].clone()
    for inputs, labels in make_stream(1)[0].train.batches(30, 16, torch.Generator().manual_seed(0)):
        inputs[:, :, 0, :4] = 0
        method.observe(inputs, labels)
    mean, deviation = method.posterior["fc1.weight"]
    assert torch.equal(mean[:, :4], before[:, :4])
    assert (deviation[:, :4] == 0.05).all()
    assert deviation[:, 4:].mean() < 0.05  # elsewhere it grew surer


def test_it_learns_the_same_with_and_without_given_tasks(make_brief: Make, make_stream: Make) -> None:
    with_tasks, without_tasks = BGD(make_brief(GNS)), BGD(make_brief(NNS))
    for index, task in enumerate(make_stream(2)):
        for method in (with_tasks, without_tasks):
            teach(method, task, index, Schedule(5, 16))
    assert all(torch.equal(with_tasks.learned()[name], tensor) for name, tensor in without_tasks.learned().items())


def test_it_forgets_less_than_naive_and_learns_as_much(make_brief: Make, make_stream: Make) -> None:
    brief = make_brief(NNS, lambda outputs: networks.mlp((1, 8, 8), (12,), outputs, bias=False))
    naive = accuracies(Naive(brief, learning_rate=0.01), make_stream(5))
    scores = accuracies(BGD(brief), make_stream(5))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive, scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < 0.8 * forgetting[0]
    assert scores.diag().mean() > naive.diag().mean() - 0.03


def test_a_deviation_of_zero_is_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match=r"deviation must be above 0 and finite, not 0\.0"):
        BGD(make_brief(NNS), deviation=0.0)
