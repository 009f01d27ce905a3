"""Two lines of results compared on the same seeds: paired differences, effect and p-value.

Runs of one stream seed meet the same tasks, so that what differs from seed to seed in both lines cancels in their differences.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from clbench import registry
from clbench.engine.asking import ABOUT
from clbench.errors import UserError, unknown
from clbench.results.frames import SEEDS
from clbench.results.lines import asked_about_all, lines_of
from clbench.results.metrics import mean_t_interval

PAIR = ["stream", "data", "network", "tasks", "learned"]
"""What two lines must agree on to be compared, beside the seeds."""

OUTER_COMMA = r",(?![^\[({]*[\])}])"
"""A comma between settings, not one inside a value such as [400, 400]."""


class Paired(NamedTuple):
    """Differences of n pairs: their mean with the half width of its 95 % t interval, Cohen's d_z, and the p-value of a paired t test.

    d_z is the mean difference divided by the standard deviation of the differences (Cohen 1988). With fewer than two pairs only the mean
    is known.
    """

    n: int
    difference: float
    half_width: float
    effect: float
    p_value: float


def paired(first: ArrayLike, second: ArrayLike) -> Paired:
    """How ``first`` differs from ``second``, value by value.

    >>> gain = paired([0.94, 0.95, 0.93], [0.90, 0.92, 0.91])
    >>> f"{gain.difference:.3f} ± {gain.half_width:.3f}, d = {gain.effect:.2f}, p = {gain.p_value:.3f}, n = {gain.n}"
    '0.030 ± 0.025, d = 3.00, p = 0.035, n = 3'
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    mean, half_width, n = mean_t_interval(differences)
    spread = float(differences.std(ddof=1)) if n > 1 else float("nan")
    if n < 2 or spread == 0:
        return Paired(n, mean, half_width, float("nan"), float("nan"))
    return Paired(n, mean, half_width, mean / spread, float(stats.ttest_1samp(differences, 0.0).pvalue))


def compare(summary: pd.DataFrame, first: str, second: str, value: str = "accuracy") -> pd.DataFrame:
    """Both lines on each stream that they share: a row with their means, and ``Paired``'s columns.

    ``summary`` is that of ``summarise``. A line is ``METHOD``, ``METHOD/SCENARIO`` or ``METHOD/SCENARIO/key=value,…``,
    where the settings are of learning or of asking. Raises a ``UserError`` if a line is not one, or if nothing is shared.
    """
    lines = [line(summary, text, value) for text in (first, second)]
    both = lines[0].merge(lines[1], on=[*PAIR, *SEEDS], suffixes=("_first", "_second"))
    if both.empty:
        raise UserError(
            f"{first} and {second} have no stream, network, number of tasks and seed in common: run both with the same."
        )
    rows = []
    for place, pairs in both.groupby(PAIR, sort=False):
        first_values, second_values = pairs[f"{value}_first"], pairs[f"{value}_second"]
        means = {"first": first_values.mean(), "second": second_values.mean()}
        rows.append(dict(zip(PAIR, place, strict=True)) | means | paired(first_values, second_values)._asdict())
    return pd.DataFrame(rows)


def unlike(summary: pd.DataFrame, texts: Sequence[str], value: str) -> str:
    """A sentence on what makes lines hard to compare: another precision of training, or other test images. Empty if nothing does."""
    facts = {}
    for text in texts:
        settings = [line.settings for line in lines_of(_rows(summary, text, value))]
        about = {" ".join(f"{key}={each[key]}" for key in ABOUT if key in each) or "all" for each in settings}
        facts[text] = {
            "precision": " and ".join(sorted({each.get("precision", "") for each in settings})),
            "test images": " and ".join(sorted(about)),
        }
    apart = [what for what in ("precision", "test images") if len({facts[text][what] for text in texts}) > 1]
    differences = "; ".join(f"{what}: " + ", ".join(f"{text} {facts[text][what]}" for text in texts) for what in apart)
    return f"The lines differ in more than what they compare ({differences})." if differences else ""


def line(summary: pd.DataFrame, text: str, value: str) -> pd.DataFrame:
    """The rows of one line, one for each place and seed: the columns ``PAIR``, ``SEEDS`` and ``value``."""
    return _rows(summary, text, value)[[*PAIR, *SEEDS, value]]


def _rows(summary: pd.DataFrame, text: str, value: str) -> pd.DataFrame:
    """The rows of a summary that are one line."""
    method, scenario, *settings = [*text.split("/", 2), ""][:3] if "/" in text else [text, "", ""]
    known = sorted(summary["method"].unique())
    if method not in known:
        raise unknown("method among these runs", method, known)
    rows = summary[summary["method"] == method]
    if scenario:
        rows = rows[rows["scenario"] == registry.scenario(scenario).name]
    pairs = re.split(OUTER_COMMA, settings[0]) if settings[0] else []
    if plain := [pair for pair in pairs if "=" not in pair]:
        raise UserError(f"{plain[0]!r} in {text} is not a setting: a line is METHOD/SCENARIO/key=value,key=value.")
    values = dict(pair.split("=", 1) for pair in pairs)
    known_settings = [line.settings for line in lines_of(rows)]
    for key in values:
        if known_settings and not any(key in each for each in known_settings):
            raise unknown(f"setting of {method}", key, sorted({name for each in known_settings for name in each}))
    rows = rows[[all(_same(each.get(key), value) for key, value in values.items()) for each in known_settings]]
    if rows.empty:
        raise UserError(f"No run matches {text}.")
    if values.keys().isdisjoint(ABOUT):
        rows = asked_about_all(rows, [*PAIR, *SEEDS], lines_of(rows))
    doubled = rows.duplicated([*PAIR, *SEEDS], keep=False)
    if doubled.any():
        raise UserError(
            f"{text} is more than one line: {_choices(rows[doubled])}. Narrow it, as in METHOD/SCENARIO/key=value,key=value."
        )
    if rows[value].isna().any():
        raise UserError(f"{text} has no {value.replace('_', ' ')}: compare another value.")
    return rows


def _same(known: str | None, given: str) -> bool:
    """Whether a setting has the value that a person gives, with or without blanks after its commas."""
    return known is not None and known.replace(" ", "") == given.replace(" ", "")


def _choices(rows: pd.DataFrame) -> str:
    """What rows of one place and seed differ in."""
    facts = [{"scenario": line.place["scenario"]} | line.settings for line in lines_of(rows)]
    keys = dict.fromkeys(key for fact in facts for key in fact)
    differing: dict[str, Sequence[str]] = {key: sorted({fact[key] for fact in facts if key in fact}) for key in keys}
    return "; ".join(f"{key} is {' or '.join(values)}" for key, values in differing.items() if len(values) > 1)
