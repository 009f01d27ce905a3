"""The conformance suite: green for methods that keep the contract, red for broken ones, each for its own reason."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from clbench import check as suite
from clbench.check import REQUIREMENTS, Result, check, name_of, trials
from clbench.check.compare import reachable_bytes
from clbench.cli.main import main
from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction
from clbench.methods.batche import BatchE
from clbench.methods.ewc import EWC
from clbench.methods.naive import Naive
from clbench.methods.replay import Replay
from clbench.methods.si import SI
from clbench.methods.supsup import SupSup
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.stream import Split


def failures(method: type[Method], scenario: Scenario, *requirements: str, **settings: Any) -> dict[str, str]:
    """The messages of the requirements (of all, if none are named) that ``method`` fails in one scenario, by name."""
    (trial,) = trials(method, settings, [scenario])
    chosen = [requirement for requirement in REQUIREMENTS if not requirements or name_of(requirement) in requirements]
    results = [suite._result(requirement, trial) for requirement in chosen]
    return {result.name: result.message for result in results if not result.passed}


@pytest.mark.parametrize("method", [Naive, SupSup])
@pytest.mark.parametrize("scenario", [GG, GNS, GNU, NNS], ids=lambda s: s.name)
def test_methods_that_keep_the_contract_pass(method: type[Method], scenario: Scenario) -> None:
    assert failures(method, scenario) == {}


def test_supsup_by_surprise_keeps_the_contract() -> None:
    assert failures(SupSup, NNS, allocation="surprise") == {}


class StochasticReplay(Replay):
    """Right, by plain stochastic gradient descent at a rate that suits it, and ten times too high for naive fine-tuning's RMSprop."""

    recipes = ()

    def __init__(self, brief: Brief, *, learning_rate: float = 0.1) -> None:
        super().__init__(brief, optimiser="sgd", learning_rate=learning_rate)


class SlowReplay(StochasticReplay):
    """The same at a rate of 1e-3, which is not its own."""

    def __init__(self, brief: Brief, *, learning_rate: float = 1e-3) -> None:
        super().__init__(brief, learning_rate=learning_rate)


@pytest.mark.parametrize("scenario", [GG, GNS, GNU, NNS], ids=lambda s: s.name)
def test_a_method_is_judged_by_its_own_learning_rate(scenario: Scenario) -> None:
    (trial,) = trials(StochasticReplay, {}, [scenario])
    assert trial.learning == {"learning_rate": 0.1}
    assert failures(StochasticReplay, scenario, "acts") == {}


def test_a_method_that_learns_too_slowly_for_the_trial_is_told_what_to_do() -> None:
    assert "give it parameters that suit so short a stream (--set, or a Recipe" in failures(SlowReplay, GNS, "acts")["acts"]


class ToothlessEWC(EWC):
    """The penalty is always 0."""

    def penalty(self, trained: dict[str, Tensor], given: dict[str, Any]) -> float:
        return 0.0


class AliasedSI(SI):
    """The anchor is no copy: it follows the live weights."""

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        for name, slots in self.state.slots.items():
            slots["anchor"] = self.trained[name]


FEW_SAMPLES = {ToothlessEWC: {"samples": 20}}


@pytest.mark.parametrize("method", [ToothlessEWC, AliasedSI])
@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda s: s.name)
def test_a_regulariser_without_effect_does_not_act(method: type[Method], scenario: Scenario) -> None:
    message = failures(method, scenario, "acts", **FEW_SAMPLES.get(method, {}))["acts"]
    assert "has no effect here; look for a penalty that is 0, an anchor or mask that follows the live weights" in message


def test_a_regulariser_without_effect_is_sound_in_all_else() -> None:
    assert failures(ToothlessEWC, GNS, samples=20).keys() == {"acts"}
    # The anchor that is the live weights is a copy after it was restored.
    assert failures(AliasedSI, GNS).keys() == {"acts", "resumes inside a task"}


