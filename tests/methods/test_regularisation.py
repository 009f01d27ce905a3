"""EWC, online EWC, SI and LwF alike: they act, resume as if they had not stopped, and equal naive training at strength 0."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench import networks, storage
from clbench.engine.evaluator import Schedule, teach
from clbench.methods.ewc import EWC
from clbench.methods.lwf import LwF
from clbench.methods.naive import Naive
from clbench.methods.online_ewc import OnlineEWC
from clbench.methods.si import SI
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.seeding import generator
from tests.methods.learning import accuracies

Make = Callable[..., Any]
SCENARIOS = [GG, GNS, GNU]
METHODS: dict[str, Callable[..., Any]] = {"ewc": EWC, "online-ewc": OnlineEWC, "si": SI, "lwf": LwF}
SCHEDULE = Schedule(updates=60, batch_size=32)


def mlp(hidden: int) -> Callable[[int], nn.Module]:
    return lambda outputs: networks.mlp((1, 8, 8), (hidden,), outputs, bias=False)


# A network just wide enough for the tasks, and an optimiser that begins again with each, so that naive training forgets.
HIDDEN = {"GG": 6, "GNs": 12, "GNu": 64}
RATES = {"GG": 0.01, "GNs": 0.01, "GNu": 0.003}
STRENGTHS: dict[tuple[str, str], dict[str, float]] = {
    ("ewc", "GG"): {"strength": 10.0},
    ("ewc", "GNs"): {"strength": 30.0},
    ("ewc", "GNu"): {"strength": 10.0},
    ("online-ewc", "GG"): {"strength": 10.0},
    ("online-ewc", "GNs"): {"strength": 30.0},
    ("online-ewc", "GNu"): {"strength": 10.0},
    ("si", "GG"): {"c": 0.1},
    ("si", "GNs"): {"c": 0.1},
    ("si", "GNu"): {"c": 1.0},
}


@pytest.fixture(scope="module")
def naive(make_brief: Make, make_stream: Make) -> dict[str, Tensor]:
    """How naive training does, by scenario."""
    return {
        s.name: accuracies(Naive(make_brief(s, mlp(HIDDEN[s.name])), learning_rate=RATES[s.name], restart=True), make_stream(5))
        for s in SCENARIOS
    }


@pytest.mark.parametrize(("name", "scenario"), STRENGTHS)
def test_it_forgets_less_than_naive_and_learns_as_much(
    name: str, scenario: str, naive: dict[str, Tensor], make_brief: Make, make_stream: Make
) -> None:
    by_name = {s.name: s for s in SCENARIOS}
    brief = make_brief(by_name[scenario], mlp(HIDDEN[scenario]))
    method = METHODS[name](brief, learning_rate=RATES[scenario], restart=True, **STRENGTHS[name, scenario])
    scores = accuracies(method, make_stream(5))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive[scenario], scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < forgetting[0] / 2
    assert scores.diag().mean() > naive[scenario].diag().mean() - 0.03


def same(mine: dict[str, Tensor], its: dict[str, Tensor]) -> bool:
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_at_no_strength_it_is_naive_training(name: str, scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    none = {"c": 0.0} if name == "si" else {"strength": 0.0}
    method, naive = METHODS[name](make_brief(scenario), **none), Naive(make_brief(scenario))
    for index, task in enumerate(make_stream(3)):
        inputs, _ = task.test.whole()
        for learner in (method, naive):
            teach(learner, task, index, Schedule(10, 16))
        task_or_none = index if scenario is GG else None
        torch.testing.assert_close(method.logits(inputs, task_or_none), naive.logits(inputs, task_or_none), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
@pytest.mark.parametrize("network", ["plain", "batch norm", "optimiser without restart"])
def test_learning_resumes_between_tasks_as_if_it_had_not_stopped(
    name: str, scenario: Scenario, network: str, make_brief: Make, make_stream: Make, convolution: Make, tmp_path: Path
) -> None:
    def fresh() -> Any:
        brief = make_brief(scenario, *([convolution] if network == "batch norm" else []))
        more: dict[str, Any] = {"fisher": "sampled", "samples": 20} if "ewc" in name else {}
        if network == "optimiser without restart":
            more |= {"optimiser": "adam", "restart": False}
        return METHODS[name](brief, learning_rate=0.01, **more)

    def through_a_file(state: dict[str, Tensor]) -> dict[str, Tensor]:
        path = tmp_path / "state.safetensors"
        storage.save(state, path)
        assert path.stat().st_size == storage.file_bytes(state)
        return storage.load(path)

    stream, method, interrupted = make_stream(4), fresh(), fresh()
    for index, task in enumerate(stream):
        teach(method, task, index, Schedule(6, 16))
        teach(interrupted, task, index, Schedule(6, 16))
        state = through_a_file(interrupted.learned()), through_a_file(interrupted.progress())
        interrupted = fresh()
        interrupted.restore(*state)
    assert same(interrupted.learned(), method.learned())
    assert same(interrupted.progress(), method.progress())
    for index, task in enumerate(stream):
        inputs, _ = task.test.whole()
        task_or_none = index if scenario is GG else None
        mine, its = interrupted.predict(inputs, task_or_none), method.predict(inputs, task_or_none)
        assert torch.equal(mine.labels, its.labels)
        assert (mine.tasks is None) == (its.tasks is None) == (scenario is not GNU)
        assert mine.tasks is None or torch.equal(mine.tasks, its.tasks)


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_an_optimiser_keeps_its_averages_or_restarts(
    restart: bool, scenario: Scenario, make_brief: Make, make_stream: Make
) -> None:
    method = Naive(make_brief(scenario), optimiser="adam", learning_rate=0.01, restart=restart)
    teach(method, make_stream(2)[0], 0, Schedule(6, 16))
    before = {name: slots["square"].clone() for name, slots in method.state.slots.items() if name in method.lasting}
    method.begin_task(1, 6)
    assert method.state.count == (0 if restart else 6)
    for name, square in before.items():
        now = method.state.slots[name]["square"][: len(square)]
        assert torch.equal(now, torch.zeros_like(square) if restart else square)


def test_an_optimiser_without_restart_is_torch_s_own_on_all_tasks(make_brief: Make, make_stream: Make) -> None:
    stream, method = make_stream(3), Naive(make_brief(GNS), optimiser="adam", learning_rate=0.01, restart=False)
    reference = {name: tensor.clone().requires_grad_() for name, tensor in method.trained.items()}
    optimiser = torch.optim.Adam(reference.values(), 0.01)
    for index, task in enumerate(stream):
        teach(method, task, index, Schedule(6, 16))
        for inputs, labels in task.train.batches(6, 16, generator(0, "batches", index)):
            optimiser.zero_grad()
            cross_entropy(functional_call(method.network, reference, (inputs,)), labels).backward()
            optimiser.step()
    for name, tensor in reference.items():
        torch.testing.assert_close(method.trained[name], tensor.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_state_does_not_change_while_learning_continues(
    name: str, scenario: Scenario, make_brief: Make, make_stream: Make
) -> None:
    stream, method = make_stream(3), METHODS[name](make_brief(scenario))
    for index in range(2):
        teach(method, stream[index], index, Schedule(5, 16))
    state = method.learned(), method.progress()
    copies = [{key: tensor.clone() for key, tensor in part.items()} for part in state]
    teach(method, stream[2], 2, Schedule(5, 16))
    assert same(state[0], copies[0])
    assert same(state[1], copies[1])


@pytest.mark.parametrize("scenario", [GG, GNS, GNU, NNS], ids=lambda s: s.name)
def test_by_default_the_optimiser_is_not_restarted_in_any_scenario(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    method = Naive(make_brief(scenario))
    for index in range(2):
        teach(method, make_stream(2)[index], index, Schedule(3, 16))
    assert method.state.count == 6
