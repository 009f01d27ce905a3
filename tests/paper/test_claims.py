"""Claims: judged by tables of figures, each for and against."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from clbench import paper
from clbench.cli.main import app
from clbench.errors import UserError
from clbench.paper import claims, files
from clbench.paper.verdicts import FAILS, HOLDS, NOT_JUDGED, UNDECIDED

# For each figure the last points of its curves when the paper is right: accuracy, task accuracy, place, bytes.
RIGHT: dict[str, dict[str, tuple[float | None, ...]]] = {
    "fig3-left": {"SupSup GNu H": (0.93,), "PSP GG": (0.9,), "BatchE GG": (0.88,)},
    "fig3-right": {"SupSup GNu H": (0.96,), "PSP GG": (0.9,), "BatchE GG": (0.88,)},
    "fig4": {"GG (task given)": (0.93,), "GNu H": (0.925,), "NNs H aligned": (0.92,), "NNs H unaligned": (0.6,)},
    "fig5-left": {"SupSup GNu H": (0.95, 0.99), "PSP GG": (0.94,), "BatchE GG": (0.9,)},
    "fig5-right": {"One-Shot from 1 image": (0.1, 0.06), "One-Shot from 128 images": (0.4, 0.5)},
    "fig6-left-sizes": {"GNu H, s = 10": (0.5, 0.6, 10), "GNu H, s = 50": (0.9, 0.95, 50), "GNu H, s = 100": (0.9, 0.99, 100)},
    "fig6-right-sizes": {"GNu H, s = 10": (0.9, 0.9, 10), "GNu H, s = 100": (0.9, 1.0, 100)},
    "fig2-right": {
        "SupSup; edges 4": (0.7, None, None, 1e5),
        "SupSup Transfer; edges 4": (0.75, None, None, 1e5),
        "BatchE": (0.65, None, None, 2e6),
    },
    "splits": {"SupSup GNu H": (0.5, 0.5)},
    "splits-cifar100": {"SupSup GNu H": (0.2, 0.3)},
    "mixed": {"SupSup GNu H": (0.6, 0.7)},
    "masks-out": {"enough masks": (0.9,), "fewer masks than tasks": (0.6,)},
    "fig7": {"normalised (the authors' code), authors' search": (0.9, 0.99, 29, None, 0.002)},
}
WRONG: dict[str, dict[str, tuple[float | None, ...]]] = {
    "fig3-left": {"PSP GG": (0.94,)},
    "fig3-right": {"BatchE GG": (0.97,)},
    "fig4": {"GNu H": (0.9,), "NNs H aligned": (0.87,), "NNs H unaligned": (0.868,)},
    "fig5-left": {"SupSup GNu H": (0.5, 0.94)},
    "fig5-right": {"One-Shot from 1 image": (0.1, 0.04)},
    "fig6-left-sizes": {"GNu H, s = 100": (0.9, 0.5, 100)},
    "fig6-right-sizes": {"GNu H, s = 100": (0.9, 0.8, 100)},
    "fig2-right": {"SupSup; edges 4": (0.6, None, None, 1e5), "SupSup Transfer; edges 4": (0.5, None, None, 1e5)},
    "splits": {"SupSup GNu H": (0.5, 0.99)},
    "splits-cifar100": {"SupSup GNu H": (0.2, 0.96)},
    "mixed": {"SupSup GNu H": (0.6, 0.97)},
    "masks-out": {"fewer masks than tasks": (0.895,)},
    "fig7": {"normalised (the authors' code), authors' search": (0.9, 0.99, 29, None, 0.2)},
}
ON_LINES: dict[str, tuple[str, float | None]] = {f"GNu H, s = {size}": ("GNu H", size) for size in (10, 50, 100)}
ON_LINES |= {f"{line}; edges 4": (line, 4) for line in ("SupSup", "SupSup Transfer")}
"""The line and the value of the curves that share a line."""
SPREAD = (-0.0001, 0.0, 0.0001)
"""What is added to a value for each of three seeds; curves differ in its size and sign."""


def write(
    folder: Path,
    figures: Mapping[str, Mapping[str, tuple[float | None, ...]]],
    spread: Sequence[float] = SPREAD,
    lines: Mapping[str, tuple[str, float | None]] = ON_LINES,
) -> None:
    """The tables of figures whose curves end at these values, with their values by seed; ``lines``: the lines and values of curves."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure, curves in figures.items():
        rows: list[dict[str, Any]] = []
        seeds: list[dict[str, Any]] = []
        for number, (curve, values) in enumerate(curves.items()):
            accuracy, task, at, size, distance = (*values, *[None] * (5 - len(values)))
            runs = [f"run{number}{seed}" for seed in range(len(spread))]
            line, value = lines.get(curve, (curve, None))
            last: dict[str, Any] = dict.fromkeys(files.COLUMNS) | {"figure": figure, "budget": "laptop", "curve": curve}
            last |= {"line": line, "protocol": "paper", "value": value}
            last |= {"runs": " ".join(runs), "n": len(runs), "tasks": 20, "learned": 20, "at": at, "stored_bytes": size, "task": 5}
            shares = {"accuracy": accuracy, "task_accuracy": task, "distance": distance}
            rows += [last | {"learned": 1, "accuracy": 0.0, "task_accuracy": 0.0}, last | shares]
            scale = (-1) ** number * (1 + number)
            for seed, (run, noise) in enumerate(zip(runs, spread, strict=True)):
                noisy = {name: None if share is None else share + scale * noise for name, share in shares.items()}
                seeds += [last | noisy | {"seed": seed, "run": run}]
        extras = ["task", "distance"] if figure == "fig7" else []
        pd.DataFrame(rows)[[*files.COLUMNS, *extras]].to_csv(folder / f"{figure}.csv", index=False)
        pd.DataFrame(seeds)[[*files.SEEDED, *extras]].to_csv(folder / f"{figure}-seeds.csv", index=False)


