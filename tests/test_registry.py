"""Names of methods, scenarios and streams; methods and streams from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clbench import registry
from clbench.data import Dataset
from clbench.engine.execution import execute
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.errors import UserError
from clbench.method import Method
from clbench.methods.supsup import SupSup
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.stream import Stream, StreamBuilder

Make = Callable[..., Any]

METHOD = '''
import torch

import clbench
from clbench.scenarios import GG, GNS


class Constant(clbench.Method):
    """Answers the same label always."""

    name = "constant"
    scenarios = frozenset({GG, GNS})

    def __init__(self, brief, *, shift: int = 0):
        super().__init__(brief)
        self.shift = shift

    def observe(self, inputs, labels):
        pass

    def predict(self, inputs, task=None, *, times: int = 1):
        return clbench.Prediction(torch.full((len(inputs),), ANSWER + self.shift))

    def learned(self):
        return {"answer": torch.tensor(ANSWER)}

    def restore(self, learned, progress=None):
        pass


class Unfinished(clbench.Method):
    name = "unfinished"
    scenarios = frozenset({GG})


NOTHING = 3
'''

STREAM = '''
import clbench


def halves(data, *, tasks, seed):
    """The first and the second half of the data.

    And so on.
    """
    images, test = data.inputs(data.train_images), data.inputs(data.test_images)
    halves = [
        clbench.Task(clbench.Split(images, data.train_labels), clbench.Split(test[i::tasks], data.test_labels[i::tasks]), str(i))
        for i in range(tasks)
    ]
    return clbench.Stream("halves", halves, data.classes, tuple(images.shape[1:]))


def wrong(data, *, tasks, seed):
    return [1, 2]


built = clbench.StreamBuilder("my-halves", halves, "mine", most_tasks=2)
NOTHING = 3
'''


@pytest.fixture
def method_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_method.py"
    file.write_text(METHOD.replace("ANSWER", "1"))
    return file


@pytest.fixture
def stream_file(tmp_path: Path) -> Path:
    file = tmp_path / "my_stream.py"
    file.write_text(STREAM)
    return file


@pytest.fixture
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))


def job(**settings: Any) -> Job:
    (only_job,) = resolve(request({"network": "mlp-4", "tasks": 2, "updates": 2, "batch_size": 8, "scenario": "gns", **settings}))
    return only_job


# Names


def test_the_four_scenarios_are_those_of_table_1() -> None:
    assert registry.scenarios() == {"GG": GG, "GNs": GNS, "GNu": GNU, "NNs": NNS}
    assert {name: (s.description(), s.task_space()) for name, s in registry.scenarios().items()} == {
        "GG": ("Task Given during training, Given during inference", "Either"),
        "GNs": ("Task Given during training, Not given during inference; shared labels", "Either"),
        "GNu": ("Task Given during training, Not given during inference; unshared labels", "Discrete only"),
        "NNs": ("Task Not given during training, Not given during inference; shared labels", "Either"),
    }


def test_scenarios_are_found_in_any_case() -> None:
    for name in ("gnu", "GNU", "GNu"):
        assert registry.scenario(name) is GNU
    with pytest.raises(UserError, match="Unknown scenario 'gn'"):
        registry.scenario("gn")


def test_methods_and_streams_are_found_where_they_lie() -> None:
    assert registry.method("supsup") is SupSup
    assert all(name == method.name for name, method in registry.methods().items())
    expected = {f"{kind}-{family}" for kind in ("permuted", "rotated", "split") for family in ("mnist", "fashion-mnist")}
    assert expected | {"mixed", "mixed-digits"} <= set(registry.streams())
    assert registry.stream("rotated-mnist").most_tasks == 36
    assert registry.stream("permuted-mnist").most_tasks is None


class EntryPoint:
    """What another package adds."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value

    def load(self) -> Any:
        return self.value


def test_other_packages_add_methods_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(SupSup):
        name = "other"

    def stream_function(data: Dataset, *, tasks: int, seed: int) -> Stream:
        """One line."""
        return Stream("elsewhere", [], 1, (1,))

    added = {"clbench.methods": [EntryPoint("other", Other)], "clbench.streams": [EntryPoint("elsewhere", stream_function)]}
    monkeypatch.setattr(registry, "entry_points", lambda group: added[group])
    registry.methods.cache_clear()
    registry.streams.cache_clear()
    try:
        assert registry.method("other") is Other
        assert registry.method("supsup") is SupSup
        assert registry.stream("elsewhere").summary == "One line."
        added["clbench.methods"][0].value = int
        registry.methods.cache_clear()
        with pytest.raises(UserError, match="'other' is not a method"):
            registry.methods()
    finally:
        registry.methods.cache_clear()
        registry.streams.cache_clear()


# Files


def test_a_method_of_one_file(method_file: Path) -> None:
    method = registry.method(f"{method_file}:Constant")
    assert issubclass(method, Method)
    assert (method.name, method.scenarios) == ("constant", frozenset({GG, GNS}))
    assert registry.method(f"{method_file}:Constant") is method


