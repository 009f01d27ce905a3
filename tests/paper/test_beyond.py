"""Figure 7 and the figures beyond the paper, from real runs of a tiny budget: their numbers are those of the run folders."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from clbench import paper, registry, runs
from clbench.paper import base

SMALL = {
    "fig7": {"network": "swish-32x32", "updates": 3},
    "hopfield": {"network": "swish-8x8", "tasks": 6, "updates": 2, "set": {"outputs": 60}},
    "masks-out": {"network": "mlp-16", "updates": 3},
    "inference": {"network": "mlp-16", "updates": 3, "tasks": 3, "checkpoints": (2, 3)},
    "splits-cifar100": {"network": "resnet-18-2", "updates": 2, "batch_size": 16},
    "transfer": {"network": "resnet-18-2", "updates": 2, "batch_size": 16},
}
SEEDS = (0, 1)


def reproduced(name, folder, seeds=SEEDS, **changed):
    figure = paper.FIGURES[name]

    def tiny(budget):
        return [
            curve._replace(
                settings={**curve.settings, **changed, "set": {**curve.settings.get("set", {}), **changed.get("set", {})}}
            )
            for curve in figure.curves(budget)
        ]

    return base.reproduce(dataclasses.replace(figure, curves=tiny), "smoke", folder, seeds=seeds)


@pytest.fixture(scope="module", params=SMALL)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return request.param, reproduced(request.param, folder, **SMALL[request.param]), folder


def tables_of(folder, row, name):
    return [pd.read_csv(folder / "runs" / run / f"{name}.csv") for run in row["runs"].split()]


def test_all_files_are_there(made):
    name, drawn, _ = made
    expected = [".csv", ".png", ".pdf", ".md", ".tex"] + ([".png", ".pdf"] if paper.FIGURES[name].beside else [])
    assert [path.suffix for path in drawn.files] == expected
    assert all(path.stat().st_size > 0 for path in drawn.files)


def test_every_row_is_the_mean_over_its_runs(made):
    name, drawn, folder = made
    for row in drawn.frame.iloc[::7].to_dict("records"):
        scores = [table[table["ask"] == row["ask"]] for table in tables_of(folder, row, "scores")]
        if name in ("fig7", "hopfield"):
            table, at, measured = {"fig7": ("recovery", "step", "distance"), "hopfield": ("retention", "stored", "lost")}[name]
            found = []
            for rows in tables_of(folder, row, table):
                kept = rows[rows[at] == row["at"]]
                found.append(float((kept[kept["learned"] == row["learned"]] if name == "fig7" else kept)[measured].iloc[0]))
            assert row[measured] == pytest.approx(np.mean(found), abs=1e-12)
            continue
        last = [table[table["learned"] == row["learned"]] for table in scores]
        if name == "transfer":
            last = [table[table["task"] == row["at"] - 1] for table in last]
        assert row["accuracy"] == pytest.approx(np.mean([table["accuracy"].mean() for table in last]), abs=1e-12)
        if name == "inference":
            times = [1000 * table["seconds"].sum() / table["images"].sum() for table in last]
            assert row["milliseconds"] == pytest.approx(np.mean(times))
        assert row["n"] == len(SEEDS)


def test_lines_beside_are_the_tables(made):
    name, drawn, _ = made
    if not paper.FIGURES[name].beside:
        pytest.skip("nothing is drawn beside it")
    above, below = paper.FIGURES[name].beside(drawn.frame).axes
    lines = {line.get_label(): line.get_ydata() for line in below.get_lines()}
    for curve, part in drawn.frame.groupby("curve"):
        assert list(lines[curve]) == list(part.sort_values("learned")["stored_bytes"] / 1e6)
    inferred = {tuple(part["task_accuracy"]) for _, part in drawn.frame.dropna(subset="task_accuracy").groupby("curve")}
    assert {tuple(line.get_ydata()) for line in above.get_lines()} == inferred


def test_the_memory_of_hopsupsup_stays_the_same(tmp_path):
    drawn = reproduced("hopfield", tmp_path, seeds=(0,), **SMALL["hopfield"])
    (tasks,) = tables_of(tmp_path, drawn.frame.iloc[0], "tasks")
    assert len(tasks) == 6
    assert tasks["stored_bytes"].nunique() == 1


def test_the_matrix_has_every_method_in_every_scenario_that_it_serves():
    curves = paper.FIGURES["matrix"].curves("smoke")
    zoo = [method for method in registry.methods().values() if method.__module__.startswith("clbench.methods.")]
    served = {f"{method.name} {scenario.name}" for method in zoo for scenario in method.scenarios}
    assert {curve.name for curve in curves} == served


def test_the_matrix_shows_its_table(tmp_path):
    drawn = reproduced("matrix", tmp_path, seeds=(0,), network="mlp-8", updates=1)
    axes = drawn.figure.axes[0]
    rows, columns = ([tick.get_text() for tick in ticks] for ticks in (axes.get_yticklabels(), axes.get_xticklabels()))
    shown = {(rows[round(text.get_position()[1])], columns[round(text.get_position()[0])]): text.get_text() for text in axes.texts}
    table = {(row["method"], row["scenario"]): f"{100 * row['accuracy']:.1f}" for row in drawn.frame.to_dict("records")}
    assert shown == table


def test_calibration_is_a_count_of_decisions(tmp_path):
    """Each row against a loop over the images of the stored learner, with One-Shot's own answers."""
    drawn = reproduced("calibration", tmp_path, seeds=(0,), network="mlp-16", updates=20)
    for curve in ("PermutedMNIST", "SplitMNIST"):
        rows = drawn.frame[drawn.frame["curve"] == f"{curve}: one-shot H"]
        (run,) = set(rows["runs"])
        method, stream = runs.learner(runs.Run(tmp_path / "runs" / run))
        right = []
        for index, task in enumerate(stream):
            inputs, _ = task.test.whole(200)
            found = method.predict(inputs, algorithm="one-shot", objective="H", group=1).tasks
            right += [int(which) == index for which in found]
        assert (rows["right"] * rows["share"]).sum() == pytest.approx(np.mean(right))
        assert rows["share"].sum() == pytest.approx(1)
        assert rows["at"].between(1 / len(stream), 1).all()