WRONG_TABLES = {figure: curves | WRONG[figure] for figure, curves in RIGHT.items()}


@pytest.mark.parametrize(("tables", "verdict"), [(RIGHT, HOLDS), (WRONG_TABLES, FAILS)])
def test_claims_are_judged_by_the_tables(tmp_path: Path, tables: dict[str, Any], verdict: str) -> None:
    write(tmp_path, tables)
    judgements = [each for each in claims.judged(tmp_path) if each.figure != claims.BENCH]
    assert len(judgements) == sum(claim.figure != claims.BENCH for claim in claims.CLAIMS)
    assert [each.sentence for each in judgements if each.verdict != verdict] == []
    for each in judgements:
        assert (each.n, each.budget, each.basis[:7]) == (3, "laptop", "3 seeds")
        assert each.interval is not None
        assert sum(each.interval) / 2 == pytest.approx(each.difference)
        assert each.numbers
        assert each.runs
        assert each.p is not None


def test_an_interval_that_covers_zero_leaves_a_claim_undecided(tmp_path: Path) -> None:
    write(tmp_path, {"fig3-left": RIGHT["fig3-left"]}, spread=(-0.02, 0.0, 0.02))
    judged = judged_by(tmp_path, "fig3-left")
    assert judged.verdict == UNDECIDED
    assert judged.decided_by == "SupSup GNu H - PSP GG"  # the nearest of the two
    assert judged.interval is not None
    assert judged.interval[0] < 0 < judged.interval[1]
    assert judged.difference == pytest.approx(0.03)


def test_no_density_with_fewer_bytes_is_a_claim_that_does_not_hold(tmp_path: Path) -> None:
    write(tmp_path, {"fig2-right": {curve: (*values[:3], 3e6) for curve, values in RIGHT["fig2-right"].items()}})
    (judged,) = [each for each in claims.judged(tmp_path) if each.sentence.startswith("Sparse masks")]
    assert (judged.verdict, judged.evidence) == (FAILS, "no curve is what the claim is about")


def test_what_decided_has_the_verdict_that_it_decides(tmp_path: Path) -> None:
    """PSP's interval is wide and reaches further down, yet it is BatchE, certainly above, that makes the claim fail."""
    write(tmp_path, {"fig3-left": {"SupSup GNu H": (0.93,), "PSP GG": (0.92,), "BatchE GG": (0.935,)}})
    seeds = pd.read_csv(tmp_path / "fig3-left-seeds.csv")
    noise = seeds["seed"].map({0: -0.1, 1: 0.0, 2: 0.1}).where(seeds["curve"] == "PSP GG", 0.0)
    seeds.assign(accuracy=seeds["accuracy"] + noise).to_csv(tmp_path / "fig3-left-seeds.csv", index=False)
    judged = judged_by(tmp_path, "fig3-left")
    assert (judged.verdict, judged.decided_by) == (FAILS, "SupSup GNu H - BatchE GG")


