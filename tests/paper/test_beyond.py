"""Figure 7 and the figures beyond the paper, from real runs of a tiny budget: their numbers are those of the run folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from clbench import paper, registry
from clbench.engine import execution, store
from clbench.methods.supsup.inference import alpha_gradient
from clbench.paper import fig2, fig7
from clbench.paper.base import Drawn
from clbench.paper.files import IMAGE, PAPER, single

SMALL: dict[str, dict[str, Any]] = {
    "fig7": {"network": "swish-32x32", "updates": 3},
    "groups": {"network": "swish-32x32", "updates": 3},
    "hopfield": {"network": "swish-8x8", "tasks": 6, "updates": 2, "set": {"outputs": 60}},
    "masks-out": {"network": "mlp-16", "updates": 3},
    "psp-first": {"network": "mlp-16x16", "updates": 3},
    "nns-streams": {"network": "mlp-8", "updates": 4, "batch_size": 32, "flow": {"lengths": (3, 5), "boundaries": "inside"}},
    "timeline": {"network": "mlp-8", "updates": 4, "batch_size": 32},
    "inference": {"network": "mlp-16", "updates": 3, "tasks": 3, "checkpoints": (2, 3)},
    "inference-mixed": {"network": "mlp-16", "updates": 3, "tasks": 3, "checkpoints": (2, 3)},
    "splits-cifar100": {"network": "resnet-18-2", "updates": 2, "batch_size": 16},
    "transfer": {"network": "resnet-18-2", "updates": 2, "batch_size": 16},
}
SEEDS = (0, 1)
Reproduced = Callable[..., Drawn]
TablesOf = Callable[..., list[pd.DataFrame]]


class Made(NamedTuple):
    """A figure that was made, and the folder of its runs."""

    name: str
    drawn: Drawn
    folder: Path

    @property
    def rows(self) -> list[dict[Any, Any]]:
        return self.drawn.frame.to_dict("records")


@pytest.fixture(scope="module")
def make(reproduced: Reproduced, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Figures by name, each made once."""
    known: dict[str, Made] = {}

    def of(name: str) -> Made:
        if name not in known:
            folder = tmp_path_factory.mktemp("results")
            known[name] = Made(name, reproduced(name, folder, SEEDS, **SMALL[name]), folder)
        return known[name]

    return of


def last_scores(tables: list[pd.DataFrame], row: dict[Any, Any]) -> list[pd.DataFrame]:
    """The scores of a point: its ask, after as many tasks."""
    return [table[(table["ask"] == row["ask"]) & (table["learned"] == row["learned"])] for table in tables]


@pytest.mark.parametrize("name", SMALL)
def test_all_files_are_there(name: str, make: Callable[[str], Made]) -> None:
    drawn = make(name).drawn
    expected = [".csv", ".csv", ".csv", ".png", ".pdf", ".md", ".tex"] + ([".png", ".pdf"] if paper.FIGURES[name].beside else [])
    assert [path.suffix for path in drawn.files] == expected
    assert all(path.stat().st_size > 0 for path in drawn.files)


@pytest.mark.parametrize("name", ["groups", "masks-out", "psp-first", "inference", "inference-mixed", "splits-cifar100"])
def test_accuracies_are_means_over_tasks_and_runs(name: str, make: Callable[[str], Made], tables_of: TablesOf) -> None:
    reproduction = make(name)
    of_other_images = bool(paper.FIGURES[name].beside)
    for row in reproduction.rows:
        scores = last_scores(tables_of(reproduction.folder, row, "scores"), row)
        assert row["n"] == len(scores) == len(SEEDS)
        shares = [table["task_accuracy"].mean() for table in scores]
        assert row["task_accuracy"] == pytest.approx(np.mean(shares), abs=1e-12, nan_ok=True)
        if of_other_images and row["protocol"] == IMAGE:
            assert pd.isna(row["accuracy"])
        else:
            assert row["accuracy"] == pytest.approx(np.mean([table["accuracy"].mean() for table in scores]), abs=1e-12)


def test_figure_7_traces_the_search_of_each_curve(make: Callable[[str], Made], tables_of: TablesOf) -> None:
    reproduction = make("fig7")
    assert {row["protocol"] for row in reproduction.rows} == set(fig7.SEARCHES)
    for row in reproduction.rows[::7]:
        if row["protocol"] == fig7.RECALLED:
            assert pd.isna(row["at"])
            assert pd.isna(row["distance"])
            continue
        points = [
            table[(table["step"] == row["at"]) & (table["learned"] == row["task"]) & (table["search"] == row["protocol"])]
            for table in tables_of(reproduction.folder, row, "recovery")
        ]
        for measured in ("distance", "goal"):
            assert row[measured] == pytest.approx(np.mean([point[measured].item() for point in points]), abs=1e-12)


