"""Two lines of results compared on the same seeds: paired differences, effect and p-value.

Runs of one stream seed meet the same tasks, so that what differs from seed to seed in both lines cancels in their differences.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from clbench import registry
from clbench.engine.evaluator import ABOUT
from clbench.errors import UserError, unknown
from clbench.results.metrics import mean_t_interval
from clbench.results.tables import asked_about_all, read_settings

PAIR = ["stream", "data", "network", "tasks", "learned"]
"""What two lines must agree on to be compared, beside the seeds."""
SEEDS = ["stream_seed", "initialisation_seed", "training_seed"]


class Paired(NamedTuple):
    """Differences of n pairs: their mean with the half width of its 95 % t interval, Cohen's d_z, and the p-value of a paired t test.

    d_z is the mean difference by the standard deviation of the differences (Cohen 1988). Of fewer than two pairs only the mean is known.
    """

    n: int
    difference: float
    half_width: float
    effect: float
    p_value: float


def paired(first: ArrayLike, second: ArrayLike) -> Paired:
    """How ``first`` differs from ``second``, value by value.

    >>> found = paired([0.94, 0.95, 0.93], [0.90, 0.92, 0.91])
    >>> f"{found.difference:.3f} ± {found.half_width:.3f}, d = {found.effect:.2f}, p = {found.p_value:.3f}, n = {found.n}"
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
    for place, part in both.groupby(PAIR, sort=False):
        found = paired(part[f"{value}_first"], part[f"{value}_second"])
        means = {"first": part[f"{value}_first"].mean(), "second": part[f"{value}_second"].mean()}
        rows.append(dict(zip(PAIR, place, strict=True)) | means | found._asdict())
    return pd.DataFrame(rows)


def unlike(summary: pd.DataFrame, texts: Sequence[str], value: str) -> str:
    """A sentence on what makes lines hard to compare: another precision of training, or other test images. Empty if nothing does."""
    facts = {}
    for text in texts:
        rows = _rows(summary, text, value)
        read = [read_settings(ask) | read_settings(learned) for ask, learned in zip(rows["ask"], rows["settings"], strict=True)]
        facts[text] = {
            "precision": " and ".join(sorted({each.get("precision", "") for each in read})),
            "test images": " and ".join(sorted({" ".join(f"{k}={each[k]}" for k in ABOUT if k in each) or "all" for each in read})),
        }
    apart = [what for what in ("precision", "test images") if len({facts[text][what] for text in texts}) > 1]
    told = "; ".join(f"{what}: " + ", ".join(f"{text} {facts[text][what]}" for text in texts) for what in apart)
    return f"The lines differ in more than what they compare ({told})." if told else ""


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
    parts = settings[0].split(",") if settings[0] else []
    if plain := [part for part in parts if "=" not in part]:
        raise UserError(f"{plain[0]!r} in {text} is no setting: a line is METHOD/SCENARIO/key=value,key=value.")
    wanted = dict(part.split("=", 1) for part in parts)
    facts = [read_settings(ask) | read_settings(learned) for ask, learned in zip(rows["ask"], rows["settings"], strict=True)]
    for key in wanted:
        if facts and not any(key in fact for fact in facts):
            raise unknown(f"setting of {method}", key, sorted({name for fact in facts for name in fact}))
    rows = rows[[all(fact.get(key) == wish for key, wish in wanted.items()) for fact in facts]]
    if rows.empty:
        raise UserError(f"No run is {text}.")
    if wanted.keys().isdisjoint(ABOUT):
        rows = asked_about_all(rows, [*PAIR, *SEEDS], rows["ask"])
    doubled = rows.duplicated([*PAIR, *SEEDS], keep=False)
    if doubled.any():
        raise UserError(
            f"{text} is more than one line: {_choices(rows[doubled])}. Narrow it, as in METHOD/SCENARIO/key=value,key=value."
        )
    if rows[value].isna().any():
        raise UserError(f"{text} has no {value.replace('_', ' ')}: compare another value.")
    return rows


def _choices(rows: pd.DataFrame) -> str:
    """What rows of one place and seed differ in."""
    facts = [
        {"scenario": scenario} | read_settings(ask) | read_settings(learned)
        for scenario, ask, learned in zip(rows["scenario"], rows["ask"], rows["settings"], strict=True)
    ]
    keys = dict.fromkeys(key for fact in facts for key in fact)
    differing: dict[str, Sequence[str]] = {key: sorted({fact[key] for fact in facts if key in fact}) for key in keys}
    return "; ".join(f"{key} is {' or '.join(values)}" for key, values in differing.items() if len(values) > 1)