def test_one_seed_is_undecided_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"fig3-left": RIGHT["fig3-left"]}, spread=(0.0,))
    judged = judged_by(tmp_path, "fig3-left")
    assert (judged.verdict, judged.n, judged.interval, judged.p) == (UNDECIDED, 1, None, None)
    assert "one seed" in judged.evidence


def test_tables_made_before_values_by_seed_were_kept_are_judged_by_their_intervals(tmp_path: Path) -> None:
    write(tmp_path, {"fig3-left": RIGHT["fig3-left"]})
    (tmp_path / "fig3-left-seeds.csv").unlink()
    table = pd.read_csv(tmp_path / "fig3-left.csv")
    for half_width, verdict in ((0.004, HOLDS), (0.016, UNDECIDED)):
        table.assign(accuracy_interval=half_width).to_csv(tmp_path / "fig3-left.csv", index=False)
        judged = judged_by(tmp_path, "fig3-left")
        assert (judged.verdict, judged.p) == (verdict, None)
        assert "means over 3 seeds, made before values by seed were kept" in judged.evidence


@pytest.mark.parametrize(
    ("many", "rounds", "verdict"), [(3.0, 3, HOLDS), (1.0, 3, FAILS), (2.01, 3, UNDECIDED), (3.0, 1, UNDECIDED)]
)
def test_the_arithmetic_of_one_shot_grows_if_all_rounds_say_so(tmp_path: Path, many: float, rounds: int, verdict: str) -> None:
    """1 ms with 500 masks, up to a tenth more or less from round to round; one round decides nothing."""
    drift = (0.0, -0.1, 0.1)[:rounds]
    rows = [f"oneshot_500_round_{number},{1 + more},ms" for number, more in enumerate(drift)]
    rows += [f"oneshot_2500_round_{number},{many - more},ms" for number, more in enumerate(drift)]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "bench.csv").write_text("\n".join(["name,value,unit", *rows]))
    judged = judged_by(tmp_path / "figures", claims.BENCH, "One-Shot is one gradient")
    assert (judged.verdict, judged.n, judged.unit) == (verdict, rounds, "ms")
    assert judged.difference == pytest.approx(many - 2)
    assert judged.evidence.startswith(f"2,500 masks - twice that of 500 masks: {many - 2:+.2f} ms")
    assert ("one seed or measurement, which decides nothing" in judged.evidence) == (rounds == 1)


@pytest.mark.parametrize(("mask", "verdict"), [(0.01, HOLDS), (0.03, FAILS), (0.0201, UNDECIDED)])
def test_overheads_are_judged_round_by_round(tmp_path: Path, mask: float, verdict: str) -> None:
    """BatchE's vectors cost 2 % of a pass, one round more and one less; a mask in the third case now less and now more than that."""
    drift = (-0.001, 0.0, 0.001)
    rows = [f"resnet50_batche_vectors_overhead_round_{number},{0.02 + more},ratio" for number, more in enumerate(drift)]
    rows += [f"resnet50_mask_overhead_round_{number},{mask - more},ratio" for number, more in enumerate(drift)]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "bench.csv").write_text("\n".join(["name,value,unit", *rows]))
    judged = judged_by(tmp_path / "figures", claims.BENCH, "A mask adds less to a forward pass of ResNet-50 than BatchE's vectors")
    assert (judged.verdict, judged.n) == (verdict, 3)
    assert "; 3 rounds; bench" in judged.evidence
    assert judged.numbers == pytest.approx({"BatchE's vectors, share of the pass": 0.02, "mask, share of the pass": mask})
    weights = judged_by(tmp_path / "figures", claims.BENCH, "A mask adds less to a forward pass of ResNet-50 than BatchE's weights")
    assert weights.verdict == NOT_JUDGED


def test_values_by_seed_of_other_runs_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"fig4": RIGHT["fig4"]})
    seeds = tmp_path / "fig4-seeds.csv"
    seeds.write_text(seeds.read_text().replace("run02", "run77"))
    with pytest.raises(UserError, match=r"fig4-seeds\.csv and fig4\.csv come from different runs: make the figure again"):
        claims.judged(tmp_path)
    seeds.write_text("curve,seed\nGG,0\n")
    with pytest.raises(UserError, match=r"fig4-seeds\.csv holds no values by seed, because it lacks accuracy"):
        claims.judged(tmp_path)


