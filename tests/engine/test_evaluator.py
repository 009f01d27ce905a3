"""The evaluation loop: what a learner is told, how it is scored, and that learners gain nothing by cheating."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.engine.asking import Ask, Score, examine, passes
from clbench.engine.evaluator import Schedule, Taught, evaluate, teach
from clbench.errors import UserError
from clbench.method import Brief, Prediction
from clbench.methods.supsup import SupSup
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.stream import Split, Stream, Task
from tests.engine.learners import GGU, ONCE, Blank, Make, scores

# What a learner is told


class Recorder(Blank):
    """Records every call in a list that its copies share."""

    name = "recorder"

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief)
        self.log = Log()

    def begin_task(self, task: int, updates: int) -> None:
        self.log.append(("begin", task, updates))

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        self.log.append(("observe", len(inputs), len(labels)))
        return torch.tensor(float(len(self.log)))

    def end_task(self, data: Split) -> None:
        self.log.append(("end", data))

    def predict(self, inputs: Tensor, task: int | None = None, *, attempt: int = 0) -> Prediction:
        self.log.append(("predict", len(inputs), task))
        return super().predict(inputs, task)


class Log(list):
    def __deepcopy__(self, memo: dict) -> "Log":
        return self


def test_the_number_beginning_and_end_of_a_given_task_are_told(make_brief: Make, make_stream: Make) -> None:
    method, stream = Recorder(make_brief(GNU)), make_stream(2)
    taught = list(evaluate(method, stream, [], [], ONCE))
    observed = [("observe", 16, 16)] * 3
    assert method.log[:4] == [("begin", 0, 3), *observed]
    assert method.log[5:9] == [("begin", 1, 3), *observed]
    assert [entry[0] for entry in method.log] == ["begin", *["observe"] * 3, "end"] * 2
    for entry, task in zip((method.log[4], method.log[9]), stream, strict=True):
        assert torch.equal(entry[1].whole()[0], task.train.whole()[0])
    assert [(event.learned, event.losses) for event in taught] == [(1, (2.0, 3.0, 4.0)), (2, (7.0, 8.0, 9.0))]


def test_at_its_end_a_task_s_data_come_without_augmentation(make_brief: Make, make_stream: Make) -> None:
    method, task = Recorder(make_brief(GNU)), make_stream(1)[0]
    split = Split(task.train.images, task.train.labels, augment=lambda images, draws: images * 0 + torch.rand(1, generator=draws))
    seen = []
    method.observe = lambda inputs, labels: seen.append(inputs)  # type: ignore[method-assign, func-returns-value]
    teach(method, Task(split, task.test, "augmented"), 0, ONCE)
    data = method.log[-1][1]
    assert data.augment is None
    assert torch.equal(data.whole()[0], task.train.images)
    assert all(len(inputs.unique()) == 1 for inputs in seen)
    assert len(torch.cat(seen).unique()) == 3


class Together(Recorder):
    """Learns three tasks together, and its losses are 10 for the first of them, 20 for the second, 30 for the third."""

    tasks_at_once = 3

    def begin_tasks(self, tasks: range, updates: int) -> None:
        self.log.append(("begin", tasks, updates))

    def observe_tasks(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        self.log.append(("observe", inputs, labels))
        return torch.tensor([10.0, 20.0, 30.0])


def test_tasks_taught_at_a_time_see_what_each_would_alone_and_end_in_turn(make_brief: Make, make_stream: Make) -> None:
    method, alone, stream = Together(make_brief(GNU)), Recorder(make_brief(GNU)), make_stream(7)
    seen: list[Tensor] = []
    alone.observe = lambda inputs, labels: seen.append(inputs)  # type: ignore[method-assign, func-returns-value]
    events = list(evaluate(method, stream, [], [], ONCE, start=1))
    list(evaluate(alone, stream, [], [], ONCE))
    # Groups count from the first task, wherever the teaching begins; what is left over, and a group begun in the middle, go one by one.
    began = [entry[1] for entry in method.log if entry[0] == "begin"]
    assert began == [1, 2, range(3, 6), 6]
    at = method.log.index(("begin", range(3, 6), ONCE.updates))
    assert [entry[0] for entry in method.log[at : at + 8]] == ["begin", *["observe"] * 3, "end", "end", "end", "begin"]
    for update in range(3):
        inputs, labels = method.log[at + 1 + update][1:]
        assert labels.shape == (3, 16)
        for position in range(3):
            assert torch.equal(inputs[position], seen[3 * (3 + position) + update])
    for position in range(3):
        assert torch.equal(method.log[at + 4 + position][1].whole()[0], stream[3 + position].train.whole()[0])
    assert [event.learned for event in events] == [2, 3, 4, 5, 6, 7]
    assert [event.losses for event in events[2:5]] == [(10.0,) * 3, (20.0,) * 3, (30.0,) * 3]


def test_where_no_task_is_given_nothing_is_taught_at_a_time(make_brief: Make, make_stream: Make) -> None:
    method = Together(make_brief(NNS))
    list(evaluate(method, make_stream(6), [], [], ONCE))
    assert method.log == [("observe", 16, 16)] * 18


def test_where_no_task_is_given_there_are_only_batches_of_one_size(make_brief: Make, make_stream: Make) -> None:
    method = Recorder(make_brief(NNS))
    list(evaluate(method, make_stream(3), [], [], Schedule(updates=15, batch_size=32)))  # 200 images a task: no whole passes
    assert method.log == [("observe", 32, 32)] * 45


@pytest.mark.parametrize("scenario", [GG, GNS, GNU, NNS])
def test_a_task_is_given_in_inference_only_in_gg(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    method = Recorder(make_brief(scenario))
    list(evaluate(method, make_stream(4), [Ask(scenario)], [4], ONCE))
    tasks_given = [entry[2] for entry in method.log if entry[0] == "predict"]
    assert sorted(tasks_given, key=str) == ([0, 1, 2, 3] if scenario is GG else [None] * len(tasks_given))
    assert len(tasks_given) == (8 if scenario is NNS else 4)  # without tasks, once more to see which component is whose


def test_asks_see_all_test_images_or_the_first_few(make_brief: Make, make_stream: Make) -> None:
    stream, inputs = make_stream(2), []
    method = Blank(make_brief(GNU))
    method.guess = lambda images, task: inputs.append(images) or 0  # type: ignore[method-assign]
    answers = examine(method, stream, [Ask(GNU)], 1) + examine(method, stream, [Ask(GNU, images=7)], 1)
    assert [score.images for score in answers] == [60, 7]
    whole = stream[0].test.whole()[0]
    assert torch.equal(inputs[0], whole)
    assert torch.equal(inputs[1], whole[:7])


class Sharing(Blank):
    """Answers attempts below 10 together, and keeps what was put to it."""

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief)
        self.put: list[list[tuple[int, int]]] = []

    def __deepcopy__(self, memo: dict) -> "Sharing":
        return self

    def shared_pass(self, *, attempt: int = 0) -> str | None:
        return "low" if attempt < 10 else None

    def predict_together(self, inputs: Tensor, asks: Any) -> list[Prediction]:
        self.put.append([(count, how["attempt"]) for count, how in asks])
        return super().predict_together(inputs, asks)


def test_asks_that_share_a_pass_are_put_together_and_share_its_time(make_brief: Make, make_stream: Make) -> None:
    method, stream = Sharing(make_brief(GNU)), make_stream(2)
    asks = [Ask(GNU, {"attempt": n}, images) for n, images in ((1, None), (11, None), (2, 7), (12, 7))]
    asks.append(Ask(GG, {"attempt": 3}))
    assert passes(method, asks) == [(asks[0], asks[2]), (asks[1],), (asks[3],), (asks[4],)]
    answers = scores(evaluate(method, stream, asks, [2], ONCE))
    assert method.put == [[(60, 1), (7, 2)]] * 2
    assert sorted((score.ask.label, score.task) for score in answers) == sorted(
        (ask.label, task) for ask in asks for task in (0, 1)
    )
    assert all(score.images == (score.ask.images or 60) for score in answers)
    times = {(score.ask.label, score.task): score.seconds for score in answers}
    assert times[asks[0].label, 1] == times[asks[2].label, 1] > 0


# Scores


def labelled(tasks: int, images: int = 12) -> Stream:
    """Tasks whose inputs are (task, number, label): a learner of these can be scripted."""

    def split(task: int) -> Split:
        numbers = torch.arange(images)
        return Split(torch.stack([torch.full((images,), task), numbers, numbers % 3], 1).float(), numbers % 3)

    return Stream("labelled", [Task(split(task), split(task), str(task)) for task in range(tasks)], 3, (3,))


class Scripted(Blank):
    """Gets the label of every second image right, and the task of every third."""

    name = "scripted"

    def predict(self, inputs: Tensor, task: int | None = None, *, attempt: int = 0) -> Prediction:
        tasks, numbers, labels = inputs.long().unbind(1)
        return Prediction((labels + (numbers % 2 > 0)) % 3, self.renamed((tasks + (numbers % 3 > 0)) % 4))

    def renamed(self, tasks: Tensor) -> Tensor:
        return tasks


@pytest.mark.parametrize(
    ("scenario", "accuracy", "task_accuracy"),
    [
        (GG, 1 / 2, None),  # the label
        (GGU, 1 / 2, None),  # the label; the task was given
        (GNS, 1 / 2, 1 / 3),  # the label, whatever the task
        (GNU, 1 / 6, 1 / 3),  # the label and the task
    ],
)
def test_what_counts_as_right(
    scenario: Scenario, accuracy: float, task_accuracy: float | None, make_brief: Make, make_stream: Make
) -> None:
    answers = examine(Scripted(make_brief(scenario)), labelled(4), [Ask(scenario)], 4)
    assert [score.task for score in answers] == [0, 1, 2, 3]
    for score in answers:
        assert score.accuracy == pytest.approx(accuracy)
        assert score.task_accuracy == (None if task_accuracy is None else pytest.approx(task_accuracy))
        assert score.inferred == ({} if task_accuracy is None else {score.task: 4, (score.task + 1) % 4: 8})
        assert (score.learned, score.images, score.ask.scenario) == (4, 12, scenario)


@pytest.mark.parametrize("names", [(0, 1, 2, 3), (2, 0, 3, 1), (7, -1, 10**9, 4)])
def test_without_tasks_the_learner_s_own_components_are_matched_to_them(names: tuple[int, ...], make_brief: Make) -> None:
    """Two thirds of a task's images go to one component, whatever its name; labels are shared, so they alone make the accuracy."""
    method = Scripted(make_brief(NNS))
    method.renamed = lambda tasks: torch.tensor(names)[tasks]  # type: ignore[method-assign]
    for score in examine(method, labelled(4), [Ask(NNS)], 4):
        assert score.accuracy == pytest.approx(1 / 2)
        assert score.task_accuracy == pytest.approx(2 / 3)
        assert score.inferred == {names[score.task]: 4, names[(score.task + 1) % 4]: 8}


