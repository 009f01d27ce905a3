"""GEM's projection against scipy's solver and by hand, DER++'s loss against loops, and their effect."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench import networks
from clbench.engine.evaluator import Schedule, teach
from clbench.methods.der import DER, DarkReservoir
from clbench.methods.gem import Gem, project, weights
from clbench.methods.naive import Naive
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from tests.methods.learning import accuracies

Make = Callable[..., Any]


@pytest.mark.parametrize("seed", range(5))
def test_gem_s_problem_against_scipy_s_constrained_solver(seed: int) -> None:
    """The nearest g~ to g with g~ . r_k >= 0 for all k, solved as it is stated and not in the dual."""
    draws = np.random.default_rng(seed)
    gradient, references = draws.normal(size=6), draws.normal(size=(3, 6))
    against = {"type": "ineq", "fun": lambda z: references @ z, "jac": lambda z: references}
    primal = minimize(lambda z: ((z - gradient) ** 2).sum() / 2, gradient, jac=lambda z: z - gradient, constraints=[against])
    ours = gradient + weights(gradient, references, margin=0.0) @ references
    np.testing.assert_allclose(ours, primal.x, atol=1e-4)
    assert (references @ ours > -1e-6).all()
    # With a margin it is the same problem in v, bounded from below.
    dual = minimize(
        lambda v: ((gradient + v @ references) ** 2).sum() / 2, np.ones(3), bounds=[(0.5, None)] * 3, method="L-BFGS-B", tol=1e-12
    )
    np.testing.assert_allclose(weights(gradient, references, margin=0.5), dual.x, atol=1e-3)


def test_the_projection_worked_by_hand() -> None:
    # Against r = (1, 0) only the first component goes; against (1, 0) and (0, 1) both do.
    gradient = torch.tensor([-2.0, -3.0, 5.0])
    one, two = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(project(gradient, one, 0.0), torch.tensor([0.0, -3.0, 5.0]))
    torch.testing.assert_close(project(gradient, two, 0.0), torch.tensor([0.0, 0.0, 5.0]))
    torch.testing.assert_close(project(gradient, two, 2.5), torch.tensor([0.5, 0.0, 5.0]))
    assert torch.equal(project(gradient, -one, 2.5), gradient)


def test_two_equal_references_have_a_solution() -> None:
    twice = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(project(torch.tensor([-1.0, 1.0]), twice, 0.0), torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_gem_s_steps_do_not_raise_the_loss_on_any_memory(make_brief: Make, make_stream: Make) -> None:
    """After a small step along the projected gradient, no memory's loss is higher; after a plain one, some is."""
    method, stream = Gem(make_brief(GNS), memory_per_task=50, margin=0.0, learning_rate=0.05), make_stream(3)
    for index in range(2):
        teach(method, stream[index], index, Schedule(30, 32))
    method.begin_task(2, 1)
    inputs, labels = stream[2].train.whole(32)
    before = {name: tensor.clone() for name, tensor in method.trained.items()}
    gradient = method._projected(inputs, labels)["gradient"]
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in before.items()}
    loss = cross_entropy(functional_call(method.network, leaves, (inputs,)), labels)
    plain = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    def changes(direction: dict[str, Tensor]) -> list[float]:
        moved = {name: before[name] - 1e-3 * direction[name] for name in before}
        losses = [
            [float(cross_entropy(functional_call(method.network, state, (x,)), y)) for x, y in method.memory]
            for state in (before, moved)
        ]
        return [after - earlier for earlier, after in zip(*losses, strict=True)]

    assert max(changes(plain)) > 1e-5
    assert max(changes(gradient)) < 1e-5
    method.observe(inputs, labels)
    for name, tensor in method.trained.items():
        torch.testing.assert_close(tensor, before[name] - 0.05 * gradient[name])


