"""PackNet, Piggyback and WSN: which weights a task may change, which it uses, and what that takes to store."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods._bits import pack, unpack
from clbench.methods.packnet import PackNet
from clbench.methods.piggyback import Piggyback
from clbench.methods.wsn import WSN
from clbench.scenarios import GG

Make = Callable[..., Any]
SCHEDULE = Schedule(updates=12, batch_size=32)
TASKS = 4
TRUNK, HEAD = 64 * 64, 64 * 4  # weights of the tiny network


def layers(outputs: int) -> nn.Module:
    """A trunk of two weights, with biases and a normalisation."""
    norm = nn.BatchNorm1d(16)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), norm, nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, outputs))


@pytest.mark.parametrize("shape", [(3,), (8, 5), (2, 3, 3, 3)])
def test_unpacking_inverts_packing(shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    bits = pack(mask)
    assert bits.nbytes == -(-mask.numel() // 8)
    assert torch.equal(unpack(bits, mask.numel()).bool().view(shape), mask)


# PackNet


@pytest.mark.parametrize("optimiser", ["rmsprop", "adam"])
def test_packnet_never_touches_the_weights_of_earlier_tasks(optimiser: Any, make_brief: Make, make_stream: Make) -> None:
    method = PackNet(make_brief(GG, layers), keep=0.4, optimiser=optimiser, learning_rate=0.01)
    for index, task in enumerate(make_stream(TASKS)):
        before, owned = dict(method.shared), {name: method.shared[name + ".owner"] > 0 for name in method.maskable}
        teach(method, task, index, SCHEDULE)
        for name, mask in owned.items():
            assert torch.equal(method.shared[name][mask], before[name][mask])
            assert torch.equal(method.shared[name + ".owner"][mask], before[name + ".owner"][mask])
            new = method.shared[name + ".owner"] == index + 1
            assert (method.shared[name][new] != before[name][new]).any()
            assert not method.shared[name][method.shared[name + ".owner"] == 0].any()  # what is free is 0
            assert int(new.sum()) == round(0.4 * int((~mask).sum()))
        for name in set(method.trunk) - set(method.maskable):
            assert torch.equal(method.shared[name], before[name]) == (index > 0)


def test_packnet_keeps_the_largest_weights(make_brief: Make, make_stream: Make) -> None:
    method = PackNet(make_brief(GG), keep=0.25, retrain=0.5, learning_rate=0.01)
    task = make_stream(1)[0]
    method.begin_task(0, 4)
    for step, batch in enumerate(task.train.batches(4, 32, torch.Generator().manual_seed(0))):
        before = method.trained["fc1.weight"].clone()
        method.observe(*batch)
        assert (method.shared["fc1.weight.owner"] > 0).any() == (step >= 2)  # pruned after two of four updates
        if step == 2:
            owned = method.shared["fc1.weight.owner"] == 1
            assert before[owned].abs().min() >= before[~owned].abs().max()
    method.end_task(task.train)
    assert torch.equal(method.shared["fc1.weight"] != 0, owned)


def test_packnet_answers_with_the_weights_of_the_task_and_those_before(make_brief: Make, make_stream: Make) -> None:
    method = PackNet(make_brief(GG), learning_rate=0.01)
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
    inputs = torch.randn(5, 1, 8, 8)
    for task in range(TASKS):
        weights = method.shared["fc1.weight"].clone()
        owner = method.shared["fc1.weight.owner"]
        weights[(owner == 0) | (owner > task + 1)] = 0
        expected = functional_call(
            method.network, {"fc1.weight": weights, "fc2.weight": method.rows[task]["fc2.weight"]}, (inputs,)
        )
        assert torch.equal(method.logits(inputs, task), expected)


def test_packnet_stores_an_owner_for_each_weight(make_brief: Make, make_stream: Make) -> None:
    method = PackNet(make_brief(GG))
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
    assert sum(tensor.nbytes for tensor in method.learned().values()) == TRUNK * (4 + 1) + TASKS * 4 * HEAD
    method.rows *= 64
    assert method.learned()["fc1.weight.owner"].dtype == torch.int16  # 256 tasks do not go into a byte


@pytest.mark.parametrize("wrong", [{"keep": 0.0}, {"keep": 1.0}, {"retrain": 0.0}, {"retrain": 1.0}])
def test_packnet_refuses_fractions_of_all_or_nothing(wrong: Any, make_brief: Make) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        PackNet(make_brief(GG), **wrong)


# Piggyback


def test_piggyback_trains_the_trunk_on_the_first_task_alone(make_brief: Make, make_stream: Make) -> None:
    method = Piggyback(make_brief(GG, layers), learning_rate=0.01, mask_learning_rate=0.003)
    before = dict(method.shared)
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
        assert all(torch.equal(method.shared[name], before[name]) == (index > 0) for name in method.shared)
        before = dict(method.shared)
    masks = [method.own_of(task)["1.weight.mask"] for task in range(TASKS)]
    assert masks[0].all()
    assert 0 < masks[1].float().mean() < 1
    assert (masks[1] != masks[2]).any()


def test_piggyback_answers_with_masked_weights(make_brief: Make, make_stream: Make) -> None:
    method = Piggyback(make_brief(GG), learning_rate=0.01, mask_learning_rate=0.003)
    for index, task in enumerate(make_stream(2)):
        teach(method, task, index, SCHEDULE)
    inputs = torch.randn(5, 1, 8, 8)
    weights = method.shared["fc1.weight"] * method.own_of(1)["fc1.weight.mask"]
    expected = functional_call(method.network, {"fc1.weight": weights, "fc2.weight": method.rows[1]["fc2.weight"]}, (inputs,))
    assert torch.equal(method.logits(inputs, 1), expected)


def test_the_gradient_passes_straight_through_the_threshold(make_brief: Make) -> None:
    """dL/dscore = W * dL/dW_eff, also where the weight is dropped."""
    method = Piggyback(make_brief(GG))
    score = torch.linspace(-0.01, 0.02, TRUNK).view(64, 64).requires_grad_()
    effective = method.masked("fc1.weight", method.shared | {"fc1.weight.score": score})
    assert torch.equal(effective != 0, score > 5e-3)
    upstream = torch.randn(64, 64)
    (gradient,) = torch.autograd.grad((effective * upstream).sum(), score)
    assert torch.allclose(gradient, method.shared["fc1.weight"] * upstream)


# WSN


@pytest.mark.parametrize("optimiser", ["rmsprop", "adam"])
def test_wsn_fixes_the_weights_that_earlier_masks_use(optimiser: Any, make_brief: Make, make_stream: Make) -> None:
    method = WSN(make_brief(GG, layers), density=0.3, optimiser=optimiser, learning_rate=0.01)
    for index, task in enumerate(make_stream(TASKS)):
        before, scores = dict(method.shared), dict(method.scores)
        used = {name: torch.zeros_like(before[name], dtype=torch.bool) for name in method.maskable}
        for earlier in range(index):
            used = {name: mask | method.own_of(earlier)[name + ".mask"] for name, mask in used.items()}
        teach(method, task, index, SCHEDULE)
        for name, mask in used.items():
            assert torch.equal(method.shared[name][mask], before[name][mask])
            assert (method.shared[name][~mask] != before[name][~mask]).any()
            assert (method.scores[name + ".score"] != scores[name + ".score"]).any()
            task_mask = method.own_of(index)[name + ".mask"]
            assert int(task_mask.sum()) == round(0.3 * task_mask.numel())
        for name in set(method.trunk) - set(method.maskable):
            assert torch.equal(method.shared[name], before[name]) == (index > 0)


def test_wsn_selects_the_largest_scores_and_passes_gradients_to_both(make_brief: Make) -> None:
    method = WSN(make_brief(GG), density=0.25)
    score = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = method.shared["fc1.weight"].clone().requires_grad_()
    free = torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) < 0.5
    weights = torch.full((64, 64), 2.0)
    tensors: dict[str, Tensor] = {
        "fc1.weight": weight,
        "fc1.weight.score": score,
        "fc1.weight.free": free,
        "fc1.weight.kept": weights,
    }
    effective = method.masked("fc1.weight", tensors)
    mask = score.abs() >= score.abs().flatten().sort(descending=True).values[TRUNK // 4 - 1]
    values = torch.where(free, weight, 2.0)
    assert torch.equal(effective, values * mask)
    by_weight, by_score = torch.autograd.grad(effective.sum(), (weight, score))
    assert torch.equal(by_weight, (mask & free).float())
    assert torch.allclose(by_score, values * score.sign())


def test_wsn_and_piggyback_store_a_bit_a_weight_and_task(make_brief: Make, make_stream: Make) -> None:
    for method, scores in ((Piggyback(make_brief(GG)), 0), (WSN(make_brief(GG)), TRUNK)):
        for index, task in enumerate(make_stream(TASKS)):
            teach(method, task, index, SCHEDULE)
        assert sum(tensor.nbytes for tensor in method.learned().values()) == 4 * TRUNK + TASKS * (TRUNK // 8 + 4 * HEAD)
        assert sum(tensor.nbytes for tensor in method.progress().values()) == 4 * scores


def test_wsn_refuses_an_invalid_density(make_brief: Make) -> None:
    with pytest.raises(UserError, match="density"):
        WSN(make_brief(GG), density=0.0)
