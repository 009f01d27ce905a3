"""Many lines on many streams: mean ranks, Friedman's test, and Nemenyi's critical difference (Demšar, JMLR 2006).

A block is a stream with its data, network and number of tasks, for one seed; only blocks on which all lines were run count. Seeds of one
stream are not independent data sets: the tests say more with more streams.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from clbench.errors import UserError
from clbench.results import style
from clbench.results.columns import find
from clbench.results.compare import PAIR, line
from clbench.results.frames import SEEDS

LEVEL = 0.05


class Ranking(NamedTuple):
    """Lines with their mean ranks over ``blocks`` (1 is best), in that order.

    Mean ranks that differ by less than the ``critical_difference`` do not differ at the level of 5 % (Nemenyi's test); ``p_value`` is that
    of Friedman's test that there is no difference at all (``friedman``).
    """

    lines: tuple[str, ...]
    ranks: npt.NDArray[np.float64]
    blocks: int
    critical_difference: float
    p_value: float


def critical_difference(lines: int, blocks: int) -> float:
    """How much mean ranks must differ: q sqrt(k (k + 1) / (6 N)), with q the quantile of the studentised range divided by sqrt 2.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    q = stats.studentized_range.ppf(1 - LEVEL, lines, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(lines * (lines + 1) / (6 * blocks)))


def rank(summary: pd.DataFrame, texts: Sequence[str], value: str = "accuracy") -> Ranking:
    """Rank three lines or more (as in ``clbench.results.compare.compare``) by ``value``, the best first; ties share their mean rank.

    Raises a ``UserError`` if fewer than two blocks have all lines.
    """
    if len(set(texts)) < max(3, len(texts)):
        raise UserError("A ranking needs three lines or more, each named once: name two lines to compare them in pairs.")
    each = [line(summary, text, value).rename(columns={value: text}) for text in texts]
    for one, other in combinations(range(len(each)), 2):
        if each[one].set_axis(each[other].columns, axis=1).equals(each[other]):
            raise UserError(f"{texts[one]} and {texts[other]} are the same line: name each once.")
    blocks = reduce(lambda left, right: left.merge(right, on=[*PAIR, *SEEDS]), each)
    if len(blocks) < 2:
        raise UserError(
            f"Only {len(blocks)} pairs of a stream and a seed have all of {', '.join(texts)}, and a ranking needs two or more: "
            "run them with the same."
        )
    values = blocks[list(texts)].to_numpy(float)
    by_block = stats.rankdata(-values if find(value).higher_is_better else values, axis=1)
    ranks = by_block.mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    return Ranking(
        tuple(texts[i] for i in order), ranks[order], len(blocks), critical_difference(len(texts), len(blocks)), friedman(by_block)
    )


def friedman(by_block: npt.NDArray[np.float64]) -> float:
    """The p-value of Friedman's test for ranks [blocks, lines], by permutations within blocks: all if they are few, else 9,999.

    The usual chi-square distribution is far off if blocks are few.
    """

    def spread(*ranks: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        return np.asarray(np.stack([of_line.mean(axis=axis) for of_line in ranks]).var(axis=0))

    test = stats.permutation_test(
        tuple(by_block.T), spread, permutation_type="samples", vectorized=True, alternative="greater", rng=0
    )
    return float(test.pvalue)


def cliques(ranking: Ranking) -> list[tuple[int, int]]:
    """The longest runs of lines, first and last, within which no two mean ranks differ by the critical difference."""
    spans: list[tuple[int, int]] = []
    for first in range(len(ranking.ranks)):
        last = int(np.searchsorted(ranking.ranks, ranking.ranks[first] + ranking.critical_difference, side="left")) - 1
        if last > first and (not spans or last > spans[-1][1]):
            spans.append((first, last))
    return spans


@style.house
def draw(ranking: Ranking, value: str) -> Figure:
    """The critical-difference diagram: lines at their mean ranks, bars joining those that do not differ."""
    count, joined = len(ranking.lines), cliques(ranking)
    height = 0.75 + 0.17 * ((count + 1) // 2) + 0.09 * len(joined)
    figure = style.new(style.DOUBLE, height)
    axes = figure.add_subplot()
    axes.set_xlim(0.9, max(count, 1 + ranking.critical_difference) + 0.1)
    depth = len(joined) + 2 * ((count + 1) // 2) + 1
    axes.set_ylim(-depth, 3)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(1, count + 1))
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlabel(f"mean rank by {value.replace('_', ' ')} (1 is best)")
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.plot([1, 1 + ranking.critical_difference], [1.5, 1.5], "|-", color=style.BLACK, linewidth=1)
    axes.text(
        1, 2.4, f"critical difference {ranking.critical_difference:.2f}", size=style.SMALL, va="center", zorder=5, bbox=behind
    )
    for row, (first, last) in enumerate(joined, 1):
        axes.plot(ranking.ranks[[first, last]], [-row, -row], color=style.BLUE, linewidth=3, solid_capstyle="round")
    for i, (name, place) in enumerate(zip(ranking.lines, ranking.ranks, strict=True)):
        left = i < (count + 1) // 2
        row = len(joined) + 2 * ((i if left else count - 1 - i) + 1)
        end = axes.get_xlim()[0 if left else 1]
        axes.plot([place, place, end], [3, -row, -row], color="0.35", linewidth=0.7, clip_on=False)
        text = f"{name}  {place:.2f}" if left else f"{place:.2f}  {name}"
        axes.text(end, -row, f" {text} ", ha="right" if left else "left", va="center", size=7.5, clip_on=False)
    style.caption(
        figure,
        f"Mean ranks over {ranking.blocks} blocks, a stream and a seed each. Bars join lines that do not differ by Nemenyi's test at 5 %. "
        f"Friedman's test: p = {ranking.p_value:.2g}.",
    )
    return figure


def save(ranking: Ranking, value: str, path: Path) -> Path:
    """Draw the diagram to a .png or .pdf file."""
    if path.suffix not in (".png", ".pdf"):
        raise UserError(f"A diagram is written to a .png or .pdf file, not to {path.name}.")
    png, pdf = style.save(draw(ranking, value), path.with_suffix(""))
    return png if path.suffix == ".png" else pdf
