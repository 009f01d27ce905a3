"""The paper's claims, judged by the tables of its figures as they were run here: ``clbench claims``.

A claim is judged from the CSV file of one figure, or of the benchmarks, and from nothing else. Beside what the paper shows stands what it
admits or passes over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from clbench.errors import UserError
from clbench.paper import fig3, fig4, fig7, splits
from clbench.paper.base import read

CLOSE = 0.02
"""Accuracies that differ by less are close, and those that differ by more are not."""
FOUND = 0.95
"""Tasks of which so many decisions are right are told apart."""
SAME_MASK, STEPS = 0.01, 30
"""A mask is found if so few of its units differ after fewer steps than that."""
MASKS_TIMED = {"oneshot_500_milliseconds_per_image", "oneshot_2500_milliseconds_per_image"}
BENCH = "bench"
"""Where another claim has its figure: the measurements of ``make bench``."""


class Verdict(NamedTuple):
    """Whether a claim holds, by which numbers (accuracies from 0 to 1, bytes)."""

    holds: bool
    numbers: dict[str, float]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, or about it, the figure that shows it, and how it is judged from the figure's table."""

    sentence: str
    source: str
    figure: str
    judge: Callable[[pd.DataFrame], Verdict]


class Judgement(NamedTuple):
    """A claim as judged, by means over seeds: ``holds`` is None where the figure was not made.

    ``runs`` are the hashes of the runs behind it. ``seeds``: the fewest that a point is a mean over. ``data``: the stream and its data,
    which at the smoke budget stand in for others.
    """

    sentence: str
    source: str
    figure: str
    budget: str
    seeds: int | None
    data: str
    holds: bool | None
    numbers: dict[str, float]
    runs: tuple[str, ...]


def judged(folder: Path) -> list[Judgement]:
    """Every claim, judged by the figures in ``folder`` (results/figures) and the benchmarks beside it (results/bench)."""
    found = []
    for claim in CLAIMS:
        measured = claim.figure == BENCH
        file = folder.parent / BENCH / "bench.csv" if measured else folder / f"{claim.figure}.csv"
        if not file.exists() or (measured and not set(pd.read_csv(file)["name"]) >= MASKS_TIMED):
            found.append(Judgement(claim.sentence, claim.source, claim.figure, "", None, "", None, {}, ()))
            continue
        points = pd.read_csv(file) if measured else read(file)
        runs = () if measured else tuple(dict.fromkeys(" ".join(points["runs"]).split()))
        budget = "" if measured else points["budget"].iloc[0]
        data = "" if measured else f"{points['stream'].iloc[0]} ({points['data'].iloc[0]})"
        seeds = None if measured else int(points["n"].min())
        try:
            verdict = claim.judge(points)
        except (KeyError, ValueError):
            raise UserError(
                f"{file} does not hold the curves of {claim.figure}: make it again with `clbench figure {claim.figure}`."
            ) from None
        found.append(Judgement(claim.sentence, claim.source, claim.figure, budget, seeds, data, *verdict, runs))
    return found


def shown(name: str, number: float) -> str:
    """A number of a verdict as it is read: milliseconds, or a share in percent."""
    return f"{number:.2f} ms" if name.startswith("ms ") else f"{100 * number:.2f} %"


def last(points: pd.DataFrame) -> pd.DataFrame:
    """The points after the last task."""
    return points[points["learned"] == points["learned"].max()]


def value(points: pd.DataFrame, curve: str, column: str = "accuracy") -> float:
    """A curve's last value."""
    ends = last(points)
    return float(dict(zip(ends["curve"], ends[column], strict=True))[curve])


def above(better: str, others: Sequence[str]) -> Callable[[pd.DataFrame], Verdict]:
    """``better`` is more accurate than each of the others."""

    def judge(points: pd.DataFrame) -> Verdict:
        numbers = {curve: value(points, curve) for curve in (better, *others)}
        return Verdict(all(numbers[better] > numbers[other] for other in others), numbers)

    return judge


def apart(first: str, second: str, *, close: bool) -> Callable[[pd.DataFrame], Verdict]:
    """``second`` is less than ``CLOSE`` below ``first``, or it is more."""

    def judge(points: pd.DataFrame) -> Verdict:
        numbers = {curve: value(points, curve) for curve in (first, second)}
        return Verdict((numbers[first] - numbers[second] < CLOSE) == close, numbers)

    return judge


def told_apart(curve: str, expected: bool) -> Callable[[pd.DataFrame], Verdict]:
    """At least ``FOUND`` of the decisions about tasks are right, or they are not."""

    def judge(points: pd.DataFrame) -> Verdict:
        right = value(points, curve, "task_accuracy")
        return Verdict((right >= FOUND) == expected, {f"{curve}, tasks inferred rightly": right})

    return judge


def outputs_help(points: pd.DataFrame) -> Verdict:
    """With the most outputs tasks are found more often than with the fewest."""
    own = last(points)
    own = own[own["curve"].str.fullmatch(r"GNu H, s = \d+")].sort_values("at")
    numbers = {row["curve"]: float(row["task_accuracy"]) for row in own.to_dict("records")}
    fewest, *_, most = numbers.values()
    return Verdict(most > fewest, numbers)


