"""Verdicts: by the interval of a difference over paired seeds, and nothing is decided by one seed."""

import math

import pandas as pd
import pytest
from scipy import stats

from clbench.paper.verdicts import (
    ABOVE,
    BELOW,
    FAILS,
    HOLDS,
    SINGLE,
    UNDECIDED,
    Difference,
    Quantity,
    Region,
    Table,
    beyond,
    difference,
    together,
    verdict,
    within,
)


def made(name: str, *values: float) -> Quantity:
    """A quantity with these values for seeds 0, 1, …; its own mean and width are wrong, so that a test sees if they are used."""
    return Quantity(name, -1.0, -1.0, len(values), dict(enumerate(values)))


def of_means(name: str, mean: float, half_width: float, n: int) -> Quantity:
    return Quantity(name, mean, half_width, n)


def test_a_difference_is_that_of_the_paired_test() -> None:
    first, second = (0.94, 0.95, 0.93), (0.90, 0.92, 0.91)
    gap = difference(made("a", *first), made("b", *second))
    expected = stats.ttest_rel(first, second)
    assert (gap.name, gap.n, gap.basis) == ("a - b", 3, "3 seeds")
    assert gap.mean == pytest.approx(0.03)
    assert gap.p_value == pytest.approx(expected.pvalue)
    assert gap.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_seeds_are_paired_by_their_number_and_not_by_their_order() -> None:
    second = Quantity("b", 0.0, 0.0, 3, {2: 0.91, 0: 0.90, 1: 0.92, 7: 0.1})
    gap = difference(made("a", 0.94, 0.95, 0.93), second)
    assert gap.n == 3
    assert gap.mean == pytest.approx(0.03)


def test_means_alone_give_the_widest_interval_that_any_pairing_could() -> None:
    first, second = (0.94, 0.95, 0.93), (0.90, 0.92, 0.91)

    def width(values: tuple[float, ...]) -> float:
        return float(stats.sem(values) * stats.t.ppf(0.975, 2))

    gap = difference(of_means("a", 0.94, width(first), 3), of_means("b", 0.91, width(second), 3))
    assert gap.half_width == pytest.approx(width(first) + width(second))
    assert math.isnan(gap.p_value)
    assert "before values by seed were kept" in gap.basis
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)):
        paired = difference(made("a", *first), made("b", *(second[i] for i in order)))
        assert paired.half_width <= gap.half_width + 1e-12


def test_a_level_is_a_quantity_without_spread() -> None:
    gap = difference(made("share", 0.97, 0.99), 0.95)
    assert gap.name == "share - 95.00 %"
    assert gap.p_value == pytest.approx(stats.ttest_1samp([0.97, 0.99], 0.95).pvalue)


def of(mean: float, half_width: float) -> Difference:
    return Difference("a - b", 3, mean, half_width, 0.5, "%", "")


@pytest.mark.parametrize(
    ("region", "mean", "half_width", "right"),
    [
        (ABOVE, 0.03, 0.02, HOLDS),
        (ABOVE, 0.03, 0.03001, UNDECIDED),  # it covers zero
        (ABOVE, -0.03, 0.04, UNDECIDED),
        (ABOVE, -0.03, 0.02, FAILS),
        (ABOVE, 0.0, 0.0, FAILS),  # the same on every seed
        (BELOW, -0.03, 0.02, HOLDS),
        (BELOW, 0.03, 0.02, FAILS),
        (within(0.01), 0.0, 0.009, HOLDS),
        (within(0.01), 0.0, 0.011, UNDECIDED),  # no difference is shown, and no equivalence either
        (within(0.01), 0.005, 0.004, HOLDS),
        (within(0.01), 0.03, 0.01, FAILS),
        (within(0.01), -0.03, 0.01, FAILS),
        (beyond(0.01), 0.03, 0.01, HOLDS),
        (beyond(0.01), 0.015, 0.01, UNDECIDED),
        (beyond(0.01), 0.0, 0.005, FAILS),
        (ABOVE, 0.5, math.nan, UNDECIDED),
    ],
)
def test_an_interval_decides_only_as_a_whole(region: Region, mean: float, half_width: float, right: str) -> None:
    assert verdict(of(mean, half_width), region) == right


def test_one_seed_decides_nothing() -> None:
    gap = difference(made("a", 0.9), made("b", 0.1))
    assert (gap.basis, gap.n, verdict(gap, ABOVE)) == (SINGLE, 1, UNDECIDED)


@pytest.mark.parametrize(
    ("verdicts", "every", "one_is_enough"),
    [
        ((HOLDS, HOLDS), HOLDS, HOLDS),
        ((HOLDS, UNDECIDED), UNDECIDED, HOLDS),
        ((HOLDS, FAILS), FAILS, HOLDS),
        ((UNDECIDED, FAILS), FAILS, UNDECIDED),
        ((FAILS, FAILS), FAILS, FAILS),
        ((), HOLDS, FAILS),  # of nothing, everything is true and nothing exists
    ],
)
def test_several_differences_make_one_verdict(verdicts: tuple[str, ...], every: str, one_is_enough: str) -> None:
    assert together(verdicts, every=True) == every
    assert together(verdicts, every=False) == one_is_enough


def test_a_table_gives_the_end_of_a_curve_with_its_seeds() -> None:
    points = pd.DataFrame({"curve": "a", "learned": [1, 5], "accuracy": [0.9, 0.7], "accuracy_interval": [0.0, 0.1], "n": 2})
    seeds = pd.DataFrame({"curve": "a", "learned": [1, 5, 1, 5], "seed": [3, 3, 4, 4], "accuracy": [0.9, 0.68, 0.9, 0.72]})
    assert Table(points, seeds).end("a") == Quantity("a", 0.7, 0.1, 2, {3: 0.68, 4: 0.72})
    with pytest.raises(KeyError):
        Table(points).end("b")


def test_the_curves_on_a_line_come_in_the_order_of_their_values() -> None:
    points = pd.DataFrame(
        [("GNu H", "paper", 100.0), ("GNu H", "paper", 25.0), ("GNu H", "image", 10.0), ("GG", "paper", 10.0)],
        columns=["line", "protocol", "value"],
    )
    table = Table(points.assign(curve=["b", "a", "c", "d"]))
    assert list(table.on("GNu H").items()) == [(25.0, "a"), (100.0, "b")]
    with pytest.raises(KeyError):
        table.on("GNu G")
