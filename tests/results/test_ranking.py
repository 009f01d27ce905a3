"""Rankings against Demšar's own example and a double loop, and the diagram against the ranking."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from clbench.cli.main import app
from clbench.errors import UserError
from clbench.results.ranking import Ranking, cliques, critical_difference, draw, rank, save

PLACE = {"data": "d", "network": "n", "tasks": 3, "learned": 3, "scenario": "GG", "ask": "GG", "settings": ""}
SEEDS = ("stream_seed", "initialisation_seed", "training_seed")


def summary(values: dict[str, list[float]], value: str = "accuracy") -> pd.DataFrame:
    rows = [
        PLACE | dict.fromkeys(SEEDS, block % 2) | {"method": method, "stream": f"s{block // 2}", value: number}
        for method, numbers in values.items()
        for block, number in enumerate(numbers)
    ]
    return pd.DataFrame(rows)


VALUES = {"a": [0.9, 0.8, 0.7, 0.9], "b": [0.8, 0.8, 0.9, 0.7], "c": [0.1, 0.2, 0.3, 0.4], "d": [0.2, 0.3, 0.1, 0.5]}


def test_the_critical_difference_is_the_published_one() -> None:
    """Demšar 2006, section 3.2.2: four classifiers on 14 data sets, q = 2.569, CD = 1.25."""
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)


@pytest.mark.parametrize("value", ["accuracy", "forgetting"])
def test_ranks_are_those_of_a_double_loop(value: str) -> None:
    ranking = rank(summary(VALUES, value), list(VALUES), value)
    sign = 1 if value == "accuracy" else -1
    expected = dict.fromkeys(VALUES, 0.0)
    for block, name in itertools.product(range(4), VALUES):
        mine = sign * VALUES[name][block]
        others = [sign * VALUES[other][block] for other in VALUES if other != name]
        expected[name] += (1 + sum(other > mine for other in others) + sum(other == mine for other in others) / 2) / 4
    assert dict(zip(ranking.lines, ranking.ranks, strict=True)) == pytest.approx(expected)
    assert list(ranking.ranks) == sorted(ranking.ranks)
    assert ranking.blocks == 4
    ranks_by_line = list(zip(*[stats.rankdata(block) for block in zip(*VALUES.values(), strict=True)], strict=True))
    spreads = []
    for permuted in itertools.product(*[itertools.permutations(block) for block in zip(*ranks_by_line, strict=True)]):
        sums = [sum(ranks) for ranks in zip(*permuted, strict=True)]
        spreads.append(sum(each**2 for each in sums))
    observed = sum(sum(ranks) ** 2 for ranks in ranks_by_line)
    assert ranking.p_value == pytest.approx(np.mean([spread >= observed - 1e-9 for spread in spreads]), abs=2e-3)  # by 9,999 draws


def test_full_agreement_of_two_blocks_is_one_way_in_six() -> None:
    assert rank(summary({"a": [0.3, 0.6], "b": [0.2, 0.5], "c": [0.1, 0.4]}), ["a", "b", "c"]).p_value == pytest.approx(1 / 6)


def test_only_blocks_with_all_lines_count() -> None:
    shorter = VALUES | {"d": [0.2, 0.3]}
    assert rank(summary(shorter), list(VALUES)).blocks == 2


@pytest.mark.parametrize(
    ("lines", "values", "words"),
    [
        (["a", "b"], VALUES, "three lines or more"),
        (["a", "b", "a"], VALUES, "each named once"),
        (["a", "b", "a/gg"], VALUES, "a and a/gg are the same line"),
        (["a", "b", "c"], VALUES | {"c": [0.5]}, "needs two or more"),
        (["a", "b", "x"], VALUES, "x"),
    ],
)
def test_what_cannot_be_ranked_is_refused(lines: list[str], values: dict[str, list[float]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        rank(summary(values), lines)


def test_where_all_tie_nothing_differs() -> None:
    tied = rank(summary({name: [0.5, 0.5] for name in "abc"}), ["a", "b", "c"])
    assert (tied.p_value, list(tied.ranks)) == (1.0, [2.0, 2.0, 2.0])


def test_bars_join_lines_within_the_critical_difference() -> None:
    ranking = Ranking(("a", "b", "c", "d"), np.array([1.0, 1.8, 2.9, 4.3]), 10, 1.2, 0.01)
    assert cliques(ranking) == [(0, 1), (1, 2)]
    assert cliques(ranking._replace(critical_difference=4.0)) == [(0, 3)]
    assert cliques(ranking._replace(critical_difference=0.1)) == []


def test_the_diagram_names_every_line_at_its_rank(tmp_path) -> None:
    ranking = rank(summary(VALUES), list(VALUES))
    (axes,) = draw(ranking, "accuracy").axes
    texts = [text.get_text().split() for text in axes.texts]
    for name, place in zip(ranking.lines, ranking.ranks, strict=True):
        assert sorted([name, f"{place:.2f}"]) in map(sorted, texts)
        assert any(place in line.get_xdata() for line in axes.get_lines())
    assert save(ranking, "accuracy", tmp_path / "cd.png").stat().st_size > 0
    with pytest.raises(UserError, match=r"\.png or \.pdf"):
        save(ranking, "accuracy", tmp_path / "cd.svg")


def test_the_command_ranks_stored_runs(tmp_path) -> None:
    methods, results = ("naive", "lower-bound", "separate-heads"), str(tmp_path / "results")
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
        "--seeds",
        "0,1",
    ]
    for method in methods:
        assert CliRunner().invoke(app, ["run", "--method", method, *run, "--results", results]).exit_code == 0
    answer = CliRunner().invoke(app, ["compare", *methods, "--results", results, "--json"])
    record = json.loads(answer.stdout)
    assert sorted(record["lines"]) == sorted(methods)
    assert record["blocks"] == 2
    answer = CliRunner().invoke(app, ["compare", *methods, "--results", results, "--out", str(tmp_path / "cd.pdf")])
    assert "Critical difference" in answer.stdout
    assert (tmp_path / "cd.pdf").exists()