def judged_by(folder: Path, figure: str, sentence: str = "") -> claims.Judgement:
    (claim,) = [claim for claim in claims.CLAIMS if claim.figure == figure and claim.sentence.startswith(sentence)]
    return claims.judge(claim, folder)


def test_every_claim_is_about_a_figure_and_curves_that_it_has(tmp_path: Path) -> None:
    figure_claims = [claim for claim in claims.CLAIMS if claim.figure != claims.BENCH]
    for claim in figure_claims:
        of_figure = paper.FIGURES[claim.figure].curves("smoke")
        lines = {curve.name: (curve.line, curve.value) for curve in of_figure}
        curves = [curve.name for curve in of_figure]
        places = [29] * len(curves) if claim.figure == "fig7" else range(10, 1000, 10)
        written = {curve: (0.5, 0.5, place, 1e6, 0.5) for place, curve in zip(places, curves, strict=False)}
        if "BatchE" in written:
            written["BatchE"] = (0.5, 0.5, 1, 2e6, 0.5)
        write(tmp_path, {claim.figure: written}, lines=lines)
    judgements = claims.judged(tmp_path)
    assert sum(each.verdict != NOT_JUDGED for each in judgements) == len(figure_claims)
    assert all(each.numbers for each in judgements if each.verdict != NOT_JUDGED)


HEAD = ",".join(files.COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        (
            "figure,budget\nfig4,laptop\n",
            "is not a figure's table of this version, because it lacks .*accuracy.*: make the figure again, with --from-results if",
        ),
        (HEAD, "is cut off"),
        (HEAD + "fig4,laptop,GG,paper,GG,supsup\n", "cannot be read"),
        (HEAD + "fig4,laptop,GG,paper,GG,supsup,GG,GG,s,d,n,x,5,5,,,1,0.5\n", "is cut off"),
        (HEAD + "fig4,laptop,GG,paper,GG,supsup,GG,GG,s,d,n,x,5,zz,,,1,0.5,,,,0.1,,5,100,abc\n", "cannot be read"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "fig4.csv").write_text(text)
    with pytest.raises(UserError, match=rf"fig4\.csv {words}"):
        claims.judged(tmp_path)


def test_a_table_without_what_is_compared_leaves_its_claims_alone_unjudged(tmp_path: Path) -> None:
    """As one made before the figure had the curve: the other claims are judged nonetheless."""
    write(tmp_path, {"fig4": RIGHT["fig3-left"], "fig3-left": RIGHT["fig3-left"]})
    assert judged_by(tmp_path, "fig3-left").verdict == HOLDS
    for each in claims.judged(tmp_path):
        if each.figure == "fig4":
            assert each.verdict == NOT_JUDGED
            assert each.evidence == "fig4.csv lacks what is compared: make it again with `clbench figure fig4`"


def test_what_was_not_made_is_not_judged(tmp_path: Path) -> None:
    assert {each.verdict for each in claims.judged(tmp_path)} == {NOT_JUDGED}
    with pytest.raises(UserError, match=r"There are no figures in .* to judge claims by"):
        CliRunner().invoke(app, ["claims", "--results", str(tmp_path)], catch_exceptions=False)
    write(tmp_path / "figures", {"fig4": RIGHT["fig4"]})
    result = CliRunner().invoke(app, ["claims", "--results", str(tmp_path), "--json"], catch_exceptions=False)
    records = json.loads(result.stdout)
    assert {record["figure"]: record["verdict"] for record in records}["fig4"] == HOLDS
    assert {record["verdict"] for record in records if record["figure"] != "fig4"} == {NOT_JUDGED}
    output = CliRunner().invoke(app, ["claims", "--results", str(tmp_path)], catch_exceptions=False).stdout.splitlines()
    assert len(output) == len(claims.CLAIMS) + 1
    (close,) = [line for line in output if "NNs is close to GNu" in line]
    assert close.startswith(
        "holds: NNs is close to GNu [Figure 4, section 4.3]. GNu H - NNs H aligned: +0.50 points (+0.38 to +0.62"
    )
    assert any("clbench figure fig6-left-sizes" in line for line in output)
    assert output[-1] == f"Of {len(claims.CLAIMS)} claims: not judged {len(claims.CLAIMS) - 3}, holds 3."
