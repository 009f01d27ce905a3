"""The density over fixed features: exact in any order, and equal to independent computations."""

import copy
import math

import pytest
import torch
from torch import Tensor

from clbench.methods._statistics import ClassStatistics

CPU = torch.device("cpu")


def some(classes: int = 3, each: int = 7, features: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated inputs of several classes, in a random order."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=draws)
    labels = torch.arange(classes).repeat_interleave(each)[torch.randperm(classes * each, generator=draws)]
    places = 2 * torch.randn(classes, features, generator=draws)
    return torch.randn(classes * each, features, generator=draws) @ mixing + places[labels], labels


def gathered(inputs: Tensor, labels: Tensor, *parts: Tensor) -> ClassStatistics:
    """The statistics of all inputs, or of their ``parts`` (rows), one part after another."""
    statistics = ClassStatistics(inputs.shape[1], CPU)
    for rows in parts or (torch.arange(len(labels)),):
        statistics.add(inputs[rows], labels[rows])
    return statistics


def test_means_and_scatter_are_those_of_a_double_loop() -> None:
    inputs, labels = some()
    statistics = gathered(inputs, labels)
    scatter = [[0.0] * 4 for _ in range(4)]
    for c in range(3):
        rows = [row for row, label in zip(inputs.tolist(), labels.tolist(), strict=True) if label == c]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        assert statistics.means[c].tolist() == pytest.approx(mean, abs=1e-6)
        for row in rows:
            for i in range(4):
                for j in range(4):
                    scatter[i][j] += (row[i] - mean[i]) * (row[j] - mean[j])
    assert statistics.counts.tolist() == [7, 7, 7]
    torch.testing.assert_close(statistics.scatter, torch.tensor(scatter, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_the_covariance_is_shrunk_as_scikit_learn_shrinks_it() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    inputs, labels = some()
    centred = inputs.double().clone()
    for c in range(3):
        centred[labels == c] -= centred[labels == c].mean(0)
    wanted, shrinkage = covariance.oas(centred.numpy(), assume_centered=True)
    assert 0 < shrinkage < 1
    torch.testing.assert_close(gathered(inputs, labels).covariance(), torch.from_numpy(wanted))


def test_differences_of_scores_are_those_of_the_logarithms_of_normal_densities() -> None:
    inputs, labels = some()
    statistics = gathered(inputs, labels)
    sigma = statistics.covariance()
    densities = [torch.distributions.MultivariateNormal(mean.double(), sigma) for mean in statistics.means]
    logarithms = torch.stack([density.log_prob(inputs.double()) for density in densities], 1)
    scores = statistics.discriminants().scores(inputs).double()
    torch.testing.assert_close(scores - scores[:, :1], logarithms - logarithms[:, :1], rtol=2e-3, atol=0.02)  # weights of 11 bits
    assert scores.argmax(1).tolist() == logarithms.argmax(1).tolist()


def test_the_order_of_tasks_changes_nothing_but_the_last_bits() -> None:
    inputs, labels = some(classes=6)
    tasks = [(labels // 2 == task).nonzero().squeeze(1) for task in range(3)]
    forwards, backwards = gathered(inputs, labels, *tasks), gathered(inputs, labels, *tasks[::-1])
    assert torch.equal(forwards.means, backwards.means)  # a class has its inputs from one task
    torch.testing.assert_close(forwards.scatter, backwards.scatter, rtol=1e-14, atol=1e-13)
    assert torch.equal(forwards.counts, backwards.counts)


def test_batches_of_any_size_give_the_same_as_all_inputs_at_once() -> None:
    inputs, labels = some()
    whole, by_batch = gathered(inputs, labels), gathered(inputs, labels, *torch.arange(21).split(4))
    torch.testing.assert_close(by_batch.means, whole.means)
    torch.testing.assert_close(by_batch.scatter, whole.scatter, rtol=1e-6, atol=1e-6)


def test_a_class_without_inputs_never_wins_and_its_numbers_are_finite() -> None:
    inputs, labels = some()
    discriminants = gathered(inputs, labels + 2 * (labels > 0)).discriminants()  # classes 0, 3 and 4
    assert all(tensor.isfinite().all() for tensor in discriminants)
    assert set(discriminants.scores(inputs).argmax(1).tolist()) == {0, 3, 4}


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scores_do_not_depend_on_the_unit_of_the_features(scale: float) -> None:
    inputs, labels = some()
    scores, scaled = (gathered(factor * inputs, labels).discriminants().scores(factor * inputs) for factor in (1.0, scale))
    torch.testing.assert_close(scaled, scores, rtol=1e-2, atol=0.1)


def test_features_that_do_not_vary_within_classes_give_the_nearest_mean() -> None:
    statistics = gathered(torch.tensor([[0.0, 0.0], [0.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 0, 1]))
    assert torch.equal(statistics.covariance(), torch.eye(2, dtype=torch.float64))
    scores = statistics.discriminants().scores(torch.tensor([[1.0, 9.0], [3.0, -9.0]]))
    # -|x - m|^2 / 2 without -|x|^2 / 2: w = m, offset -|m|^2 / 2.
    torch.testing.assert_close(scores, torch.tensor([[0.0, -4.0], [0.0, 4.0]]))


def test_restored_statistics_continue_as_those_that_were_saved() -> None:
    inputs, labels = some()
    first, second = torch.arange(21).split(11)
    saved = gathered(inputs, labels, first)
    restored = ClassStatistics(4, CPU)
    restored.restore(copy.deepcopy(saved.state()))
    for statistics in (saved, restored):
        statistics.add(inputs[second], labels[second])
    assert all(torch.equal(a, b) for a, b in zip(saved.state().values(), restored.state().values(), strict=True))
    assert saved.state()["scatter"].numel() == math.comb(4 + 1, 2)
