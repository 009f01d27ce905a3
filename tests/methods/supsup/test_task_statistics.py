"""Inferring the task from densities of fixed random features, against densities written out here."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench import storage
from clbench.engine.asking import Ask, examine
from clbench.engine.evaluator import Schedule, teach
from clbench.engine.request import request, resolve
from clbench.errors import UserError
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.layout import random_base
from clbench.methods.supsup.statistics import features_of, hidden_units
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.stream import Stream

Make = Callable[..., Any]
SCHEDULE = Schedule(updates=4, batch_size=32)


def taught(method: SupSup, stream: Stream, first: int = 0) -> SupSup:
    for index in range(first, len(stream)):
        teach(method, stream[index], index, SCHEDULE)
    return method


def narrowed(stream: Stream) -> Stream:
    """The stream with the first two classes alone in its last task."""
    last = stream[-1]
    rows = (last.train.labels < 2).nonzero().squeeze(1)
    train = replace(last.train, images=last.train.images[rows], labels=last.train.labels[rows])
    return replace(stream, tasks=[*stream.tasks[:-1], replace(last, train=train)])


def by_hand(method: SupSup, stream: Stream, images: Tensor) -> Tensor:
    """log p(images | task) of each task, up to what all share, in double precision and by loops: [tasks]."""
    assert method.statistics is not None
    features, centred, means = method.statistics.features, [], []
    for task in stream:
        inputs, labels = task.train.whole()
        for c in labels.unique().tolist():
            of_class = features(inputs[labels == c]).double()
            means.append((len(means), of_class.mean(0)))
            centred.append(of_class - of_class.mean(0))
    around = torch.cat(centred)
    n, p = around.shape
    empirical = around.T @ around / n
    trace, squares = float(empirical.trace()), float(empirical.square().sum())
    shrinkage = min(1.0, (squares + trace**2) / ((n + 1) * (squares - trace**2 / p)))
    inverse = torch.linalg.inv((1 - shrinkage) * empirical + shrinkage * trace / p * torch.eye(p, dtype=torch.float64))
    ordered, found = iter(means), []
    for task in stream:
        own = [next(ordered)[1] for _ in task.train.labels.unique()]
        total = 0.0
        for feature in features(images).double():
            distances = [float((feature - mean) @ inverse @ (feature - mean)) for mean in own]
            total += math.log(sum(math.exp(-distance / 2) for distance in distances) / len(own))
        found.append(total)
    return torch.tensor(found)


@pytest.mark.parametrize("features", ["hidden", "random-20"])
@pytest.mark.parametrize("evidence", [1, 3])
@pytest.mark.parametrize("change", [lambda stream: stream, narrowed], ids=["even", "uneven"])
def test_the_task_is_the_one_with_the_highest_density(
    features: str, evidence: int, change: Make, make_brief: Make, make_stream: Make
) -> None:
    stream = change(make_stream(3))
    method = taught(SupSup(make_brief(GNU), outputs=8, statistics=features), stream)
    right = 0
    for index, task in enumerate(stream):
        inputs = task.test.whole(2 * evidence)[0]
        expected = torch.stack([by_hand(method, stream, images) for images in inputs.split(evidence)]).argmax(1)
        found = method.predict(inputs, algorithm="statistics", group=evidence, evidence=evidence).tasks
        assert found is not None
        assert found.tolist() == expected.repeat_interleave(evidence).tolist()
        right += int((expected == index).sum())
    assert right >= 4  # of 6: guessing finds 2


def test_hidden_units_are_those_of_the_network_without_masks() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 8))
    base = random_base(network, 3, torch.device("cpu"))
    weights = base.layout.split(base.weights)
    inputs = torch.randn(6, 1, 8, 8)
    first = (inputs.flatten(1) @ weights["1.weight"].T).relu()
    second = (first @ weights["3.weight"].T).relu()
    with torch.no_grad():
        found = hidden_units(base, inputs)
    torch.testing.assert_close(found, torch.cat([first, second], 1))
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def test_hidden_maps_are_averaged_over_their_positions() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 8))
    base = random_base(network, 3, torch.device("cpu"))
    weights = base.layout.split(base.weights)
    inputs = torch.randn(6, 1, 8, 8)
    first = nn.functional.conv2d(inputs, weights["0.weight"]).relu()
    second = nn.functional.conv2d(first, weights["2.weight"]).relu()
    with torch.no_grad():
        found = hidden_units(base, inputs)
    torch.testing.assert_close(found, torch.cat([first.mean((2, 3)), second.flatten(1)], 1))


def test_an_input_that_two_layers_share_counts_once(make_brief: Make) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.left, self.right = nn.Linear(64, 5), nn.Linear(5, 8), nn.Linear(5, 8)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.first(inputs.flatten(1)).relu()
            return self.left(hidden) + self.right(hidden)

    base = random_base(Branches(), 0, torch.device("cpu"))
    assert features_of("hidden", base, make_brief(GNU, lambda _: Branches()), 0)(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize("features", ["hidden", "random-20"])
def test_stored_and_resumed_learners_are_the_same(features: str, make_brief: Make, make_stream: Make, tmp_path: Path) -> None:
    def fresh() -> SupSup:
        return SupSup(make_brief(GNU), outputs=8, statistics=features)

    stream = make_stream(3)
    whole, half = taught(fresh(), stream), taught(fresh(), replace(stream, tasks=stream.tasks[:2]))
    saved = []
    for name, state in (("learned", half.learned()), ("progress", half.progress())):
        storage.save(state, tmp_path / name)
        saved.append(storage.load(tmp_path / name))
    resumed = fresh()
    resumed.restore(*saved)
    taught(resumed, stream, first=2)
    for one, other in ((whole.learned(), resumed.learned()), (whole.progress(), resumed.progress())):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    reloaded = fresh()
    reloaded.restore(whole.learned())
    assert reloaded.learned().keys() == whole.learned().keys()
    inputs = stream[1].test.whole()[0]
    answers = [method.predict(inputs, algorithm="statistics") for method in (whole, reloaded)]
    assert torch.equal(answers[0].labels, answers[1].labels)
    assert answers[0].tasks is not None
    assert answers[1].tasks is not None
    assert torch.equal(answers[0].tasks, answers[1].tasks)


def test_the_order_of_the_tasks_makes_no_difference(make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(3)
    forwards, backwards = (
        taught(SupSup(make_brief(GNU), outputs=8, statistics="hidden"), replace(stream, tasks=tasks))
        for tasks in (stream.tasks, stream.tasks[::-1])
    )
    inputs = stream[0].test.whole()[0]
    found = [method.predict(inputs, algorithm="statistics").tasks for method in (forwards, backwards)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].tolist() == [2 - task for task in found[1].tolist()]


def test_statistics_cost_bytes_and_change_nothing_else(make_brief: Make, make_stream: Make) -> None:
    """A class stores two bytes for each of 64 features, and eight more; what asks with H answer is the same."""
    stream = make_stream(2)
    without, with_them = (taught(SupSup(make_brief(GNU), outputs=8, statistics=name), stream) for name in (None, "hidden"))
    assert without.learned().keys() < with_them.learned().keys()
    more = sum(t.nbytes for t in with_them.learned().values()) - sum(t.nbytes for t in without.learned().values())
    assert more == 2 * 4 * (2 * 64 + 8)
    inputs = stream[0].test.whole()[0]
    assert torch.equal(without.predict(inputs).labels, with_them.predict(inputs).labels)
    assert SupSup.rewind(without.learned(), 1) is not None
    assert SupSup.rewind(with_them.learned(), 1) is None  # the covariance is that of all tasks


@pytest.mark.parametrize("scenario", [GNS, GNU, GG])
def test_the_evaluator_asks_by_statistics_beside_other_ways(scenario: Any, make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(2)
    method = taught(SupSup(make_brief(scenario), outputs=8, statistics="hidden"), stream)
    asked = GNU if scenario is GG else scenario
    (score, *_) = examine(method, stream, [Ask(asked, {"algorithm": "statistics", "group": 1, "evidence": 1})], 2)
    assert score.task_accuracy is not None
    assert score.task_accuracy > 0.6


def test_a_run_without_statistics_keeps_the_name_that_it_had_before_there_were_any() -> None:
    def job(**set_: Any) -> Any:
        (made,) = resolve(request({"scenario": "gnu", "tasks": 2, "updates": 5, "set": set_}))
        return made.learn

    assert "statistics" not in job().parameters
    assert job(statistics="hidden").parameters["statistics"] == "hidden"
    assert job(statistics="hidden").hash != job().hash


def test_what_cannot_work_is_refused_in_a_sentence(make_brief: Make) -> None:
    method = SupSup(make_brief(GNU), outputs=8)
    with pytest.raises(
        UserError, match=r"^algorithm=statistics needs what is gathered in training: learn with --set statistics=hidden\.$"
    ):
        method.check_ask(algorithm="statistics")
    with pytest.raises(UserError, match=r"^algorithm=statistics has no objective: leave out objective=G\.$"):
        SupSup(make_brief(GNU), outputs=8, statistics="hidden").check_ask(algorithm="statistics", objective="G")
    with pytest.raises(UserError, match=r"^statistics are gathered when a task ends, which is not given here"):
        SupSup(make_brief(NNS), outputs=8, statistics="hidden")
    for name in ("random", "random-0", "random-x", "pixels"):
        with pytest.raises(UserError, match=rf"^Unknown features statistics={name}: give hidden, or random-1000"):
            SupSup(make_brief(GNU), outputs=8, statistics=name)
    with pytest.raises(UserError, match=r"^The network has no hidden units between its layers: use statistics=random-1000"):
        SupSup(make_brief(GNU, lambda outputs: nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))), outputs=8, statistics="hidden")
    norm = nn.BatchNorm1d(5, track_running_stats=False)
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), norm, nn.Linear(5, 8))
    with pytest.raises(UserError, match=r"^The network normalises over the batch, so that its hidden units are no features of one"):
        SupSup(make_brief(GNU, lambda _: mixed), outputs=8, statistics="hidden")