def cheaper_and_better(points: pd.DataFrame) -> Verdict:
    """One of SupSup's points is above BatchE's, with fewer bytes."""
    points = last(points)
    ours = points[points["curve"].str.startswith("SupSup; ")]
    batche = points.set_index("curve").loc["BatchE"]
    winners = ours[(ours["accuracy"] > batche["accuracy"]) & (ours["stored_bytes"] < batche["stored_bytes"])]
    both = pd.concat([ours, points[points["curve"] == "BatchE"]])
    numbers = {f"{row['curve']}, {row['stored_bytes'] / 1e6:.2f} MB": float(row["accuracy"]) for row in both.to_dict("records")}
    return Verdict(len(winners) > 0, numbers)


def transfer_helps(points: pd.DataFrame) -> Verdict:
    """At every density, masks that start from earlier scores are more accurate than those that start at random."""
    densities = [curve.removeprefix("SupSup; ") for curve in points["curve"].unique() if curve.startswith("SupSup; ")]
    pairs = [(f"SupSup Transfer; {density}", f"SupSup; {density}") for density in densities]
    numbers = {curve: value(points, curve) for pair in pairs for curve in pair}
    return Verdict(bool(pairs) and all(numbers[transfer] > numbers[random] for transfer, random in pairs), numbers)


def masks_found(points: pd.DataFrame) -> Verdict:
    """Before step ``STEPS`` less than ``SAME_MASK`` of the units differ from the task's mask, for every task, with masks at outputs.

    But for the first: with one mask stored, the descent begins there.
    """
    own = points[(points["curve"] == fig7.EQUATION_5) & (points["at"] == STEPS - 1) & (points["task"] > 1)]
    numbers = {f"task {row['task']:.0f}, units that differ": float(row["distance"]) for row in own.to_dict("records")}
    return Verdict(bool(numbers) and all(distance < SAME_MASK for distance in numbers.values()), numbers)


def dips(points: pd.DataFrame) -> Verdict:
    """With fewer masks than tasks accuracy ends below what it is with enough."""
    numbers = {curve: value(points, curve) for curve in (fig4.ENOUGH, fig4.TOO_FEW)}
    return Verdict(numbers[fig4.ENOUGH] - numbers[fig4.TOO_FEW] > CLOSE, numbers)


def grows(points: pd.DataFrame) -> Verdict:
    """One-Shot with five times the masks takes more than twice the time."""
    measured = dict(zip(points["name"], points["value"], strict=True))
    numbers = {f"ms an image with {k} masks": float(measured[f"oneshot_{k}_milliseconds_per_image"]) for k in (500, 2500)}
    few, many = numbers.values()
    return Verdict(many > 2 * few, numbers)


CLAIMS = (
    *(
        Claim(
            f"SupSup infers the task and is above PSP and BatchE, which are told it ({network})",
            "Figure 3, section 4.2",
            figure,
            above(fig3.GNU_H, ("PSP GG", "BatchE GG")),
        )
        for network, figure in (("LeNet", "fig3-left"), ("FC", "fig3-right"))
    ),
    Claim(
        "Inferring the task costs SupSup almost nothing", "Figure 4, section 4.2", "fig4", apart(fig4.GG, fig4.GNU_H, close=True)
    ),
    Claim("NNs is close to GNu", "Figure 4, section 4.3", "fig4", apart(fig4.GNU_H, fig4.NNS, close=True)),
    Claim(
        "SupSup infers the rotation and is above PSP and BatchE, which are told it",
        "Figure 5 left, section 4.2",
        "fig5-left",
        above(fig3.GNU_H, ("PSP GG", "BatchE GG")),
    ),
    Claim("Binary tells rotations by 10 degrees apart", "Figure 5 left, section 4.2", "fig5-left", told_apart(fig3.GNU_H, True)),
    Claim("One-Shot infers BatchE's tasks as well", "Figure 5 right, section 4.2", "fig5-right", told_apart("BatchE GNu H", True)),
    *(
        Claim(f"More outputs help to infer the task ({network})", "Figure 6, section 3.6", figure, outputs_help)
        for network, figure in (("LeNet", "fig6-left"), ("FC", "fig6-right"))
    ),
    Claim("Sparse masks are above BatchE with fewer bytes", "Figure 2 right, section 4.1", "fig2-right", cheaper_and_better),
    Claim("Transfer helps", "Figure 2 right, section 4.1", "fig2-right", transfer_helps),
    Claim(
        "NNs depends on checks that fall on the tasks' boundaries",
        "passed over in section 3.4",
        "fig4",
        apart(fig4.NNS, fig4.UNALIGNED, close=False),
    ),
    Claim("HopSupSup finds the mask in fewer than 30 steps", "Figure 7, section 4.2", "fig7", masks_found),
    Claim("When the masks run out, accuracy dips", "Figure 4, section 4.3", "masks-out", dips),
    Claim("One-Shot is one gradient, and its arithmetic grows with the masks", "passed over in section 3.3", BENCH, grows),
    *(
        Claim(f"Where tasks are not alike, inferring them fails ({stream})", "admitted in section 5", figure, judge)
        for stream, figure, judge in (
            ("SplitMNIST", "splits", told_apart(splits.GNU_H, False)),
            ("SplitCIFAR100", "splits-cifar100", told_apart(splits.GNU_H, False)),
            ("unlike tasks in turn", "mixed", told_apart(splits.GNU_H, False)),
        )
    ),
)