@pytest.mark.parametrize("scenario", [GG, GNS, GNU, NNS], ids=lambda s: s.name)
def test_der_s_steps_against_a_loop_with_plain_autograd(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    alpha, beta, classes = 0.7, 0.4, 4
    method = DER(make_brief(scenario), memory=20, replay_batch=6, alpha=alpha, beta=beta, optimiser="sgd", learning_rate=0.1)
    first = nn.Parameter(method.trained["fc1.weight"].clone())
    heads: list[nn.Parameter] = []
    for index, task in enumerate(make_stream(2)):
        if scenario.task_given_in_training:
            method.begin_task(index, 5)
        if index == 0 or scenario in (GG, GNU):
            rows = slice(classes * index, classes * (index + 1))
            heads.append(nn.Parameter(method.trained["fc2.weight"][rows].clone()))
        for inputs, labels in task.train.batches(5, 8, torch.Generator().manual_seed(index)):
            memory, number = method.memory, len(heads) - 1

            def outputs(images: Tensor) -> Tensor:
                return (images.flatten(1) @ first.T).relu() @ torch.cat(list(heads)).T

            def loss_of(images: Tensor, targets: Tensor) -> Tensor:
                logits = outputs(images)
                if scenario is not GG:
                    return cross_entropy(logits, targets)
                own = [logits[i, 4 * (int(t) // 4) : 4 * (int(t) // 4) + 4] for i, t in enumerate(targets)]
                return torch.stack([cross_entropy(o, t % 4) for o, t in zip(own, targets, strict=True)]).mean()

            loss = loss_of(inputs, labels + classes * number)
            if len(memory):
                dark, plain = (memory.rows(6, purpose) for purpose in ("replay logits", "replay"))
                errors = []
                for row in dark.tolist():
                    then, now = memory.logits[row], outputs(memory.inputs[row][None])[0]
                    errors += [(now[k] - then[k]) ** 2 for k in range(len(now)) if k < len(then) and not then[k].isnan()]
                loss = loss + alpha * torch.stack(errors).mean() + beta * loss_of(memory.inputs[plain], memory.labels[plain])
            gradients = torch.autograd.grad(loss, [first, *heads])
            expected = outputs(inputs).detach()
            shown = memory.shown
            method.observe(inputs, labels)
            if shown == 0:
                torch.testing.assert_close(memory.logits[: len(inputs), : expected.shape[1]], expected)
            with torch.no_grad():
                for weight, gradient in zip([first, *heads], gradients, strict=True):
                    weight -= 0.1 * gradient
        torch.testing.assert_close(method.trained["fc1.weight"], first.detach(), rtol=1e-4, atol=1e-6)


def test_an_image_keeps_the_logits_that_it_was_stored_with() -> None:
    memory = DarkReservoir(3, (1,), 0, torch.device("cpu"))
    for numbers in torch.arange(12).split(4):
        memory.store(numbers.float()[:, None], numbers, numbers.float()[:, None].repeat(1, 1 + int(numbers[0]) // 4))
    assert torch.equal(memory.logits[:, 0], memory.labels.float())
    for label, logits in zip(memory.labels.tolist(), memory.logits, strict=True):
        assert int(logits.isnan().sum()) == 2 - label // 4  # outputs that came later


@pytest.mark.parametrize(("scenario", "hidden"), [(GG, 6), (GNS, 12), (GNU, 64)], ids=lambda s: getattr(s, "name", s))
@pytest.mark.parametrize("kind", [Gem, DER], ids=lambda kind: kind.name)
def test_it_forgets_less_than_naive_and_learns_as_much(
    kind: Any, scenario: Scenario, hidden: int, make_brief: Make, make_stream: Make
) -> None:
    brief = make_brief(scenario, lambda outputs: networks.mlp((1, 8, 8), (hidden,), outputs, bias=False))
    shared: dict[str, Any] = {"learning_rate": 0.01, "restart": True, "optimiser": "rmsprop"}
    more = {"memory_per_task": 40} if kind is Gem else {"memory": 200, "replay_batch": 32}
    naive = accuracies(Naive(brief, **shared), make_stream(5))
    scores = accuracies(kind(brief, **shared, **more), make_stream(5))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive, scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < 0.7 * forgetting[0]
    assert scores.diag().mean() > naive.diag().mean() - 0.05
