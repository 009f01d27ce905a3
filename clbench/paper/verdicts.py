"""How a claim is judged: by the interval of a difference over paired seeds, and by the region where the claim says it lies.

A claim holds if the whole interval lies in the region, does not hold if the whole interval lies outside, and is undecided otherwise: an
interval that covers zero does not show that one is above the other. One seed has no interval and decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import NamedTuple

import pandas as pd

from clbench.paper.files import PAPER
from clbench.results.compare import paired

HOLDS, FAILS, UNDECIDED, NOT_JUDGED = "holds", "does not hold", "undecided", "not judged"
SINGLE = "one seed or measurement, which decides nothing"
"""The basis of a difference without an interval."""


class Quantity(NamedTuple):
    """A mean over n seeds with the half width of its 95 % t interval (NaN for one), and its values by seed if they were kept.

    ``of``: what stands in the place of seeds, if it is something else (a benchmark's rounds). Shares and accuracies run from 0 to 1, with
    the unit "%".
    """

    name: str
    mean: float
    half_width: float
    n: int
    by_seed: Mapping[int, float] | None = None
    unit: str = "%"
    of: str = "seeds"

    def text(self) -> str:
        """The mean as it is read."""
        return f"{100 * self.mean:.2f} %" if self.unit == "%" else f"{self.mean:.2f} {self.unit}"


class Difference(NamedTuple):
    """A quantity minus another, or minus a level: the mean over n seeds with the half width of its 95 % t interval.

    ``p_value``: of the paired t test that the difference is 0, two-sided. ``basis``: what the interval comes from.
    """

    name: str
    n: int
    mean: float
    half_width: float
    p_value: float
    unit: str
    basis: str

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the true difference."""
        return self.mean - self.half_width, self.mean + self.half_width


class Region(NamedTuple):
    """The range in which a claim says that a difference lies, from ``low`` to ``high``. ``text`` names it after the basis of a verdict."""

    low: float
    high: float
    text: str = ""

    def room(self, difference: Difference) -> float:
        """How far the interval is from leaving the region; negative if part of it lies outside. One seed counts as if it were certain."""
        half_width = difference.half_width if isfinite(difference.half_width) else 0.0
        return min(difference.mean - half_width - self.low, self.high - difference.mean - half_width)


ABOVE, BELOW = Region(0.0, inf), Region(-inf, 0.0)


def within(margin: float) -> Region:
    """Both differ by less than ``margin``: equivalence."""
    return Region(-margin, margin, f", margin ±{100 * margin:g} points")


def beyond(margin: float) -> Region:
    """The first is above the second by more than ``margin``."""
    return Region(margin, inf, f", margin {100 * margin:g} points")


@dataclass(frozen=True)
class Table:
    """What a claim is judged by: a figure's points, and their values by seed if they were kept (``clbench.paper.files.SEEDED``)."""

    points: pd.DataFrame
    seeds: pd.DataFrame | None = None

    def on(self, line: str) -> dict[float, str]:
        """The curves on a line that ask as the paper does, by their values, the smallest first; ``KeyError`` if there are none."""
        curves = _rows(self.points, {"line": line, "protocol": PAPER}).dropna(subset="value").sort_values("value")
        if curves.empty:
            raise KeyError(line)
        return dict(zip(curves["value"], curves["curve"], strict=True))

    def end(self, curve: str, column: str = "accuracy", name: str | None = None, **place: float) -> Quantity:
        """A column of a curve after the last task, at ``place`` (columns and their values) if a curve has several points there.

        Raises ``KeyError`` if there is not exactly one such point.
        """
        learned = self.points["learned"].max()
        place_values = {"curve": curve, "learned": learned, **place}
        rows = _rows(self.points, place_values)
        if len(rows) != 1:
            raise KeyError(curve)
        (row,) = rows.to_dict("records")
        by_seed = None
        if self.seeds is not None:
            seed_rows = _rows(self.seeds, place_values)
            by_seed = dict(zip(seed_rows["seed"].astype(int), seed_rows[column].astype(float), strict=True))
        return Quantity(name or curve, float(row[column]), float(row.get(f"{column}_interval", nan)), int(row["n"]), by_seed)


def _rows(frame: pd.DataFrame, values: Mapping[str, object]) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def difference(first: Quantity, second: Quantity | float) -> Difference:
    """``first`` minus ``second``, a quantity of the same seeds or a level.

    If values by seed were not kept, the interval of a difference between two means is at most as wide as both intervals together, however
    the seeds are paired, and there is no p-value.
    """
    if isinstance(second, float):
        second = constant(second, first)
    name = f"{first.name} - {second.name}"
    if first.by_seed and second.by_seed:
        seeds = sorted(set(first.by_seed) & set(second.by_seed))
        comparison = paired([first.by_seed[seed] for seed in seeds], [second.by_seed[seed] for seed in seeds])
        basis = SINGLE if comparison.n == 1 else f"{comparison.n} {first.of}"
        return Difference(name, comparison.n, comparison.difference, comparison.half_width, comparison.p_value, first.unit, basis)
    n = min(first.n, second.n)
    basis = SINGLE if n == 1 else f"means over {n} seeds, made before values by seed were kept"
    return Difference(name, n, first.mean - second.mean, first.half_width + second.half_width, nan, first.unit, basis)


def constant(level: float, like: Quantity) -> Quantity:
    """A level as a quantity that has it for every seed."""
    constant = like._replace(mean=level, half_width=0.0, by_seed=like.by_seed and dict.fromkeys(like.by_seed, level))
    return constant._replace(name=constant.text())


def verdict(difference: Difference, region: Region) -> str:
    """Whether the difference lies in the region: ``HOLDS``, ``FAILS`` or ``UNDECIDED``."""
    if not isfinite(difference.half_width):
        return UNDECIDED
    low, high = difference.interval
    if region.low < low and high < region.high:
        return HOLDS
    return FAILS if high <= region.low or low >= region.high else UNDECIDED


def together(verdicts: Sequence[str], *, every: bool) -> str:
    """The verdict on several differences, ``every`` one of which must lie in the region, or one at least."""
    decided, otherwise = (FAILS, HOLDS) if every else (HOLDS, FAILS)
    if decided in verdicts:
        return decided
    return otherwise if set(verdicts) <= {otherwise} else UNDECIDED
