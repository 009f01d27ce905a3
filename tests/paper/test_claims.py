"""Claims: judged by tables of figures, each for and against."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from clbench import paper
from clbench.cli.main import app
from clbench.errors import UserError
from clbench.paper import base, claims

# For each figure the last points of its curves when the paper is right: accuracy, task accuracy, place, bytes.
RIGHT = {
    "fig3-left": {"SupSup GNu H": (0.93,), "PSP GG": (0.9,), "BatchE GG": (0.88,)},
    "fig3-right": {"SupSup GNu H": (0.96,), "PSP GG": (0.9,), "BatchE GG": (0.88,)},
    "fig4": {"GG (task given)": (0.93,), "GNu H": (0.925,), "NNs H aligned": (0.92,), "NNs H unaligned": (0.6,)},
    "fig5-left": {"SupSup GNu H": (0.95, 0.99), "PSP GG": (0.94,), "BatchE GG": (0.9,)},
    "fig5-right": {"BatchE GNu H": (0.9, 0.97)},
    "fig6-left": {"GNu H, s = 10": (0.5, 0.6, 10), "GNu H, s = 50": (0.9, 0.95, 50), "GNu H, s = 100": (0.9, 0.99, 100)},
    "fig6-right": {"GNu H, s = 10": (0.9, 0.9, 10), "GNu H, s = 100": (0.9, 1.0, 100)},
    "fig2-right": {
        "SupSup; edges 4": (0.7, None, None, 1e5),
        "SupSup Transfer; edges 4": (0.75, None, None, 1e5),
        "BatchE": (0.65, None, None, 2e6),
    },
    "splits": {"SupSup GNu H": (0.5, 0.5)},
    "splits-cifar100": {"SupSup GNu H": (0.2, 0.3)},
    "mixed": {"SupSup GNu H": (0.6, 0.7)},
    "masks-out": {"enough masks": (0.9,), "fewer masks than tasks": (0.6,)},
    "fig7": {"output (equation 5)": (0.9, 0.99, 29, None, 0.002)},
}
WRONG = {
    "fig3-left": {"PSP GG": (0.94,)},
    "fig3-right": {"BatchE GG": (0.97,)},
    "fig4": {"GNu H": (0.9,), "NNs H aligned": (0.87,), "NNs H unaligned": (0.86,)},
    "fig5-left": {"SupSup GNu H": (0.5, 0.94)},
    "fig5-right": {"BatchE GNu H": (0.5, 0.9)},
    "fig6-left": {"GNu H, s = 100": (0.9, 0.6, 100)},
    "fig6-right": {"GNu H, s = 100": (0.9, 0.9, 100)},
    "fig2-right": {"SupSup; edges 4": (0.8, None, None, 3e6), "SupSup Transfer; edges 4": (0.6, None, None, 1e5)},
    "splits": {"SupSup GNu H": (0.5, 0.99)},
    "splits-cifar100": {"SupSup GNu H": (0.2, 0.96)},
    "mixed": {"SupSup GNu H": (0.6, 0.97)},
    "masks-out": {"fewer masks than tasks": (0.895,)},
    "fig7": {"output (equation 5)": (0.9, 0.99, 29, None, 0.2)},
}
SECONDS = {True: (1.0, 3.0), False: (1.0, 1.5)}
"""Milliseconds with 500 and with 2,500 masks, when they show that arithmetic grows and when they do not."""


def write(folder, figures):
    folder.mkdir(parents=True, exist_ok=True)
    for figure, curves in figures.items():
        rows = []
        for number, (curve, values) in enumerate(curves.items()):
            accuracy, task, at, size, distance = (*values, *[None] * (5 - len(values)))
            last = dict.fromkeys(base.COLUMNS) | {
                "figure": figure,
                "budget": "laptop",
                "curve": curve,
                "runs": f"run{number}",
                "n": 2,
                "tasks": 20,
            }
            last |= {
                "learned": 20,
                "accuracy": accuracy,
                "task_accuracy": task,
                "at": at,
                "stored_bytes": size,
                "distance": distance,
                "task": 5,
            }
            rows += [last | {"learned": 1, "accuracy": 0.0, "task_accuracy": 0.0}, last]
        columns = [*base.COLUMNS, *(["task", "distance"] if figure == "fig7" else [])]
        pd.DataFrame(rows)[columns].to_csv(folder / f"{figure}.csv", index=False)


def write_bench(folder, milliseconds):
    rows = [f"oneshot_{k}_milliseconds_per_image,{value},ms" for k, value in zip((500, 2500), milliseconds, strict=True)]
    folder.mkdir(parents=True)
    (folder / "bench.csv").write_text("\n".join(["name,value,unit", *rows]))


def test_claims_hold_where_the_tables_say_so(tmp_path):
    write(tmp_path / "figures", RIGHT)
    write_bench(tmp_path / "bench", SECONDS[True])
    found = claims.judged(tmp_path / "figures")
    assert len(found) == len(claims.CLAIMS)
    assert [each.sentence for each in found if not each.holds] == []
    assert all(each.numbers and (each.figure == "bench" or (each.runs and each.budget == "laptop")) for each in found)


def test_claims_do_not_hold_where_the_tables_say_otherwise(tmp_path):
    write(tmp_path / "figures", {figure: curves | WRONG[figure] for figure, curves in RIGHT.items()})
    write_bench(tmp_path / "bench", SECONDS[False])
    assert [each.sentence for each in claims.judged(tmp_path / "figures") if each.holds] == []


def test_every_claim_is_about_a_figure_and_curves_that_it_has(tmp_path):
    drawn = [claim for claim in claims.CLAIMS if claim.figure != claims.BENCH]
    for claim in drawn:
        curves = [curve.name for curve in paper.FIGURES[claim.figure].curves("smoke")]
        places = [29, 100] if claim.figure == "fig7" else range(10, 1000, 10)
        written = {curve: (0.5, 0.5, place, 1e6, 0.5) for place, curve in zip(places, curves, strict=False)}
        write(tmp_path, {claim.figure: written})
    found = claims.judged(tmp_path)
    assert sum(each.holds is not None for each in found) == len(drawn)
    assert all(each.numbers for each in found if each.holds is not None)


HEAD = ",".join(base.COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("figure,budget\nfig4,laptop\n", "is no figure's table, for it lacks .*accuracy"),
        (HEAD, "is cut off"),
        (HEAD + "fig4,laptop,GG,supsup\n", "cannot be read"),
        (HEAD + "fig4,laptop,GG,supsup,GG,GG,s,d,n,x,5,5,,1,0.5\n", "is cut off"),
        (HEAD + "fig4,laptop,GG,supsup,GG,GG,s,d,n,x,5,zz,,1,0.5,,,,0.1,,5,100,abc\n", "cannot be read"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, words):
    (tmp_path / "fig4.csv").write_text(text)
    with pytest.raises(UserError, match=rf"fig4\.csv {words}"):
        claims.judged(tmp_path)


def test_another_figure_s_table_is_refused(tmp_path):
    write(tmp_path, {"fig4": RIGHT["fig3-left"]})
    with pytest.raises(UserError, match=r"fig4\.csv does not hold the curves of fig4: make it again with `clbench figure fig4`"):
        claims.judged(tmp_path)


def test_what_was_not_made_is_not_judged(tmp_path):
    assert {each.holds for each in claims.judged(tmp_path)} == {None}
    with pytest.raises(UserError, match=r"There are no figures in .* to judge claims by"):
        CliRunner().invoke(app, ["claims", "--results", str(tmp_path)], catch_exceptions=False)
    write(tmp_path / "figures", {"fig4": RIGHT["fig4"]})
    result = CliRunner().invoke(app, ["claims", "--results", str(tmp_path), "--json"], catch_exceptions=False)
    records = json.loads(result.stdout)
    assert {record["figure"]: record["holds"] for record in records}["fig4"] is True
    assert {record["holds"] for record in records if record["figure"] != "fig4"} == {None}
    shown = CliRunner().invoke(app, ["claims", "--results", str(tmp_path)], catch_exceptions=False).stdout
    assert "GNu H: 92.50 %" in shown
    assert "clbench figure fig6-left" in shown
