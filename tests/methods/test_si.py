"""Synaptic intelligence: path integrals against numerically integrated ones, and each step against plain autograd and torch.optim."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.si import SI, with_path_integral
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU
from clbench.training import Step, TrainingState, sgd

Make = Callable[..., Any]
OPTIMISERS = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def biased(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, outputs))


def test_the_path_integral_of_gradient_flow_on_a_quadratic_is_its_fall() -> None:
    """For a separable loss sum_k a_k theta_k^2 / 2 a fine path's integral is each parameter's own share of the fall of the loss."""
    curvature, start = torch.tensor([1.0, 4.0, 0.0]), torch.tensor([2.0, -1.0, 3.0])
    optimiser = with_path_integral(sgd(5e-4), c=0.0)
    trained = {"theta": start.clone()}
    state = TrainingState(optimiser, trained)
    step = Step(
        lambda trained, given, inputs, labels: ((curvature * trained["theta"] ** 2).sum() / 2, {}),
        optimiser,
        precision=torch.float32,
        compiled=False,
    )
    for _ in range(400):
        step(trained, {}, state, torch.zeros(1), torch.zeros(1))
    fall = curvature * (start**2 - trained["theta"] ** 2) / 2
    assert fall[1] > 1
    torch.testing.assert_close(state.slots["theta"]["path"], fall, rtol=3e-3, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_two_tasks_against_a_loop_with_plain_autograd_and_optimisers(name: Any, make_brief: Make, make_stream: Make) -> None:
    c, xi, rate = 3.0, 0.05, 0.01
    method, stream = SI(make_brief(GNS, biased), c=c, xi=xi, optimiser=name, learning_rate=rate, restart=True), make_stream(3)
    network = method.network
    theta = {key: nn.Parameter(tensor.clone()) for key, tensor in method.trained.items()}
    importance = {key: torch.zeros_like(tensor) for key, tensor in theta.items()}
    for index, task in enumerate(stream):
        anchor = {key: tensor.detach().clone() for key, tensor in theta.items()}
        path = {key: torch.zeros_like(tensor) for key, tensor in theta.items()}
        optimiser = OPTIMISERS[name](theta.values(), lr=rate)
        method.begin_task(index, 10)
        for inputs, labels in task.train.batches(10, 16, torch.Generator().manual_seed(index)):
            method.observe(inputs, labels)
            loss = nn.functional.cross_entropy(functional_call(network, theta, (inputs,)), labels)
            task_gradients = dict(zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True))
            before = {key: tensor.detach().clone() for key, tensor in theta.items()}
            surrogate = c * torch.stack([(importance[key] * (theta[key] - anchor[key]) ** 2).sum() for key in theta]).sum()
            optimiser.zero_grad()
            surrogate.backward()
            for key, tensor in theta.items():
                assert tensor.grad is not None
                tensor.grad += task_gradients[key]
            optimiser.step()
            for key, tensor in theta.items():
                path[key] -= task_gradients[key] * (tensor.detach() - before[key])
        method.end_task(task.train)
        for key, tensor in theta.items():
            importance[key] += path[key].clamp(min=0) / ((tensor.detach() - anchor[key]) ** 2 + xi)
            torch.testing.assert_close(method.trained[key], tensor.detach(), rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(method.importance[key], importance[key], rtol=1e-2, atol=1e-5)


def test_the_importance_worked_by_hand(make_brief: Make, make_stream: Make) -> None:
    """Clipped at 0, damped by xi, and added to the importance for earlier tasks."""

    def three_weights(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(1, outputs, bias=False))

    method = SI(make_brief(GNS, three_weights, input_shape=(1,), classes=3), xi=0.5)
    (name,) = method.trained
    for index, importance in enumerate(([4.0, 0.0, 8.0], [8.0, 0.0, 12.0])):
        method.begin_task(index, 1)
        method.trained[name] += torch.tensor([[0.0], [1.0], [0.5**0.5]])
        method.state.slots[name]["path"].copy_(torch.tensor([[2.0], [-3.0], [8.0 if index == 0 else 4.0]]))
        method.end_task(make_stream(1)[0].train)
        torch.testing.assert_close(method.importance[name], torch.tensor(importance).view(3, 1))


def test_the_anchor_does_not_alias_the_live_weights(make_brief: Make, make_stream: Make) -> None:
    method, stream = SI(make_brief(GNU), learning_rate=0.01), make_stream(2)
    teach(method, stream[0], 0, Schedule(20, 16))
    method.begin_task(1, 5)
    begun = copy.deepcopy(method.trained)
    for batch in stream[1].train.batches(5, 16, torch.Generator().manual_seed(0)):
        method.observe(*batch)
    for name, slots in method.state.slots.items():
        assert torch.equal(slots["anchor"], begun[name])
        assert not torch.equal(method.trained[name], begun[name])


@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda s: s.name)
def test_what_the_penalty_covers_and_what_is_stored(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    """The trunk in GG; the outputs too elsewhere, in GNu those of the tasks so far, however many there is room for."""
    method = SI(make_brief(scenario), restart=True)
    trunk, head = 64 * 64, 64 * 4
    for index, task in enumerate(make_stream(3)):
        teach(method, task, index, Schedule(updates=3, batch_size=16))
        covered = trunk + {"GG": 0, "GNs": head, "GNu": (index + 1) * head}[scenario.name]
        assert sum(tensor.numel() for tensor in method.progress().values()) == covered
        assert all(tensor.min() >= 0 for tensor in method.progress().values())


def test_a_new_head_has_no_penalty(make_brief: Make, make_stream: Make) -> None:
    method, stream = SI(make_brief(GG), c=1e6), make_stream(2)
    teach(method, stream[0], 0, Schedule(20, 16))
    method.begin_task(1, 5)
    for name in method.head:
        assert not method.state.slots[name]["importance"].any()


@pytest.mark.parametrize("wrong", [{"c": -1.0}, {"xi": 0.0}])
def test_invalid_parameters_are_refused(wrong: dict[str, Any], make_brief: Make) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        SI(make_brief(GNS), **wrong)