def test_without_tasks_a_component_stands_for_one_task_at_most(make_brief: Make) -> None:
    method = Scripted(make_brief(NNS))
    method.renamed = lambda tasks: torch.zeros_like(tasks)  # type: ignore[method-assign]
    assert sorted(score.task_accuracy for score in examine(method, labelled(4), [Ask(NNS)], 4)) == [0, 0, 0, 1]


def test_a_method_that_infers_no_task_has_no_task_accuracy(make_brief: Make) -> None:
    class Untold(Blank):
        def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
            return Prediction(inputs[:, 2].long())

    for scenario in (GG, GGU, GNS, NNS):
        for score in examine(Untold(make_brief(scenario)), labelled(2), [Ask(scenario)], 2):
            assert (score.accuracy, score.task_accuracy, score.inferred) == (1, None, {})
    with pytest.raises(UserError, match="blank infers no task, but GNu asks for one"):
        examine(Untold(make_brief(GNU)), labelled(2), [Ask(GNU)], 2)


def test_ggs_and_ggu_are_the_same(make_brief: Make, make_stream: Make) -> None:
    """To SupSup, which learns something: equal accuracies for shared and for unshared labels, as the given task tells them apart."""
    rows_of = {}
    for scenario in (GG, GGU):
        method, stream = SupSup(make_brief(scenario), learning_rate=3e-4), make_stream(3)
        asks = [Ask(scenario), Ask(scenario, images=33)]
        events = evaluate(method, stream, asks, [1, 3], Schedule(3, 16))
        rows_of[scenario] = [(s.learned, s.task, s.accuracy, s.task_accuracy, s.images) for s in scores(events)]
    assert rows_of[GG] == rows_of[GGU]
    assert 0.3 < np.mean([row[2] for row in rows_of[GG]]) < 0.95


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n: Prediction(torch.zeros(n - 1, dtype=torch.int64)), "one of labels for each of its 12 inputs"),
        (lambda n: Prediction(torch.zeros(n, 3)), "one of labels for each"),
        (lambda n: Prediction([0] * n), "one of labels for each"),
        (lambda n: Prediction(torch.zeros(n), torch.zeros(1)), "one of tasks for each"),
        (lambda n: torch.zeros(n), "must return a clbench.Prediction, not a Tensor"),
        (lambda n: None, "must return a clbench.Prediction, not a NoneType"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_named(answer: Callable[[int], Any], says: str, make_brief: Make) -> None:
    method = Blank(make_brief(GNS))
    method.predict = lambda inputs, task=None: answer(len(inputs))  # type: ignore[method-assign]
    with pytest.raises(UserError, match=rf"blank\.predict .*{says}"):
        examine(method, labelled(2), [Ask(GNS)], 2)


def test_checkpoints_asks_and_where_to_start(make_brief: Make) -> None:
    asks = [Ask(GNS), Ask(GG)]
    events = list(evaluate(Blank(make_brief(GNS)), labelled(4), asks, [1, 3], ONCE))
    rows = [(e.learned, e.ask.label, e.task) for e in events if isinstance(e, Score)]
    assert rows == [(learned, label, task) for learned in (1, 3) for label in ("GNs", "GG") for task in range(learned)]
    assert [e.learned for e in events if isinstance(e, Taught)] == [1, 2, 3, 4]
    later = list(evaluate(Blank(make_brief(GNS)), labelled(4), asks, [1, 3], ONCE, start=2))
    assert [e.learned for e in later if isinstance(e, Taught)] == [3, 4]
    assert {e.learned for e in later if isinstance(e, Score)} == {3}


def test_equal_asks_have_equal_labels() -> None:
    assert Ask(GNU, {"b": 1, "a": "x"}).label == Ask(GNU, {"a": "x", "b": 1}).label == "GNu a=x b=1"
    assert Ask(GNU, {"a": 2}, images=5).label == "GNu a=2 images=5"
    assert Ask(GG).label == "GG"


# Evaluating leaves no trace


@pytest.mark.parametrize("scenario", [GNU, NNS])
def test_asking_after_every_task_or_only_at_the_end_gives_the_same_masks(
    scenario: Scenario, make_brief: Make, make_stream: Make, convolution: Make
) -> None:
    results = []
    asks = [Ask(scenario, {"group": 10}), Ask(scenario, {"algorithm": "binary", "objective": "G", "group": 5})]
    for checkpoints in ([1, 2, 3], [3], []):
        method = SupSup(make_brief(scenario, convolution), outputs=20, learning_rate=0.01, interval=10, epsilon=0.5)
        last = [s for s in scores(evaluate(method, make_stream(3), asks, checkpoints, Schedule(30, 16))) if s.learned == 3]
        results.append((method.learned(), method.progress(), method.tables(), [(s.task, s.accuracy, s.inferred) for s in last]))
    for learned, progress, tables, answers in results[1:]:
        for state, expected in ((learned, results[0][0]), (progress, results[0][1])):
            assert state.keys() == expected.keys()
            assert all(torch.equal(state[name], expected[name]) for name in state)
        assert tables == results[0][2]
        assert answers in (results[0][3], [])


class Drawing(Blank):
    """Draws from the global generator in learning and in answering, and spoils what it is shown."""

    name = "drawing"

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief)
        self.seen: list[Tensor] = []

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        self.seen += [inputs.clone(), labels.clone(), torch.rand(3)]
        inputs.zero_(), labels.zero_()
        return None

    def predict(self, inputs: Tensor, task: int | None = None, *, attempt: int = 0) -> Prediction:
        torch.rand(5)
        torch.manual_seed(attempt)
        self.seen.append(inputs)
        inputs.zero_()
        return super().predict(inputs, task)