def test_a_relative_path_is_meant_from_where_one_is(method_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(method_file.parent)
    assert registry.method("./my_method.py:Constant") is registry.method(f"{method_file}:Constant")
    assert registry.source_digest("./my_method.py:Constant") == registry.source_digest(f"{method_file}:Constant")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{file}", "names no object in a file: write .*my_method.py:Name"),
        ("{file}:", "names no object in a file"),
        ("{file}x.py:Constant", "There is no file .*x.py"),
        ("{file}:Constat", "The file .*my_method.py has no 'Constat'"),
        ("{file}:NOTHING", "is not a method: it must be a subclass of clbench.Method"),
        ("{file}:torch", "is not a method"),
        ("{file}:Unfinished", "is incomplete: it must define learned, observe, predict, restore"),
    ],
)
def test_what_is_no_method_of_a_file(name: str, says: str, method_file: Path) -> None:
    with pytest.raises(UserError, match=says):
        registry.method(name.format(file=method_file))


def test_a_method_that_declares_no_name(tmp_path: Path) -> None:
    file = tmp_path / "nameless.py"
    file.write_text(METHOD.replace("ANSWER", "1").replace('name = "constant"', ""))
    with pytest.raises(UserError, match="must declare 'name' in its class"):
        registry.method(f"{file}:Constant")


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    for content, says in (("import nothing_like_it", "ModuleNotFoundError"), ("def f(:", "SyntaxError"), ("1 / 0", "ZeroDivision")):
        file = tmp_path / f"{says}.py"
        file.write_text(content)
        with pytest.raises(UserError, match=f"cannot be imported: {says}"):
            registry.method(f"{file}:Constant")


def test_a_stream_of_one_file(stream_file: Path, make_data: Make) -> None:
    builder = registry.stream(f"{stream_file}:halves")
    assert isinstance(builder, StreamBuilder)
    assert builder.summary == "The first and the second half of the data."
    stream = builder.build(make_data(), tasks=2, seed=0)
    assert [len(task.test) for task in stream] == [30, 30]
    assert registry.stream(f"{stream_file}:built").most_tasks == 2
    with pytest.raises(UserError, match=r"must return a clbench\.Stream, not a list"):
        registry.stream(f"{stream_file}:wrong").build(make_data(), tasks=2, seed=0)
    with pytest.raises(UserError, match="is not a stream: it must be a function"):
        registry.stream(f"{stream_file}:NOTHING")


@pytest.mark.parametrize("typed", ["./a/m.py:C", "a/m.py:C", "a//m.py:C", "a/./m.py:C"])
def test_a_file_has_one_name_however_it_is_typed(typed: str) -> None:
    assert registry.normal_name(typed) == "a/m.py:C"
    assert registry.normal_name("supsup") == "supsup"
    assert registry.normal_name("avalanche:GEM") == "avalanche:GEM"


def test_names_that_are_no_path_have_no_digest() -> None:
    assert registry.source_digest("supsup") is None
    assert job(method="supsup", scenario="gnu").learn.source is None


def test_an_edited_file_makes_another_run_with_the_new_code(
    method_file: Path, stream_file: Path, tmp_path: Path, tiny: None
) -> None:
    """Also in one process, as in a notebook. The tiny data have 15 images of each of 4 classes, in turn."""
    settings = {"method": f"{method_file}:Constant", "stream": f"{stream_file}:halves", "scenario": "gg"}
    first = job(**settings)
    assert job(**settings).learn.hash == first.learn.hash
    # The two test halves hold the even and the odd labels: answering 1 is right for half of the second.
    run = execute(first, tmp_path)
    assert run.table("scores")["accuracy"].tolist() == [0.0, 0.0, 0.5]
    method_file.write_text(METHOD.replace("ANSWER", "2"))
    second = job(**settings)
    assert second.learn.source != first.learn.source
    assert second.learn.hash != first.learn.hash
    assert execute(second, tmp_path).table("scores")["accuracy"].tolist() == [0.5, 0.5, 0.0]
    stream_file.write_text(STREAM.replace("test[i::tasks], data.test_labels[i::tasks]", "test, data.test_labels"))
    third = job(**settings)
    assert third.learn.stream_source != second.learn.stream_source
    assert third.learn.hash != second.learn.hash
    assert execute(third, tmp_path).table("scores")["accuracy"].tolist() == [0.25, 0.25, 0.25]


def test_a_method_whose_predict_has_parameters_need_not_check_them(method_file: Path, tmp_path: Path, tiny: None) -> None:
    execute(job(method=f"{method_file}:Constant", ask={"times": [1, 2]}), tmp_path)


def test_a_function_that_makes_no_stream(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("def shift(images, by):\n    return images\n")
    with pytest.raises(UserError, match=r"is not a stream \(.*\): it must be a function \(data, \*, tasks, seed\)"):
        registry.stream(f"{file}:shift")
