"""Figure 4 from real runs of a tiny budget, against the run folders; and its look, from made-up points."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes

from clbench import paper
from clbench.engine import request, settings
from clbench.engine.asking import Score
from clbench.engine.evaluator import Taught
from clbench.errors import UserError
from clbench.paper import base, fig4, files
from clbench.paper.base import Curve, PaperFigure
from clbench.results.metrics import mean_t_interval

Reproduction = tuple[paper.Drawn, Path, list[Any]]
TINY: dict[str, Any] = {"tasks": 2, "updates": 20, "checkpoints": (1, 2)}


@pytest.fixture(scope="module")
def figure(shrunk: Callable[..., PaperFigure]) -> PaperFigure:
    return shrunk(fig4.FIG4, **TINY)


@pytest.fixture(scope="module")
def reproduction(figure: PaperFigure, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """The tiny figure with two seeds, its folder, and the events that were watched."""
    folder = tmp_path_factory.mktemp("results")
    events = []
    drawn = base.reproduce(figure, "smoke", folder, seeds=(0, 1), watch=lambda job, event: events.append((job, event)))
    return drawn, folder, events


def drawn_line(axes: Axes, name: str) -> Any:
    (line,) = [line for line in axes.get_lines() if line.get_label() == name]
    return line


def test_lines_are_what_the_csv_says(reproduction: Reproduction) -> None:
    drawn, folder, _ = reproduction
    table = pd.read_csv(folder / "figures" / "fig4.csv", dtype=str)
    table = table.assign(**{name: table[name].map(float) for name in ("learned", "accuracy", "chance")})
    assert list(table.columns) == list(files.COLUMNS)
    names = [fig4.GG, fig4.GNU_H, fig4.GNU_G, fig4.NNS, fig4.UNALIGNED]
    assert table["curve"].unique().tolist() == names + [f"{name}, {base.SINGLE}" for name in names[1:]]
    table = table[~files.single(table)]
    for axes in drawn.figure.axes:
        for name, points in table.groupby("curve"):
            line = drawn_line(axes, name)
            assert line.get_xdata().tolist() == points["learned"].tolist()
            assert line.get_ydata().tolist() == points["accuracy"].tolist()
    below = drawn.figure.axes[1]
    of_gnu = table[table["curve"] == fig4.GNU_H]
    assert drawn_line(below, "chance GNu: 10 % / tasks").get_ydata() == pytest.approx(of_gnu["chance"].tolist())
    assert of_gnu["chance"].tolist() == [0.1, 0.05]


def test_csv_is_what_the_run_folders_say(reproduction: Reproduction) -> None:
    drawn, folder, _ = reproduction
    for row in drawn.frame.to_dict("records"):
        names = row["runs"].split()
        assert len(names) == row["n"] == 2
        averages, task_averages, stored = [], [], []
        for name in names:
            scores = pd.read_csv(folder / "runs" / name / "scores.csv")
            answers = scores[(scores["ask"] == row["ask"]) & (scores["learned"] == row["learned"])]
            assert sorted(answers["task"]) == list(range(row["learned"]))
            averages.append(answers["accuracy"].mean())
            task_averages.append(answers["task_accuracy"].mean())
            tasks = pd.read_csv(folder / "runs" / name / "tasks.csv").set_index("learned")
            stored.append(tasks["stored_bytes"][row["learned"]])
        interval = mean_t_interval(averages)
        if row["protocol"] == files.IMAGE:
            assert pd.isna(row["accuracy"])
        else:
            assert row["accuracy"] == pytest.approx(sum(averages) / 2, abs=1e-12)
            assert row["accuracy_interval"] == pytest.approx(interval.half_width, abs=1e-12)
        assert row["task_accuracy"] == pytest.approx(sum(task_averages) / 2, abs=1e-12, nan_ok=True)
        assert row["stored_bytes"] == pytest.approx(sum(stored) / 2)
        assert pd.isna(row["task_accuracy"]) == (row["curve"] == fig4.GG)


def test_three_curves_come_from_one_training(reproduction: Reproduction) -> None:
    drawn, _, events = reproduction
    runs = drawn.frame.groupby("curve")["runs"].unique().map(tuple)
    assert runs[fig4.GG] == runs[fig4.GNU_H] == runs[fig4.GNU_G]
    assert len({runs[fig4.GNU_H], runs[fig4.NNS], runs[fig4.UNALIGNED]}) == 3
    taught = [job.learn.hash for job, event in events if isinstance(event, Taught)]
    assert len(taught) == 3 * 2 * TINY["tasks"]
    assert {len(job.asks) for job, event in events if isinstance(event, Score)} == {2, 5}


def test_files_are_written_and_caption_says_what_was_run(reproduction: Reproduction) -> None:
    drawn, folder, _ = reproduction
    names = [f"fig4{suffix}" for suffix in (".csv", "-seeds.csv", "-runs.csv", ".png", ".pdf", ".md", ".tex")] + [
        "fig4-beside.png",
        "fig4-beside.pdf",
    ]
    assert [file.relative_to(folder / "figures").name for file in drawn.files] == names
    (caption,) = [text.get_text().replace("\n", " ") for text in drawn.figure.texts if text.get_gid() == "caption"]
    for words in ("clbench", "smoke", "mnist-5k", "lenet-300-100", "500 outputs", "20 updates", "2 seeds", "group=128, evidence=1"):
        assert words in caption


def test_drawing_again_from_results_is_the_same_and_runs_nothing(reproduction: Reproduction, figure: PaperFigure) -> None:
    drawn, folder, _ = reproduction
    before = [file.read_bytes() for file in drawn.files]
    again = base.reproduce(figure, "smoke", folder, seeds=(0, 1), from_results=True, watch=pytest.fail)
    assert [file.read_bytes() for file in again.files] == before


def test_drawing_from_results_names_what_is_missing(reproduction: Reproduction, figure: PaperFigure) -> None:
    _, folder, _ = reproduction
    with pytest.raises(UserError) as refused:
        base.reproduce(figure, "smoke", folder, seeds=(0, 7), from_results=True)
    job = request.resolve(request.request({**figure.curves("smoke")[3].settings, "seeds": (7,)}))[0]
    assert f"NNs H aligned, NNs H aligned, {base.SINGLE} (run {job.learn.hash} is not there)" in str(refused.value)
    assert f"--results {folder} --seeds 0,7`" in str(refused.value)
    with_task, without_task, *_ = figure.curves("smoke")
    more = dataclasses.replace(figure, curves=lambda budget: [with_task, with_ask(without_task, objective=["G"], group=1)])
    with pytest.raises(UserError, match=r"GNu H \(run \w+ was not asked after 1, 2 tasks\)"):
        base.reproduce(more, "smoke", folder, seeds=(0,), from_results=True)


def with_ask(curve: Curve, **changes: Any) -> Curve:
    return dataclasses.replace(curve, settings={**curve.settings, "ask": {**curve.settings["ask"], **changes}})


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean fig4"):
        paper.figure("figure4", results=tmp_path)
    with pytest.raises(UserError, match="Did you mean laptop"):
        paper.figure("fig4", "labtop", results=tmp_path)


@pytest.mark.parametrize("budget", settings.BUDGETS)
def test_budgets_ask_the_papers_question(budget: str) -> None:
    curves = fig4.curves(budget)
    jobs = [job for curve in curves for job in request.resolve(request.request(curve.settings))]
    assert [job.asks[0].scenario.name for job in jobs] == ["GG", "GNu", "GNu", "NNs", "NNs"]
    assert len({job.learn.hash for job in jobs}) == 3
    for job in jobs:
        assert job.learn.network == "lenet-300-100"
        assert (job.learn.parameters["outputs"], job.learn.parameters["budget"]) == (500, 2500)
        # Checks every 100 updates are aligned with tasks only if the tasks' length is a multiple of that.
        assert job.learn.updates % job.learn.parameters["interval"] == 0
        assert job.checkpoints[-1] == job.learn.tasks
    assert [job.learn.parameters["offset"] for job in jobs[3:]] == [0, 50]
    assert (jobs[0].learn.data == "mnist") == (budget == "paper")


def test_curves_that_coincide_are_told_apart(reproduction: Reproduction) -> None:
    """All at 93 %, but unaligned at 50 %: one seed, so no intervals."""
    drawn, _, _ = reproduction
    same = drawn.frame[~files.single(drawn.frame)].assign(accuracy=0.93, accuracy_interval=float("nan"))
    same.loc[same["curve"] == fig4.UNALIGNED, "accuracy"] = 0.5
    figure = fig4.draw(same, fig4.FIG4.heading)
    above, below = figure.axes
    looks = {name: drawn_line(above, name) for name in fig4.STYLES}
    nested = [looks[name] for name in (fig4.GNU_H, fig4.GNU_G, fig4.NNS)]
    sizes = [line.get_markersize() for line in nested]
    assert sizes == sorted(sizes, reverse=True)
    orders = [line.get_zorder() for line in nested]
    assert orders == sorted(orders)
    assert len({line.get_marker() for line in nested}) == 3
    assert looks[fig4.GG].get_linewidth() > 3 * nested[0].get_linewidth()
    low, high = above.get_ylim()
    assert 0.9 < low < 0.93 < high < 0.95
    assert f"axis starts at {100 * low:.4g}" in above.get_ylabel()
    assert below.get_ylim() == (0, 1)
    assert len(figure.legends[0].get_texts()) == len(fig4.STYLES) + 2
