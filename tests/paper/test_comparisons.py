"""Figures 3, 5 and 6 from real runs of a tiny budget: drawn from their tables, whose numbers are those of the run folders."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from clbench import paper
from clbench.errors import UserError
from clbench.paper import base, comparison, fig3, files
from clbench.paper.base import Curve
from clbench.paper.fig5 import BINARY
from clbench.paper.published import Published
from clbench.results import metrics

Reproduction = tuple[paper.Drawn, Path]
TINY: dict[str, Any] = {"updates": 3, "network": "mlp-16"}
NAMES = ("fig3-left", "fig3-right", "fig5-left", "fig5-right", "fig6-left", "fig6-right", "fig6-left-sizes", "fig6-right-sizes")


@pytest.fixture(scope="module", params=NAMES)
def reproduction(
    request: pytest.FixtureRequest, reproduced: Callable[..., paper.Drawn], tmp_path_factory: pytest.TempPathFactory
) -> Reproduction:
    folder = tmp_path_factory.mktemp("results")
    return reproduced(request.param, folder, **TINY), folder


def test_every_point_is_drawn_where_the_table_says(reproduction: Reproduction) -> None:
    drawn, _ = reproduction
    assert len(drawn.figure.axes) == (2 if drawn.frame["figure"].iloc[0] in ("fig6-left", "fig6-right") else 1)
    across = "at" if drawn.frame["at"].notna().any() else "learned"
    plain = drawn.frame[~files.single(drawn.frame)]
    for axes in drawn.figure.axes:
        lines = {line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.get_lines()}
        for name, points in plain.groupby("line"):
            assert lines[name] == list(zip(points[across], points["accuracy"], strict=True))


def test_figure_6_has_the_paper_s_lines() -> None:
    for figure in (paper.FIGURES["fig6-left"], paper.FIGURES["fig6-right"]):
        for budget in ("smoke", "laptop", "paper"):
            names = {curve.name for curve in figure.curves(budget)}
            sizes = {f"GNu {objective}, s = {size}" for objective in "HG" for size in (25, 100, 200)}
            assert names == sizes | {"upper bound GG", "lower bound GG"}
            companion = paper.FIGURES[f"{figure.name}-sizes"]
            both = [base.needed(each.curves(budget), (0,)) for each in (figure, companion)]
            hashes = [{a.job.learn.hash for a in answers if a.job.learn.method == "supsup"} for answers in both]
            assert len(hashes[0]) == 3
            assert budget == "smoke" or hashes[0] <= hashes[1]  # the companion is drawn from the same runs


def test_what_is_asked_of_each_image_by_itself_is_drawn_beside_and_not_in_the_figure(reproduction: Reproduction) -> None:
    drawn, _ = reproduction
    alone = drawn.frame[files.single(drawn.frame)]
    inferring = drawn.frame[~files.single(drawn.frame) & drawn.frame["task_accuracy"].notna()]
    # Curves that differ in nothing but how many images decide come to one question, which stands under the first one's name.
    question = inferring["ask"].str.replace(r"evidence=\d+ ", "", regex=True) + inferring["runs"]
    first = inferring.assign(question=question).drop_duplicates("question")
    assert alone["line"].unique().tolist() == first["line"].unique().tolist()
    assert alone["curve"].unique().tolist() == [f"{name}, {base.SINGLE}" for name in first["curve"]]
    assert alone["ask"].str.contains("evidence=1 group=1 ").all()
    # Their accuracy is empty: a line of theirs would hold no number.
    assert all(np.isfinite(np.asarray(line.get_ydata(), float)).all() for line in drawn.figure.axes[0].get_lines())
    across = "at" if drawn.frame["at"].notna().any() else "learned"
    figure = paper.FIGURES[drawn.frame["figure"].iloc[0]]
    above, below = figure.beside(drawn.frame, figure.heading).axes
    lines = [sorted(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in above.get_lines()]
    inferred = drawn.frame.dropna(subset="task_accuracy")
    expected = [
        sorted(zip(part[across], part["task_accuracy"], strict=True))
        for _, part in inferred.groupby(["line", "protocol"], sort=False)
    ]
    assert sorted(lines) == sorted(expected)
    assert base.SINGLE in [line.get_label() for line in below.get_lines()]


def test_numbers_are_those_of_the_run_folders(reproduction: Reproduction) -> None:
    drawn, folder = reproduction
    for row in drawn.frame.to_dict("records"):
        scores = pd.read_csv(folder / "runs" / row["runs"] / "scores.csv")
        answers = scores[(scores["ask"] == row["ask"]) & (scores["learned"] == row["learned"])]
        assert sorted(answers["task"]) == list(range(row["learned"]))
        assert row["task_accuracy"] == pytest.approx(answers["task_accuracy"].mean(), abs=1e-12, nan_ok=True)
        if row["protocol"] == files.IMAGE:
            # Of a sample of images: beside the accuracy on all it would mislead.
            assert math.isnan(row["accuracy"])
        else:
            assert row["accuracy"] == pytest.approx(answers["accuracy"].mean(), abs=1e-12)


def test_values_by_seed_are_those_of_the_run_folders(reproduction: Reproduction) -> None:
    drawn, folder = reproduction
    table = files.read_seeds(drawn.files[0])
    assert drawn.files[1].name == f"{drawn.frame['figure'].iloc[0]}-seeds.csv"
    assert len(table) == len(drawn.frame)  # of one seed
    for row in table.to_dict("records"):
        scores = pd.read_csv(folder / "runs" / row["run"] / "scores.csv")
        point = drawn.frame[(drawn.frame["curve"] == row["curve"]) & (drawn.frame["learned"] == row["learned"])].iloc[0]
        answers = scores[(scores["ask"] == point["ask"]) & (scores["learned"] == row["learned"])]
        assert row["seed"] == 0
        assert row["task_accuracy"] == pytest.approx(answers["task_accuracy"].mean(), abs=1e-12, nan_ok=True)
        single = row["protocol"] == files.IMAGE
        assert math.isnan(row["accuracy"]) if single else row["accuracy"] == pytest.approx(answers["accuracy"].mean(), abs=1e-12)


def test_each_run_stands_with_what_made_it(reproduction: Reproduction) -> None:
    drawn, folder = reproduction
    table = pd.read_csv(drawn.files[2]).set_index("run")
    assert drawn.files[2].name == f"{drawn.frame['figure'].iloc[0]}-runs.csv"
    assert set(table.index) == set(" ".join(drawn.frame["runs"]).split())
    for run, row in table.iterrows():
        record = json.loads((folder / "runs" / str(run) / "run.json").read_text())
        assert row["commit"] == record["environment"]["git_commit"]
        assert row["train_seconds"] == record["timings"]["train_seconds"]
        assert f"torch {torch.__version__}" in row["packages"]
        assert (row["method"], row["scenario"], row["seed"]) == (record["learn"]["method"], record["scenario"], 0)


def test_files_are_there(reproduction: Reproduction) -> None:
    drawn, _ = reproduction
    assert [path.suffix for path in drawn.files] == [".csv", ".csv", ".csv", ".png", ".pdf", ".md", ".tex", ".png", ".pdf"]
    assert all(path.stat().st_size > 0 for path in drawn.files)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", ["smoke", "laptop", "paper"])
def test_every_budget_asks_for_what_there_is(name: str, budget: str) -> None:
    answers = base.needed(paper.FIGURES[name].curves(budget), (0,))
    assert len({answer.curve.name for answer in answers}) == len(answers)
    if budget == "paper":
        assert {answer.job.learn.data for answer in answers} == {"mnist"}


@pytest.mark.parametrize(("tasks", "images"), [(3, 128), (64, 128), (250, 32), (2500, 8)])
def test_as_many_single_images_are_asked_about_as_time_allows(tasks: int, images: int) -> None:
    curves = [
        comparison.inferring(name, {"tasks": tasks}, "supsup", {}, **ask) for name, ask in {"told": {}, "own": BINARY}.items()
    ]
    (single_curve,) = base.singly(curves)
    assert single_curve.name == "own, each image by itself"
    assert single_curve.settings["ask"] == {**BINARY, "scenario": "GNu", "group": 1, "evidence": 1, "images": images}


def test_one_training_serves_all_asks_of_supsup() -> None:
    answers = [answer for answer in base.needed(fig3.LEFT.curves("laptop"), (0,)) if answer.job.learn.method == "supsup"]
    assert len(answers) == 3
    assert len({answer.job.learn.hash for answer in answers}) == 1


def test_the_paper_s_numbers_stand_at_their_place_in_its_budget_and_at_the_end_in_others(tmp_path: Path) -> None:
    number = Published("made up", 75.0, "Table 0", "second-hand", "none")
    reference = (base.Reference("SupSup GG", 1, number), base.Reference("another", 1, number))

    def curves(budget: str) -> Sequence[Curve]:
        shared = {
            "stream": "permuted-mnist",
            "tasks": 2,
            "updates": 2,
            "checkpoints": (1, 2),
            "network": "mlp-8",
            "data": "mnist-5k",
        }
        return [comparison.inferring("SupSup GG", shared, "supsup", {"outputs": 20})]

    figure = base.PaperFigure("made-up", "", 10, curves, comparison.draw, reference)
    reproduction = base.reproduce(figure, "paper", tmp_path, seeds=(0,))
    assert reproduction.frame["paper"].tolist() == pytest.approx([0.75, math.nan], nan_ok=True)
    assert "the paper's number" in [line.get_label() for line in reproduction.figure.axes[0].get_lines()]
    text = (tmp_path / "figures" / "made-up.md").read_text()
    assert "| the paper % |" in text
    assert "| 75.00 | Table 0 (second-hand) |" in " ".join(text.split())  # its source stands beside it
    assert files.read(tmp_path / "figures" / "made-up.csv")["source"].isna().tolist() == [False, True]
    again = base.reproduce(figure, "smoke", tmp_path)
    assert again.frame["paper"].tolist() == pytest.approx([math.nan, 0.75], nan_ok=True)
    assert "the paper's number" not in [line.get_label() for line in again.figure.axes[0].get_lines()]
    assert "| the paper %, at its budget |" in (tmp_path / "figures" / "made-up.md").read_text()


def test_a_table_s_means_are_those_of_its_values_by_seed(tmp_path: Path) -> None:
    def curves(budget: str) -> Sequence[Curve]:
        shared = {
            "stream": "permuted-mnist",
            "tasks": 2,
            "updates": 2,
            "checkpoints": (1, 2),
            "network": "mlp-8",
            "data": "mnist-5k",
        }
        return [comparison.told("naive", shared, "naive"), comparison.told("PSP", shared, "psp")]

    drawn = base.reproduce(base.PaperFigure("made-up", "", 10, curves, comparison.draw), "smoke", tmp_path, seeds=(0, 3))
    seeds = files.read_seeds(drawn.files[0])
    assert sorted(seeds["seed"].unique()) == [0, 3]
    for row in drawn.frame.to_dict("records"):
        values = seeds[(seeds["curve"] == row["curve"]) & (seeds["learned"] == row["learned"])]
        assert values["run"].tolist() == row["runs"].split()
        assert values["accuracy"].mean() == pytest.approx(row["accuracy"])
        assert metrics.mean_t_interval(values["accuracy"]).half_width == pytest.approx(row["accuracy_interval"])
    means = drawn.files[0]
    means.write_text(means.read_text().replace(seeds["run"][0], "0" * 12))
    with pytest.raises(UserError, match="come from different runs"):
        files.read_seeds(means)


def test_the_paper_s_budget_has_several_seeds() -> None:
    assert paper.FIGURES["fig2-right"].seeds == 5
    assert all(figure.seeds > 1 for name, figure in paper.FIGURES.items() if name not in ("fig2-left", "timeline"))
