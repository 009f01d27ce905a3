"""Avalanche in both directions: its benchmarks as streams and its strategies as methods, clbench's methods as strategies in its loop."""

import importlib.util
import logging
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from clbench import registry
from clbench.data import Dataset
from clbench.engine import asks, learn, request
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, evaluate, teach
from clbench.engine.execution import execute
from clbench.errors import UserError
from clbench.method import Brief, Method, parameters
from clbench.scenario import Scenario
from clbench.stream import Stream

if importlib.util.find_spec("avalanche") is None:
    pytest.skip("Avalanche is not installed", allow_module_level=True)

from clbench.interop import _avalanche as avalanche
from clbench.interop import avalanche_method, avalanche_stream
from clbench.interop.avalanche_strategy import MethodStrategy, SupSupStrategy

# isort: split
# After clbench, which imports torchvision in a way that works with any build of PyTorch.
from avalanche.benchmarks import nc_benchmark

GG, GNS, GNU, NNS = (registry.scenario(name) for name in ("gg", "gns", "gnu", "nns"))
SHORT = Schedule(updates=3, batch_size=16)
REQUIRED: dict[str, dict[str, Any]] = {
    "AGEM": {"patterns_per_exp": 16, "sample_size": 8},
    "EWC": {"ewc_lambda": 10.0},
    "GEM": {"patterns_per_exp": 16},
    "ICaRL": {"memory_size": 16, "fixed_memory": True},
    "LFL": {"lambda_e": 0.1},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "MIR": {"mem_size": 16, "subsample": 8},
    "SynapticIntelligence": {"si_lambda": 10.0},
}
"""What strategies must be told; the numbers mean nothing."""
OFFERED = sorted(avalanche_method.strategies().keys() - avalanche_method.REFUSED.keys() - {"GenerativeReplay"})

Make = Callable[..., Any]


def make(name: str, brief: Brief, **given: Any) -> Method:
    outputs = {"outputs": 16} if name in avalanche_method.CANNOT_GROW and brief.scenario == GNU else {}
    built: Callable[..., Method] = registry.method(f"avalanche:{name}")
    return built(brief, **REQUIRED.get(name, {}) | outputs | {"learning_rate": 1e-3} | given)


def generators() -> tuple[Any, ...]:
    """The states of the global generators."""
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


# Benchmarks as streams


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> TensorDataset:
    """Avalanche's MNIST is these few images: image i has the value i / 100 everywhere but for one pixel, and the label i mod 10."""
    inputs = (torch.arange(40.0) / 100).view(-1, 1, 1, 1).repeat(1, 1, 28, 28)
    inputs[:, 0, 0, 0] = 1
    data = TensorDataset(inputs, torch.arange(40) % 10)
    monkeypatch.setattr("avalanche.benchmarks.classic.cmnist.get_mnist_dataset", lambda root: (data, data))
    return data


def built(stream: str, tasks: int, seed: int = 0) -> Stream:
    return registry.stream(f"avalanche:{stream}").build(Path("nowhere"), tasks=tasks, seed=seed)


def number(inputs: Tensor) -> Tensor:
    """Which image each input was: the inverse of how ``images`` are made and normalised."""
    return ((inputs.flatten(1).median(1).values * 0.3081 + 0.1307) * 100).round().long()


def test_experiences_are_tasks_with_labels_of_their_own(images: TensorDataset) -> None:
    stream = built("SplitMNIST", tasks=5)
    assert (stream.classes, stream.input_shape, len(stream)) == (2, (1, 28, 28), 5)
    digits_of_tasks = []
    for task in stream:
        for split in (task.train, task.test):
            digits = number(split.images) % 10
            assert len(split) == 8
            assert torch.equal(split.labels, (digits == digits.max()).long())  # in the order of the digits
        digits_of_tasks += digits.unique().tolist()
    assert sorted(digits_of_tasks) == list(range(10))


