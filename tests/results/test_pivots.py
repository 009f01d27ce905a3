"""Pivoted tables against a double loop over the averages."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from clbench.cli.main import app
from clbench.errors import UserError
from clbench.results.pivots import pivot

PLACE = {"stream": "s", "data": "d", "network": "n", "tasks": 3, "learned": 3}


def averages() -> pd.DataFrame:
    rows = []
    for i, method in enumerate(("a", "b")):
        for j, scenario in enumerate(("GG", "GNu")):
            for k, rate in enumerate((1, 2)):
                if method == "b" and scenario == "GNu":
                    continue
                line = {"method": method, "scenario": scenario, "ask": f"{scenario} objective=H", "settings": f"rate={rate}"}
                numbers = {
                    "accuracy": 0.1 * i + 0.2 * j + 0.01 * k,
                    "accuracy_interval": 0.01,
                    "stored_bytes": 1000.0 * (i + 1),
                    "n": 3,
                    "decisions": 256,
                }
                rows.append(PLACE | line | numbers)
    return pd.DataFrame(rows)


def test_cells_are_the_lines() -> None:
    frame = averages()
    table = pivot(frame, ["method", "rate"], ["scenario"])
    for row in frame.to_dict("records"):
        cell = (table.numbers["method"] == row["method"]) & (table.numbers["rate"] == row["settings"].removeprefix("rate="))
        assert table.numbers.loc[cell, row["scenario"]].item() == row["accuracy"]
        assert table.text.loc[cell, row["scenario"]].item() == f"{100 * row['accuracy']:.2f} ± 1.00"
    assert table.text.loc[table.text["method"] == "b", "GNu"].tolist() == ["–", "–"]


def test_samples_of_images_are_left_out_where_a_cell_has_a_line_about_all() -> None:
    sampled = averages().assign(ask="GNu images=8 objective=H", accuracy=0.99, method="a")
    only = averages().iloc[:1].assign(ask="GG images=8", accuracy=0.77, method="c")
    frame = pd.concat([averages(), sampled[sampled["scenario"] == "GNu"], only])
    table = pivot(frame, ["method", "rate"], ["scenario"])
    numbers = table.numbers[table.numbers["method"] != "c"].reset_index(drop=True)
    pd.testing.assert_frame_equal(numbers, pivot(averages(), ["method", "rate"], ["scenario"]).numbers)
    assert table.numbers.loc[table.numbers["method"] == "c", "GG"].tolist() == [0.77]
    assert 0.99 in pivot(frame, ["method", "rate", "images"], ["scenario"]).numbers["GNu"].tolist()


def test_bytes_are_shown_as_bytes() -> None:
    assert pivot(averages(), ["method"], ["scenario", "rate"], "stored_bytes").text["GG 1"].tolist() == ["1.0 kB", "2.0 kB"]


@pytest.mark.parametrize(
    ("rows", "value", "words"),
    [
        (["method"], "accuracy", "a GG has 2 lines: add rate to --rows or --columns"),
        (["nothing"], "accuracy", "nothing"),
        (["method", "scenario"], "accuracy", "scenario is named twice"),
        (["method", "rate"], "beauty", "beauty"),
    ],
)
def test_what_cannot_be_pivoted_is_refused(rows: list[str], value: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pivot(averages(), rows, ["scenario"], value)


def test_the_command_pivots_stored_runs(tmp_path) -> None:
    results = str(tmp_path / "results")
    run = [
        "--scenario",
        "gg",
        "--stream",
        "permuted-mnist",
        "--network",
        "mlp-8",
        "--tasks",
        "2",
        "--updates",
        "2",
        "--results",
        results,
    ]
    for method in ("naive", "lower-bound"):
        assert CliRunner().invoke(app, ["run", "--method", method, *run]).exit_code == 0
    pivoted = ["table", "--results", results, "--rows", "method"]
    rows = json.loads(CliRunner().invoke(app, [*pivoted, "--json"]).stdout)
    assert [row["method"] for row in rows] == ["lower-bound", "naive"]
    assert all(0 <= row["GG"] <= 1 for row in rows)
    assert "lower-bound" in CliRunner().invoke(app, pivoted).stdout
    for suffix in ("csv", "md", "tex"):
        out = tmp_path / f"table.{suffix}"
        assert CliRunner().invoke(app, [*pivoted, "--out", str(out)]).exit_code == 0
        assert "naive" in out.read_text()
