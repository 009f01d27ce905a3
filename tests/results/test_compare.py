"""Paired comparisons against hand-worked numbers, and what is no line."""

import math

import pandas as pd
import pytest
from scipy import stats

from clbench.errors import UserError
from clbench.results.compare import compare, paired, unlike

PLACE = {"stream": "s", "data": "d", "network": "n", "tasks": 3, "learned": 3}


def row(method: str, scenario: str, seed: int, accuracy: float, ask: str = "", settings: str = "rate=1") -> dict:
    seeds = dict.fromkeys(("stream_seed", "initialisation_seed", "training_seed"), seed)
    return (
        PLACE
        | seeds
        | {"method": method, "scenario": scenario, "ask": f"{scenario} {ask}", "settings": settings, "accuracy": accuracy}
    )


def test_a_hand_worked_case() -> None:
    # Differences 0.04, 0.03, 0.02: mean 0.03, standard deviation 0.01, d = 3, t = 0.03 / (0.01 / sqrt 3) = 5.196 with 2 degrees.
    comparison = paired([0.94, 0.95, 0.93], [0.90, 0.92, 0.91])
    assert comparison.n == 3
    assert comparison.difference == pytest.approx(0.03)
    assert comparison.effect == pytest.approx(3)
    assert comparison.p_value == pytest.approx(2 * stats.t.sf(0.03 / (0.01 / math.sqrt(3)), 2))
    assert comparison.half_width == pytest.approx(4.302652729911275 * 0.01 / math.sqrt(3))


@pytest.mark.parametrize(("first", "second"), [([0.5], [0.25]), ([0.5, 0.5], [0.25, 0.25])])
def test_without_spread_only_the_mean_is_known(first: list[float], second: list[float]) -> None:
    comparison = paired(first, second)
    assert comparison.difference == 0.25
    assert math.isnan(comparison.effect)
    assert math.isnan(comparison.p_value)


def test_pairs_are_runs_of_the_same_seeds() -> None:
    first = [row("a", "GG", seed, 0.5 + seed / 10) for seed in (0, 1, 2)]
    second = [row("b", "GNu", seed, 0.1 * seed) for seed in (2, 1, 5)]  # in another order, one without its twin
    (comparison,) = compare(pd.DataFrame(first + second), "a", "b").to_dict("records")
    assert comparison["n"] == 2
    assert comparison["difference"] == pytest.approx(0.5)
    assert (comparison["first"], comparison["second"]) == (pytest.approx(0.65), pytest.approx(0.15))
    assert comparison["stream"] == "s"


def test_a_line_is_narrowed_by_scenario_and_settings() -> None:
    rows = [
        row("a", "GNu", 0, 0.1, "objective=H"),
        row("a", "GNu", 0, 0.2, "objective=G"),
        row("a", "GG", 0, 0.3),
        row("b", "GG", 0, 0.0),
    ]
    rows.append(row("a", "GNu", 0, 0.4, "objective=G", "rate=2"))
    summary = pd.DataFrame(rows)
    assert compare(summary, "a/gnu/objective=H", "b")["first"].tolist() == [0.1]
    assert compare(summary, "a/GNu/objective=G,rate=2", "b")["first"].tolist() == [0.4]
    with pytest.raises(UserError, match="a/gnu is more than one line: objective is G or H; rate is 1 or 2"):
        compare(summary, "a/gnu", "b")
    with pytest.raises(UserError, match="No run matches a/gnu/objective=Z"):
        compare(summary, "a/gnu/objective=Z", "b")
    with pytest.raises(UserError, match="'nonsense' in a/gg/nonsense is not a setting: a line is METHOD/SCENARIO/key=value"):
        compare(summary, "a/gg/nonsense", "b")
    with pytest.raises(UserError, match=r"setting of a 'ojective'.*objective"):
        compare(summary, "a/gnu/ojective=H", "b")
    with pytest.raises(UserError, match="method among these runs"):
        compare(summary, "c", "b")
    with pytest.raises(UserError, match="no stream, network, number of tasks and seed in common"):
        compare(summary.assign(stream_seed=[0, 0, 0, 1, 0]), "a/gg", "b")


def test_what_was_asked_about_a_sample_of_images_is_another_line_only_where_it_is_the_only_one_or_named() -> None:
    asks = [("objective=H", 0.5), ("group=1 images=128 objective=H", 0.75)]
    first = [row("a", "GNu", seed, accuracy, ask) for seed in (0, 1) for ask, accuracy in asks]
    second = [row("b", "GG", seed, 0.25, "images=128") for seed in (0, 1)]
    summary = pd.DataFrame(first + second)
    assert compare(summary, "a", "b")["difference"].tolist() == [0.25]
    assert compare(summary, "a/gnu/images=128", "b")["difference"].tolist() == [0.5]
    two = pd.DataFrame([row("b", "GG", 0, 0.25, "images=128"), row("b", "GG", 0, 0.5, "images=64"), row("a", "GG", 0, 0.5)])
    with pytest.raises(UserError, match=r"b is more than one line: images is 128 or 64\..*key=value,key=value"):
        compare(two, "a", "b")


def test_a_value_that_a_line_has_not() -> None:
    rows = [row("a", "GG", 0, math.nan), row("b", "GG", 0, 0.1)]
    with pytest.raises(UserError, match="a/gg has no accuracy"):
        compare(pd.DataFrame(rows), "a/gg", "b")


def test_lines_of_another_precision_or_about_other_images_are_said_to_be_unlike() -> None:
    summary = pd.DataFrame(
        [
            row("a", "GNu", 0, 0.1, "objective=H sample=128", "rate=1 precision=bfloat16"),
            row("b", "NNs", 0, 0.2, "", "rate=1 precision=float32"),
            row("c", "GG", 0, 0.2, "", "rate=1 precision=float32"),
        ]
    )
    assert unlike(summary, ["b", "c"], "accuracy") == ""
    assert unlike(summary, ["a", "b"], "accuracy") == (
        "The lines differ in more than what they compare (precision: a bfloat16, b float32; test images: a sample=128, b all)."
    )
