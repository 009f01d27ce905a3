"""Figure 7 and the figures beyond the paper, from real runs of a tiny budget: their numbers are those of the run folders."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from clbench import paper, registry
from clbench.engine import execution, store
from clbench.methods.supsup.inference import alpha_gradient
from clbench.paper import base, fig7, inference

SMALL = {
    "fig7": {"network": "swish-32x32", "updates": 3},
    "groups": {"network": "swish-32x32", "updates": 3},
    "hopfield": {"network": "swish-8x8", "tasks": 6, "updates": 2, "set": {"outputs": 60}},
    "masks-out": {"network": "mlp-16", "updates": 3},
    "psp-first": {"network": "mlp-16x16", "updates": 3},
    "inference": {"network": "mlp-16", "updates": 3, "tasks": 3, "checkpoints": (2, 3)},
    "inference-mixed": {"network": "mlp-16", "updates": 3, "tasks": 3, "checkpoints": (2, 3)},
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
    expected = [".csv", ".csv", ".png", ".pdf", ".md", ".tex"] + ([".png", ".pdf"] if paper.FIGURES[name].beside else [])
    assert [path.suffix for path in drawn.files] == expected
    assert all(path.stat().st_size > 0 for path in drawn.files)


def test_every_row_is_the_mean_over_its_runs(made):
    name, drawn, folder = made
    for row in drawn.frame.iloc[:: 1 if name.startswith("inference") else 7].to_dict("records"):
        scores = [table[table["ask"] == row["ask"]] for table in tables_of(folder, row, "scores")]
        if name in ("fig7", "hopfield"):
            table, at, *traced = {
                "fig7": ("recovery", "step", "distance", "goal"),
                "hopfield": ("retention", "stored", "lost"),
            }[name]
            if pd.isna(row["at"]):
                assert row["curve"].endswith(fig7.RECALLED)
                assert pd.isna(row["distance"])
                traced = []
            for measured in traced:
                found = []
                for rows in tables_of(folder, row, table):
                    kept = rows[rows[at] == row["at"]]
                    if name == "fig7":
                        search = "group" if row["curve"].endswith(fig7.BY_GROUP_OF_64) else "task"
                        kept = kept[(kept["learned"] == row["task"]) & (kept["search"] == search)]
                        assert len(kept) == 1
                    found.append(float(kept[measured].iloc[0]))
                assert row[measured] == pytest.approx(np.mean(found), abs=1e-12)
            continue
        last = [table[table["learned"] == row["learned"]] for table in scores]
        if name == "transfer":
            gains = [table[table["task"] == row["at"] - 1]["accuracy"].item() for table in last]
            random = drawn.frame[drawn.frame["curve"] == row["curve"].replace(" Transfer", "")].iloc[0]
            before = [table[table["learned"] == row["learned"]] for table in tables_of(folder, random, "scores")]
            lower = [table[table["task"] == row["at"] - 1]["accuracy"].item() for table in before]
            expected = np.mean(gains) - np.mean(lower) if "Transfer" in row["curve"] else float("nan")
            assert row["gain"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
            last = [table[table["task"] == row["at"] - 1] for table in last]
        if name == "psp-first":
            first = [table[table["task"] == 0]["accuracy"].item() for table in last]
            assert row["first"] == pytest.approx(np.mean(first), abs=1e-12)
        if paper.FIGURES[name].beside and base.SINGLE in row["curve"]:
            assert pd.isna(row["accuracy"])
        else:
            assert row["accuracy"] == pytest.approx(np.mean([table["accuracy"].mean() for table in last]), abs=1e-12)
        if name.startswith("inference"):
            # One-Shot and the paper's protocol share a pass: its whole time is One-Shot's.
            asks = [r["ask"] for r in drawn.frame.to_dict("records") if r["curve"] in (inference.ONE, inference.PROTOCOL)]
            passed = set(asks) if row["curve"] == inference.ONE else {row["ask"]}
            times = []
            for table in tables_of(folder, row, "scores"):
                here = table[table["ask"].isin(passed) & (table["learned"] == row["learned"])]
                times.append(1000 * here["seconds"].sum() / here[here["ask"] == row["ask"]]["images"].sum())
            expected = float("nan") if row["curve"] == inference.PROTOCOL else np.mean(times)
            assert row["milliseconds"] == pytest.approx(expected, nan_ok=True)
        assert row["n"] == len(SEEDS)


@pytest.mark.parametrize("name", ["masks-out", "splits-cifar100"])
def test_lines_beside_are_the_tables(name, tmp_path):
    drawn = reproduced(name, tmp_path, seeds=(0,), **SMALL[name])
    above, below = paper.FIGURES[name].beside(drawn.frame).axes
    lines = {line.get_label(): line.get_ydata() for line in below.get_lines()}
    for curve, part in drawn.frame[~base.single(drawn.frame)].groupby("curve"):
        assert list(lines[curve]) == list(part.sort_values("learned")["stored_bytes"] / 1e6)
    inferred = {tuple(part["task_accuracy"]) for _, part in drawn.frame.dropna(subset="task_accuracy").groupby("curve")}
    assert {tuple(line.get_ydata()) for line in above.get_lines()} == inferred


def test_groups_are_asked_of_the_runs_of_figure_7_and_drawn_where_the_table_says(tmp_path):
    drawn = reproduced("groups", tmp_path, seeds=(0,), **SMALL["groups"])
    traced = reproduced("fig7", tmp_path, seeds=(0,), **SMALL["fig7"])
    assert set(drawn.frame["runs"]) == set(traced.frame["runs"])
    groups = drawn.frame["ask"].str.extract(r" group=(\d+) ")[0].astype(float)
    assert groups.tolist() == drawn.frame["at"].tolist() == [2, 8, 32] * 2
    (scores, *_) = tables_of(tmp_path, drawn.frame.iloc[0], "scores")
    assert set(scores[scores["ask"] == drawn.frame["ask"].iloc[0]]["images"]) == {fig7.IMAGES["smoke"]}
    for axes, column in zip(drawn.figure.axes, ("task_accuracy", "accuracy"), strict=True):
        lines = [
            list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.get_lines() if line.get_marker() != "None"
        ]
        places = drawn.frame["curve"].str.rpartition(", ")[0]
        assert lines == [list(zip(part["at"], part[column], strict=True)) for _, part in drawn.frame.groupby(places, sort=False)]


def test_the_accuracy_on_the_first_task_is_what_is_drawn(tmp_path):
    drawn = reproduced("psp-first", tmp_path, **SMALL["psp-first"])
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn.figure.axes[0].get_lines()}
    for curve, part in drawn.frame.groupby("curve"):
        assert lines[curve] == part["first"].tolist()
        assert part["first"].iloc[0] == pytest.approx(part["accuracy"].iloc[0])  # after one task it is the average
    assert drawn.figure.axes[0].get_ylabel() == "accuracy on the first task (%)"
    assert drawn.frame["paper"].isna().all()


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
    """Against a loop over the images of both seeds' learners, with One-Shot's own answers and slopes."""
    drawn = reproduced("calibration", tmp_path, network="mlp-16", updates=20)
    for curve, classes in {"PermutedMNIST": 10, "SplitMNIST": 2}.items():
        rows = drawn.frame[drawn.frame["curve"] == f"{curve}: one-shot H"]
        everything, errors = [], []
        for run in rows["runs"].iloc[0].split():
            method, stream = execution.learner(store.Run(tmp_path / "runs" / run))
            tenths = {}
            for index, task in enumerate(stream):
                inputs, _ = task.test.whole(200)
                found = method.predict(inputs, algorithm="one-shot", objective="H", group=1).tasks
                slopes = alpha_gradient(method.base, method.bank, inputs[:, None], ["H"], stream.classes, None)[0]
                for which, slope in zip(found, slopes, strict=True):
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
