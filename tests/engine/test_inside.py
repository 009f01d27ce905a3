"""Asks inside tasks: about the tasks learned before, after every so many updates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import clbench
from clbench.engine.asking import Ask, Score, examine
from clbench.engine.evaluator import Taught, evaluate
from clbench.engine.lesson import Keep
from clbench.engine.schedule import Schedule
from clbench.engine.store import find
from clbench.errors import UserError
from clbench.methods.naive import Naive
from clbench.methods.supsup import SupSup
from clbench.scenario import Scenario
from clbench.scenarios import GNU, NNS

Make = Callable[..., Any]


def test_scores_inside_are_those_of_the_learner_at_that_batch(make_brief: Make, make_stream: Make) -> None:
    stream, method, plain = make_stream(3), Naive(make_brief(NNS)), Naive(make_brief(NNS))
    inside: list[Score] = []
    list(evaluate(method, stream, [Ask(NNS)], [3], Schedule(10, 16, every=4), keep=Keep(scored_inside=inside.append)))
    expected: list[tuple[int, int, int, float]] = []
    number = 0
    for index, task in enumerate(stream):
        for inputs, labels in task.train.batches(10, 16, clbench.generator(0, "batches", index)):
            plain.observe(inputs, labels)
            number += 1
            if number % 4 == 0 and index:
                expected += [(index + 1, number, s.task, s.accuracy) for s in examine(plain, stream, [Ask(NNS)], index)]
    assert [(s.learned, s.batch, s.task, s.accuracy) for s in inside] == expected
    assert {s.batch for s in inside} == {12, 16, 20, 24, 28}


@pytest.mark.parametrize("scenario", [GNU, NNS])
def test_asking_inside_changes_nothing_that_is_learned(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    learned = []
    for every in (0, 3):
        method = SupSup(make_brief(scenario), outputs=20)
        events = list(evaluate(method, make_stream(3), [Ask(scenario)], [3], Schedule(10, 16, every=every)))
        learned.append(method.learned())
        final = [event.accuracy for event in events if isinstance(event, Score) and event.batch is None]
        order = [event.learned for event in events if isinstance(event, Taught)]
        assert (len(final), order) == (3, [1, 2, 3])
    assert all(torch.equal(tensor, learned[1][name]) for name, tensor in learned[0].items())


SETTINGS: dict[str, Any] = {"network": "mlp-16", "tasks": 3, "updates": 20, "batch_size": 16, "ask": {"images": 50}}


def test_a_run_keeps_what_was_asked_inside_and_the_lowest_accuracy(tmp_path: Path) -> None:
    frame = clbench.run("naive", "nns", results=tmp_path, every=5, **SETTINGS)
    inside = find(str(frame["path"].iloc[0]), tmp_path).table("inside")
    assert len(inside) == 4 + 2 * 4
    (summary,) = clbench.summarise(frame).to_dict("records")
    lowest = [inside[inside["task"] == task]["accuracy"].min() for task in (0, 1)]
    assert summary["lowest_accuracy"] == pytest.approx(sum(lowest) / 2)
    with pytest.raises(UserError, match="did not ask every 4 updates from its beginning: use --overwrite always"):
        clbench.run("naive", "nns", results=tmp_path, every=4, **SETTINGS)
    assert clbench.run("naive", "nns", results=tmp_path, **SETTINGS)["accuracy"].tolist() == frame["accuracy"].tolist()


def test_without_asks_inside_there_is_no_lowest_accuracy(tmp_path: Path) -> None:
    (summary,) = clbench.summarise(clbench.run("naive", "nns", results=tmp_path, **SETTINGS)).to_dict("records")
    assert summary["lowest_accuracy"] != summary["lowest_accuracy"]
    with pytest.raises(UserError, match="every"):
        clbench.run("naive", "nns", results=tmp_path, every=0, **SETTINGS)
