"""Edge-popup: how many weights are kept, which, with what gradient; and what is stored of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench import storage
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, evaluate, teach
from clbench.errors import UserError
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.layout import Layout
from clbench.methods.supsup.masking import kept_weights, selected, straight_through
from clbench.scenarios import GG, GNU, NNS

Make = Callable[..., Any]
SCHEDULE = Schedule(updates=40, batch_size=32)
LAYOUT = Layout({"conv": torch.Size((64, 3, 7, 7)), "wide": torch.Size((512, 2048)), "head": torch.Size((4, 6))})


def learner(brief: Any, **parameters: Any) -> SupSup:
    settings = {"outputs": 8, "density": 0.3, "optimiser": "adam", "learning_rate": 0.01} | parameters
    return SupSup(brief, **settings)


def test_layers_keep_a_share_or_a_number_for_each_input_and_output_and_at_most_half() -> None:
    assert kept_weights(LAYOUT, 0.25, None) == {"conv": 2352, "wide": 262144, "head": 6}
    # By hand: 4 * (64 + 3), 4 * (512 + 2048), and half of 24 where 4 * (4 + 6) is more.
    assert kept_weights(LAYOUT, None, 4.0) == {"conv": 268, "wide": 10240, "head": 12}
    assert kept_weights(LAYOUT, None, None) is None


@pytest.mark.parametrize(("density", "edges"), [(0.0, None), (1.0, None), (None, 0.0), (None, float("nan")), (0.5, 4.0)])
def test_impossible_densities_are_refused(density: float | None, edges: float | None) -> None:
    with pytest.raises(UserError, match=r"must be above 0|give one of them"):
        kept_weights(LAYOUT, density, edges)


def test_the_largest_scores_by_magnitude_are_kept() -> None:
    score = torch.tensor([[0.1, -0.9, 0.3], [-0.4, 0.2, 0.05]])
    assert selected(score, 2).tolist() == [[False, True, False], [True, False, False]]
    assert selected(score, 6).all()
    assert selected(score, None).tolist() == [[True, False, True], [False, True, True]]


def test_the_gradient_goes_through_the_decision_as_if_it_were_the_magnitude() -> None:
    score = torch.tensor([0.1, -0.9, 0.3, -0.4], requires_grad=True)
    slope = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (slope * straight_through(score, 2)).sum().backward()
    assert score.grad is not None
    assert score.grad.tolist() == [1.0, -2.0, 3.0, -4.0]


def test_a_step_is_adam_s_on_scores_with_the_gradient_of_the_masked_network(make_brief: Make, make_stream: Make) -> None:
    """Against torch's own Adam and a gradient that autograd takes of the effective weights."""
    method, stream = learner(make_brief(GG), weight_decay=0.01), make_stream(1)
    method.begin_task(0, 3)
    assert method.live is not None
    counts, base = method.kept, method.base
    assert counts is not None
    scores = {name: score.clone().requires_grad_() for name, score in base.layout.split(method.live.scores).items()}
    weights = base.layout.split(base.weights)
    optimiser = torch.optim.Adam(scores.values(), 0.01, weight_decay=0.01)
    for inputs, labels in stream[0].train.batches(3, 16, torch.Generator().manual_seed(0)):
        method.observe(inputs, labels)
        effective = {}
        for name, score in scores.items():
            order = score.abs().flatten().argsort(descending=True)[: counts[name]]
            mask = torch.zeros(score.numel()).index_fill(0, order, 1.0).view_as(score)
            effective[name] = (weights[name] * mask).detach().requires_grad_()
        cross_entropy(functional_call(base.network, effective, (inputs,)), labels).backward()
        for name, score in scores.items():
            score.grad = effective[name].grad * weights[name] * score.detach().sign()  # type: ignore[operator]
        optimiser.step()
    for name, score in base.layout.split(method.live.scores).items():
        torch.testing.assert_close(score, scores[name].detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", [{"density": 0.1}, {"density": None, "edges": 2.0}])
def test_masks_keep_the_requested_number_of_weights(how: dict[str, Any], make_brief: Make, make_stream: Make) -> None:
    method = learner(make_brief(GG), **how)
    teach(method, make_stream(1)[0], 0, SCHEDULE)
    masks = method.base.layout.split(method.bank.mask(0))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == method.kept


@pytest.mark.parametrize("start", ["random", "transfer"])
def test_the_stored_state_predicts_and_resumes_the_same(
    start: str, make_brief: Make, make_stream: Make, convolution: Make, tmp_path: Path
) -> None:
    stream = make_stream(3)

    def fresh() -> SupSup:
        return learner(make_brief(GNU, convolution), start=start)

    whole, again = fresh(), fresh()
    for index, task in enumerate(stream):
        teach(whole, task, index, SCHEDULE)
        teach(again, task, index, SCHEDULE)
        files = tmp_path / f"learned{index}", tmp_path / f"progress{index}"
        for state, file in zip((again.learned(), again.progress()), files, strict=True):
            storage.save(state, file)
            assert file.stat().st_size == storage.file_bytes(state)
        again = fresh()
        again.restore(*(storage.load(file) for file in files))
    mine, its = whole.learned(), again.learned()
    assert mine.keys() == its.keys() == {"seed", "codes", "ends", "statistics"}
    assert all(torch.equal(mine[name], its[name]) for name in mine)
    inputs, _ = stream[1].test.whole()
    for task_or_none in (0, 1, 2, None):
        one, other = whole.predict(inputs, task_or_none), again.predict(inputs, task_or_none)
        assert torch.equal(one.labels, other.labels)
    earlier = fresh()
    rewound = SupSup.rewind(mine, 2)
    assert rewound is not None
    earlier.restore(rewound)
    assert len(earlier.bank) == 2
    assert torch.equal(earlier.bank.mask(1), whole.bank.mask(1))
    assert torch.equal(earlier.predict(inputs, 1).labels, whole.predict(inputs, 1).labels)


def test_a_task_is_answered_after_all_tasks_exactly_as_right_after_it(
    make_brief: Make, make_stream: Make, convolution: Make
) -> None:
    """Batch-norm statistics are a task's own: no later task changes an answer."""
    method = learner(make_brief(GG, convolution))
    events = evaluate(method, make_stream(4), [Ask(GG)], [1, 2, 3, 4], SCHEDULE)
    accuracies = {(e.learned, e.task): e.accuracy for e in events if isinstance(e, Score)}
    for task in range(4):
        assert len({accuracies[learned, task] for learned in range(task + 1, 5)}) == 1
        assert accuracies[4, task] > 0.7


def test_the_learning_rate_follows_its_schedule(make_brief: Make, make_stream: Make) -> None:
    """With a cosine the last updates move the scores less than the first."""
    moves = {}
    for schedule in ("constant", "cosine"):
        method = learner(make_brief(GG), schedule=schedule)
        method.begin_task(0, 40)
        assert method.live is not None
        last = method.live.scores.clone()
        steps = []
        for batch in make_stream(1)[0].train.batches(40, 32, torch.Generator().manual_seed(0)):
            method.observe(*batch)
            steps.append((method.live.scores - last).abs().mean().item())
            last = method.live.scores.clone()
        moves[schedule] = steps[-1] / steps[0]
    assert moves["cosine"] < 0.1 * moves["constant"]


@pytest.mark.parametrize("parameters", [{"density": 0.5}, {"density": None, "edges": 3.0}, {"density": None, "schedule": "cosine"}])
def test_without_tasks_in_training_they_are_refused(parameters: dict[str, Any], make_brief: Make) -> None:
    with pytest.raises(UserError, match="need to know when a task begins"):
        learner(make_brief(NNS), **parameters)


def test_transfer_starts_from_the_mean_of_scores(make_brief: Make, make_stream: Make) -> None:
    stream, method = make_stream(3), learner(make_brief(GG), start="transfer")
    finished = []
    for index in range(2):
        method.begin_task(index, 10)
        for batch in stream[index].train.batches(10, 16, torch.Generator().manual_seed(index)):
            method.observe(*batch)
        assert method.live is not None
        finished.append(method.live.scores.clone())
        method.end_task(stream[index].train)
    method.begin_task(2, 10)
    torch.testing.assert_close(method.live.scores, (finished[0] + finished[1]) / 2)


def test_a_network_s_own_scales_keep_their_initial_values(make_brief: Make, make_stream: Make) -> None:
    """An affine normalisation has scales 1 and shifts 0 under every mask, so that they cost nothing."""

    def affine(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, outputs))

    method = learner(make_brief(GG, affine))
    teach(method, make_stream(1)[0], 0, SCHEDULE)
    assert torch.equal(method.base.fixed["2.weight"], torch.ones(32))
    assert torch.equal(method.base.fixed["2.bias"], torch.zeros(32))
    assert set(method.base.layout.shapes) == {"1.weight", "4.weight"}


def test_figure_2_decays_the_scores_of_resnet_18_and_not_those_of_resnet_50() -> None:
    small, large = (SupSup.recipe("split-imagenet", network, "GG").learn for network in ("resnet-18-20", "resnet-50"))
    assert (small["weight_decay"], small["schedule"], small["learning_rate"]) == (1e-4, "cosine", 1e-3)
    assert (large["weight_decay"], large["schedule"], large["learning_rate"]) == (0.0, "warm-up-cosine", 1e-3)
