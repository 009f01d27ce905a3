"""The questions that the paper's figures ask stay what they are, whatever methods do by default."""

from pathlib import Path

import pandas as pd
import pytest

from clbench import paper
from clbench.engine import settings
from clbench.errors import UserError
from clbench.paper import base, files

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
ASKED_IN_ANOTHER_WAY = {"fig7", "groups", "hopfield"}
"""HopSupSup answers by other searches than when these were committed."""
COMMITTED = [name for name in paper.FIGURES if (REFERENCE / f"{name}.csv").exists() and name not in ASKED_IN_ANOTHER_WAY]


def answers(name: str, budget: str) -> list[base.Answer]:
    """What a figure needs of one seed."""
    figure = paper.FIGURES[name]
    curves = list(figure.curves(budget))
    return base.needed([*curves, *(base.singly(curves) if figure.beside else [])], (0,))


@pytest.mark.parametrize("budget", settings.BUDGETS)
@pytest.mark.parametrize("name", paper.FIGURES)
def test_tasks_are_inferred_by_the_papers_protocol_or_from_images_that_are_stated(name: str, budget: str) -> None:
    for answer in answers(name, budget):
        asked = answer.ask
        assert asked.sample is None, answer.curve.name
        if "evidence" in asked.parameters:
            by_protocol = (asked.parameters["group"], asked.parameters["evidence"]) in ((128, 1), (128, 128))
            assert by_protocol or (asked.parameters["group"] == 1 and asked.images is not None), answer.curve.name


@pytest.mark.parametrize("name", COMMITTED)
def test_what_was_asked_for_the_committed_figures_is_what_is_asked(name: str) -> None:
    committed = pd.read_csv(REFERENCE / f"{name}.csv").drop_duplicates("curve").set_index("curve")
    budget = committed["budget"].iloc[0]
    labels = {answer.curve.name: answer.ask.label for answer in answers(name, budget)}
    both = [curve for curve in committed.index[committed["method"] != "hopsupsup"] if curve in labels]
    if name == "calibration":  # it is drawn from what runs learned, by two ways for each curve
        assert not both
    else:
        assert both
        assert committed.loc[both, "ask"].to_dict() == {curve: labels[curve] for curve in both}


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_tables_name_lines_protocols_and_values_as_curves_do(name: str) -> None:
    """Not in calibration, which draws several ways to decide for each curve."""
    committed = files.read(REFERENCE / f"{name}.csv")
    curves = {answer.curve.name: answer.curve for answer in answers(name, committed["budget"].iloc[0])}
    both = committed[committed["curve"].isin(curves)].drop_duplicates("curve")
    assert len(both) or name == "calibration"
    for row in both.to_dict("records"):
        curve = curves[row["curve"]]
        assert (row["line"], row["protocol"]) == (curve.line, curve.protocol)
        assert row["value"] == curve.value or (pd.isna(row["value"]) and curve.value is None)


def test_a_figure_is_drawn_from_its_table_alone(tmp_path: Path) -> None:
    """The picture is that of results/reference, whose pictures were drawn from the runs."""
    (tmp_path / "hopfield.csv").write_bytes((REFERENCE / "hopfield.csv").read_bytes())
    drawn = paper.from_table("hopfield", tmp_path)
    assert [file.name for file in drawn.files] == [f"hopfield{suffix}" for suffix in (".csv", ".png", ".pdf", ".md", ".tex")]
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn.figure.axes[0].get_lines()}
    for line, points in drawn.frame.groupby("line"):
        assert lines[line] == points["lost"].tolist()
    with pytest.raises(UserError, match=r"There is no table .*fig4\.csv"):
        paper.from_table("fig4", tmp_path)


def test_all_figures_are_made_those_that_need_downloads_last() -> None:
    assert sorted(paper.ALL) == sorted(paper.FIGURES)
    assert set(paper.ALL[-len(paper.LAST) :]) == set(paper.LAST)
    brought = {"mnist-5k"}
    for name in paper.ALL[: -len(paper.LAST)]:
        assert {answer.job.learn.data for answer in answers(name, "laptop")} <= brought
