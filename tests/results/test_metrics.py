"""Every metric against double loops written here from the published formulas, and against cases worked by hand."""

import doctest
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from clbench.results import metrics

nan = math.nan


@st.composite
def checkpoints(draw: st.DrawFn, complete: bool = False) -> tuple[NDArray[np.float64], list[int]]:
    """An accuracy matrix with the tasks learned at each row; with gaps, and fewer rows than tasks, unless complete."""
    tasks = draw(st.integers(1, 7))
    learned = list(range(1, tasks + 1))
    if not complete:
        learned = sorted(draw(st.sets(st.sampled_from(learned), min_size=1)))
    accuracy = st.floats(0, 1) if complete else st.one_of(st.floats(0, 1), st.just(nan))
    rows = [[draw(accuracy) for _ in range(tasks)] for _ in learned]
    return np.array(rows), learned


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else nan


def same(actual: float, expected: float) -> bool:
    return actual == pytest.approx(expected, abs=1e-12, nan_ok=True)


def loop_average(R: NDArray[np.float64], learned: list[int]) -> list[float]:
    averages = []
    for i in range(len(learned)):
        averages.append(mean([R[i, j] for j in range(learned[i]) if not math.isnan(R[i, j])]))
    return averages


def loop_backward(R: NDArray[np.float64], learned: list[int]) -> float:
    last = len(learned) - 1
    changes = []
    for j in range(R.shape[1]):
        for i in range(last):
            if j < learned[i] and not math.isnan(R[i, j]):
                if not math.isnan(R[last, j]):
                    changes.append(R[last, j] - R[i, j])
                break
    return mean(changes)


def loop_forgetting(R: NDArray[np.float64], learned: list[int]) -> float:
    last = len(learned) - 1
    losses = []
    for j in range(learned[last - 1] if last else 0):
        best = -math.inf
        for i in range(last):
            if R[i, j] > best:  # never true of NaN
                best = R[i, j]
        if best > -math.inf and not math.isnan(R[last, j]):
            losses.append(best - R[last, j])
    return mean(losses)


@given(checkpoints())
def test_average_accuracy_is_the_mean_over_learned_tasks(case: tuple[NDArray[np.float64], list[int]]) -> None:
    R, learned = case
    expected = loop_average(R, learned)
    averages = metrics.average_accuracy_by_row(R, learned)
    assert averages.shape == (len(learned),)
    assert all(map(same, averages, expected))
    assert same(metrics.average_accuracy(R, learned), expected[-1])
    assert same(metrics.task_inference_accuracy(R, learned), expected[-1])
    assert same(metrics.anytime_accuracy(R, learned), mean([a for a in expected if not math.isnan(a)]))


@given(checkpoints())
def test_backward_transfer_and_forgetting_with_gaps(case: tuple[NDArray[np.float64], list[int]]) -> None:
    R, learned = case
    assert same(metrics.backward_transfer(R, learned), loop_backward(R, learned))
    assert same(metrics.forgetting(R, learned), loop_forgetting(R, learned))


@given(checkpoints(complete=True))
def test_complete_matrices_give_the_published_formulas(case: tuple[NDArray[np.float64], list[int]]) -> None:
    R, _ = case
    T = len(R)
    earlier = range(T - 1)
    backward = mean([R[T - 1, j] - R[j, j] for j in earlier])
    forgotten = mean([max(R[i, j] for i in range(T - 1)) - R[T - 1, j] for j in earlier])
    assert same(metrics.average_accuracy(R), mean([R[T - 1, j] for j in range(T)]))
    assert same(metrics.backward_transfer(R), backward)
    assert same(metrics.forgetting(R), forgotten)
    assert T == 1 or forgotten >= -backward - 1e-12  # the best earlier accuracy is at least the one right after learning


@given(checkpoints())
def test_the_matrix_is_not_changed(case: tuple[NDArray[np.float64], list[int]]) -> None:
    R, learned = case
    before = R.copy()
    metrics.anytime_accuracy(R, learned)
    metrics.backward_transfer(R, learned)
    metrics.forgetting(R, learned)
    assert np.array_equal(R, before, equal_nan=True)


# After each of three tasks: task 0 falls from 0.9 to 0.5 and recovers to 0.6, task 1 rises from 0.7 to 0.8.
BY_HAND = np.array([[0.9, 0.2, 0.1], [0.5, 0.7, 0.4], [0.6, 0.8, 1.0]])


def test_a_matrix_by_hand() -> None:
    assert same(metrics.average_accuracy(BY_HAND), 0.8)
    assert metrics.average_accuracy_by_row(BY_HAND) == pytest.approx([0.9, 0.6, 0.8])
    assert same(metrics.anytime_accuracy(BY_HAND), (0.9 + 0.6 + 0.8) / 3)
    assert same(metrics.backward_transfer(BY_HAND), ((0.6 - 0.9) + (0.8 - 0.7)) / 2)
    assert same(metrics.forgetting(BY_HAND), ((0.9 - 0.6) + (0.7 - 0.8)) / 2)


