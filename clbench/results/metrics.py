"""Metrics of continual learning: pure functions of the accuracy matrix.

``R[i, j]`` is the accuracy on task ``j`` at checkpoint ``i``. Rows are checkpoints: ``learned[i]`` tasks have been
learned at row ``i``, by default 1, 2, ..., n, one row after every task. Columns are tasks in the order in which they
are learned; there may be more of them than have been learned. An entry that was not measured is NaN (or None). Tasks
and rows count from 0, and all means are over what was measured: a metric with no measured entries is NaN.

A matrix that is not two-dimensional or has no rows, and a ``learned`` that does not fit it, raise ``ValueError``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean of ``n`` values and the half width of its confidence interval: mean ± half_width."""

    mean: float
    half_width: float
    n: int


def average_accuracy(R: ArrayLike, learned: Sequence[int] | None = None) -> float:
    """ACC: the average accuracy over all learned tasks at the last checkpoint.

    ACC = 1/T sum_{j < T} R[last, j], where T tasks have been learned at the last row (Lopez-Paz & Ranzato 2017,
    "Gradient episodic memory for continual learning").

    >>> round(average_accuracy([[0.9, np.nan], [0.7, 0.8]]), 3)
    0.75
    """
    return float(average_accuracy_by_row(R, learned)[-1])


def average_accuracy_by_row(R: ArrayLike, learned: Sequence[int] | None = None) -> Floats:
    """The average accuracy over the tasks learned so far at each checkpoint: the curve of accuracy against tasks.

    A[i] = 1/T_i sum_{j < T_i} R[i, j], with T_i = learned[i] (Chaudhry et al. 2018, "Riemannian walk for incremental
    learning"). Shape [rows].

    >>> average_accuracy_by_row([[0.9, np.nan, np.nan], [0.6, 0.8, 1.0]], learned=[1, 2]).round(3).tolist()
    [0.9, 0.7]
    """
    R, counts = _checked(R, learned)
    return np.array([_mean(row[:count]) for row, count in zip(R, counts, strict=True)])


def backward_transfer(R: ArrayLike, learned: Sequence[int] | None = None) -> float:
    """BWT: how learning later tasks changed the accuracy on earlier ones; negative if accuracy was lost.

    BWT = 1/(T - 1) sum_{j < T - 1} (R[last, j] - R[j, j]) (Lopez-Paz & Ranzato 2017).

    If R[j, j] was not measured, because there are fewer checkpoints than tasks, the first row at which task j had been
    learned and was measured replaces it. Tasks that were first measured at the last row have no earlier accuracy and
    do not count.

    >>> round(backward_transfer([[0.9, np.nan], [0.7, 0.8]]), 3)
    -0.2
    >>> round(backward_transfer([[0.9, 0.8, np.nan], [0.7, 0.7, 0.9]], learned=[2, 3]), 3)
    -0.15
    """
    R, counts = _checked(R, learned)
    after = np.where(_known(R, counts), R, np.nan)
    first = np.argmax(~np.isnan(after), axis=0)  # row 0 where nothing was measured: NaN there
    changes = after[-1] - after[first, np.arange(R.shape[1])]
    return _mean(changes[first < len(R) - 1])


def forgetting(R: ArrayLike, learned: Sequence[int] | None = None) -> float:
    """Forgetting: how far the accuracy on earlier tasks lies below the best that it ever was before.

    F = 1/(T - 1) sum_{j < T - 1} (max_{i < last} R[i, j] - R[last, j]) (Chaudhry et al. 2018). The maximum is over
    earlier rows only, all of them, so forgetting is negative if the last row is the best.

    If there are fewer checkpoints than tasks, the maximum is over the earlier rows that were measured, and only
    tasks that had been learned at an earlier row count.

    >>> round(forgetting([[0.5, np.nan, np.nan], [0.9, 0.8, np.nan], [0.6, 0.9, 0.8]]), 3)
    0.1
    """
    R, counts = _checked(R, learned)
    earlier = slice(int(counts[-2]) if len(counts) > 1 else 0)
    best = np.fmax.reduce(R[:-1, earlier], axis=0, initial=np.nan)  # fmax passes over NaN
    return _mean(best - R[-1, earlier])


def anytime_accuracy(R: ArrayLike, learned: Sequence[int] | None = None) -> float:
    """Anytime accuracy: the mean over checkpoints of the average accuracy over the tasks learned so far.

    AA = 1/rows sum_i A[i], with A as in `average_accuracy_by_row`. With a checkpoint after every task it is the
    average incremental accuracy of Rebuffi et al. 2017 ("iCaRL"); with fewer it depends on which they are,
    and compares only between equal ones.

    >>> round(anytime_accuracy([[0.9, np.nan], [0.6, 0.8]]), 3)
    0.8
    """
    return _mean(average_accuracy_by_row(R, learned))


def task_inference_accuracy(T: ArrayLike | None, learned: Sequence[int] | None = None) -> float:
    """How often the task was inferred correctly, on average over all learned tasks at the last checkpoint.

    1/n sum_{j < n} T[last, j], where T[i, j] is the share of the answers on task j at checkpoint i that named task j.
    NaN for a method that infers no task: T is None, or all its entries are None or NaN. What is averaged is the
    success of task inference in Wortsman et al. 2020, "Supermasks in superposition", section 3.3.

    >>> task_inference_accuracy([[1.0, None], [1.0, 0.5]])
    0.75
    >>> task_inference_accuracy(None)
    nan
    """
    return float("nan") if T is None else average_accuracy(T, learned)


def mean_t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of independent values (one a seed) with the half width of its Student t confidence interval.

    half_width = t_{n-1, (1 + confidence)/2} s / sqrt(n), with s the standard deviation that divides by n - 1 (Student
    1908). A single value has no width: NaN; without values the mean is NaN too. A NaN among the values makes both
    NaN. Raises ``ValueError`` if the values are not one-dimensional or confidence is not between 0 and 1.

    >>> mean, half_width, n = mean_t_interval([0.93, 0.94, 0.95])
    >>> f"{mean:.3f} ± {half_width:.3f} (n={n})"
    '0.940 ± 0.025 (n=3)'
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"values must be one-dimensional; their shape is {sample.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    n = len(sample)
    mean = float(sample.mean()) if n else float("nan")
    if n < 2:
        return Interval(mean, float("nan"), n)
    quantile = float(stdtrit(n - 1, (1 + confidence) / 2))
    return Interval(mean, quantile * float(sample.std(ddof=1)) / n**0.5, n)


def _checked(R: ArrayLike, learned: Sequence[int] | None) -> tuple[Floats, NDArray[np.int64]]:
    """The matrix as floats, and the number of tasks learned at each of its rows."""
    matrix = np.asarray(R, dtype=np.float64)  # None becomes NaN
    if matrix.ndim != 2 or not len(matrix):
        raise ValueError(f"an accuracy matrix is [checkpoints, tasks], with a row at least; this one is {matrix.shape}")
    rows, tasks = matrix.shape
    counts = np.arange(1, rows + 1) if learned is None else np.asarray(learned)
    numbers = counts.shape == (rows,) and np.issubdtype(counts.dtype, np.integer)
    if not numbers or (np.diff(counts, prepend=0) < 1).any() or counts[-1] > tasks:
        raise ValueError(f"learned needs {rows} increasing numbers from 1 to {tasks}, not {counts.tolist()}")
    return matrix, counts.astype(np.int64)


def _known(R: Floats, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where the task of a column had been learned at the checkpoint of a row: booleans of R's shape."""
    return np.arange(R.shape[1]) < counts[:, None]


def _mean(values: Floats) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else float("nan")