class SlidingBatchE(BatchE):
    """The trunk gets no gradient after the first task, but it stays in the optimiser, and its momentum goes on."""

    def learns_shared(self, task: int) -> bool:
        return True

    def effective(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        later = getattr(self, "task", 0) > 0
        return super().effective({n: t.detach() if later and n in self.shared else t for n, t in tensors.items()})

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        for name in self.shared if task else ():
            self.state.slots[name] = self.momentum[name]

    def end_task(self, data: Split) -> None:
        self.momentum = {name: self.state.slots[name] for name in self.shared}
        super().end_task(data)

    def frozen_state(self) -> dict[str, Tensor]:
        return dict(self.shared) if self.rows else {}


class StillBatchE(BatchE):
    """The same as it should be."""

    def frozen_state(self) -> dict[str, Tensor]:
        return dict(self.shared) if self.rows else {}


def test_a_trunk_that_momentum_moves_is_not_frozen() -> None:
    message = failures(SlidingBatchE, GG, "keeps frozen", weight_decay=0.0)["keeps frozen"]
    assert message.startswith("1.bias, 1.weight")
    assert "changed while task 1 was learned: keep it out of the optimiser (momentum and weight decay move" in message
    assert failures(StillBatchE, GG, "keeps frozen") == {}


class Rigid(EWC):
    """It forgets nothing, as it learns nothing after the first task."""

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief, strength=1e6, optimiser="sgd", learning_rate=0.05)

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.learning = task == 0

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        return super().observe(inputs, labels) if self.learning else None


class RigidAtAPrice(Rigid):
    """It says so."""

    price = 1.0


def test_forgetting_less_by_learning_less_is_not_enough() -> None:
    assert "it keeps old tasks by not learning new ones" in failures(Rigid, GNS, "acts")["acts"]
    assert failures(RigidAtAPrice, GNS, "acts") == {}


class Imprinted(Naive):
    """Being asked moves the statistics of the batch norm."""

    def logits(self, inputs: Tensor, task: int | None = None) -> Tensor:
        outputs = functional_call(self.network.train(), self.trained | self.buffers, (inputs,))
        self.network.eval()
        return outputs


class Numbering(Naive):
    """It numbers the asks, and knows the task if they come in order."""

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        self.asked = getattr(self, "asked", -1) + 1
        labels = super().predict(inputs, task).labels
        return Prediction((labels + self.asked) % self.brief.classes, torch.full_like(labels, self.asked))


class Forgetful(Naive):
    """The statistics of the batch norm are not kept."""

    def learned(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in super().learned().items() if not name.startswith("buffer.")}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        super().restore({f"buffer.{name}": buffer for name, buffer in self.buffers.items()} | learned, progress)


class Amnesic(EWC):
    """Importances are not kept."""

    def progress(self) -> dict[str, Tensor]:
        return {}


class Interrupting(Naive):
    """What it keeps inside a task is without the optimiser's count."""

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief, optimiser="adam")

    def restore_task(self, progress: dict[str, Tensor]) -> None:
        super().restore_task(progress | {"optimiser/count": torch.zeros(())})


class Gambler(Naive):
    """It draws from the global generator."""

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        return super().observe(inputs + 0.1 * torch.randn_like(inputs), labels)


class Sower(Naive):
    """It seeds the global generator."""

    def __init__(self, brief: Brief) -> None:
        torch.manual_seed(brief.seed)
        super().__init__(brief)


class Measuring(Naive):
    """Its importance pass runs in training mode."""

    def end_task(self, data: Split) -> None:
        functional_call(self.network.train(), self.trained | self.buffers, (data.whole()[0],))
        self.network.eval()


class Hoarder(Naive):
    """It keeps a task's data and does not say so."""

    def end_task(self, data: Split) -> None:
        self.data = [*getattr(self, "data", []), data]


class Stubborn(SupSup):
    """Its seed is always 0."""

    recipes = ()

    def __init__(self, brief: Brief) -> None:
        super().__init__(brief._replace(seed=0), outputs=20)


class Complex(Naive):
    """What it keeps cannot be put into a file."""

    def learned(self) -> dict[str, Tensor]:
        return super().learned() | {"contexts": torch.zeros(3, dtype=torch.complex64)}


class FromOne(Naive):
    """It counts labels from 1."""

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        return Prediction(super().predict(inputs, task).labels + 1)


