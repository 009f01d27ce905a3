"""The questions that the paper's figures ask stay what they are, whatever methods do by default."""

from pathlib import Path

import pandas as pd
import pytest

from clbench import paper
from clbench.engine import learn
from clbench.paper import base

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
ASKED_IN_ANOTHER_WAY = {"fig7", "groups", "hopfield"}
"""HopSupSup answers by other searches than when these were committed."""
COMMITTED = [name for name in paper.FIGURES if (REFERENCE / f"{name}.csv").exists() and name not in ASKED_IN_ANOTHER_WAY]


def answers(name: str, budget: str) -> list[base.Answer]:
    """What a figure needs of one seed."""
    figure = paper.FIGURES[name]
    curves = list(figure.curves(budget))
    return base.needed([*curves, *(base.singly(curves) if figure.beside else [])], (0,))


@pytest.mark.parametrize("budget", learn.BUDGETS)
@pytest.mark.parametrize("name", paper.FIGURES)
def test_tasks_are_inferred_by_the_papers_protocol_or_from_images_that_are_stated(name: str, budget: str) -> None:
    for answer in answers(name, budget):
        asked = answer.ask
        assert asked.sample is None, answer.curve
        if "evidence" in asked.parameters:
            by_protocol = (asked.parameters["group"], asked.parameters["evidence"]) in ((128, 1), (128, 128))
            assert by_protocol or (asked.parameters["group"] == 1 and asked.images is not None), answer.curve


@pytest.mark.parametrize("name", COMMITTED)
def test_what_was_asked_for_the_committed_figures_is_what_is_asked(name: str) -> None:
    committed = pd.read_csv(REFERENCE / f"{name}.csv").drop_duplicates("curve").set_index("curve")
    budget = committed["budget"].iloc[0]
    labels = {answer.curve: answer.ask.label for answer in answers(name, budget)}
    both = [curve for curve in committed.index[committed["method"] != "hopsupsup"] if curve in labels]
    if name == "calibration":  # it is drawn from what runs learned, by two ways for each curve
        assert not both
    else:
        assert both
        assert committed.loc[both, "ask"].to_dict() == {curve: labels[curve] for curve in both}