def test_forgetting_takes_the_maximum_over_earlier_rows_only() -> None:
    assert same(metrics.forgetting([[0.4, nan], [0.9, 0.9]]), -0.5)  # with the last row among them it would be 0


def test_fewer_checkpoints_than_tasks() -> None:
    R = [[0.9, 0.5, nan, nan], [0.7, 0.6, 0.8, 0.4]]
    learned = [2, 4]
    assert metrics.average_accuracy_by_row(R, learned) == pytest.approx([0.7, 0.625])
    assert same(metrics.backward_transfer(R, learned), ((0.7 - 0.9) + (0.6 - 0.5)) / 2)  # tasks 2 and 3 have no past
    assert same(metrics.forgetting(R, learned), ((0.9 - 0.7) + (0.5 - 0.6)) / 2)


def test_backward_transfer_ignores_what_was_measured_before_learning() -> None:
    R = [[0.9, 0.1, nan], [nan, nan, nan], [0.8, 0.7, 0.5], [0.6, 0.4, 0.5]]
    transfer = metrics.backward_transfer(np.pad(R, ((0, 0), (0, 1)), constant_values=nan), learned=[1, 2, 3, 4])
    assert same(transfer, ((0.6 - 0.9) + (0.4 - 0.7) + (0.5 - 0.5)) / 3)


def test_one_task_has_no_past() -> None:
    assert metrics.average_accuracy([[0.9]]) == 0.9
    assert math.isnan(metrics.backward_transfer([[0.9]]))
    assert math.isnan(metrics.forgetting([[0.9]]))


def test_task_inference_accuracy_of_a_method_that_infers_none() -> None:
    assert math.isnan(metrics.task_inference_accuracy(None))
    assert math.isnan(metrics.task_inference_accuracy(np.full((2, 2), None)))
    assert math.isnan(metrics.task_inference_accuracy(np.full((2, 2), nan)))
    assert metrics.task_inference_accuracy(np.array([[1.0, None], [0.0, 1.0]])) == 0.5  # a zero counts, unlike an absence


@pytest.mark.parametrize(
    "metric",
    [
        metrics.average_accuracy,
        metrics.average_accuracy_by_row,
        metrics.backward_transfer,
        metrics.forgetting,
        metrics.anytime_accuracy,
        metrics.task_inference_accuracy,
    ],
)
def test_matrices_that_make_no_sense_are_refused(metric: Callable[..., object]) -> None:
    for R in (0.5, [0.5, 0.5], np.zeros((0, 3)), np.zeros((3, 2))):
        with pytest.raises(ValueError, match=r"matrix|learned"):
            metric(R)
    for learned in ([1], [1, 2, 3], [2, 1], [1, 1], [0, 1], [1, 4], [0.5, 1.0]):
        with pytest.raises(ValueError, match="learned needs 2 increasing numbers from 1 to 3"):
            metric(np.zeros((2, 3)), learned)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.5, 0.999))
def test_mean_t_interval_agrees_with_scipy_stats(values: list[float], confidence: float) -> None:
    centre, half_width, n = metrics.mean_t_interval(values, confidence)
    error = math.sqrt(sum((v - mean(values)) ** 2 for v in values) / (n - 1) / n)
    assert n == len(values)
    assert same(centre, mean(values))
    assert half_width == pytest.approx(error * stats.t(n - 1).ppf((1 + confidence) / 2), abs=1e-9)


def test_mean_t_interval_by_hand() -> None:
    # Standard deviation 1, standard error 1/sqrt(3), t = 4.302653 with two degrees of freedom (from a printed table).
    assert metrics.mean_t_interval([1, 2, 3]) == pytest.approx((2, 4.302653 / math.sqrt(3), 3), abs=1e-6)


def test_mean_t_interval_without_enough_values() -> None:
    assert metrics.mean_t_interval([0.9]) == pytest.approx((0.9, nan, 1), nan_ok=True)
    assert metrics.mean_t_interval([]) == pytest.approx((nan, nan, 0), nan_ok=True)
    assert metrics.mean_t_interval([0.9, nan]) == pytest.approx((nan, nan, 2), nan_ok=True)


def test_mean_t_interval_refuses_what_makes_no_sense() -> None:
    for confidence in (0.0, 1.0, 95.0, nan):
        with pytest.raises(ValueError, match="confidence"):
            metrics.mean_t_interval([1, 2], confidence)
    with pytest.raises(ValueError, match="one-dimensional"):
        metrics.mean_t_interval([[1, 2]])


def test_the_examples_in_the_docstrings() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted > 7
    assert result.failed == 0
