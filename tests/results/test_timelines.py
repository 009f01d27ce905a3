"""The track of a run along its batches, and its drawing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import clbench
from clbench.cli.main import app
from clbench.engine.store import Run, find
from clbench.results.timelines import LOSS, MASK, TASK, composition, drawn, track


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two tasks in three visits of 20 batches of 16 images, with boundaries inside a batch; the paper's rule, always with a new mask."""
    results = tmp_path_factory.mktemp("results")
    frame = clbench.run(
        "supsup",
        "nns",
        results=results,
        network="mlp-16",
        updates=20,
        batch_size=16,
        flow={"visits": (0, 1, 0), "boundaries": "inside"},
        set={"interval": 30, "epsilon": 1e9},
        ask={"images": 10},
    )
    return find(str(frame["path"].iloc[0]), results)


def test_a_track_has_all_images_masks_and_losses(run: Run) -> None:
    rows = track(run)
    tasks, masks, losses = (rows[rows["kind"] == kind] for kind in (TASK, MASK, LOSS))
    assert ((tasks["end"] - tasks["first"]) * tasks["share"]).sum() == pytest.approx(60)
    assert set(tasks["height"]) == {1, 2}
    assert masks[["first", "end", "height"]].to_numpy().tolist() == [[0, 30, 1], [30, 60, 2]]
    recorded = run.table("losses")
    assert losses["height"].tolist() == recorded["loss"].tolist()
    assert losses["end"].max() == 60


def test_shares_of_tasks_sum_to_one_in_every_step(run: Run) -> None:
    rows = track(run)
    shares = composition(rows[rows["kind"] == TASK])
    assert shares.shape == (2, 60)
    assert shares.sum(0) == pytest.approx(np.ones(60))
    schedule = run.timetable
    for batch in range(60):
        of_second = sum(images for visit, images in schedule.parts(batch) if visit == 1)
        assert shares[1, batch] == pytest.approx(of_second / 16)


def test_many_batches_are_drawn_in_few_steps() -> None:
    tasks = pd.DataFrame({"first": [0, 7000], "end": [7000, 10000], "height": [1, 2], "share": [1.0, 1.0]})
    shares = composition(tasks)
    assert shares.shape == (2, 600)
    assert shares.mean(1) == pytest.approx([0.7, 0.3])


def test_only_what_there_is_has_a_panel(run: Run) -> None:
    rows = track(run)

    def panels(kinds: set[str]) -> list[Any]:
        return [axes.get_ylabel() for axes in drawn(rows[rows["kind"].isin(kinds)], "caption").axes]

    assert panels({TASK}) == ["true task"]
    assert panels({TASK, MASK, LOSS}) == ["true task", "mask\nin training", "loss"]


def test_the_command_draws_streams(run: Run, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plot", str(run.path), "--stream", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{run.path.name}-stream.{suffix}" for suffix in ("pdf", "png")]