def test_what_is_learned_from_does_not_depend_on_asks(make_brief: Make, make_stream: Make) -> None:
    images_seen = []
    stream = make_stream(3)
    before = [tensor.clone() for task in stream for tensor in (*task.train.whole(), *task.test.whole())]
    for asks in ([], [Ask(GNU), Ask(GG), Ask(GNU, {"attempt": 3})]):
        method = Drawing(make_brief(GNU))
        torch.manual_seed(1)
        list(evaluate(method, stream, asks, [1, 2, 3], Schedule(5, 16, seed=7)))
        images_seen.append(method.seen)
    assert len(images_seen[0]) == len(images_seen[1]) == 3 * 5 * 3
    assert all(torch.equal(one, other) for one, other in zip(*images_seen, strict=True))
    after = [tensor for task in stream for tensor in (*task.train.whole(), *task.test.whole())]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_order_of_batches_follows_from_the_training_seed(make_brief: Make, make_stream: Make) -> None:
    def seen(seed: int) -> Tensor:
        method = Drawing(make_brief(GNU))
        list(evaluate(method, make_stream(2), [], [], Schedule(5, 16, seed=seed)))
        return torch.cat([images.flatten() for images in method.seen[::3]])

    assert torch.equal(seen(1), seen(1))
    assert not torch.equal(seen(1), seen(2))
    both = seen(1).view(2, -1)
    assert not torch.equal(both[0].sort().values, both[1].sort().values)  # tasks are shuffled each by itself