def test_retention_is_the_mean_of_what_runs_lost(make: Callable[[str], Made], tables_of: TablesOf) -> None:
    reproduction = make("hopfield")
    for row in reproduction.rows:
        shares = [table[table["stored"] == row["at"]]["lost"].iloc[0] for table in tables_of(reproduction.folder, row, "retention")]
        assert row["lost"] == pytest.approx(np.mean(shares), abs=1e-12)


def test_transfer_gains_over_the_line_without_it_task_by_task(make: Callable[[str], Made], tables_of: TablesOf) -> None:
    reproduction = make("transfer")
    lines = {(row["line"], row["value"], row["at"]): row for row in reproduction.rows}

    def accuracy(line: str, value: float, task: float) -> float:
        row = lines[line, value, task]
        scores = last_scores(tables_of(reproduction.folder, row, "scores"), row)
        mean = float(np.mean([table[table["task"] == task - 1]["accuracy"].item() for table in scores]))
        assert row["accuracy"] == pytest.approx(mean, abs=1e-12)
        return mean

    assert {value for _, value, _ in lines} == set(fig2.DENSITIES["smoke"])
    for (line, value, task), row in lines.items():
        if line == fig2.TRANSFERRED:
            assert row["gain"] == pytest.approx(accuracy(line, value, task) - accuracy(fig2.RANDOM, value, task), abs=1e-12)
        else:
            assert pd.isna(row["gain"])


@pytest.mark.parametrize("name", ["inference", "inference-mixed"])
def test_an_answer_s_time_is_that_of_its_pass(name: str, make: Callable[[str], Made], tables_of: TablesOf) -> None:
    """One-Shot and the paper's protocol share a pass: its whole time is One-Shot's."""
    reproduction = make(name)
    shared = {row["ask"] for row in reproduction.rows if row["line"] == "one-shot"}
    assert len(shared) == 2
    for row in reproduction.rows:
        if row["protocol"] == PAPER:
            assert pd.isna(row["milliseconds"])
            continue
        passed = shared if row["line"] == "one-shot" else {row["ask"]}
        times = []
        for table in tables_of(reproduction.folder, row, "scores"):
            here = table[table["ask"].isin(passed) & (table["learned"] == row["learned"])]
            times.append(1000 * here["seconds"].sum() / here[here["ask"] == row["ask"]]["images"].sum())
        assert row["milliseconds"] == pytest.approx(np.mean(times))


@pytest.mark.parametrize("name", ["masks-out", "splits-cifar100"])
def test_lines_beside_are_the_tables(name: str, make: Callable[[str], Made]) -> None:
    table = make(name).drawn.frame
    figure = paper.FIGURES[name]
    assert figure.beside is not None
    above, below = figure.beside(table, figure.heading).axes
    lines = {line.get_label(): line.get_ydata() for line in below.get_lines()}
    for line, points in table[~single(table)].groupby("line"):
        assert list(lines[line]) == list(points.sort_values("learned")["stored_bytes"] / 1e6)
    inferred = {tuple(points["task_accuracy"]) for _, points in table.dropna(subset="task_accuracy").groupby("curve")}
    assert {tuple(line.get_ydata()) for line in above.get_lines()} == inferred


def test_groups_are_asked_of_the_runs_of_figure_7_and_drawn_where_the_table_says(
    make: Callable[[str], Made], tables_of: TablesOf
) -> None:
    reproduction = make("groups")
    drawn = reproduction.drawn
    assert set(drawn.frame["runs"]) == set(make("fig7").drawn.frame["runs"])
    groups = drawn.frame["ask"].str.extract(r" group=(\d+) ")[0].astype(float)
    assert groups.tolist() == drawn.frame["at"].tolist() == drawn.frame["value"].tolist() == [2, 8, 32] * 2
    (scores, *_) = tables_of(reproduction.folder, reproduction.rows[0], "scores")
    assert set(scores[scores["ask"] == drawn.frame["ask"].iloc[0]]["images"]) == {fig7.IMAGES["smoke"]}
    for axes, column in zip(drawn.figure.axes, ("task_accuracy", "accuracy"), strict=True):
        lines = [
            list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.get_lines() if line.get_marker() != "None"
        ]
        assert lines == [list(zip(part["at"], part[column], strict=True)) for _, part in drawn.frame.groupby("line", sort=False)]


