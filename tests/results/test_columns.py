"""Measured columns, stated once, and the settings of lines: both from run folders written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from clbench.cli.main import app
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.results import formats
from clbench.results.columns import MEASURED, Column, compared, find, joined
from clbench.results.compare import compare
from clbench.results.frames import frame, over_seeds, summarise
from clbench.results.lines import flat, labels, lines_of, read_settings, text
from clbench.results.pivots import pivot
from clbench.results.ranking import rank
from clbench.results.tables import table

R = [[0.9], [0.5, 0.7], [0.6, 0.8, 1.0]]
"""Accuracies after one, two and three tasks."""

Write = Callable[..., Run]


@pytest.fixture
def write(tmp_path: Path, write_run: Write) -> Write:
    """Write a run of the method naive in GNs: its accuracies, seed, learning parameters, and the parameters of its one ask."""

    def run(
        accuracies: list[list[float]] = R, seed: int = 0, learn: dict[str, Any] | None = None, ask: dict[str, Any] | None = None
    ) -> Run:
        folder = tmp_path / "results" / "runs" / f"{len(list(tmp_path.glob('results/runs/*')))}"
        return write_run(
            folder, accuracies, [{"scenario": "GNs", "parameters": ask or {}, "images": None}], parameters=learn, seed=seed
        )

    return run


@pytest.fixture
def worst(tmp_path: Path) -> str:
    """A person's own metric, in a file."""
    file = tmp_path / "worst.py"
    file.write_text(
        "def task(R, scores):\n    return R[-1].min()\n\n\n"
        "def spread(R, scores):\n    return R[-1].max() - R[-1].min()\n\n\nspread.higher_is_better = False\n\n\n"
        "def broken(R, scores):\n    return R['nonsense']\n\n\nnumber = 3\n"
    )
    return str(file)


# Columns


def test_a_summary_holds_every_column_by_its_formula(write: Write) -> None:
    summary = summarise(frame([write()])).iloc[0]
    assert summary["accuracy"] == pytest.approx((0.6 + 0.8 + 1.0) / 3)
    assert np.isnan(summary["task_accuracy"])
    assert summary["forgetting"] == pytest.approx(((0.9 - 0.6) + (0.7 - 0.8)) / 2)
    assert summary["backward_transfer"] == pytest.approx(((0.6 - 0.9) + (0.8 - 0.7)) / 2)
    assert summary["anytime_accuracy"] == pytest.approx((0.9 + 0.6 + 0.8) / 3)
    assert summary[["components", "stored_bytes", "progress_bytes", "train_seconds"]].tolist() == [3, 3000, 16, 6.0]
    assert summary["eval_seconds"] == pytest.approx(0.5 * 6)
    assert {column.name for column in MEASURED} <= set(summary.index)


def test_seeds_give_every_metric_a_mean_with_its_interval(write: Write) -> None:
    averages = over_seeds(summarise(frame([write(), write([[0.9], [0.5, 0.7], [0.4, 0.6, 1.0]], seed=1)]))).iloc[0]
    assert averages["n"] == 2
    # Backward transfer is -0.1 and -0.3: mean -0.2, and the half width is 12.7062 times the standard error 0.1.
    assert averages["backward_transfer"] == pytest.approx(-0.2)
    assert averages["backward_transfer_interval"] == pytest.approx(1.27062, rel=1e-5)
    assert {column.interval_name for column in MEASURED if column.interval} <= set(averages.index)
    assert "stored_bytes_interval" not in averages.index


def test_columns_have_names_and_headings_of_their_own_and_say_what_they_are() -> None:
    for values in ([column.name for column in MEASURED], [column.heading for column in MEASURED]):
        assert len(set(values)) == len(values)
    assert all(column.meaning for column in MEASURED)


def test_a_table_shows_a_column_on_request(write: Write) -> None:
    runs = frame([write()])
    plain = table(over_seeds(summarise(runs)))
    columns = joined(MEASURED, ["backward_transfer"])
    wider = table(over_seeds(summarise(runs, columns), columns), columns)
    assert list(wider.columns.difference(plain.columns)) == ["backward transfer %"]
    assert wider["backward transfer %"].tolist() == ["-10.00"]
    pd.testing.assert_frame_equal(wider[plain.columns], plain)


