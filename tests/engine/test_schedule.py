"""Which images of which task are in which batch: the timetable, what is drawn from it, and what a learner and its scores make of it."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import clbench
from clbench.engine.asking import Ask, Score, examine
from clbench.engine.batches import batches
from clbench.engine.evaluator import evaluate
from clbench.engine.flow import Flow, flow
from clbench.engine.request import request, resolve
from clbench.engine.schedule import Schedule, Timetable
from clbench.engine.store import find
from clbench.errors import UserError
from clbench.method import Method, Prediction
from clbench.methods.naive import Naive
from clbench.methods.supsup import SupSup
from clbench.results.metrics import average_accuracy
from clbench.scenario import Scenario
from clbench.scenarios import GNS, GNU, NNS
from clbench.seeding import generator
from clbench.stream import Split, Stream, Task

Make = Callable[..., Any]


def numbered(tasks: int, images: int = 50, **settings: Any) -> Stream:
    """Tasks whose inputs are (task, number of the image)."""

    def split(task: int) -> Split:
        numbers = torch.arange(images)
        return Split(torch.stack([torch.full((images,), task), numbers], 1).float(), numbers % 3, **settings)

    return Stream("numbered", [Task(split(task), split(task), str(task)) for task in range(tasks)], 3, (2,))


def composition(timetable: Timetable) -> list[dict[int, int]]:
    """The images of each visit in each batch, one batch after another."""
    return [dict(parts) for run, parts in timetable.runs() for _ in run]


# The timetable


def test_usually_every_task_has_the_same_whole_batches() -> None:
    timetable = Schedule(updates=4, batch_size=8).timetable(3)
    assert composition(timetable) == [{0: 8}] * 4 + [{1: 8}] * 4 + [{2: 8}] * 4
    assert [timetable.batches_of(visit) for visit in range(3)] == [range(4), range(4, 8), range(8, 12)]
    assert timetable.rows()[1] == {"first_batch": 4, "batches": 4, "task": 1, "images": 8}


def test_usual_timetables_of_very_long_streams_are_small() -> None:
    timetable = Schedule(updates=10**6, batch_size=128).timetable(1000)
    assert timetable.spans.shape == (1000, 4)
    assert timetable.batches_of(999) == range(999 * 10**6, 10**9)


@pytest.mark.parametrize("boundaries", ["between", "inside"])
def test_lengths_are_drawn_from_their_range_by_the_stream_seed(boundaries: Any) -> None:
    def made(stream_seed: int, seed: int = 0) -> Timetable:
        return Schedule(1000, 4, seed, flow=Flow(lengths=(5, 9), boundaries=boundaries), stream_seed=stream_seed).timetable(60)

    first, again, other = made(0), made(0, seed=7), made(1)
    assert composition(first) == composition(again) != composition(other)
    counts: Counter[int] = Counter()
    for parts in composition(first):
        assert sum(parts.values()) == 4
        counts.update(parts)
    # A boundary inside a batch moves up to 3 images from one task to the next.
    assert set(range(5, 10)) <= {round(counts[visit] / 4) for visit in range(60)}
    assert all(5 * 4 - 3 <= images <= 9 * 4 + 3 for images in counts.values())


def test_a_boundary_inside_a_batch_splits_it_and_nothing_else() -> None:
    timetable = Schedule(updates=6, batch_size=10, flow=Flow(boundaries="inside")).timetable(4)
    mixed = {number: parts for number, parts in enumerate(composition(timetable)) if len(parts) > 1}
    assert list(mixed) == [5, 11, 17]
    for boundary, (batch, parts) in enumerate(mixed.items()):
        assert parts.keys() == {boundary, boundary + 1}
        # A batch is of the task with most images; of two with half, the earlier.
        assert timetable.first(boundary + 1) == (batch + 1 if parts[boundary] >= 5 else batch)
    assert len(composition(timetable)) == 24 == timetable.first(4)


def test_runs_begin_anywhere() -> None:
    timetable = Schedule(updates=6, batch_size=10, flow=Flow(boundaries="inside")).timetable(3)
    whole = composition(timetable)
    for start in range(len(whole)):
        assert [dict(parts) for run, parts in timetable.runs(start) for _ in run] == whole[start:]
        assert dict(timetable.parts(start)) == whole[start]


# Gradual transitions, blurry batches, one pass


def shares(timetable: Timetable, visit: int) -> list[float]:
    """The share of a visit in each batch."""
    return [parts.get(visit, 0) / timetable.batch_size for parts in composition(timetable)]


@pytest.mark.parametrize(
    ("follows", "window"), [(Flow(linear=40), 40), (Flow(beta=4), 50), (Flow(beta=2.5), 80), (Flow(linear=999), 100)]
)
def test_the_next_task_grows_linearly_in_a_transition(follows: Flow, window: int) -> None:
    """BGD's continuous permuted MNIST has transitions of 2 / beta of a task; none is longer than a task."""
    timetable = Schedule(updates=100, batch_size=2000, flow=follows).timetable(3)
    expected = np.zeros(300)
    for batch in range(300):
        grown, gone = ((batch + 0.5 - (boundary - window / 2)) / window for boundary in (100, 200))
        expected[batch] = np.clip(grown, 0, 1) - np.clip(gone, 0, 1)
    assert shares(timetable, 1) == pytest.approx(expected, abs=0.06)  # five deviations of a share of 2000 images
    assert {len(parts) for parts in composition(timetable)} <= {1, 2}
    assert timetable.ends.tolist() == [100, 200, 300]


