"""A-GEM: the projection worked by hand, steps against plain autograd and torch.optim, and it acts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench import networks
from clbench.methods.a_gem import AGem, project
from clbench.methods.naive import Naive
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU
from tests.methods.learning import accuracies

Make = Callable[..., Any]
OPTIMISERS = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def two(first: list[float], second: float) -> dict[str, Tensor]:
    """A gradient that lies in two tensors."""
    return {"w": torch.tensor(first), "b": torch.tensor(second)}


def test_the_projection_worked_by_hand() -> None:
    # g = (3, 1, -2), r = (-1, 0, 1): g . r = -5 and r . r = 2, so g + 5/2 r = (0.5, 1, 0.5).
    gradient, reference = two([3.0, 1.0], -2.0), two([-1.0, 0.0], 1.0)
    projected = project(gradient, reference)
    assert projected["w"].tolist() == [0.5, 1.0]
    assert projected["b"].item() == 0.5
    assert sum(float((projected[name] * reference[name]).sum()) for name in reference) == 0
    # Where they agree, or there is nothing to be against, the gradient stays.
    for other in (two([1.0, 0.0], -1.0), two([0.0, 1.0], 0.5), two([0.0, 0.0], 0.0)):
        assert all(torch.equal(project(gradient, other)[name], gradient[name]) for name in gradient)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_two_tasks_against_a_loop_with_plain_autograd(name: Any, make_brief: Make, make_stream: Make) -> None:
    method = AGem(make_brief(GNS), memory_per_task=10, sample=6, optimiser=name, learning_rate=0.01, restart=True)
    theta = {key: nn.Parameter(tensor.clone()) for key, tensor in method.trained.items()}
    projections = 0
    for index, task in enumerate(make_stream(3)):
        optimiser = OPTIMISERS[name](theta.values(), lr=0.01)
        method.begin_task(index, 10)
        for inputs, labels in task.train.batches(10, 16, torch.Generator().manual_seed(index)):
            memory = method.given().get("memory")
            method.observe(inputs, labels)

            def flat(images: Tensor, labels: Tensor) -> Tensor:
                loss = cross_entropy(functional_call(method.network, theta, (images,)), labels)
                return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(theta.values()))])

            gradient = flat(inputs, labels)
            if memory is not None:
                reference = flat(memory["inputs"], memory["labels"])
                if gradient @ reference < 0:
                    gradient -= (gradient @ reference) / (reference @ reference) * reference
                    projections += 1
            for tensor, part in zip(theta.values(), gradient.split([t.numel() for t in theta.values()]), strict=True):
                tensor.grad = part.view_as(tensor)
            optimiser.step()
        method.end_task(task.train)
        for key, tensor in theta.items():
            torch.testing.assert_close(method.trained[key], tensor.detach(), rtol=1e-3, atol=1e-5)
    assert projections > 0
    assert len(method.progress()["memory.labels"]) == 30
    assert sum(name.startswith("memory") for name in method.progress()) == len(method.progress())


def test_the_reported_loss_is_the_batchs(make_brief: Make, make_stream: Make) -> None:
    method, stream = AGem(make_brief(GNS)), make_stream(2)
    for index, task in enumerate(stream):
        method.begin_task(index, 1)
        inputs, labels = task.train.whole(16)
        expected = cross_entropy(method.logits(inputs), labels)
        torch.testing.assert_close(method.observe(inputs, labels), expected)
        method.end_task(task.train)


@pytest.mark.slow
def test_the_compiled_step_learns_the_same(make_brief: Make, make_stream: Make) -> None:
    plain, compiled = (AGem(make_brief(GNU)._replace(compiled=compiled), sample=8) for compiled in (False, True))
    for index, task in enumerate(make_stream(2)):
        for method in (plain, compiled):
            method.begin_task(index, 5)
            for inputs, labels in task.train.batches(5, 16, torch.Generator().manual_seed(index)):
                method.observe(inputs, labels)
            method.end_task(task.train)
    for name, tensor in plain.trained.items():
        torch.testing.assert_close(compiled.trained[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("scenario", "hidden"), [(GG, 6), (GNS, 12), (GNU, 64)], ids=lambda s: getattr(s, "name", s))
def test_it_forgets_less_than_naive_and_learns_as_much(
    scenario: Scenario, hidden: int, make_brief: Make, make_stream: Make
) -> None:
    brief = make_brief(scenario, lambda outputs: networks.mlp((1, 8, 8), (hidden,), outputs, bias=False))
    naive = accuracies(Naive(brief, learning_rate=0.01, restart=True), make_stream(5))
    scores = accuracies(AGem(brief, memory_per_task=100, sample=64, learning_rate=0.01, restart=True), make_stream(5))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive, scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < 0.7 * forgetting[0]
    assert scores.diag().mean() > naive.diag().mean() - 0.03
