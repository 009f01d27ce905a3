"""The paper's claims, judged by the tables of its figures as they were run here: ``clbench claims``.

A claim is judged from the tables of one figure (its points and their values by seed), or of the benchmarks, and from nothing else. There
are claims about what the paper shows, about what it admits, and about what it does not mention.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from clbench.paper import fig2, fig3, fig4, fig7, splits
from clbench.paper.files import read, read_seeds
from clbench.paper.verdicts import (
    ABOVE,
    BELOW,
    NOT_JUDGED,
    Quantity,
    Region,
    Table,
    beyond,
    difference,
    together,
    verdict,
    within,
)
from clbench.results.metrics import mean_t_interval

CLOSE = 0.01
"""Accuracies that differ by less are close, and those that differ by more are not."""
FOUND = 0.95
"""Tasks are distinguished if so many decisions are right."""
SAME_MASK = 0.01
"""A mask is found if no larger share of its units differs from the task's mask (before step ``fig7.STEPS``)."""
BENCH = "bench"
"""What stands in the place of a figure's name for the measurements of ``make bench``."""

Pair = tuple[Quantity, Quantity | float]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, or about it, the figure that shows it, and how it is judged.

    ``pairs`` reads from the figure's table what is compared; their differences must lie in ``region``, ``every`` one or one at least.
    """

    sentence: str
    source: str
    figure: str
    pairs: Callable[[Table], Sequence[Pair]]
    region: Region = ABOVE
    every: bool = True


class Judgement(NamedTuple):
    """A claim as judged; ``verdict`` is a word of ``clbench.paper.verdicts``.

    ``difference`` with its 95 % ``interval`` and ``p`` (paired t test, two-sided) is the one that decides, ``decided_by``: of several with
    that verdict the one with the least room in the claim's region (if one is enough: the most). ``basis``: what the interval comes from;
    ``n``: over how many seeds. ``data``: the stream and its data, which at the smoke budget stand in for others. ``numbers``: the means of
    all that was compared, in ``unit`` (%: shares from 0 to 1). ``runs``: the hashes of the runs behind the figure.
    """

    sentence: str
    source: str
    figure: str
    budget: str = ""
    data: str = ""
    n: int | None = None
    verdict: str = NOT_JUDGED
    decided_by: str = ""
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    basis: str = ""
    numbers: Mapping[str, float] = MappingProxyType({})
    unit: str = "%"
    runs: tuple[str, ...] = ()

    @property
    def evidence(self) -> str:
        """What decided, in words; how to make what is missing, if it was not judged."""
        if self.difference is None:
            return self.basis or f"To judge it: `{made_by(self.figure)}`"
        scale, unit = (100, "points") if self.unit == "%" else (1, self.unit)
        by = f"{self.decided_by}: {scale * self.difference:+.2f} {unit}"
        if self.interval is not None:
            low, high = (f"{scale * end:+.2f}" for end in self.interval)
            by += f" ({low} to {high}{'' if self.p is None else f', p = {self.p:.2g}'})"
        where = ", ".join(word for word in (self.figure, self.budget and f"budget {self.budget}", self.data) if word)
        return f"{by}; {self.basis}; {where}"


def made_by(figure: str) -> str:
    """The command that makes what a claim is judged by."""
    return "make bench" if figure == BENCH else f"clbench figure {figure}"


def judged(folder: Path) -> list[Judgement]:
    """Every claim, judged by the figures in ``folder`` (results/figures) and the benchmarks beside it (results/bench)."""
    return [judge(claim, folder) for claim in CLAIMS]


def judge(claim: Claim, folder: Path) -> Judgement:
    """A claim, judged by what is in ``folder`` and beside it."""
    judgement = Judgement(claim.sentence, claim.source, claim.figure)
    if claim.figure == BENCH:
        file = folder.parent / BENCH / "bench.csv"
        table = Table(pd.read_csv(file)) if file.exists() else None
    else:
        file = folder / f"{claim.figure}.csv"
        table = Table(read(file), read_seeds(file)) if file.exists() else None
        if table is not None:
            first, runs = table.points.iloc[0], dict.fromkeys(" ".join(table.points["runs"]).split())
            judgement = judgement._replace(budget=first["budget"], data=f"{first['stream']} ({first['data']})", runs=tuple(runs))
    if table is None:
        return judgement
    try:
        pairs = claim.pairs(table)
    except (KeyError, ValueError):  # a table of before the figure or the benchmark measured this
        return judgement._replace(basis=f"{file.name} lacks what is compared: make it again with `{made_by(claim.figure)}`")
    differences = [difference(*pair) for pair in pairs]
    verdicts = [verdict(each, claim.region) for each in differences]
    decision = together(verdicts, every=claim.every)
    if not differences:
        return judgement._replace(verdict=decision, basis="no curve is what the claim is about")
    deciding = [each for each, word in zip(differences, verdicts, strict=True) if word == decision]
    decisive = (min if claim.every else max)(deciding, key=claim.region.room)
    certain = isfinite(decisive.half_width)
    quantities = {one.name: one.mean for pair in pairs for one in pair if isinstance(one, Quantity)}
    return judgement._replace(
        n=min(each.n for each in differences),
        verdict=decision,
        decided_by=decisive.name,
        difference=decisive.mean,
        interval=decisive.interval if certain else None,
        p=decisive.p_value if isfinite(decisive.p_value) else None,
        basis=f"{decisive.basis}{claim.region.text}",
        numbers=quantities,
        unit=decisive.unit,
    )


# What is compared


def ends(first: str, *others: str) -> Callable[[Table], Sequence[Pair]]:
    """The accuracy of a curve with that of each of the others, after the last task."""
    return lambda table: [(table.end(first), table.end(other)) for other in others]


def found(curve: str) -> Callable[[Table], Sequence[Pair]]:
    """The share of tasks that a curve infers correctly, with ``FOUND``."""
    return lambda table: [(table.end(curve, "task_accuracy", f"{curve}, tasks inferred correctly"), FOUND)]


def guessing(*curves: str) -> Callable[[Table], Sequence[Pair]]:
    """The share of tasks that each of the curves infers correctly, with the share that guesses would find."""
    return lambda table: [
        (table.end(curve, "task_accuracy", f"{curve}, tasks inferred correctly"), 1 / int(table.points["learned"].max()))
        for curve in curves
    ]


def most_and_fewest_outputs(table: Table) -> Sequence[Pair]:
    """Tasks inferred correctly with the most outputs, and with the fewest."""
    fewest, *_, most = (table.end(curve, "task_accuracy") for curve in table.on("GNu H").values())
    return [(most, fewest)]


def smaller_than_batche(table: Table) -> Sequence[Pair]:
    """The accuracy of each density of SupSup that needs fewer bytes than BatchE, with BatchE's accuracy."""
    size = table.end("BatchE", "stored_bytes").mean
    smaller = [curve for curve in table.on(fig2.RANDOM).values() if table.end(curve, "stored_bytes").mean < size]
    return [(table.end(curve), table.end("BatchE")) for curve in smaller]