@pytest.mark.parametrize("value", ["backward_transfer", "anytime_accuracy"])
def test_lines_are_compared_by_any_metric(write: Write, value: str) -> None:
    better, worse = R, [[0.9], [0.5, 0.7], [0.4, 0.8, 1.0]]
    runs = [write(rows, seed, {"rate": rate}) for seed in (0, 1) for rate, rows in ((1, better), (2, worse))]
    summary = summarise(frame(runs))
    (row,) = compare(summary, "naive/gns/rate=1", "naive/gns/rate=2", value).to_dict("records")
    # One task of three falls by 0.2 more: that is 0.1 of the two earlier tasks' mean, and 0.2 / 3 / 3 of all checkpoints'.
    assert row["difference"] == pytest.approx({"backward_transfer": 0.1, "anytime_accuracy": 0.2 / 9}[value])


def test_a_difference_has_a_sign_and_the_format_of_its_column() -> None:
    assert find("accuracy").difference(0.031, 0.02) == "+3.10 ± 2.00"
    assert find("forgetting").difference(-0.031) == "-3.10"
    assert find("accuracy").difference(float("nan")) == formats.NONE


def test_what_is_no_column_is_refused() -> None:
    with pytest.raises(UserError, match=r"Unknown column 'acuracy'\. Did you mean accuracy\?"):
        find("acuracy")
    with pytest.raises(UserError, match="Lines cannot be compared by stored_bytes: give a metric"):
        compared("stored_bytes")


# A person's own metric


def test_a_metric_of_ones_own_is_a_column_everywhere(write: Write, worst: str) -> None:
    runs = [write([[0.9], [low, 0.8]], seed, {"rate": rate}) for seed in (0, 1) for rate, low in ((1, 0.1), (2, 0.3), (3, 0.2))]
    name = f"{worst}:task"
    columns = joined(MEASURED, [name])
    summary = summarise(frame(runs), columns)
    assert summary[name].tolist() == [0.1, 0.3, 0.2] * 2
    averages = over_seeds(summary, columns)
    assert table(averages, columns)[name].tolist() == ["0.1 ± 0", "0.3 ± 0", "0.2 ± 0"]
    assert pivot(averages, ["rate"], ["scenario"], name).numbers["GNs"].tolist() == [0.1, 0.3, 0.2]
    lines = [f"naive/gns/rate={rate}" for rate in (1, 2, 3)]
    assert compare(summary, lines[1], lines[0], name)["difference"].tolist() == [pytest.approx(0.2)]
    assert rank(summary, lines, name).lines == ("naive/gns/rate=2", "naive/gns/rate=3", "naive/gns/rate=1")


def test_a_metric_may_say_that_lower_is_better(worst: str) -> None:
    assert find(f"{worst}:task").higher_is_better
    assert not find(f"{worst}:spread").higher_is_better


