"""What a learner that is told no tasks made of their boundaries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import clbench
from clbench.engine.boundaries import Boundary, Switch, Switches, boundaries
from clbench.engine.flow import Flow
from clbench.engine.schedule import Schedule
from clbench.engine.store import find


def made(switches: Sequence[tuple[int, int]], follows: Flow | None = None, tasks: Sequence[int] = (0, 1, 2)) -> list[Boundary]:
    """Of three tasks of 10 batches of 8 images each."""
    timetable = Schedule(10, 8, flow=follows or Flow()).timetable(len(tasks))
    return boundaries(timetable, tasks, [Switch(*switch) for switch in switches])


def test_a_switch_at_every_change_detects_all_of_them_at_once() -> None:
    assert made([(0, 0), (10, 1), (20, 2)]) == [
        Boundary(learned=1, task=0, change=0, detected=0, delay=0, false=0, component=0),
        Boundary(2, 1, 10, 10, 0, 0, 1),
        Boundary(3, 2, 20, 20, 0, 0, 2),
    ]


def test_late_false_and_missing_switches_are_counted() -> None:
    assert made([(0, 0), (13, 1), (15, 0), (16, 1)]) == [
        Boundary(1, 0, 0, 0, 0, 0, 0),
        Boundary(2, 1, 10, 13, 3, 2, 1),
        Boundary(3, 2, 20, None, None, 0, 1),
    ]


def test_the_mask_of_a_task_is_the_one_in_training_for_most_of_its_batches() -> None:
    """Of task 1, mask 0 trains on 6 batches and mask 1 on 4."""
    assert [row.component for row in made([(0, 0), (16, 1)])] == [0, 0, 1]


def test_what_recurs_is_the_same_task() -> None:
    rows = made([(0, 4), (10, 5), (20, 4)], tasks=(0, 1, 0))
    assert [(row.learned, row.task, row.component) for row in rows] == [(1, 0, 4), (2, 1, 5), (3, 0, 4)]


def test_with_a_boundary_inside_a_batch_the_change_is_that_batch() -> None:
    assert [row.change for row in made([], Flow(boundaries="inside"))] == [0, 9, 19]


def test_a_gradual_transition_begins_with_the_first_batch_that_can_have_images_of_the_next_task() -> None:
    rows = made([(0, 0), (9, 1), (17, 2)], Flow(linear=6))
    assert [(row.change, row.detected, row.delay) for row in rows] == [(0, 0, 0), (7, 9, 2), (17, 17, 0)]


def test_only_another_component_is_a_switch() -> None:
    switches = Switches(None)
    for batch, component in enumerate([None, 0, 0, None, 0, 2, 0]):
        switches.after(batch, component)
    assert switches.take() == (Switch(1, 0), Switch(5, 2), Switch(6, 0))
    assert switches.take() == ()


NNS: dict[str, Any] = {"network": "mlp-32", "tasks": 3, "updates": 20, "batch_size": 16, "ask": {"images": 20}}


def test_a_run_without_given_tasks_records_its_boundaries(tmp_path: Path) -> None:
    """The paper's rule chooses every 20 batches, and with epsilon above 1 always a new mask: on time if tasks have 20 batches."""
    always_new = {"interval": 20, "offset": 0, "epsilon": 1e9}
    frame = clbench.run("supsup", "nns", results=tmp_path, set=always_new, **NNS)
    run = find(str(frame["path"].iloc[0]), tmp_path)
    assert run.table("switches")[["batch", "mask"]].values.tolist() == [[0, 0], [20, 1], [40, 2]]
    table = run.table("boundaries")
    assert list(table) == ["learned", "task", "change", "detected", "delay", "false", "mask"]
    assert table["detected"].tolist() == table["change"].tolist() == [0, 20, 40]
    (summary,) = clbench.summarise(frame).to_dict("records")
    assert (summary["missed"], summary["false_switches"], summary["delay"], summary["masks_per_task"]) == (0, 0, 0, 1)


@pytest.mark.parametrize(("interval", "delay", "false"), [(25, 7.5, 0), (6, 3, 7)])
def test_what_comes_late_or_too_often_is_measured(interval: int, delay: float, false: int, tmp_path: Path) -> None:
    """Choices at 25 and 50 come 5 and 10 batches late; those every 6 at 24 and 42 come 4 and 2 late, and 7 of 10 are false."""
    always_new = {"interval": interval, "offset": 0, "epsilon": 1e9}
    (summary,) = clbench.summarise(clbench.run("supsup", "nns", results=tmp_path, set=always_new, **NNS)).to_dict("records")
    assert (summary["missed"], summary["delay"], summary["false_switches"]) == (0, delay, false)


def test_learners_without_components_have_no_boundaries(tmp_path: Path) -> None:
    frame = clbench.run("naive", "nns", results=tmp_path, **NNS)
    assert frame[["missed", "false_switches", "delay"]].isna().all(axis=None)
    assert not find(str(frame["path"].iloc[0]), tmp_path).table_file("boundaries").exists()
    assert isinstance(clbench.summarise(frame), pd.DataFrame)