def test_the_seed_and_parameters_behind_the_name_reach_avalanche(images: TensorDataset) -> None:
    names = [[task.name for task in built("SplitMNIST", 5, seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    plain = built("SplitMNIST:shuffle=false,fixed_class_order=null", tasks=5)
    assert [task.name for task in plain] == [f"experience {i}: classes {2 * i}, {2 * i + 1}" for i in range(5)]
    first = built("SplitMNIST:n_experiences=5,fixed_class_order=[9,8,7,6,5,4,3,2,1,0]", tasks=2)
    assert [task.name for task in first] == ["experience 0: classes 8, 9", "experience 1: classes 6, 7"]


def test_labels_mean_the_same_where_one_task_has_the_classes_of_all(images: TensorDataset) -> None:
    stream = built("PermutedMNIST", tasks=3)
    assert stream.classes == 10
    for task in stream:
        assert torch.equal(task.train.labels, number(task.train.images) % 10)
    for one, other in pairwise(stream):
        assert not torch.equal(one.train.images, other.train.images)
        assert torch.equal(one.train.images.flatten(1).sort().values, other.train.images.flatten(1).sort().values)


def test_making_a_stream_leaves_the_global_generators_alone(images: TensorDataset) -> None:
    before = generators()
    built("SplitMNIST", tasks=5)
    assert generators() == before


class Listed(list):
    """A data set of Avalanche's as far as gathering goes."""

    def eval(self) -> "Listed":
        return self


def benchmark(train: list[list[int]], test: list[list[int]]) -> Any:
    """A benchmark of experiences with images of these classes; an image's value is its class."""

    def experiences(parts: list[list[int]]) -> list[Any]:
        return [SimpleNamespace(dataset=Listed((torch.full((1, 2, 2), float(c)), c) for c in classes)) for classes in parts]

    return SimpleNamespace(train_stream=experiences(train), test_stream=experiences(test))


class SimpleNamespace:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


def test_one_test_experience_for_all_is_shared_out_by_class() -> None:
    stream = avalanche_stream.as_stream("x", benchmark([[3, 7, 7], [5, 1]], [[1, 3, 5, 7, 9]]), 2)
    assert [(task.test.images[:, 0, 0, 0].tolist(), task.test.labels.tolist()) for task in stream] == [
        ([3, 7], [0, 1]),
        ([1, 5], [0, 1]),
    ]


def test_a_task_that_lacks_a_class_keeps_the_meaning_of_labels() -> None:
    stream = avalanche_stream.as_stream("x", benchmark([[2, 4, 6], [2, 6]], [[2, 4, 6], [6, 2]]), 2)
    assert stream.classes == 3
    assert [task.test.labels.tolist() for task in stream] == [[0, 1, 2], [2, 0]]


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        ([[0, 1]], [[0, 1]], "x has 1 tasks: ask for at most that many, not 2."),
        ([[0, 1], [2, 3]], [[0, 1]], "x has no test images of the classes of task 1."),
        ([[0], [1], [2]], [[0], [1], [2]], None),
    ],
)
def test_benchmarks_that_do_not_fit_are_refused(train: list[list[int]], test: list[list[int]], sentence: str | None) -> None:
    if sentence is None:
        assert len(avalanche_stream.as_stream("x", benchmark(train, test), 2)) == 2
        return
    with pytest.raises(UserError) as raised:
        avalanche_stream.as_stream("x", benchmark(train, test), 2)
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SplitMNST", "Unknown benchmark of Avalanche 'SplitMNST'. Did you mean SplitMNIST?"),
        ("SplitMNIST:shufle=true", "Unknown parameter of Avalanche's SplitMNIST 'shufle'. Did you mean shuffle?"),
        ("SplitMNIST:shuffle", "The parameter shuffle of Avalanche's SplitMNIST has no value"),
        ("SplitMNIST:n_experiences=few", "n_experiences must be a whole number, not 'few'."),
    ],
)
def test_wrong_names_of_streams_say_what_is_right(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        registry.stream(f"avalanche:{name}")
    assert str(raised.value).startswith(sentence)


def test_what_avalanche_cannot_make_is_one_sentence(images: TensorDataset) -> None:
    with pytest.raises(UserError, match=r"^Avalanche cannot make avalanche:SplitMNIST with 3 tasks: ValueError: .*divided"):
        built("SplitMNIST", tasks=3)


def test_the_number_of_tasks_has_a_default_that_the_benchmark_can_have() -> None:
    def tasks(stream: str, **settings: Any) -> int:
        job = request.resolve(request.request({"stream": f"avalanche:{stream}", **settings}))[0]
        assert (job.learn.data, job.learn.stream_source) == ("avalanche", registry.source_digest("avalanche:x"))
        return job.learn.tasks

    assert [tasks("SplitMNIST"), tasks("SplitMNIST", tasks=2), tasks("SplitMNIST:n_experiences=10")] == [5, 2, 10]
    assert [tasks("SplitTinyImageNet"), tasks("SplitTinyImageNet", budget="smoke")] == [10, 5]
    assert tasks("PermutedMNIST", budget="paper") == 250
    with pytest.raises(UserError, match="Unknown data set"):
        tasks("SplitMNIST", data="mnist")


# Strategies as methods


def brief_of(make_brief: Make, scenario: Scenario, **settings: Any) -> Brief:
    brief: Brief = make_brief(scenario, **settings)
    return brief


@pytest.mark.parametrize("name", OFFERED)
def test_every_strategy_learns_answers_and_is_restored(name: str, make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(2)
    for scenario in registry.method(f"avalanche:{name}").scenarios:
        before = generators()
        method = make(name, brief_of(make_brief, scenario))
        scores = list(evaluate(method, stream, [Ask(scenario)], [2], SHORT))
        assert generators() == before
        assert len(scores) == 4
        assert method.limit.done == SHORT.updates  # type: ignore[attr-defined]
        again = make(name, brief_of(make_brief, scenario))
        for index, task in enumerate(stream):
            teach(again, task, index, SHORT)
        assert all(torch.equal(tensor, again.learned()[key]) for key, tensor in method.learned().items())
        restored = make(name, brief_of(make_brief, scenario))
        restored.restore({key: tensor.clone() for key, tensor in method.learned().items()})
        for index, task in enumerate(stream):
            given = index if scenario == GG else None
            for first, second in zip(
                method.predict(task.test.images, given), restored.predict(task.test.images, given), strict=True
            ):
                assert first is second is None or torch.equal(first, second)


@pytest.mark.parametrize("scenario", [GG, GNS, GNU])
@pytest.mark.parametrize("name", ["AGEM", "GEM", "Replay"])
def test_strategies_learn(name: str, scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    learned = {}
    for seed in (0, 1):
        method = make(name, brief_of(make_brief, scenario, seed=seed))
        scores = list(evaluate(method, make_stream(2), [Ask(scenario)], [2], Schedule(40, 20)))
        assert all(score.accuracy > 0.9 for score in scores if isinstance(score, Score))
        learned[seed] = method.learned()
    assert not all(torch.equal(tensor, learned[1][key]) for key, tensor in learned[0].items())


def test_the_head_is_the_scenarios(make_brief: Make, make_stream: Make) -> None:
    shapes = {}
    for scenario in (GG, GNS, GNU):
        method = make("Naive", brief_of(make_brief, scenario))
        for index, task in enumerate(make_stream(3)):
            teach(method, task, index, SHORT)
        shapes[scenario.name] = [
            list(t.shape) for key, t in method.learned().items() if key.endswith("weight") and "classifier" in key
        ]
    assert shapes == {"GG": [[4, 64]] * 3, "GNs": [[4, 64]], "GNu": [[12, 64]]}


def test_a_number_of_epochs_takes_the_place_of_the_updates(make_brief: Make, make_stream: Make) -> None:
    method = make("Naive", brief_of(make_brief, GNS), train_epochs=2)
    teach(method, make_stream(1)[0], 0, SHORT)
    assert method.limit.done == 2 * -(-200 // 16)  # type: ignore[attr-defined]


def test_the_state_to_resume_counts_each_exemplar_once(make_brief: Make, make_stream: Make) -> None:
    method = make("Replay", brief_of(make_brief, GNS), mem_size=24, optimiser="sgd")
    for index, task in enumerate(make_stream(2)):
        teach(method, task, index, SHORT)
    assert [tuple(t.shape) for t in method.progress().values() if t.ndim > 1] == [(24, 1, 8, 8)]


def test_parameters_are_the_strategys_with_their_types_and_defaults() -> None:
    known = parameters(registry.method("avalanche:GEM").__init__)
    assert list(known) == ["optimiser", "learning_rate", "train_epochs", "outputs", "patterns_per_exp", "memory_strength"]
    settings = asks.typed(registry.method("avalanche:GEM").__init__, {"patterns_per_exp": "256"}, "parameters")
    assert (settings["patterns_per_exp"], settings["memory_strength"]) == (256, 0.5)
    assert "number of patterns per experience" in (registry.method("avalanche:GEM").__init__.__doc__ or "")
    for name in OFFERED:
        asks.typed(registry.method(f"avalanche:{name}").__init__, REQUIRED.get(name, {}), "parameters")


def test_impossible_settings_are_refused_with_the_reason(make_brief: Make) -> None:
    with pytest.raises(UserError, match="cannot serve NNs: it serves GG, GNs, GNu"):
        request.resolve(request.request({"method": "avalanche:Naive", "scenario": "nns"}))
    with pytest.raises(UserError, match="Did you mean GEM"):
        registry.method("avalanche:Gemm")
    for name in avalanche_method.REFUSED:
        with pytest.raises(UserError, match=f"Avalanche's {name} "):
            registry.method(f"avalanche:{name}")
    with pytest.raises(UserError, match="DER cannot grow: give outputs=4 times"):
        registry.method("avalanche:DER")(brief_of(make_brief, GNU))
    with pytest.raises(UserError, match="EWC cannot be made: AssertionError: Mode must be separate or online"):
        make("EWC", brief_of(make_brief, GG), mode="both")
    with pytest.raises(UserError, match="train_epochs must be at least 1"):
        make("Naive", brief_of(make_brief, GG), train_epochs=0)
    with pytest.raises(UserError, match="in GNu only"):
        make("Naive", brief_of(make_brief, GG), outputs=16)


def test_a_failure_in_avalanche_is_one_sentence(make_brief: Make, make_stream: Make) -> None:
    method = make("EWC", brief_of(make_brief, GNS))
    method.strategy_class = lambda **given: SimpleNamespace(train=lambda *_, **__: 1 / 0, model=None)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^Avalanche's EWC failed on task 0 of GNs: ZeroDivisionError: division by zero\.$"):
        teach(method, make_stream(1)[0], 0, SHORT)


def test_synaptic_intelligence_is_naive_on_the_cpu_and_clbench_says_so_once(
    make_brief: Make, make_stream: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """When this fails Avalanche has been mended, and the warning has to go."""
    avalanche_method._warn_once.cache_clear()
    states = []
    with caplog.at_level(logging.WARNING, "clbench"):
        for name in ("Naive", "SynapticIntelligence", "SynapticIntelligence"):
            method = make(name, brief_of(make_brief, GNS), **({} if name == "Naive" else {"si_lambda": 1e6}))
            for index, task in enumerate(make_stream(2)):
                teach(method, task, index, SHORT)
            states.append(method.learned())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert [record.message.count("\n") for record in caplog.records] == [0]
    assert "plain fine-tuning on the CPU" in caplog.text


# On disk


@pytest.fixture
def job(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> learn.Job:
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))
    settings = {"method": "avalanche:GEM", "set": {"patterns_per_exp": "16"}, "stream": "permuted-mnist", "network": "mlp-32"}
    return request.resolve(request.request({**settings, "tasks": 2, "updates": 5, "batch_size": 16}))[0]


def test_a_run_is_recorded_and_asked_again(job: learn.Job, tmp_path: Path) -> None:
    run = execute(job, tmp_path)
    assert run.complete
    assert run.learn.source == registry.source_digest("avalanche:GEM")
    again = execute(job.model_copy(update={"asks": (Ask(GNU, images=20),), "checkpoints": (2,)}), tmp_path)
    scores = again.table("scores")
    assert scores["images"].tolist().count(20) == 2
    whole = execute(job.model_copy(update={"asks": (Ask(GNU, images=60),), "checkpoints": (2,)}), tmp_path).table("scores")
    last = whole[whole["learned"] == 2].groupby("ask")["accuracy"].apply(list)
    assert last["GNu"] == last["GNu images=60"]  # from the stored state as from the live one


def test_an_interrupted_run_says_that_it_has_to_begin_again(job: learn.Job, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: Any) -> None:
        if getattr(event, "learned", 0) == 2:
            raise Stop

    with pytest.raises(Stop):
        execute(job, tmp_path, watch=stop)
    with pytest.raises(UserError, match="Avalanche's GEM cannot resume an interrupted run: begin again with --overwrite always"):
        execute(job, tmp_path)
    assert execute(job, tmp_path, overwrite="always").complete
    shutil.rmtree(tmp_path)


# clbench's methods in Avalanche's loop


def digits(make_data: Callable[..., Dataset], task_labels: bool) -> Any:
    """An Avalanche benchmark: of classes 3 and 1, then of 0 and 2."""
    data = make_data()
    parts = [
        TensorDataset(data.inputs(data.train_images), data.train_labels),
        TensorDataset(data.inputs(data.test_images), data.test_labels),
    ]
    return nc_benchmark(*parts, n_experiences=2, task_labels=task_labels, fixed_class_order=[3, 1, 0, 2])


def silent() -> Any:
    return avalanche.EvaluationPlugin(avalanche.accuracy_metrics(experience=True, stream=True))


@pytest.mark.filterwarnings("ignore:No loggers specified")
@pytest.mark.parametrize("scenario", [GG, GNU])
def test_supsup_in_avalanches_loop_is_supsup(
    scenario: Scenario, make_data: Callable[..., Dataset], make_brief: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"outputs": 20, "learning_rate": 0.01}
    strategy = SupSupStrategy(
        network=make_brief(GNU).network,
        input_shape=(1, 8, 8),
        classes=2,
        scenario=scenario,
        learn=settings,
        ask={"group": 10},
        train_mb_size=20,
        train_epochs=6,
        eval_mb_size=30,
        evaluator=silent(),
    )
    batches: list[list[tuple[Tensor, Tensor]]] = []
    observe = strategy.method.observe
    monkeypatch.setattr(strategy.method, "observe", lambda x, y: (batches[-1].append((x, y)), observe(x, y))[1])
    data = digits(make_data, task_labels=scenario == GG)
    for experience in data.train_stream:
        batches.append([])
        strategy.train(experience)
    measured = [value for _, value in sorted(strategy.eval(data.test_stream).items())]

    # The oracle: the same method with the same batches, outside of Avalanche.
    method = registry.method("supsup")(brief_of(make_brief, scenario, classes=2), **settings)  # type: ignore[call-arg]
    for task, batch_inputs in enumerate(batches):
        assert len(batch_inputs) == 30
        method.begin_task(task, len(batch_inputs))
        for inputs, labels in batch_inputs:
            method.observe(inputs, labels)
        method.end_task(None)  # type: ignore[arg-type]
    for key, tensor in method.learned().items():
        assert torch.equal(tensor, strategy.method.learned()[key])
    right = []
    for task, (classes, experience) in enumerate(zip(([1, 3], [0, 2]), data.test_stream, strict=True)):
        inputs, labels = avalanche.gathered(experience.dataset)
        ask = {} if scenario == GG else {"group": 10}
        prediction = method.predict(inputs, task if scenario == GG else None, **ask)
        known = torch.ones(len(labels), dtype=torch.bool) if prediction.tasks is None else prediction.tasks == task
        right.append((known & (torch.tensor(classes)[prediction.labels] == labels)).float().mean().item())
    assert measured == pytest.approx([*right, sum(right) / 2])
    assert measured[-1] > 0.9


@pytest.mark.filterwarnings("ignore:No loggers specified")
def test_other_methods_and_what_a_strategy_refuses(make_data: Callable[..., Dataset], make_brief: Make) -> None:
    common = {"network": "mlp-16", "input_shape": (1, 8, 8), "evaluator": silent, "train_mb_size": 20}
    strategy = MethodStrategy(method="naive", classes=2, learn={"learning_rate": 0.01}, train_epochs=5, **common)
    data = digits(make_data, task_labels=False)
    strategy.eval(data.test_stream)  # Avalanche may ask before anything is learned
    strategy.train(data.train_stream)
    assert strategy.eval(data.test_stream[1])["Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp001"] > 0.9
    with pytest.raises(UserError, match="gives the task in training, and NNs does not"):
        SupSupStrategy(classes=2, scenario=NNS, **common)
    with pytest.raises(UserError, match="and the strategy was made for 1"):
        SupSupStrategy(classes=1, **common).train(data.train_stream)
    with pytest.raises(UserError, match="needs its own task label, and 0 occurs twice"):
        SupSupStrategy(classes=2, scenario=GG, **common).train(data.train_stream)


@pytest.mark.slow
def test_the_example_of_the_documentation_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("example", Path(__file__).parents[2] / "docs/examples/supsup_in_avalanche.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "TASKS", 2)
    with torch.random.fork_rng():
        example.main()
    supsup, naive = (float(line.split()[2]) for line in capsys.readouterr().out.splitlines() if line.split()[1:2] == ["accuracy"])
    assert supsup > 80
    assert naive < supsup + 5


# Without Avalanche


def test_avalanche_is_imported_when_asked_for_and_one_sentence_says_how_to_install_it() -> None:
    program = """
import sys
from clbench import registry
from clbench.errors import UserError
registry.methods(), registry.streams()
print([name for name in sys.modules if name.startswith("avalanche")])
class Absent:
    def find_spec(name, path=None, target=None):
        if name == "avalanche":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent)
for ask in (registry.method, registry.stream):
    try:
        ask("avalanche:Anything")
    except UserError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stderr == ""
    sentence = "Avalanche is not installed: install it with `pip install avalanche-lib quadprog`."
    assert run.stdout.splitlines() == ["[]", sentence, sentence]