def test_fuzzy_boundaries_are_those_of_van_de_ven() -> None:
    """Probabilities as in his repository: each task in turn, the first one half at the beginning and half at the end."""
    tasks, updates, fuzziness = 3, 100, 20
    expected = np.zeros((tasks, tasks * updates))
    for batch in range(tasks * updates):
        place = (batch + 0.5 - updates / 2) / updates  # 0 at the first boundary, 1 at the second ...
        nearest = round(place)
        share = float(np.clip((place - nearest) * updates / (2 * fuzziness) + 0.5, 0, 1))
        if nearest in range(tasks):
            expected[nearest % tasks, batch] += 1 - share
            expected[(nearest + 1) % tasks, batch] += share
        else:
            expected[0, batch] = 1
    follows = Flow(fuzzy=fuzziness)
    timetable = Schedule(updates=updates, batch_size=2000, flow=follows).timetable(tasks + 1)
    assert follows.tasks_of(tasks + 1, 0) == (0, 1, 2, 0)
    got = [shares(timetable, visit) for visit in range(tasks + 1)]
    assert np.add(got[0], got[3]) == pytest.approx(expected[0], abs=0.06)
    assert got[1] == pytest.approx(expected[1], abs=0.06)
    assert got[2] == pytest.approx(expected[2], abs=0.06)


