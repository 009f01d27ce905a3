"""EWC and online EWC: the Fisher information and the penalty against cases worked by hand and explicit loops over samples and classes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods._fisher import diagonal_fisher
from clbench.methods.ewc import EWC
from clbench.methods.online_ewc import OnlineEWC
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split

Make = Callable[..., Any]
Tensors = dict[str, Tensor]
ESTIMATORS = ("exact", "sampled", "empirical", "predicted")
SCHEDULE = Schedule(updates=20, batch_size=16)


def linear(parameters: Tensors, inputs: Tensor) -> Tensor:
    return inputs @ parameters["weight"].T


def biased(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, outputs))


# The Fisher information

# A softmax of two logits W x with W = [[ln 3, 0], [0, 0]]: p = (3/4, 1/4) for x = (1, 2) and (1/2, 1/2) for x = (0, 1). The gradient of
# log p_y with respect to row c is ([y = c] - p_c) x, so that both rows of each Fisher are alike.
WEIGHT = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
INPUTS = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
LABELS = torch.tensor([1, 0])
BY_HAND = {
    "exact": [(3 / 16 + 0) / 2, (3 / 16 * 4 + 1 / 4) / 2],  # p (1 - p) x^2
    "empirical": [(9 / 16 + 0) / 2, (9 / 16 * 4 + 1 / 4) / 2],  # (1 - p_y)^2 x^2 for y = 1, 0
    "predicted": [(1 / 16 + 0) / 2, (1 / 16 * 4 + 1 / 4) / 2],  # the same for y = 0, 0
}


@pytest.mark.parametrize("estimator", BY_HAND)
def test_the_fisher_information_of_two_images_worked_by_hand(estimator: Any) -> None:
    fisher = diagonal_fisher(linear, {"weight": WEIGHT}, INPUTS, LABELS, estimator, torch.Generator())
    torch.testing.assert_close(fisher["weight"], torch.tensor([BY_HAND[estimator]] * 2))


def test_sampled_labels_give_the_exact_fisher_information_on_average() -> None:
    inputs, labels = INPUTS.repeat(20_000, 1), LABELS.repeat(20_000)
    fisher = diagonal_fisher(linear, {"weight": WEIGHT}, inputs, labels, "sampled", torch.Generator().manual_seed(0))
    torch.testing.assert_close(fisher["weight"], torch.tensor([BY_HAND["exact"]] * 2), rtol=0.03, atol=0)


def test_each_samples_gradient_is_squared_not_the_mean() -> None:
    """Two images whose gradients cancel: a batch's mean gradient is 0, the information is not."""
    inputs, labels = torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([0, 1])
    weight = torch.zeros(2, 2, requires_grad=True)
    (mean,) = torch.autograd.grad(nn.functional.cross_entropy(inputs @ weight.T, labels), weight)
    assert torch.equal(mean, torch.zeros(2, 2))
    fisher = diagonal_fisher(linear, {"weight": weight.detach()}, inputs, labels, "empirical", torch.Generator())
    torch.testing.assert_close(fisher["weight"], torch.tensor([[0.25, 1.0], [0.25, 1.0]]))


def looped(method: EWC, data: Split, estimator: str) -> Tensors:
    """The Fisher information by a loop over images and one over classes, with plain autograd."""
    inputs, labels = data.whole()
    trained = {name: tensor.clone().requires_grad_() for name, tensor in method.trained.items()}
    lasting = [name for name in trained if not (method.brief.scenario is GG and name.startswith("3."))]
    total = {name: torch.zeros_like(trained[name]) for name in lasting}
    competing = method.brief.classes * (method.task + 1 if method.brief.scenario is GNU else 1)
    for image, label in zip(inputs, labels, strict=True):
        likelihoods = functional_call(method.network, trained, (image[None],))[0, :competing].log_softmax(0)
        truth = int(label) + (method.brief.classes * method.task if method.brief.scenario is GNU else 0)
        weights = {
            "exact": likelihoods.detach().exp(),
            "empirical": nn.functional.one_hot(torch.tensor(truth), competing).float(),
            "predicted": nn.functional.one_hot(likelihoods.argmax(), competing).float(),
        }[estimator]
        for y in range(competing):
            gradients = torch.autograd.grad(likelihoods[y], [trained[name] for name in lasting], retain_graph=True)
            for name, gradient in zip(lasting, gradients, strict=True):
                total[name] += weights[y] * gradient**2
    return {name: summed / len(inputs) for name, summed in total.items()}


