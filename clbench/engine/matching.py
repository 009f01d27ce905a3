"""Find out which component of a learner belongs to which task, for learners that are never told the tasks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment


def match_components(counts: ArrayLike) -> NDArray[np.int64]:
    """The task for which each of a learner's own components (masks, say) stands, if the learner is never told the tasks.

    counts[t, c], integers of shape [tasks, components], is how often the true task was t and the learner inferred component c. The result
    is the one-to-one matching of components to tasks that maximises the sum of the matched counts (the Hungarian method, Kuhn 1955): an
    array of shape [components] with a task for each, or -1 for a component without one. That happens if there are more components than
    tasks, or if a component shares no count with a remaining task. Raises ``ValueError`` if counts is not a matrix of non-negative
    integers.

    >>> match_components([[0, 9, 1], [8, 0, 3]]).tolist()
    [1, 0, -1]
    """
    matrix = np.asarray(counts)
    if matrix.ndim != 2 or not (np.issubdtype(matrix.dtype, np.integer) or matrix.size == 0) or (matrix < 0).any():
        raise ValueError("counts must be a matrix [tasks, components] of non-negative integers")
    tasks, components = linear_sum_assignment(matrix, maximize=True)
    matched = np.full(matrix.shape[1], -1, dtype=np.int64)
    matched[components] = np.where(matrix[tasks, components] > 0, tasks, -1)
    return matched
