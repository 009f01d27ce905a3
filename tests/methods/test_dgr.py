"""DGR: what is replayed and with which answers, its losses against loops, the generator's bound, and its effect."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.dgr import DGR
from clbench.methods.naive import Naive
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU
from tests.methods.learning import accuracies

Make = Callable[..., Any]
SCENARIOS = [GG, GNS, GNU]
SMALL: dict[str, Any] = {"width": 60, "latent": 6, "generator_rate": 3e-3}


def narrow(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, outputs))


@pytest.mark.parametrize("distill", [False, True])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_loss_against_loops(scenario: Scenario, distill: bool, make_brief: Make, make_stream: Make) -> None:
    """1/3 of the batch's loss and 2/3 of that of drawn images, whose answers come from the old network, by a loop over images."""
    method = DGR(make_brief(scenario, narrow), distill=distill, temperature=3.0, replay_batch=6, learning_rate=0.01, **SMALL)
    stream = make_stream(3)
    for index in range(2):
        teach(method, stream[index], index, Schedule(20, 16))
    method.begin_task(2, 2)
    old, heads = (
        {name: t.clone() for name, t in method.trained.items()},
        {"GG": [range(4), range(4, 8)], "GNs": [range(4)], "GNu": [range(8)]},
    )
    for inputs, labels in stream[2].train.batches(2, 16, torch.Generator().manual_seed(0)):
        replayed = method.draw(6)
        now = {name: t.clone() for name, t in method.trained.items()}
        own = {"GG": range(8, 12), "GNs": range(4), "GNu": range(12)}[scenario.name]
        batch = [
            -functional_call(method.network, now, (x[None],))[0][list(own)].log_softmax(0)[int(y) + (8 if scenario is GNU else 0)]
            for x, y in zip(inputs, labels, strict=True)
        ]
        replay = []
        for x in replayed:
            then, present = (functional_call(method.network, weights, (x[None],))[0] for weights in (old, now))
            for head in heads[scenario.name]:
                compared = list(range(12)) if scenario is GNU else list(head)
                if distill:
                    wanted, log_p = (then[list(head)] / 3).softmax(0), (present[compared] / 3).log_softmax(0)
                    replay.append(-9 * sum(q * log_p[compared.index(k)] for q, k in zip(wanted, head, strict=True)))
                else:
                    replay.append(-present[compared].log_softmax(0)[compared.index(head[int(then[list(head)].argmax())])])
        expected = sum(batch) / len(batch) / 3 + 2 / 3 * sum(replay) / len(replay)
        loss = method.observe(inputs, labels)
        assert loss is not None
        assert float(loss) == pytest.approx(float(expected), rel=1e-3)


def test_the_generator_s_loss_weighs_the_batch_and_its_own_images(make_brief: Make, make_stream: Make) -> None:
    method = DGR(make_brief(GNS), replay_batch=4, **SMALL)
    inputs, labels = make_stream(1)[0].train.whole(6)
    noise = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.25, 0.25, 0.125, 0.125, 0.125, 0.125])  # two of the batch and four drawn, in the second task
    ours, _ = method.bound(method.generator, {"noise": noise, "weights": weights}, inputs, labels)
    total = 0.0
    for x, e, weight in zip(inputs.flatten(1), noise, weights.tolist(), strict=True):
        mean, log_variance, outputs = functional_call(method.autoencoder, method.generator, (x, e))
        q, p = torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
        divergence = torch.distributions.kl_divergence(q, p).sum()
        total += weight * float((x - outputs).square().sum() / 2 + divergence) / 64
    assert float(ours) == pytest.approx(total, rel=1e-4)


def test_drawn_images_look_like_earlier_tasks(make_brief: Make, make_stream: Make) -> None:
    """They are nearer to the means of the earlier task's classes than to those of the present one's."""
    method, stream = DGR(make_brief(GNU), **SMALL), make_stream(2)
    teach(method, stream[0], 0, Schedule(200, 32))
    method.begin_task(1, 1)
    images = method.draw(100).flatten(1)

    def nearest(task: int) -> Tensor:
        inputs, labels = stream[task].train.whole()
        means = torch.stack([inputs[labels == k].flatten(1).mean(0) for k in range(4)])
        return torch.cdist(images, means).amin(1)

    assert (nearest(0) < nearest(1)).float().mean() > 0.95


@pytest.mark.parametrize("distill", [False, True])
@pytest.mark.parametrize("scenario", [GNS, GNU], ids=lambda s: s.name)
def test_it_forgets_less_than_naive_and_learns_as_much(
    scenario: Scenario, distill: bool, make_brief: Make, make_stream: Make
) -> None:
    brief, shared = make_brief(scenario), {"learning_rate": 0.01, "restart": True, "optimiser": "adam"}
    naive = accuracies(Naive(brief, **shared), make_stream(4), updates=100)
    scores = accuracies(DGR(brief, distill=distill, **shared, **SMALL), make_stream(4), updates=100)
    assert scores[-1].mean() > naive[-1].mean() + (0.3 if scenario is GNU else 0.0)
    assert scores.diag().mean() > naive.diag().mean() - 0.05


def test_grey_values_outside_0_to_1_have_no_bernoulli_likelihood(make_brief: Make, make_stream: Make) -> None:
    method = DGR(make_brief(GNU), likelihood="bernoulli")
    method.begin_task(0, 1)
    with pytest.raises(UserError, match="likelihood=bernoulli needs inputs from 0 to 1"):
        method.observe(*make_stream(1)[0].train.whole(8))