def test_the_accuracy_on_the_first_task_is_what_is_drawn(make: Callable[[str], Made], tables_of: TablesOf) -> None:
    reproduction = make("psp-first")
    table, axes = reproduction.drawn.frame, reproduction.drawn.figure.axes[0]
    for row in reproduction.rows:
        scores = last_scores(tables_of(reproduction.folder, row, "scores"), row)
        assert row["first"] == pytest.approx(np.mean([each[each["task"] == 0]["accuracy"].item() for each in scores]), abs=1e-12)
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    for line, points in table.groupby("line"):
        assert lines[line] == points["first"].tolist()
        assert points["first"].iloc[0] == pytest.approx(points["accuracy"].iloc[0])  # after one task it is the average
    assert axes.get_ylabel() == "accuracy on the first task (%)"
    assert table["paper"].isna().all()


def test_the_memory_of_hopsupsup_stays_the_same(make: Callable[[str], Made], tables_of: TablesOf) -> None:
    reproduction = make("hopfield")
    for tasks in tables_of(reproduction.folder, reproduction.rows[0], "tasks"):
        assert len(tasks) == 6
        assert tasks["stored_bytes"].nunique() == 1


def test_the_matrix_has_every_method_in_every_scenario_that_it_serves() -> None:
    curves = paper.FIGURES["matrix"].curves("smoke")
    zoo = [method for method in registry.methods().values() if method.__module__.startswith("clbench.methods.")]
    served = {f"{method.name} {scenario.name}" for method in zoo for scenario in method.scenarios}
    assert {curve.name for curve in curves} == served


def test_the_matrix_shows_its_table(reproduced: Reproduced, tmp_path: Path) -> None:
    drawn = reproduced("matrix", tmp_path, network="mlp-8", updates=1)
    axes = drawn.figure.axes[0]
    rows, columns = ([tick.get_text() for tick in ticks] for ticks in (axes.get_yticklabels(), axes.get_xticklabels()))
    cells = {(rows[round(text.get_position()[1])], columns[round(text.get_position()[0])]): text.get_text() for text in axes.texts}
    table = {(row["method"], row["scenario"]): f"{100 * row['accuracy']:.1f}" for row in drawn.frame.to_dict("records")}
    assert cells == table


def test_calibration_is_a_count_of_decisions(reproduced: Reproduced, tmp_path: Path) -> None:
    """Against a loop over the images of both seeds' learners, with One-Shot's own answers and slopes."""
    drawn = reproduced("calibration", tmp_path, SEEDS, network="mlp-16", updates=20)
    for line, classes in {"PermutedMNIST": 10, "SplitMNIST": 2}.items():
        rows = drawn.frame[(drawn.frame["line"] == line) & (drawn.frame["protocol"] == "one-shot H")]
        everything: list[tuple[float, bool]] = []
        errors = []
        for run in rows["runs"].iloc[0].split():
            method, stream = execution.learner(store.Run(tmp_path / "runs" / run))
            tenths: dict[int, list[tuple[float, bool]]] = {}
            for index, task in enumerate(stream):
                inputs, _ = task.test.whole(200)
                tasks = method.predict(inputs, algorithm="one-shot", objective="H", group=1).tasks
                slopes = alpha_gradient(method.base, method.bank, inputs[:, None], ["H"], stream.classes, None)[0]
                for which, slope in zip(tasks, slopes, strict=True):
                    certainty = float((-slope).softmax(0).max())
                    tenths.setdefault(min(int(10 * certainty), 9), []).append((certainty, int(which) == index))
            images = [pair for pairs in tenths.values() for pair in pairs]
            apart = [abs(sum(right for _, right in pairs) - sum(sure for sure, _ in pairs)) for pairs in tenths.values()]
            errors.append(sum(apart) / len(images))
            everything += images
        assert (rows["right"] * rows["share"]).sum() == pytest.approx(np.mean([right for _, right in everything]))
        assert rows["task_accuracy"].iloc[0] == pytest.approx(np.mean([right for _, right in everything]))
        assert (rows["at"] * rows["share"]).sum() == pytest.approx(np.mean([sure for sure, _ in everything]), rel=1e-4)
        assert rows["share"].sum() == pytest.approx(1)
        assert rows["error"].iloc[0] == pytest.approx(np.mean(errors), rel=1e-4)
        assert rows["chance"].iloc[0] == pytest.approx(1 / (3 * classes))