def test_the_command_shows_a_metric(write: Write, worst: str) -> None:
    results = str(write().path.parents[1])
    output = CliRunner().invoke(app, ["table", "--results", results, "--metric", f"{worst}:task", "--metric", "backward_transfer"])
    assert "0.6" in output.stdout
    assert "-10.00" in output.stdout
    answer = CliRunner().invoke(app, ["table", "--results", results, "--metric", f"{worst}:task", "--json"])
    assert json.loads(answer.stdout)[0][f"{worst}:task"] == 0.6
    cells = ["table", "--results", results, "--rows", "method", "--json", "--value", f"{worst}:spread"]
    assert json.loads(CliRunner().invoke(app, cells).stdout) == [{"method": "naive", "GNs": pytest.approx(0.4)}]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{}:broken", r"The metric .*broken failed in line 13 of .*worst\.py"),
        ("{}:number", "is not a metric: it must be a function"),
        ("{}:absent", "has no 'absent'"),
        ("no_such_module:metric", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_metric_that_fails_is_one_sentence(write: Write, worst: str, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        summarise(frame([write()]), joined(MEASURED, [name.format(worst)]))


# Settings of lines


def test_a_setting_with_blanks_stays_whole(write: Write) -> None:
    runs = [write(learn={"hidden": [400, width], "rate": 0.1}, ask={"levels": [1, 2], "group": 1}) for width in (400, 100)]
    averages = over_seeds(summarise(frame(runs)))
    assert [line.settings["hidden"] for line in lines_of(averages)] == ["[400, 400]", "[400, 100]"]
    assert table(averages)["settings"].tolist() == ["hidden=[400, 400]", "hidden=[400, 100]"]
    assert table(averages)["ask"].tolist() == ["group=1 levels=[1, 2]"] * 2
    assert labels(averages)[0] == ["GNs hidden=[400, 400]", "GNs hidden=[400, 100]"]
    assert pivot(averages, ["hidden"], ["scenario"]).numbers["hidden"].tolist() == ["[400, 100]", "[400, 400]"]
    comparison = compare(summarise(frame(runs)), "naive/gns/hidden=[400,400],levels=[1,2]", "naive/gns/hidden=[400, 100]")
    assert comparison["n"].tolist() == [1]


def test_settings_come_from_the_run_s_record_not_from_text(write: Write) -> None:
    run = write(learn={"text": "a b=c"}, ask={"group": 1})
    (line,) = lines_of(summarise(frame([run])))
    assert line.learning == {"text": "a b=c", "updates": "300", "batch_size": "128", "precision": "float32"}
    assert line.ask == {"group": "1"}


def test_a_table_read_from_a_csv_file_has_the_same_lines(write: Write, tmp_path: Path) -> None:
    averages = over_seeds(summarise(frame([write(learn={"hidden": [400, 400], "source": "x"}, ask={"levels": [1, 2]})])))
    flat(averages).to_csv(tmp_path / "table.csv", index=False)
    assert lines_of(pd.read_csv(tmp_path / "table.csv")) == lines_of(averages)


@pytest.mark.parametrize("facts", [{}, {"a": "1"}, {"a": "[400, 400]", "b_c": "x=y", "d": ""}, {"a": "two words", "b": "3"}])
def test_reading_is_the_inverse_of_writing(facts: dict[str, str]) -> None:
    assert read_settings(text(facts)) == facts
    assert read_settings(f"GNu {text(facts)}") == facts


def test_a_line_has_a_label_and_a_caption(write: Write) -> None:
    (line,) = lines_of(summarise(frame([write(ask={"group": 128, "evidence": 1, "objective": "H"})])))
    assert line.label.startswith("naive GNs permuted-mnist mnist-5k lenet-300-100 3 tasks evidence=1 group=128 H updates=300")
    assert line.caption == (
        "GNs (objective=H): naive, permuted-mnist (data mnist-5k), lenet-300-100, 300 updates a task. "
        "One image decides the task of each 128 (group=128, evidence=1: the paper's protocol)."
    )


def test_answers_to_an_ask_that_the_record_does_not_know_are_damage(write: Write) -> None:
    run = write(ask={"group": 1})
    scores = pd.read_csv(run.path / "scores.csv")
    scores.assign(ask="GNs group=2").to_csv(run.path / "scores.csv", index=False)
    with pytest.raises(UserError, match=r"do not fit each other: look with"):
        frame([run])


def test_a_column_is_one_edit(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``Column`` alone gives a summary, means over seeds, a table and the glossary."""
    from clbench import pages

    lowest = Column(
        "lowest", "lowest %", "of all", "min R", lambda answers: float(np.nanmin(answers.R)), formats.percent, interval=True
    )
    columns = (*MEASURED, lowest)
    rows = table(over_seeds(summarise(frame([write()]), columns), columns), columns)
    assert rows["lowest %"].tolist() == ["50.00"]
    monkeypatch.setattr(pages, "MEASURED", columns)
    assert "| lowest | `lowest` | of all | min R | higher |" in pages.with_metrics("\n".join(pages.METRICS))
