"""The matching of components to tasks, against every possible matching and cases worked by hand."""

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench.engine import matching
from clbench.engine.matching import match_components


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_match_components_is_the_best_one_to_one_matching(tasks: int, components: int, data: st.DataObject) -> None:
    cell = st.integers(0, 20)
    counts = np.array([[data.draw(cell) for _ in range(components)] for _ in range(tasks)])
    matched = match_components(counts)
    best = 0
    slots = [*range(tasks), *[-1] * components]
    for choice in set(itertools.permutations(slots, components)):
        best = max(best, sum(counts[t, c] for c, t in enumerate(choice) if t >= 0))
    used = [int(t) for t in matched if t >= 0]
    assert matched.shape == (components,)
    assert matched.dtype == np.int64
    assert len(used) == len(set(used))
    assert all(t < tasks for t in used)
    assert sum(counts[t, c] for c, t in enumerate(matched) if t >= 0) == best


def test_match_components_undoes_a_renumbering() -> None:
    numbering = [2, 0, 3, 1]  # the component that stands for task 0, 1, ...
    counts = np.zeros((4, 4), dtype=int)
    counts[range(4), numbering] = 79
    matched = match_components(counts)
    assert matched[numbering].tolist() == [0, 1, 2, 3]


def test_match_components_leaves_the_unmatched_out() -> None:
    assert match_components([[5, 4, 0]]).tolist() == [0, -1, -1]  # more components than tasks
    assert match_components([[5], [6]]).tolist() == [1]  # fewer
    assert match_components([[5, 0], [6, 0]]).tolist() == [1, -1]  # a component that was never inferred
    assert match_components(np.zeros((3, 0), dtype=int)).tolist() == []


def test_match_components_prefers_the_total_to_the_largest_count() -> None:
    assert match_components([[10, 9], [8, 1]]).tolist() == [1, 0]  # 9 + 8, not 10 + 1


def test_match_components_refuses_what_is_no_count() -> None:
    for counts in ([[0.5]], [[-1]], [1, 2]):
        with pytest.raises(ValueError, match="non-negative integers"):
            match_components(counts)


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(matching) == (0, 1)