BROKEN: list[tuple[type[Method], set[str], str]] = [
    (Imprinted, {"leaves no trace"}, "asking changed buffer.2."),
    (Numbering, {"answers alike"}, "depend on the order in which tasks are asked about: predict must not remember"),
    (Forgetful, {"reloads", "resumes"}, "must hold"),
    (Amnesic, {"resumes", "resumes inside a task"}, ""),
    (Interrupting, {"resumes inside a task"}, "task_progress() must hold all that a batch changes"),
    (Gambler, {"repeats", "draws alone", "resumes", "leaves no trace", "ends quietly"}, ""),
    (Sower, {"draws alone"}, "the global generator of PyTorch was used"),
    (Measuring, {"ends quietly"}, "buffer.2.running_mean, buffer.2.running_var: measure on copies, in evaluation mode"),
    (Hoarder, {"stays small"}, "bytes of memory and 0 bytes of state: keep nothing of a task"),
    (Stubborn, {"repeats"}, "learners of two seeds learned the same: take the network and every draw from the brief"),
    (FromOne, {"answers alike"}, "name labels or tasks that do not exist: count labels within the task"),
]


@pytest.mark.parametrize(("method", "expected", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_methods_fail_for_their_own_reason(method: type[Method], expected: set[str], words: str) -> None:
    every = {name_of(requirement) for requirement in REQUIREMENTS}
    problems = failures(method, GNS, *(every - {"acts"}))
    assert problems.keys() == expected
    assert all(words in message for message in problems.values())


def test_an_exception_is_a_failure_that_says_where() -> None:
    problem = failures(Complex, GNS, "states its bytes")["states its bytes"]
    assert problem.startswith("raised ")
    assert ".py, line " in problem


def test_memory_is_found_wherever_it_hides_and_counted_once() -> None:
    tensor = torch.zeros(1000)

    class Holder:
        __slots__ = ("held",)

    holder = Holder()
    holder.held = {"views": [tensor[:10], (tensor.view(10, 100),)], "call": lambda: tensor}
    assert reachable_bytes(holder) == 4000
    holder.held["meta"] = torch.zeros(10, device="meta")
    assert reachable_bytes(holder) == 4000


def test_the_global_generators_are_left_as_they_were() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    failures(Sower, GNS, "draws alone")
    assert torch.equal(torch.get_rng_state(), before)


class Demanding(Naive):
    """It needs a parameter, and refuses a large one."""

    name = "demanding"
    scenarios = frozenset({GNS})

    def __init__(self, brief: Brief, *, steps: int) -> None:
        super().__init__(brief)
        if steps > 3:
            raise UserError(f"steps={steps} are too many.")


def test_parameters_are_given_by_settings_and_bad_ones_refused() -> None:
    results = list(check(Demanding, {"steps": "2"}))
    assert results == [Result(name_of(requirement), "GNs", True, results[i].message) for i, requirement in enumerate(REQUIREMENTS)]
    for settings, words in (({}, "has no default: give it a value"), ({"steps": 4}, "too many")):
        with pytest.raises(UserError, match=words):
            list(check(Demanding, settings))


@pytest.fixture
def clbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["clbench", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    monkeypatch.setenv("COLUMNS", "200")
    return call


BROKEN_FILE = """
from clbench.scenarios import GNS
from clbench.methods.naive import Naive
from clbench.methods.replay import Replay

class Broken(Naive):
    name, scenarios = "broken", frozenset({GNS})

    def restore(self, learned, progress=None):
        pass
"""


def test_the_command_prints_what_failed_and_exits_with_1(clbench: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_FILE)
    name = f"{tmp_path / 'broken.py'}:Broken"
    code, out, _ = clbench("check", name)
    assert code == 1
    assert "in GNs, reloads: task 0's labels, task 1's labels, task 2's labels differ after learned() was restored" in out
    code, out, _ = clbench("check", name, "--json")
    assert code == 1
    failed = [row["name"] for row in json.loads(out) if not row["passed"]]
    assert failed == ["reloads", "resumes"]


def test_the_command_exits_with_0_for_a_sound_method_and_2_for_bad_input(clbench: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = clbench("check", "naive", "--set", "learning_rate=0.002")
    assert (code, out.count("failed")) == (0, 0)
    for arguments, words in (
        (["naivety"], "Did you mean naive?"),
        ([], "give --all alone"),
        (["naive", "--all"], "give --all alone"),
        (["naive", "--set", "rate=1"], "rate"),
    ):
        code, _, err = clbench("check", *arguments)
        assert code == 2
        assert words in err