def test_a_sample_is_of_other_images_for_each_task_and_of_all_in_turn(make_brief: Make, make_stream: Make) -> None:
    seen: list[tuple[int, list[Any]]] = []

    class Recording(Blank):
        """Records which images of the stream it is asked about: the tasks permute pixels, so their values identify the image."""

        def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
            rows = [(pixels == values).all(1).nonzero().item() for values in inputs.flatten(1).sort(1)[0]]
            assert task is not None
            seen.append((task, rows))
            return Prediction(torch.zeros(len(inputs), dtype=torch.int64))

    stream = make_stream(3)
    images = len(stream[0].test)
    assert images == 60
    pixels = stream[0].test.whole()[0].flatten(1).sort(1)[0]
    asks = [Ask(GG, sample=25), Ask(GG, images=25), Ask(GG, sample=100)]
    for ask in asks:
        answers = examine(Recording(make_brief(GG)), stream, [ask], 3)
        assert [score.images for score in answers] == [min(60, ask.sample or 25)] * 3
    rows_asked = [dict(seen[i : i + 3]) for i in (0, 3, 6)]
    assert rows_asked[0] == {0: list(range(25)), 1: list(range(25, 50)), 2: [*range(50, 60), *range(15)]}
    assert rows_asked[1] == {task: list(range(25)) for task in range(3)}
    assert {task: sorted(rows) for task, rows in rows_asked[2].items()} == {task: list(range(60)) for task in range(3)}


