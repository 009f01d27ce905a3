"""The state of SupSup: enough to predict, enough to resume as if nothing had happened, and its size in bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clbench import storage
from clbench.engine.evaluator import Schedule, teach
from clbench.method import Brief
from clbench.methods.supsup import SupSup
from clbench.scenario import Scenario
from clbench.scenarios import GNU, NNS
from clbench.stream import Stream

Make = Callable[..., Any]
State = dict[str, Tensor]
SCHEDULE = Schedule(updates=40, batch_size=32)
TASKS = 3


def cumulative(outputs: int) -> nn.Module:
    """Batch norm whose statistics are means over all batches so far: it needs to know how many."""
    norm = nn.BatchNorm1d(32, momentum=None)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm, nn.ReLU(), nn.Linear(32, outputs, bias=False))


@pytest.fixture(params=["gnu", "transfer", "nns", "gnu with batch norm", "nns with batch norm", "nns with cumulative batch norm"])
def fresh(request: pytest.FixtureRequest, make_brief: Make, convolution: Make) -> Callable[[], SupSup]:
    """Makes a learner without masks of one of many kinds, the same at every call."""
    kind, _, norm = request.param.partition(" with ")
    network = {"": (), "batch norm": (convolution,), "cumulative batch norm": (cumulative,)}[norm]
    scenario: Scenario = NNS if kind == "nns" else GNU
    more: dict[str, Any] = {"start": "transfer"} if kind == "transfer" else {}
    return lambda: SupSup(
        make_brief(scenario, *network), outputs=30, learning_rate=0.01, interval=15, offset=5, epsilon=0.85, **more
    )


def through_a_file(state: State, path: Path) -> State:
    storage.save(state, path)
    assert path.stat().st_size == storage.file_bytes(state)
    return storage.load(path)


def same(mine: State, its: State) -> bool:
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def batches(stream: Stream) -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(0)
    return [batch for task in stream for batch in task.train.batches(SCHEDULE.updates, SCHEDULE.batch_size, draws)]


def test_predictions_from_the_stored_state_are_identical(fresh: Make, make_stream: Make, tmp_path: Path) -> None:
    stream, method = make_stream(TASKS), fresh()
    for index, task in enumerate(stream):
        teach(method, task, index, SCHEDULE)
    reloaded = fresh()
    reloaded.restore(through_a_file(method.learned(), tmp_path / "learned.safetensors"))
    assert reloaded.components == method.components
    answers = []
    for task in stream:
        inputs, _ = task.test.whole()
        for ask in ({"group": 1}, {"group": 7, "evidence": 5, "objective": "G"}, {"algorithm": "exhaustive"}):
            mine, its = method.predict(inputs, **ask), reloaded.predict(inputs, **ask)
            assert torch.equal(mine.labels, its.labels)
            assert torch.equal(mine.tasks, its.tasks)
            answers.append(mine.tasks)
        for row in range(method.components):
            assert torch.equal(method.predict(inputs, row).labels, reloaded.predict(inputs, row).labels)
    assert len(torch.cat(answers).unique()) > 1
    assert same(reloaded.learned(), method.learned())


def test_the_stored_seed_is_used_instead_of_the_brief_s(make_brief: Make, make_stream: Make) -> None:
    method = SupSup(make_brief(GNU, seed=1), learning_rate=0.01)
    stream = make_stream(1)
    teach(method, stream[0], 0, SCHEDULE)
    other = SupSup(make_brief(GNU, seed=2), learning_rate=0.01)
    other.restore(method.learned())
    inputs, _ = stream[0].test.whole()
    assert torch.equal(other.predict(inputs, 0).labels, method.predict(inputs, 0).labels)


def test_learning_resumes_between_tasks_as_if_it_had_not_stopped(fresh: Make, make_stream: Make, tmp_path: Path) -> None:
    stream, method = make_stream(TASKS), fresh()
    traces: list[Any] = [[], []]
    for index, task in enumerate(stream):
        teach(method, task, index, SCHEDULE)
        traces[0].append(method.tables())
    interrupted = fresh()
    for index, task in enumerate(stream):
        losses = teach(interrupted, task, index, SCHEDULE).losses
        traces[1].append(interrupted.tables())
        state = [through_a_file(part, tmp_path / "state.safetensors") for part in (interrupted.learned(), interrupted.progress())]
        interrupted = fresh()
        interrupted.restore(*state)
    assert losses[-1] < losses[0]
    assert same(interrupted.learned(), method.learned())
    assert same(interrupted.progress(), method.progress())
    assert traces[0] == traces[1]


@pytest.mark.parametrize("kind", ["", "batch norm", "cumulative batch norm"])
@pytest.mark.parametrize("cut", [1, 19, 20, 40, 53])
def test_without_given_tasks_learning_resumes_in_the_middle_of_one(
    cut: int, kind: str, make_brief: Make, make_stream: Make, convolution: Make, tmp_path: Path
) -> None:
    network = {"": (), "batch norm": (convolution,), "cumulative batch norm": (cumulative,)}[kind]

    def fresh() -> SupSup:
        return SupSup(make_brief(NNS, *network), outputs=30, learning_rate=0.01, interval=20, epsilon=0.85)

    whole, first, second = fresh(), fresh(), fresh()
    data = batches(make_stream(TASKS))
    losses = [whole.observe(*batch) for batch in data]
    resumed_losses = [first.observe(*batch) for batch in data[:cut]]
    state = [through_a_file(part, tmp_path / "state.safetensors") for part in (first.learned(), first.progress())]
    second.restore(*state)
    resumed_losses += [second.observe(*batch) for batch in data[cut:]]
    assert resumed_losses == losses
    assert same(second.learned(), whole.learned())
    assert same(second.progress(), whole.progress())
    assert first.tables()["allocation"] + second.tables()["allocation"] == whole.tables()["allocation"]


def test_a_state_does_not_change_while_learning_continues(fresh: Make, make_stream: Make) -> None:
    """Neither the method that returned it nor one that restored it writes into it."""
    stream, method = make_stream(2), fresh()
    teach(method, stream[0], 0, SCHEDULE)
    state = method.learned(), method.progress()
    copies = [{name: tensor.clone() for name, tensor in part.items()} for part in state]
    teach(method, stream[1], 1, SCHEDULE)
    assert same(state[0], copies[0])
    assert same(state[1], copies[1])
    twins = [fresh(), fresh()]
    for twin in twins:
        twin.restore(*state)
        teach(twin, stream[1], 1, SCHEDULE)
    assert same(state[0], copies[0])
    assert same(state[1], copies[1])
    assert same(twins[1].learned(), method.learned())


def test_asking_for_the_state_changes_nothing(fresh: Make, make_stream: Make) -> None:
    with_asks, without_asks = fresh(), fresh()
    inputs, _ = make_stream(1)[0].test.whole()
    for method in (with_asks, without_asks):
        for index, task in enumerate(make_stream(TASKS)):
            if method.brief.scenario.task_given_in_training:
                method.begin_task(index, SCHEDULE.updates)
            for batch in task.train.batches(SCHEDULE.updates, SCHEDULE.batch_size, torch.Generator().manual_seed(index)):
                method.observe(*batch)
                if method is with_asks and method.components:
                    method.learned(), method.progress(), method.predict(inputs)
            if method.brief.scenario.task_given_in_training:
                method.end_task(task.train)
    assert same(with_asks.learned(), without_asks.learned())
    assert same(with_asks.progress(), without_asks.progress())
    assert with_asks.tables() == without_asks.tables()


def test_rewinding_gives_the_state_of_that_time(make_brief: Make, make_stream: Make, convolution: Make) -> None:
    for network in ((), (convolution,)):
        method, then = SupSup(make_brief(GNU, *network), learning_rate=0.01), []
        for index, task in enumerate(make_stream(TASKS)):
            teach(method, task, index, SCHEDULE)
            then.append(method.learned())
        for learned, state in enumerate(then, start=1):
            rewound = SupSup.rewind(method.learned(), learned)
            assert rewound is not None
            assert same(rewound, state)
            assert storage.file_bytes(rewound) == storage.file_bytes(state)


def test_stored_to_predict_is_a_bit_for_each_weight_and_task(make_brief: Make, make_stream: Make, convolution: Make) -> None:
    weights, statistics = 1 * 6 * 9 + 54 * 30, 2 * 6
    for network, of_task in (((), (64 * 64 + 64 * 30) / 8), ((convolution,), -(-weights // 8) + 4 * statistics)):
        method = SupSup(make_brief(GNU, *network), outputs=30)
        for index, task in enumerate(make_stream(TASKS)):
            teach(method, task, index, SCHEDULE)
        bytes_to_predict = sum(tensor.nbytes for tensor in method.learned().values())
        assert bytes_to_predict == TASKS * of_task + 8  # and the seed
        assert method.progress() == {}


def test_transfer_stores_one_sum_of_scores(make_brief: Callable[..., Brief], make_stream: Make) -> None:
    method = SupSup(make_brief(GNU), outputs=30, start="transfer")
    for index, task in enumerate(make_stream(TASKS)):
        teach(method, task, index, SCHEDULE)
    assert {name: tuple(tensor.shape) for name, tensor in method.progress().items()} == {"score_sum": (64 * 64 + 64 * 30,)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=12).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(storage._TYPES)), st.lists(st.integers(0, 12), max_size=3)),
        max_size=7,
    )
)
def test_computed_bytes_are_those_of_the_written_file(tmp_path: Path, kinds: dict[str, tuple[str, list[int]]]) -> None:
    state = {name: torch.zeros(shape, dtype=getattr(torch, kind)) for name, (kind, shape) in kinds.items()}
    reloaded = through_a_file(state, tmp_path / "state.safetensors")
    assert same(reloaded, state)
    assert all(reloaded[name].dtype == tensor.dtype for name, tensor in state.items())
