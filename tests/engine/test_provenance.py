"""A run answers only with the code and the data with which it learned; otherwise it is refused in one sentence."""

import copy
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clbench import api, registry
from clbench.data import Dataset
from clbench.engine import build, execution, provenance
from clbench.engine.estimate import estimate
from clbench.engine.evaluator import Schedule, teach
from clbench.engine.execution import execute
from clbench.engine.learn import Job, Learn
from clbench.engine.request import request, resolve
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.methods.naive import Naive
from clbench.scenarios import GNS
from clbench.stream import Split, Stream, Task

CPU = torch.device("cpu")
METHOD = """
from clbench.methods.naive import Naive
import factor

class Mine(Naive):
    name = "mine"

    def predict(self, inputs, task=None):
        found = super().predict(inputs, task)
        return found._replace(labels=(found.labels + factor.SHIFT) % 4)
"""
STREAM = """
import clbench

def mine(data, *, tasks, seed):
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)
    copies = [clbench.Task(clbench.Split(train, data.train_labels), clbench.Split(test, data.test_labels), str(i)) for i in range(tasks)]
    return clbench.Stream("mine", copies, data.classes, (1, 8, 8))
"""
OWN = """
from pathlib import Path
import numpy as np
import torch
import clbench

def own(*, tasks, seed):
    images = torch.from_numpy(np.load(Path(__file__).parent / "images.npy"))
    half = clbench.Split(images, torch.arange(len(images)) % 4)
    return clbench.Stream("own", [clbench.Task(half, half, str(i)) for i in range(tasks)], 4, (1, 8, 8))

def careless(data, *, tasks, seed):
    return own(tasks=tasks, seed=seed)

def half_and_half(data, *, tasks, seed):
    stream = own(tasks=tasks, seed=seed)
    data.train_labels
    return stream
"""
NETWORK = """
from torch import nn

def net(outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, outputs))
"""