def test_in_a_blurry_stream_a_share_of_every_batch_is_of_other_tasks() -> None:
    timetable = Schedule(updates=50, batch_size=40, flow=Flow(blurry=0.3)).timetable(4)
    counts: Counter[int] = Counter()
    for batch, parts in enumerate(composition(timetable)):
        assert parts[batch // 50] == 28
        assert sum(parts.values()) == 40
        counts.update({visit: images for visit, images in parts.items() if visit != batch // 50})
    assert all(500 < counts[visit] < 700 for visit in range(4))  # 2,400 images, each of one of three tasks
    assert all(timetable.parts(batch) for batch in (0, 199))


def test_in_a_blurry_stream_other_tasks_are_not_other_visits_of_the_same() -> None:
    timetable = Schedule(updates=5, batch_size=10, flow=Flow(blurry=0.5, visits=(0, 1, 0, 1))).timetable(4)
    for batch, parts in enumerate(composition(timetable)):
        assert parts == {batch // 5: 5, (batch // 5 + 1) % 2: 5}


def test_an_online_stream_is_one_pass_over_the_data_of_each_task() -> None:
    """50 images make 6 batches of 8, which the two visits of a task share equally."""
    visits = Flow(online=True, visits=(0, 1, 2, 1))
    stream = visits.expanded(numbered(3), 4, 0)
    assert stream.shares() == [50, 25, 50, 25]
    timetable = Schedule(updates=999, batch_size=8, flow=visits).timetable(4, stream.shares())
    assert [len(timetable.batches_of(visit)) for visit in range(4)] == [6, 3, 6, 3]
    drawn = torch.cat([inputs for inputs, _ in batches(timetable, stream, 0)])
    assert len(drawn.unique(dim=0)) == len(drawn) == 18 * 8
    with pytest.raises(UserError, match="Task 1 has 25 images for one pass, fewer than a batch"):
        Schedule(999, 30, flow=visits).timetable(4, stream.shares())


def test_in_a_stream_that_drifts_the_view_follows_the_place_of_the_batch() -> None:
    """Images are numbers, and a place adds 1000 times itself: batches of two tasks of 5 go from -0.4 to 1.4."""

    def between(place: float) -> Callable[[Tensor], Tensor]:
        return lambda images: images + 1000 * place

    stream, follows = dataclasses.replace(numbered(2, view=lambda images: images * 0), between=between), Flow(drift=True)
    assert follows.expanded(stream, 2, 0) is stream
    timetable = Schedule(5, 8, flow=follows).timetable(2)
    drifting, plain = (list(batches(timetable, each, 0, drift=each is stream)) for each in (stream, numbered(2)))
    places = [-0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4]
    for place, (inputs, labels), (numbers, right) in zip(places, drifting, plain, strict=True):
        assert torch.allclose(inputs, numbers + 1000 * place)
        assert torch.equal(labels, right)
    with pytest.raises(UserError, match="The stream numbered has no tasks between its tasks"):
        follows.expanded(numbered(2), 2, 0)


# Tasks that recur


def test_visits_are_as_given_or_drawn_with_all_tasks_and_none_twice_in_a_row() -> None:
    assert flow({"visits": "0,1,0,2,1"}).tasks_of(5, seed=0) == (0, 1, 0, 2, 1)
    seen = set()
    for seed in range(20):
        tasks = flow({"different": "5"}, 9).tasks_of(9, seed)
        assert list(dict.fromkeys(tasks)) == [0, 1, 2, 3, 4]
        assert all(one != next_ for one, next_ in pairwise(tasks))
        seen.add(tasks)
    assert len(seen) > 10
    assert flow({"different": 3}, 3).tasks_of(3, 0) == (0, 1, 2)
    assert flow({"different": 2}, 5).tasks_of(5, 0) == (0, 1, 0, 1, 0)


def test_a_task_that_recurs_continues_with_its_data() -> None:
    """Its images come in passes over all visits: none comes again before all have come."""
    visits = Flow(visits=(0, 1, 0, 1, 0), boundaries="inside")
    stream = visits.expanded(numbered(2), 5, 0)
    assert stream.identities == (0, 1, 0, 1, 0)
    timetable = Schedule(updates=5, batch_size=10, flow=visits).timetable(5)
    drawn = torch.cat([inputs for inputs, _ in batches(timetable, stream, seed=3)]).long()
    for task in (0, 1):
        numbers = drawn[drawn[:, 0] == task, 1].tolist()
        for first in range(0, len(numbers) - 49, 50):
            # A mixed batch is shuffled, so that a pass can end anywhere in it.
            assert sum(number not in numbers[first : first + 50] for number in range(50)) <= 10
        counts = Counter(numbers)
        assert max(counts.values()) - min(counts.values()) <= 1


# What is drawn


def test_usually_batches_are_those_of_each_task_one_after_another(make_stream: Make) -> None:
    stream, schedule = make_stream(3), Schedule(updates=5, batch_size=16, seed=4)
    drawn = list(batches(schedule.timetable(3), stream, 4))
    right = [b for index, task in enumerate(stream) for b in task.train.batches(5, 16, generator(4, "batches", index))]
    assert len(drawn) == len(right) == 15
    for (inputs, labels), (right_inputs, right_labels) in zip(drawn, right, strict=True):
        assert torch.equal(inputs, right_inputs)
        assert torch.equal(labels, right_labels)


@pytest.mark.parametrize(("method", "scenario"), [(Naive, NNS), (SupSup, NNS), (SupSup, GNU)])
def test_usual_results_are_those_of_a_plain_loop_over_tasks(
    method: type[Method], scenario: Scenario, make_brief: Make, make_stream: Make
) -> None:
    def make() -> Method:
        settings: dict[str, Any] = {"interval": 5} if method is SupSup else {}
        return method(make_brief(scenario), **settings)

    stream, taught, plain = make_stream(2), make(), make()
    for _ in evaluate(taught, stream, [Ask(scenario)], [1, 2], Schedule(updates=10, batch_size=16)):
        pass
    for index, task in enumerate(stream):
        if scenario.task_given_in_training:
            plain.begin_task(index, 10)
        for inputs, labels in task.train.batches(10, 16, generator(0, "batches", index)):
            plain.observe(inputs, labels)
        if scenario.task_given_in_training:
            plain.end_task(task.train)
    assert taught.learned().keys() == plain.learned().keys()
    assert all(torch.equal(tensor, plain.learned()[name]) for name, tensor in taught.learned().items())


FLOWS = [Flow(), Flow(lengths=(3, 6), boundaries="inside"), Flow(visits=(0, 1, 0, 2), boundaries="inside")]
FLOWS += [Flow(linear=3), Flow(blurry=0.4, visits=(0, 1, 0, 1), linear=4), Flow(online=True), Flow(fuzzy=2)]


@pytest.mark.parametrize("follows", FLOWS)
@pytest.mark.parametrize("augment", [False, True])
def test_batches_from_any_number_on_are_the_same(follows: Flow, augment: bool) -> None:
    def moved(images: Tensor, draws: torch.Generator) -> Tensor:
        return images + torch.rand(len(images), 1, generator=draws)

    stream = follows.expanded(numbered(4, augment=moved if augment else None), 4, 0)
    timetable = Schedule(5, 8, flow=follows).timetable(4, stream.shares())
    whole = list(batches(timetable, stream, 0))
    assert len(whole) == timetable.ends[-1]
    for parts, (inputs, _) in zip(composition(timetable), whole, strict=True):
        # Mixed batches hold as many images of each task as the timetable says.
        tasks = Counter(follows.tasks_of(4, 0)[visit] for visit, images in parts.items() for _ in range(images))
        assert augment or Counter(inputs[:, 0].long().tolist()) == tasks
    for start in range(len(whole) + 1):
        rest = list(batches(timetable, stream, 0, start))
        assert len(rest) == len(whole) - start
        for (inputs, labels), (right_inputs, right_labels) in zip(rest, whole[start:], strict=True):
            assert torch.equal(inputs, right_inputs)
            assert torch.equal(labels, right_labels)


def test_images_of_skipped_batches_are_not_computed() -> None:
    seen = []

    def view(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.clone()

    timetable = Schedule(5, 8, flow=FLOWS[1]).timetable(4)
    first = timetable.first(3) + 1
    list(batches(timetable, numbered(4, view=view), 0, first))
    assert sum(seen) == 8 * (timetable.first(4) - first)


def test_images_of_a_mixed_batch_are_in_random_order() -> None:
    follows = Flow(boundaries="inside")
    timetable = Schedule(3, 40, flow=follows).timetable(2)
    (number,) = [n for n, parts in enumerate(composition(timetable)) if len(parts) > 1]
    tasks = list(batches(timetable, numbered(2), 0))[number][0][:, 0].tolist()
    assert tasks != sorted(tasks)


# What learners are told, and their scores


class Knowing(Method):
    """Reads the task off its inputs, and answers with the number of the visit or, if it is told none, with a name of its own."""

    name = "knowing"
    scenarios = frozenset({GNS, GNU, NNS})

    def __init__(self, brief: Any) -> None:
        super().__init__(brief)
        self.told: list[Any] = []
        self.visit_of: dict[int, int] = {}
        self.visit = -1

    def begin_task(self, task: int, updates: int) -> None:
        self.told.append((task, updates))
        self.visit = task

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        most = int(inputs[:, 0].mode()[0])
        self.visit_of[most] = self.visit if self.visit >= 0 else 100 + most
        return None

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        tasks = torch.tensor([self.visit_of.get(int(each), -1) for each in inputs[:, 0]])
        return Prediction(inputs[:, 1].long() % 3, tasks)

    def learned(self) -> dict[str, Tensor]:
        return {}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        pass


VISITS = Flow(visits=(0, 1, 0, 2, 1))


@pytest.mark.parametrize("scenario", [GNS, GNU, NNS])
def test_what_recurs_is_one_task_in_every_score(scenario: Scenario, make_brief: Make) -> None:
    """A told learner knows the visits as 0 to 4, another has its own 3 components: both are right about every task."""
    stream = VISITS.expanded(numbered(3), 5, 0)
    method = Knowing(make_brief(scenario))
    events = list(evaluate(method, stream, [Ask(scenario)], [3, 5], Schedule(4, 8, flow=VISITS)))
    scores = [event for event in events if isinstance(event, Score)]
    assert [(score.learned, score.task) for score in scores] == [(3, 0), (3, 1), (5, 0), (5, 1), (5, 3)]
    assert all(score.accuracy == score.task_accuracy == 1 for score in scores)
    if scenario.task_given_in_training:
        assert method.visit_of == {0: 2, 1: 4, 2: 3}  # the last visit of each
        assert [score.inferred for score in scores[2:]] == [{0: 50}, {1: 50}, {3: 50}]


def test_learners_that_are_told_tasks_are_told_the_one_with_most_images(make_brief: Make) -> None:
    follows = Flow(lengths=(3, 6), boundaries="inside")
    schedule = Schedule(5, 8, flow=follows)
    method = Knowing(make_brief(GNS))
    list(evaluate(method, numbered(6), [], [], schedule))
    majority = [max(parts, key=lambda visit: (parts[visit], -visit)) for parts in composition(schedule.timetable(6))]
    assert method.told == [(visit, majority.count(visit)) for visit in range(6)]
    assert sum(updates for _, updates in method.told) == len(majority)


def test_teaching_resumes_after_any_task(make_brief: Make, make_stream: Make) -> None:
    follows = Flow(lengths=(3, 6), boundaries="inside", visits=(0, 1, 0, 2))
    stream, schedule = follows.expanded(make_stream(3), 4, 0), Schedule(5, 8, flow=follows)
    through, interrupted = Naive(make_brief(NNS)), Naive(make_brief(NNS))
    list(evaluate(through, stream, [], [], schedule))
    for event in evaluate(interrupted, stream, [], [], schedule):
        if event.learned == 2:
            break
    list(evaluate(interrupted, stream, [], [], schedule, start=2))
    assert all(torch.equal(tensor, interrupted.learned()[name]) for name, tensor in through.learned().items())


# Settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"flow": {"lengths": "9..3"}}, "The lengths 9..3 are no range of updates"),
        ({"flow": {"lengths": "a..9"}}, "Invalid value lengths.0=a: input should be a valid integer"),
        ({"flow": {"visits": "0,0,1"}}, "The visits 0,0,1 are not valid: number the tasks from 0"),
        ({"flow": {"visits": "1,0"}}, "The visits 1,0 are not valid"),
        ({"flow": {"visits": "0,1"}, "tasks": 3}, "There are 2 visits and 3 tasks"),
        ({"flow": {"different": 4}, "tasks": 3}, "There cannot be 4 different tasks in 3 visits"),
        ({"flow": {"different": 4}}, "Tasks recur: say how many visits there are"),
        (
            {"flow": {"visits": "0,1", "different": 2}},
            "The settings visits and different of a flow decide which tasks recur: leave out",
        ),
        (
            {"flow": {"lengths": 9, "online": "true"}},
            "The settings lengths and online of a flow decide how many updates a task has",
        ),
        ({"flow": {"linear": 9, "beta": 4}}, "The settings linear and beta of a flow decide how a task begins"),
        ({"flow": {"drift": "true", "blurry": 0.1}}, "The settings drift and blurry of a flow exclude each other"),
        ({"flow": {"fuzzy": 9}}, "The flow fuzzy=9 needs at least 18 updates, not 5"),
        ({"flow": {"blurry": 1}}, "Invalid value blurry=1: input should be less than 1"),
        ({"flow": {"beta": 1}}, "Invalid value beta=1: input should be greater than or equal to 2"),
        ({"flow": {"boundaries": "inside"}, "batch_size": 1}, "A boundary inside a batch needs batches of 2 images or more"),
        ({"flow": {"bounds": "inside"}}, "Unknown setting of a flow 'bounds'"),
        ({"flow": {"visits": "0,1,2,3,4,5"}, "stream": "split-mnist"}, "The stream split-mnist has 5 tasks"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(request({"method": "naive", "scenario": "nns", "updates": 5} | settings))
    assert str(refused.value).startswith(says)


def test_a_flow_is_in_the_name_of_a_run_unless_it_is_the_usual_one() -> None:
    def hash_of(**settings: Any) -> str:
        (job,) = resolve(request({"method": "naive", "scenario": "nns", "tasks": 3, "updates": 5} | settings))
        return job.learn.hash

    flows: list[dict[str, Any]] = [{"lengths": "3..6"}, {"boundaries": "inside"}, {"visits": "0,1,0"}, {"different": 2}]
    flows += [{"linear": 3}, {"beta": 3}, {"fuzzy": 2}, {"blurry": 0.1}, {"online": True}, {"drift": True}]
    assert len({hash_of(flow=each) for each in [{}, *flows]}) == 11
    assert hash_of(flow={"boundaries": "between"}) == hash_of()
    assert hash_of(flow={"lengths": 4}) == hash_of(flow={"lengths": "4..4"})
    assert hash_of(flow={"lengths": "3..6"}) == hash_of(flow={"lengths": (3, 6)})


def test_a_run_with_recurring_tasks_of_random_lengths_is_recorded_and_summarised(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"network": "mlp-16", "batch_size": 16, "updates": 10, "ask": {"images": 50}}
    settings["flow"] = {"visits": "0,1,0,2,1", "lengths": "4..9", "boundaries": "inside"}
    frame = clbench.run("replay", "gns", results=tmp_path, **settings)
    run = find(str(frame["path"].iloc[0]), tmp_path)
    assert json.loads((run.path / "run.json").read_text())["identities"] == [0, 1, 0, 3, 1]
    assert run.learn.flow.lengths == (4, 9)
    assert not any("again" in note for note in run.notes)
    schedule = run.table("schedule")
    assert (schedule["batches"] * schedule["images"]).sum() == 16 * run.learn.schedule().timetable(5).first(5)
    assert schedule["task"].unique().tolist() == [0, 1, 2, 3, 4]
    last = frame[frame["learned"] == 5]
    assert last["task"].tolist() == [0, 1, 3]
    (summary,) = clbench.summarise(frame).to_dict("records")
    assert summary["learned"] == summary["tasks"] == 5
    assert summary["accuracy"] == pytest.approx(last["accuracy"].mean())
    assert not run.unanswered(run.asks, run.checkpoints)
    again = clbench.run("replay", "gns", results=tmp_path, overwrite="never", **settings)
    assert again["accuracy"].tolist() == frame["accuracy"].tolist()


def test_a_matrix_with_gaps_is_averaged_over_what_was_asked() -> None:
    R = np.array([[0.5, np.nan, np.nan], [0.75, 0.25, np.nan], [1.0, 0.5, np.nan]])
    assert average_accuracy(R, [1, 2, 3]) == 0.75


def test_examining_a_stream_without_identities_asks_about_every_task(make_brief: Make) -> None:
    assert [score.task for score in examine(Knowing(make_brief(NNS)), numbered(3), [Ask(NNS)], 3)] == [0, 1, 2]