def with_transfer(table: Table) -> Sequence[Pair]:
    """At each density, masks that start from earlier scores, with masks that start at random."""
    transferred = table.on(fig2.TRANSFERRED)
    return [(table.end(transferred[edges]), table.end(curve)) for edges, curve in table.on(fig2.RANDOM).items()]


def units_that_differ(table: Table) -> Sequence[Pair]:
    """Before step ``fig7.STEPS`` the share of units that differ from each task's mask, with ``SAME_MASK``, as Figure 7 traces it.

    Without the first task: with one mask stored, the descent begins at it.
    """
    tasks = sorted(task for task in table.points["task"].unique() if task > 1)
    place = {"at": fig7.STEPS - 1}
    return [(table.end(fig7.PROTOCOL, "distance", f"task {t:.0f}, units that differ", task=t, **place), SAME_MASK) for t in tasks]


def five_times_the_masks(table: Table) -> Sequence[Pair]:
    """Milliseconds of One-Shot with 2,500 masks, and twice those with 500."""
    return [(by_round(table, "oneshot_2500", "2,500 masks"), by_round(table, "oneshot_500", "twice that of 500 masks", times=2))]


def cheaper_than(form: str) -> Callable[[Table], Sequence[Pair]]:
    """What a form of BatchE adds to a forward pass, and what a mask adds (``benchmarks/overhead.py``)."""
    return lambda table: [
        (
            by_round(table, f"resnet50_batche_{form}_overhead", f"BatchE's {form}, share of the pass"),
            by_round(table, "resnet50_mask_overhead", "mask, share of the pass"),
        )
    ]


