"""The benchmark of the ways to infer tasks runs, and its variants are what they say."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import inferring, inferring_figures
from clbench.methods._objectives import OBJECTIVES

SMALL = {"method": "supsup", "scenario": "gnu", "stream": "split-mnist", "data": "mnist-5k", "network": "mlp-16"}
SMALL |= {"tasks": 2, "updates": 30, "sample": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows of a small stream."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(inferring.SETTINGS, "SplitMNIST", SMALL)
        patch.setattr(inferring, "TRAINING_IMAGES", 100)
        made = tmp_path_factory.mktemp("inferring")
        pd.DataFrame(inferring.rows("SplitMNIST", 0, made, None)).to_csv(made / "inferring-SplitMNIST-0.csv", index=False)
        inferring.known_rows(made).to_csv(made / "inferring.csv", index=False)
        pd.DataFrame(inferring_figures.values("SplitMNIST", made, None)).to_csv(made / "inferring-values.csv", index=False)
    return made


def test_every_way_has_a_row_and_no_way_beats_being_told_the_task(folder: Path) -> None:
    table = pd.read_csv(folder / "inferring.csv").set_index(["way", "images"])
    ways = set(table.index.get_level_values("way"))
    assert {f"exhaustive {name}" for name in OBJECTIVES} <= ways
    assert {f"one-shot {name}" for name, objective in OBJECTIVES.items() if objective.slope} <= ways
    assert {"given", "statistics hidden", "statistics random-1000", "densities under each mask"} <= ways
    assert table.loc[("given", 0), "tasks"] == 1
    from_one = table[table.index.get_level_values("images") <= 1]
    assert (from_one["accuracy"] <= table.loc[("given", 0), "accuracy"] + 1e-9).all()
    assert (from_one["accuracy"] <= from_one["tasks"] + 1e-9).all()  # in GNu a right answer needs the right task
    assert table.loc[("statistics hidden", 1), "bytes"] < table.loc[("statistics random-1000", 1), "bytes"]
    assert len(inferring.summary(pd.read_csv(folder / "inferring.csv"))) == len(table)


def test_statistics_find_the_same_tasks_before_masks_are_learned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inferring.SETTINGS, "SplitMNIST", SMALL)
    table = pd.read_csv(folder / "inferring.csv").set_index(["way", "images"])
    untrained = pd.DataFrame(inferring.rows_untrained("SplitMNIST", 0, None, None)).set_index(["way", "images"])
    for row in untrained.index:
        assert untrained.loc[row, "tasks"] == pytest.approx(table.loc[row, "tasks"])


def test_among_two_tasks_a_shortlist_of_five_leaves_the_choice_to_entropy(folder: Path) -> None:
    table = pd.read_csv(folder / "inferring.csv").set_index("way")
    assert table.loc["shortlist of 5, then H", "tasks"] == pytest.approx(table.loc["exhaustive H", "tasks"])


def test_values_say_how_often_the_right_task_has_the_lowest(folder: Path) -> None:
    table = pd.read_csv(folder / "inferring.csv").set_index(["way", "images"])
    values = pd.read_csv(folder / "inferring-values.csv")
    assert set(values["way"]) == set(inferring_figures.WAYS)
    for way, part in values.groupby("way"):
        assert part["found"].iloc[0] == pytest.approx(table.loc[(way, 1), "tasks"], abs=1e-6)
        assert part.groupby("kind")["images"].sum().tolist() == [64, 64]


def test_figures_are_drawn_from_the_tables(folder: Path) -> None:
    drawn = inferring_figures.draw_bytes(pd.read_csv(folder / "inferring.csv"))
    assert drawn.axes[0].get_title(loc="left") == "SplitMNIST, 2 tasks, n = 1"
    values = inferring_figures.draw_values(pd.read_csv(folder / "inferring-values.csv"))
    assert len(values.axes) == len(inferring_figures.WAYS)


def test_the_temperature_is_that_of_the_highest_likelihood() -> None:
    """Of two logits 2 t apart, the first is right with the odds e^2 : 1 at the temperature t."""
    labels = (torch.arange(10_000) >= 8808).long()  # a share of e^2 / (1 + e^2) is of the first class
    logits = torch.tensor([[2.0, 0.0]]).expand(len(labels), 2)
    factor = float(inferring.TEMPERATURES[30])
    assert float(inferring.temperature(factor * logits, labels)) == pytest.approx(factor)


def test_costs_grow_with_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inferring_figures, "IMAGES", 4)
    rows = pd.DataFrame(inferring_figures.costs((2, 3), "mlp-16")).set_index(["way", "tasks"])
    by_features = {"one-shot H": 0, "statistics hidden": 16, "statistics random-1000": 1000}
    masks = -(-(784 * 16 + 16 * 100) // 8)
    for way, features in by_features.items():
        grown = rows.loc[(way, 3), "bytes to predict"] - rows.loc[(way, 2), "bytes to predict"]
        assert grown == pytest.approx(masks + (10 * (2 * features + 8) if features else 0), abs=8)  # of a file: aligned


def test_rows_without_masks_are_not_mixed_with_those_with_masks(tmp_path: Path) -> None:
    for stem, tasks in (("0", 0.5), ("0-without-masks", 0.4)):
        row = {"stream": "SplitMNIST", "seed": 0, "way": "statistics hidden", "tasks": tasks}
        pd.DataFrame([row]).to_csv(tmp_path / f"inferring-SplitMNIST-{stem}.csv", index=False)
    known = inferring.known_rows(tmp_path).set_index("way")["tasks"]
    assert known.to_dict() == {"statistics hidden": 0.5, "statistics hidden, no masks learned": 0.4}