def test_asks_about_other_images_share_no_pass(make_brief: Make) -> None:
    method = SupSup(make_brief(GNU), outputs=20)
    asks = [Ask(GNU, {"objective": o}, sample=s) for o in ("H", "G") for s in (5, None)]
    assert passes(method, asks) == [(asks[0], asks[2]), (asks[1], asks[3])]


def test_the_seconds_of_a_shared_pass_add_up_to_its_time(
    make_brief: Make, make_stream: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("clbench.engine.evaluator.time.perf_counter", lambda: now[0])

    class Timed(Blank):
        """Asks named ``together`` share a pass of 6 seconds; any other takes 5."""

        def shared_pass(self, **parameters: Any) -> str | None:
            return "together" if parameters["attempt"] < 3 else None

        def predict(self, inputs: Tensor, task: int | None = None, *, attempt: int = 0) -> Prediction:
            now[0] += 5
            return super().predict(inputs, task)

        def predict_together(self, inputs: Tensor, asks: Any) -> list[Prediction]:
            now[0] += 6
            return [Blank.predict(self, inputs[:count]) for count, _ in asks]

    method, stream = Timed(make_brief(GNU)), make_stream(2)
    asks = [Ask(GNU, {"attempt": attempt}) for attempt in range(4)]
    answers = [score for together in passes(method, asks) for score in examine(method, stream, together, 2)]
    by_ask = {ask.label: [score.seconds for score in answers if score.ask is ask] for ask in asks}
    assert list(by_ask.values()) == [[2.0, 2.0]] * 3 + [[5.0, 5.0]]
    assert sum(map(sum, by_ask.values())) == now[0] == 22.0
