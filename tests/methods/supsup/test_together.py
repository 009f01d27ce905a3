"""Several tasks at once learn the same as one after another, with any asks in between and wherever learning stops."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, Taught, evaluate, teach
from clbench.methods.supsup import SupSup
from clbench.methods.supsup import supsup as module
from clbench.scenarios import GG, GNU, NNS

Make = Callable[..., Any]
SCHEDULE = Schedule(updates=40, batch_size=32)


def dropping(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, outputs, bias=False))


class Branching(nn.Module):
    """Its forward pass depends on a value, which no batch of tasks has in common."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, outputs, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        out = self.layer(inputs.flatten(1))
        return out if out.sum() > 0 else 2 * out


def learner(brief: Any, **parameters: Any) -> SupSup:
    return SupSup(brief, **{"outputs": 30, "learning_rate": 0.01, **parameters})


@pytest.mark.parametrize(
    ("normalised", "precision"),
    [(False, torch.float32), (False, torch.bfloat16), (True, torch.float32)],
    ids=["plain, float32", "plain, bfloat16", "batch norm, float32"],
)
def test_tasks_at_once_are_learned_like_one_after_another(
    normalised: bool, precision: torch.dtype, make_brief: Make, make_stream: Make, convolution: Make
) -> None:
    stream = make_stream(5)
    brief = make_brief(GNU, *([convolution] if normalised else []))._replace(precision=precision)
    together, alone = learner(brief), learner(brief)
    assert together.tasks_at_once == 2
    events = [event for event in evaluate(together, stream, [], [], SCHEDULE) if isinstance(event, Taught)]
    losses = [teach(alone, task, index, SCHEDULE).losses for index, task in enumerate(stream)]
    assert [event.learned for event in events] == [1, 2, 3, 4, 5]
    for event, task_losses in zip(events, losses, strict=True):
        assert event.losses == pytest.approx(task_losses, rel=2e-2 if precision == torch.bfloat16 else 1e-4)
    mine, its = together.learned(), alone.learned()
    assert mine.keys() == its.keys()
    assert (mine["masks"] != its["masks"]).double().mean() < 0.01  # bits of a packed byte may turn by rounding
    if normalised:
        torch.testing.assert_close(mine["statistics"], its["statistics"], rtol=1e-2, atol=1e-2)
        assert not torch.equal(mine["statistics"][0], mine["statistics"][1])


def test_between_tasks_of_a_group_the_state_is_that_of_the_tasks_so_far(make_brief: Make, make_stream: Make) -> None:
    stream, method, alone = make_stream(4), learner(make_brief(GNU)), learner(make_brief(GNU))
    for event in evaluate(method, stream, [Ask(GG)], [1, 2, 3, 4], SCHEDULE):
        if isinstance(event, Taught):
            teach(alone, stream[event.learned - 1], event.learned - 1, SCHEDULE)
            assert method.components == event.learned
            assert method.progress() == {}
            assert torch.equal(method.learned()["masks"], alone.learned()["masks"])
        else:
            assert event.accuracy > 0.8


def test_asks_between_tasks_change_nothing(make_brief: Make, make_stream: Make) -> None:
    stream, states, last = make_stream(4), [], []
    for checkpoints in ([4], [1, 2, 3, 4]):
        method = learner(make_brief(GNU))
        events = list(evaluate(method, stream, [Ask(GNU)], checkpoints, SCHEDULE))
        states.append(method.learned()["masks"])
        last.append([e.accuracy for e in events if isinstance(e, Score) and e.learned == 4])
    assert torch.equal(*states)
    assert last[0] == last[1]


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_resuming_anywhere_gives_the_same_result(stopped: int, make_brief: Make, make_stream: Make) -> None:
    stream, whole = make_stream(5), learner(make_brief(GNU))
    list(evaluate(whole, stream, [], [], SCHEDULE))
    again = learner(make_brief(GNU))
    state = whole.learned()
    again.restore({**state, "masks": state["masks"][:stopped]}, {})
    learned = [e.learned for e in evaluate(again, stream, [], [], SCHEDULE, start=stopped) if isinstance(e, Taught)]
    assert learned == list(range(stopped + 1, 6))
    assert torch.equal(again.learned()["masks"], state["masks"])


def test_tasks_that_depend_on_each_other_are_learned_one_after_another(make_brief: Make) -> None:
    assert learner(make_brief(GNU), start="transfer").tasks_at_once == 1
    assert learner(make_brief(NNS)).tasks_at_once == 1


@pytest.mark.parametrize("network", [dropping, Branching])
def test_networks_that_cannot_be_batched_over_tasks_are_trained_one_task_at_a_time(
    network: Make, make_brief: Make, make_stream: Make
) -> None:
    method = learner(make_brief(GNU, network))
    assert method.tasks_at_once == 1
    assert len(list(evaluate(method, make_stream(2), [], [], SCHEDULE))) == 2


def test_large_networks_are_trained_one_task_at_a_time(make_brief: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = make_brief(GNU)
    monkeypatch.setattr(module, "SMALL", learner(brief).base.layout.size - 1)
    assert learner(brief).tasks_at_once == 1


def test_the_compiled_step_of_several_tasks_equals_the_plain_one(make_brief: Make, make_stream: Make) -> None:
    brief = make_brief(GNU)
    compiled, plain = learner(brief._replace(compiled=True)), learner(brief)
    for method in (compiled, plain):
        list(evaluate(method, make_stream(2), [], [], Schedule(20, 32)))
    assert compiled.tasks_at_once == 2
    assert (compiled.learned()["masks"] != plain.learned()["masks"]).double().mean() < 0.01