def by_round(table: Table, measured: str, name: str, *, times: float = 1) -> Quantity:
    """What a benchmark measured in several rounds, or some ``times`` that."""
    rounds = table.points["name"].str.extract(rf"^{measured}_round_(\d+)$")[0].dropna().astype(int)
    if rounds.empty:
        raise KeyError(measured)
    values = times * table.points["value"][rounds.index].astype(float)
    spread = mean_t_interval(values.to_numpy())
    unit = "ms" if (table.points["unit"][rounds.index] == "ms").all() else "%"
    return Quantity(name, spread.mean, spread.half_width, len(values), dict(zip(rounds, values, strict=True)), unit, of="rounds")


CLAIMS = (
    *(
        Claim(
            f"SupSup infers the task and is above PSP and BatchE, which are told it ({network})",
            "Figure 3, section 4.2",
            figure,
            ends(fig3.GNU_H, "PSP GG", "BatchE GG"),
        )
        for network, figure in (("LeNet", "fig3-left"), ("FC", "fig3-right"))
    ),
    Claim(
        "Inferring the task costs SupSup almost nothing", "Figure 4, section 4.2", "fig4", ends(fig4.GG, fig4.GNU_H), within(CLOSE)
    ),
    Claim("NNs is close to GNu", "Figure 4, section 4.3", "fig4", ends(fig4.GNU_H, fig4.NNS), within(CLOSE)),
    Claim(
        "SupSup infers the rotation and is above PSP and BatchE, which are told it",
        "Figure 5 left, section 4.2",
        "fig5-left",
        ends(fig3.GNU_H, "PSP GG", "BatchE GG"),
    ),
    Claim("Binary tells rotations by 10 degrees apart", "Figure 5 left, section 4.2", "fig5-left", found(fig3.GNU_H)),
    Claim(
        "One-Shot can be used to infer BatchE's tasks (it finds more of them than guessing)",
        "Figure 5 right, section 4.2",
        "fig5-right",
        guessing("One-Shot from 1 image", "One-Shot from 128 images"),
    ),
    *(
        Claim(
            f"A mask adds less to a forward pass of ResNet-50 than BatchE's {form} {how}", "section 4.1", BENCH, cheaper_than(form)
        )
        for form, how in (("vectors", "on inputs and outputs"), ("weights", "multiplied once for a batch"))
    ),
    *(
        Claim(f"More outputs help to infer the task ({network})", "Figure 6, section 3.6", figure, most_and_fewest_outputs)
        for network, figure in (("LeNet", "fig6-left-sizes"), ("FC", "fig6-right-sizes"))
    ),
    Claim(
        "Sparse masks are above BatchE with fewer bytes",
        "Figure 2 right, section 4.1",
        "fig2-right",
        smaller_than_batche,
        every=False,
    ),
    Claim("Transfer helps", "Figure 2 right, section 4.1", "fig2-right", with_transfer),
    Claim(
        "NNs depends on checks that fall on the tasks' boundaries",
        "passed over in section 3.4",
        "fig4",
        ends(fig4.NNS, fig4.UNALIGNED),
        beyond(CLOSE),
    ),
    Claim("HopSupSup finds the mask in fewer than 30 steps", "Figure 7, section 4.2", "fig7", units_that_differ, BELOW),
    Claim(
        "When the masks run out, accuracy dips",
        "Figure 4, section 4.3",
        "masks-out",
        ends(fig4.ENOUGH, fig4.TOO_FEW),
        beyond(CLOSE),
    ),
    Claim(
        "One-Shot is one gradient, and its arithmetic grows with the masks",
        "passed over in section 3.3",
        BENCH,
        five_times_the_masks,
    ),
    *(
        Claim(
            f"Where tasks are not alike, inferring them fails ({stream})",
            "admitted in section 5",
            figure,
            found(splits.GNU_H),
            BELOW,
        )
        for stream, figure in (("SplitMNIST", "splits"), ("SplitCIFAR100", "splits-cifar100"), ("unlike tasks in turn", "mixed"))
    ),
)