@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda s: s.name)
@pytest.mark.parametrize("estimator", ["exact", "empirical", "predicted"])
def test_the_fisher_information_of_a_method_against_loops(
    scenario: Scenario, estimator: Any, make_brief: Make, make_stream: Make
) -> None:
    method = EWC(make_brief(scenario, biased), fisher=estimator, samples=10**6, learning_rate=0.01)
    for index, task in enumerate(make_stream(2)):
        teach(method, task, index, SCHEDULE)
        few = Split(task.train.images[:12], task.train.labels[:12], task.train.view)
        information, expected = method.information(few), looped(method, few, estimator)
        assert information.keys() == expected.keys()
        for name in expected:
            assert expected[name].abs().max() > 0
            torch.testing.assert_close(information[name], expected[name], rtol=1e-4, atol=1e-8)


def test_the_number_of_samples_does_not_depend_on_the_size_of_a_chunk(
    make_brief: Make, make_stream: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_stream(1)[0].train
    asked: list[int] = []

    def counting(logits: Any, parameters: Any, inputs: Tensor, *rest: Any) -> Tensors:
        asked.append(len(inputs.flatten(1).unique(dim=0)))
        return diagonal_fisher(logits, parameters, inputs, *rest)

    monkeypatch.setattr("clbench.methods._fisher.diagonal_fisher", counting)
    informations = []
    for elements in (1, 10_000, 2**23):
        monkeypatch.setattr("clbench.methods._fisher.GRADIENTS_AT_A_TIME", elements)
        informations.append(EWC(make_brief(GNS, biased), samples=30).information(data))
    assert asked == [30, 30, 30]
    for other in informations[1:]:
        for name, fisher in informations[0].items():
            torch.testing.assert_close(other[name], fisher)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_importance_pass_changes_nothing(estimator: Any, make_brief: Make, make_stream: Make, convolution: Make) -> None:
    method, task = EWC(make_brief(GNU, convolution), fisher=estimator, samples=50), make_stream(1)[0]
    method.begin_task(0, 5)
    for batch in task.train.batches(5, 16, torch.Generator().manual_seed(0)):
        method.observe(*batch)
    before = copy.deepcopy((method.trained, method.buffers, dict(method.network.state_dict()), torch.get_rng_state()))
    modes = [module.training for module in method.network.modules()]
    fisher = method.information(task.train)
    after = method.trained, method.buffers, dict(method.network.state_dict()), torch.get_rng_state()
    for old, new in zip(before[:3], after[:3], strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert torch.equal(before[3], after[3])
    assert [module.training for module in method.network.modules()] == modes
    assert all(tensor.min() >= 0 for tensor in fisher.values())
    # Evaluation mode: an image's information does not depend on which others it is asked with.
    one, many = (Split(task.train.images[:n], task.train.labels[:n], task.train.view) for n in (1, 2))
    if estimator == "exact":
        second = Split(task.train.images[1:2], task.train.labels[1:2], task.train.view)
        alone, other, both = method.information(one), method.information(second), method.information(many)
        for name, mean in both.items():
            torch.testing.assert_close(mean, (alone[name] + other[name]) / 2)


# The penalty


def after_tasks(method: Any, fishers: list[Tensors], parameters: list[Tensors]) -> Any:
    """``method`` as if its tasks had ended at ``parameters`` with the information ``fishers``."""
    for fisher, values in zip(fishers, parameters, strict=True):
        method.trained = {name: value.clone() for name, value in values.items()}
        method.consolidate({name: value.clone() for name, value in fisher.items()})
    return method


def random_tasks(method: Any, tasks: int) -> tuple[list[Tensors], list[Tensors]]:
    draws = torch.Generator().manual_seed(0)
    shapes = {name: tensor.shape for name, tensor in method.trained.items()}
    fishers = [{name: torch.rand(shape, generator=draws) for name, shape in shapes.items()} for _ in range(tasks)]
    for fisher in fishers:  # some parameters matter to some tasks only, some to none
        for tensor in fisher.values():
            tensor[tensor < 0.5] = 0
    return fishers, [{name: torch.randn(shape, generator=draws) for name, shape in shapes.items()} for _ in range(tasks)]


def test_one_task_worked_by_hand(make_brief: Make) -> None:
    def two_weights(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(1, outputs, bias=False))

    for method in (
        EWC(make_brief(GNS, two_weights, input_shape=(1,), classes=2), strength=10.0),
        OnlineEWC(make_brief(GNS, two_weights, input_shape=(1,), classes=2), strength=10.0, gamma=1.0),
    ):
        after_tasks(method, [{"1.weight": torch.tensor([[2.0], [0.5]])}], [{"1.weight": torch.tensor([[1.0], [-1.0]])}])
        moved = {"1.weight": torch.tensor([[4.0], [1.0]])}
        # 10 / 2 * (2 * 3^2 + 0.5 * 2^2)
        assert float(method.penalty(moved, method.given())) == pytest.approx(100.0)


def test_offline_ewc_is_the_sum_of_separate_penalties_up_to_a_constant(make_brief: Make) -> None:
    method = EWC(make_brief(GNS, biased), strength=7.0)
    fishers, parameters = random_tasks(method, 4)
    after_tasks(method, fishers, parameters)

    def separate(theta: Tensors) -> Tensor:
        parts = [
            (fisher[name] * (theta[name] - values[name]) ** 2).sum()
            for fisher, values in zip(fishers, parameters, strict=True)
            for name in theta
        ]
        return 7.0 / 2 * torch.stack(parts).sum()

    differences = []
    for seed in range(2):
        draws = torch.Generator().manual_seed(seed)
        theta = {name: torch.randn(t.shape, generator=draws).requires_grad_() for name, t in method.trained.items()}
        mine, its = method.penalty(theta, method.given()), separate(theta)
        differences.append(float((mine - its).detach()))
        for actual, expected in zip(
            torch.autograd.grad(mine, list(theta.values())), torch.autograd.grad(its, list(theta.values())), strict=True
        ):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert differences[0] == pytest.approx(differences[1], rel=1e-4)


def test_online_ewc_merges_by_hand(make_brief: Make) -> None:
    method = OnlineEWC(make_brief(GNS, biased), strength=6.0, gamma=0.5)
    fishers, parameters = random_tasks(method, 3)
    after_tasks(method, fishers, parameters)
    theta = {name: torch.ones_like(tensor) for name, tensor in method.trained.items()}
    merged = {name: fishers[2][name] + 0.5 * fishers[1][name] + 0.25 * fishers[0][name] for name in theta}
    parts = [(0.5 * merged[name] * (theta[name] - parameters[2][name]) ** 2).sum() for name in theta]
    assert float(method.penalty(theta, method.given())) == pytest.approx(6.0 / 2 * float(torch.stack(parts).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
def test_the_anchor_does_not_alias_the_live_weights(kind: Any, make_brief: Make, make_stream: Make) -> None:
    method, stream = kind(make_brief(GNU), learning_rate=0.01), make_stream(2)
    teach(method, stream[0], 0, SCHEDULE)
    ended = copy.deepcopy(method.trained)
    method.begin_task(1, SCHEDULE.updates)
    for batch in stream[1].train.batches(5, 16, torch.Generator().manual_seed(0)):
        method.observe(*batch)
    for name, anchor in method.anchor.items():
        assert torch.equal(anchor[:4] if name in method.head else anchor, ended[name][:4] if name in method.head else ended[name])
        assert not torch.equal(method.trained[name], ended[name])


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
def test_the_loss_of_a_step_contains_the_penalty(kind: Any, make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(2)
    batch = next(iter(stream[1].train.batches(1, 16, torch.Generator().manual_seed(0))))
    losses = []
    for strength in (0.0, 1000.0, 2000.0):
        method = kind(make_brief(GNS), strength=strength, optimiser="sgd", learning_rate=0.1)
        teach(method, stream[0], 0, SCHEDULE)
        method.begin_task(1, 1)
        method.trained = {name: tensor + 0.1 for name, tensor in method.trained.items()}
        losses.append(float(method.observe(*batch)))
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-4)
    assert losses[1] - losses[0] > 0.01


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda s: s.name)
def test_what_the_penalty_covers_and_what_is_stored(kind: Any, scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    """The trunk in GG; the outputs too elsewhere, in GNu those of the tasks so far, however many there is room for."""
    method = kind(make_brief(scenario), restart=True)
    trunk, head = 64 * 64, 64 * 4
    for index, task in enumerate(make_stream(3)):
        teach(method, task, index, Schedule(updates=3, batch_size=16))
        covered = trunk + {"GG": 0, "GNs": head, "GNu": (index + 1) * head}[scenario.name]
        assert sum(tensor.numel() for tensor in method.progress().values()) == 2 * covered


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"samples": 0}, {"gamma": 1.5}])
def test_invalid_parameters_are_refused(wrong: dict[str, Any], make_brief: Make) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        OnlineEWC(make_brief(GNS), **wrong)