@pytest.fixture(autouse=True)
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is the tiny one: 8 x 8 pixels, four classes."""
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Somebody's folder: a method with a helper, streams and a network."""
    folder = tmp_path / "project"
    folder.mkdir()
    files = {"method.py": METHOD, "factor.py": "SHIFT = 0\n", "stream.py": STREAM, "own.py": OWN, "network.py": NETWORK}
    for name, text in files.items():
        (folder / name).write_text(text)
    np.save(folder / "images.npy", np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in ("factor", "network"):
        sys.modules.pop(name, None)


def job(**settings: Any) -> Job:
    usual = {"method": "naive", "scenario": "gns", "network": "mlp-8", "tasks": 2, "updates": 3, "batch_size": 8}
    (only_job,) = resolve(request({**usual, **settings}))
    return only_job


def refusal(function: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    return message


MINE = {"method": "method.py:Mine", "stream": "stream.py:mine", "network": "network:net"}
TRUST = ("method.py", "stream.py", "own.py", "network")

EDITS = {
    "method.py": ("method.py", METHOD + "\n"),
    "factor": ("factor.py", "SHIFT = 1\n"),
    "stream.py": ("stream.py", STREAM + "\n"),
    "network": ("network.py", NETWORK.replace("8", "2")),
}


# Code


def test_an_edited_network_is_another_run(project: Path, tmp_path: Path) -> None:
    first = execute(job(network="network:net"), tmp_path)
    assert job(network="network:net").learn.hash == first.learn.hash
    (project / "network.py").write_text(NETWORK.replace("8", "2"))
    second = execute(job(network="network:net"), tmp_path)
    assert second.path != first.path
    sizes = [int(run.state("learned")["1.weight"].shape[0]) for run in (first, second)]
    assert sizes == [8, 2]


@pytest.mark.parametrize("changed", EDITS)
def test_an_edit_of_any_code_of_a_run_makes_another_one(changed: str, project: Path) -> None:
    before = job(**MINE).learn
    file, text = EDITS[changed]
    (project / file).write_text(text)
    after = job(**MINE).learn
    assert after.hash != before.hash
    assert {name for name in before.code if before.code[name] != after.code[name]} == {changed}


@pytest.mark.parametrize("changed", EDITS)
def test_nothing_is_asked_of_a_run_whose_code_changed(changed: str, project: Path, tmp_path: Path) -> None:
    run = execute(job(**MINE), tmp_path)
    before = {file: file.read_bytes() for file in run.path.glob("*.*")}
    file, text = EDITS[changed]
    original = (project / file).read_text()
    (project / file).write_text(text)
    expected = (
        f"The code of {changed} changed since the run {run.learn.hash} was made: restore it, or repeat the run, "
        "which makes a new one."
    )
    assert refusal(lambda: api.ask(run.path, results=tmp_path, images=5, trust=TRUST)) == expected
    assert refusal(lambda: execution.learner(run)) == expected
    assert refusal(lambda: build.build_stream(run.learn, None, CPU)) == expected
    assert {file: file.read_bytes() for file in run.path.glob("*.*")} == before
    (project / file).write_text(original)
    assert len(api.ask(run.path, results=tmp_path, images=5, trust=TRUST)) == 2


def test_code_that_is_edited_while_earlier_seeds_are_learned_is_not_taken_for_the_old(project: Path, tmp_path: Path) -> None:
    first, second = resolve(request({**MINE, "scenario": "gns", "tasks": 1, "updates": 2, "batch_size": 8, "seeds": (0, 1)}))
    execute(first, tmp_path)
    (project / "factor.py").write_text("SHIFT = 1\n")
    assert "factor changed" in refusal(lambda: execute(second, tmp_path))
    assert "factor changed" in refusal(lambda: estimate(second, None, CPU))
    assert not (tmp_path / "runs" / second.learn.hash).exists()


def test_runs_that_recorded_a_file_s_own_digest_only_can_still_be_asked(
    project: Path, tmp_path: Path, as_schema_1: Callable[[Run], None]
) -> None:
    """As they were made before imports and networks counted."""
    run = execute(job(**MINE), tmp_path)
    as_schema_1(run)
    record = copy.deepcopy(run.record)
    record["learn"] |= {"source": hashlib.sha256(METHOD.encode()).hexdigest()[:12]}
    for later in ("code", "network_source", "data_source"):
        del record["learn"][later]
    (run.path / "run.json").write_text(json.dumps(record))
    api.ask(run.path, results=tmp_path, images=5, trust=TRUST)
    (project / "method.py").write_text(METHOD + "\n")
    assert "method.py changed" in refusal(lambda: api.ask(run.path, results=tmp_path, images=6, trust=TRUST))


def test_a_method_or_data_set_of_another_version_answers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = execute(job(), tmp_path)
    version = Naive.version
    with monkeypatch.context() as patch:
        patch.setattr(Naive, "version", version + 1)
        assert refusal(lambda: api.ask(run.path, results=tmp_path, images=5, trust=TRUST)) == (
            f"The run {run.learn.hash} was made with version {version} of naive, and this clbench has version {version + 1}: "
            "use the clbench that made it, or repeat the run, which makes a new one."
        )
    monkeypatch.setattr(provenance, "data_version", lambda names: 77)
    assert "of the data set mnist-5k, and this clbench has version 77" in refusal(lambda: execution.learner(run))


# Trees of image files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten classes of two tiny pictures each, to train and to test on."""
    for half in ("train", "val"):
        for name in range(10):
            folder = tmp_path / "data" / "pictures" / half / f"c{name}"
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(np.full((8, 8, 3), 20 * name + number, dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "data"


def of_tree(root: Path) -> Learn:
    settings = {"stream": "split-tiny-imagenet", "data": "pictures", "scenario": "gg", "tasks": 1, "method": "naive"}
    return resolve(request(settings), str(root))[0].learn


def change_size(tree: Path) -> None:
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(tree / "pictures" / "val" / "c3" / "1.png")


def change_time(tree: Path) -> None:
    os.utime(tree / "pictures" / "train" / "c0" / "0.png", (1, 1))


def rename(tree: Path) -> None:
    (tree / "pictures" / "train" / "c0" / "0.png").rename(tree / "pictures" / "train" / "c0" / "9.png")


def move_between_classes(tree: Path) -> None:
    (tree / "pictures" / "train" / "c0" / "0.png").rename(tree / "pictures" / "train" / "c1" / "7.png")


def remove(tree: Path) -> None:
    (tree / "pictures" / "val" / "c9" / "1.png").unlink()


@pytest.mark.parametrize("change", [change_size, change_time, rename, move_between_classes, remove])
def test_a_changed_tree_is_another_run(change: Callable[[Path], None], tree: Path) -> None:
    before = of_tree(tree)
    assert before.data_source is not None
    assert of_tree(tree).hash == before.hash
    change(tree)
    assert of_tree(tree).hash != before.hash
    assert refusal(lambda: build.build_stream(before, str(tree), CPU)) == (
        f"The image files in {tree / 'pictures'} changed since the run {before.hash} was made: restore them, "
        "or repeat the run, which makes a new one."
    )


def test_a_folder_of_images_has_the_same_digest_in_every_place(tree: Path) -> None:
    before = of_tree(tree)
    moved = tree.with_name("elsewhere")
    tree.rename(moved)
    assert of_tree(moved) == before
    assert of_tree(tree).data_source is None, "a tree that is not there is missed when it is read, not when a run is named"


# Streams of somebody else's


def test_a_function_without_a_parameter_for_data_has_its_own(project: Path, tmp_path: Path) -> None:
    run = execute(job(stream="own.py:own"), tmp_path)
    assert run.learn.data == "own"
    assert "Known: own." in refusal(lambda: job(stream="own.py:own", data="mnist"))


def test_a_function_that_uses_nothing_of_the_data_set_that_would_be_recorded_is_refused(project: Path, tmp_path: Path) -> None:
    assert refusal(lambda: execute(job(stream="own.py:careless"), tmp_path)) == (
        "The stream own.py:careless uses no image of mnist-5k, the data set that its runs would name: remove the parameter for data "
        "from its function if it has its own images."
    )
    execute(job(stream="own.py:half_and_half"), tmp_path)
    execute(job(stream="stream.py:mine"), tmp_path)


@pytest.mark.parametrize("name", ["own", "half_and_half"])
def test_nothing_is_served_of_images_that_changed(name: str, project: Path, tmp_path: Path) -> None:
    wanted = job(stream=f"own.py:{name}")
    run = execute(wanted, tmp_path)
    images = np.load(project / "images.npy")
    images[-1, 0, 7, 7] += 1  # the last pixel of the last image
    np.save(project / "images.npy", images)
    message = f"The stream own.py:{name} gives other images or labels than those that the run {run.path} was made with"
    assert message in refusal(lambda: execute(wanted, tmp_path))
    assert message in refusal(lambda: api.ask(run.path, results=tmp_path, images=5, trust=TRUST))
    assert message in refusal(lambda: execution.learner(run))
    execute(wanted, tmp_path, overwrite="always")
    assert execute(wanted, tmp_path).complete


def test_contents_are_the_images_the_labels_and_what_views_make_of_them(make_stream: Callable[..., Stream]) -> None:
    digest = provenance.contents(make_stream(2))
    assert provenance.contents(make_stream(2)) == digest
    assert provenance.contents(make_stream(2).to(CPU)) == digest
    assert provenance.contents(make_stream(3)) != digest
    assert provenance.contents(make_stream(2, seed=1)) != digest  # other permutations of the same images
    stream = make_stream(2)
    stream[1].test.labels[-1] += 1
    assert provenance.contents(stream) != digest


@pytest.mark.parametrize("where", ["when it is called", "when a view is"])
def test_an_error_in_a_stream_s_function_is_one_sentence(where: str, project: Path, tmp_path: Path) -> None:
    text = STREAM.replace("train, test =", "data.nothing; train, test =")
    if where == "when a view is":
        text = "def view(x):\n    return x[99, 99, 99, 99]\n" + STREAM.replace("data.train_labels)", "data.train_labels, view)")
    (project / "stream.py").write_text(text)
    message = refusal(lambda: execute(job(stream="stream.py:mine"), tmp_path))
    line = next(n for n, each in enumerate(text.splitlines(), start=1) if "nothing" in each or "99" in each)
    kind = "AttributeError: 'Dataset' object has no attribute 'nothing'" if "nothing" in text else "IndexError"
    assert f"failed in line {line} of {project / 'stream.py'} ({kind}" in message
    assert message.endswith("correct it there.")


# Batches


class Order(Split):
    """A split with an order of its own."""

    made: Callable[[torch.Tensor], torch.Tensor]

    def order(self, updates: int, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        return type(self).made(torch.stack(list(super().order(updates, batch_size, generator))))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda rows: rows[:3], "The task t gave 3 batches, and the run needs 5"),
        (lambda rows: rows[:0], "The task t gave 0 batches, and the run needs 5"),
        (
            lambda rows: torch.cat([rows, rows]),
            "Batch 6 of the task t has 8 images and 8 labels, and the run needs 5 batches of 8",
        ),
        (lambda rows: rows[:, :7], "Batch 1 of the task t has 7 images and 7 labels, and the run needs 5 batches of 8"),
        (lambda rows: rows.flip(0), None),
    ],
)
def test_updates_that_are_recorded_were_made(
    made: Any, says: str | None, make_stream: Callable[..., Stream], make_brief: Callable[..., Any]
) -> None:
    split = make_stream(1)[0].train
    split_with_order = type("Own", (Order,), {"made": staticmethod(made)})(split.images, split.labels, split.view)
    task = Task(split_with_order, split, "t")

    def taught() -> None:
        teach(Naive(make_brief(GNS)), task, 0, Schedule(updates=5, batch_size=8))

    if says is None:
        taught()
    else:
        assert refusal(taught).startswith(says)


def test_the_name_of_a_stream_s_builder_is_checked_too(project: Path, make_data: Callable[..., Dataset]) -> None:
    """A ``StreamBuilder`` in a file is somebody else's code as a function is."""
    (project / "built.py").write_text(
        "import clbench\nfrom stream import mine\n"
        "built = clbench.StreamBuilder('b', lambda data, *, tasks, seed: 1 / 0, 's')\n"
        "good = clbench.StreamBuilder('g', mine, 's', data=('mnist-5k',))\n"
    )
    assert len(registry.stream("built.py:good").build(make_data(), tasks=2, seed=0)) == 2
    message = refusal(lambda: registry.stream("built.py:built").build(make_data(), tasks=1, seed=0))
    assert "failed in line 3" in message
    sys.modules.pop("stream", None)
