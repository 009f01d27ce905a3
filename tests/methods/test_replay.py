"""Replay: the reservoir is uniform, stored images train the outputs of their own task, and it acts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from clbench import networks
from clbench.errors import UserError
from clbench.methods._reservoir import Reservoir
from clbench.methods.naive import Naive
from clbench.methods.replay import Replay
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from tests.methods.learning import accuracies

Make = Callable[..., Any]
CPU = torch.device("cpu")
SCENARIOS = [GG, GNS, GNU, NNS]


def shown(reservoir: Reservoir, images: int, batch: int) -> Reservoir:
    """Show it images that hold their numbers."""
    for numbers in torch.arange(images).split(batch):
        reservoir.add(numbers.float()[:, None], numbers)
    return reservoir


def test_every_image_and_every_pair_is_equally_likely_to_be_stored() -> None:
    images, size, times = 11, 3, 4000
    single, pairs = torch.zeros(images), torch.zeros(images, images)
    for seed in range(times):
        labels = shown(Reservoir(size, (1,), seed, CPU), images, batch=4).labels
        assert len(labels.unique()) == size
        single[labels] += 1
        pairs[labels[:, None], labels] += 1
    for counts, probability in ((single, size / images), (pairs[~torch.eye(images, dtype=torch.bool)], 3 * 2 / (11 * 10))):
        deviation = (times * probability * (1 - probability)) ** 0.5
        assert (counts - times * probability).abs().max() < 4.5 * deviation


def test_until_it_is_full_it_stores_all_images_with_their_labels() -> None:
    reservoir = shown(Reservoir(10, (1,), 0, CPU), images=7, batch=4)
    assert len(reservoir) == 7
    assert reservoir.labels[:7].tolist() == list(range(7))
    assert torch.equal(reservoir.inputs[:7, 0], torch.arange(7.0))
    inputs, labels = reservoir.draw(500)
    assert torch.equal(inputs[:, 0], labels.float())
    assert sorted(labels.unique().tolist()) == list(range(7))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_steps_against_a_loop_with_plain_autograd(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    """In GG each image trains its own task's head, in GNu all outputs compete, else there is one head."""
    method = Replay(make_brief(scenario), memory=20, replay_batch=6, optimiser="sgd", learning_rate=0.1)
    task_given, classes = scenario.task_given_in_training, method.brief.classes
    first = nn.Parameter(method.trained["fc1.weight"].clone())
    heads: list[nn.Parameter] = []
    for index, task in enumerate(make_stream(2)):
        if task_given:
            method.begin_task(index, 5)
        if index == 0 or scenario in (GG, GNU):
            rows = slice(classes * index, classes * (index + 1))
            heads.append(nn.Parameter(method.trained["fc2.weight"][rows].clone()))
        for inputs, labels in task.train.batches(5, 8, torch.Generator().manual_seed(index)):
            number = len(heads) - 1
            both, targets = inputs, labels + classes * number
            if len(method.memory):
                replayed = method.memory.draw(6)
                both, targets = torch.cat([both, replayed[0]]), torch.cat([targets, replayed[1]])
            method.observe(inputs, labels)
            hidden = (both.flatten(1) @ first.T).relu()
            if scenario is GG:
                pairs = zip(hidden, targets.tolist(), strict=True)
                losses = [
                    cross_entropy(heads[target // classes] @ image, torch.tensor(target % classes)) for image, target in pairs
                ]
                loss = torch.stack(losses).mean()
            else:
                loss = cross_entropy(hidden @ torch.cat(list(heads)).T, targets)
            with torch.no_grad():
                for weight, gradient in zip([first, *heads], torch.autograd.grad(loss, [first, *heads]), strict=True):
                    weight -= 0.1 * gradient
        torch.testing.assert_close(method.trained["fc1.weight"], first.detach(), rtol=1e-4, atol=1e-6)
        trained = torch.cat([head.detach() for head in heads])
        torch.testing.assert_close(method.trained["fc2.weight"][: len(trained)], trained, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("scenario", "hidden"), [(GG, 6), (GNS, 12), (GNU, 64), (NNS, 12)], ids=lambda s: getattr(s, "name", s))
def test_it_forgets_less_than_naive_and_learns_as_much(
    scenario: Scenario, hidden: int, make_brief: Make, make_stream: Make
) -> None:
    brief = make_brief(scenario, lambda outputs: networks.mlp((1, 8, 8), (hidden,), outputs, bias=False))
    # An optimiser that is re-initialised for each task forgets more.
    naive = accuracies(Naive(brief, learning_rate=0.01, restart=True), make_stream(5))
    scores = accuracies(Replay(brief, memory=200, replay_batch=32, learning_rate=0.01, restart=True), make_stream(5))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive, scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < forgetting[0] / 2
    assert scores.diag().mean() > naive.diag().mean() - 0.03


def test_the_buffer_is_counted_in_progress_and_never_above_its_size(make_brief: Make, make_stream: Make) -> None:
    method, task = Replay(make_brief(GNS), memory=30), make_stream(1)[0]
    method.begin_task(0, 4)
    sizes = []
    for inputs, labels in task.train.batches(4, 16, torch.Generator().manual_seed(0)):
        method.observe(inputs, labels)
        sizes.append(method.progress()["memory.inputs"].shape)
    assert sizes == [(16, 1, 8, 8), (30, 1, 8, 8), (30, 1, 8, 8), (30, 1, 8, 8)]


def test_a_memory_of_size_zero_is_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match="memory must be at least 1, not 0"):
        Replay(make_brief(GNS), memory=0)
