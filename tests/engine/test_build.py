"""Building the stream and the method of a learn half."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clbench import registry
from clbench.data import Dataset
from clbench.engine.build import build_method, build_stream
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.errors import UserError
from clbench.scenarios import GNU
from clbench.stream import Stream, StreamBuilder

CPU = torch.device("cpu")


def job(**settings: Any) -> Job:
    (only_job,) = resolve(request(settings))
    return only_job


@pytest.fixture
def tiny(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))


def test_a_method_is_briefed_on_its_stream(tiny: None) -> None:
    learn = job(stream="split-mnist", tasks=2, network="mlp-8", seeds=(3,), precision="bfloat16", batch_size=16).learn
    stream = build_stream(learn, None, CPU)
    method = build_method(learn, GNU, stream, CPU)
    brief = method.brief
    assert (brief.scenario, brief.classes, brief.input_shape, brief.seed) == (GNU, 2, (1, 8, 8), 3)
    assert brief.precision == torch.bfloat16
    first, second = brief.network(7), brief.network(7)
    assert first(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        ("split-mnist", "the classes come in their own order (use split-mnist-shuffled for an order drawn from the seed)"),
        ("rotated-mnist", "the rotations come in the order of their angles"),
        ("split-mnist-shuffled", None),
        ("permuted-mnist", None),
    ],
)
def test_a_note_says_that_a_stream_seed_changes_nothing(tiny: None, stream: str, why: str | None) -> None:
    seeded = [job(stream=stream, tasks=2, batch_size=16, stream_seed=seed).learn for seed in (0, 1)]
    first, other = (build_stream(learn, None, CPU) for learn in seeded)
    assert first.notes == ()  # nobody named a seed
    assert other.notes == ((f"The stream seed changes nothing in {stream}: {why}.",) if why else ())
    same = all(
        torch.equal(a.train.whole()[half], b.train.whole()[half]) for a, b in zip(first, other, strict=True) for half in (0, 1)
    )
    assert same == bool(why)


def test_what_cannot_be_built(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = job(tasks=2).learn
    stream = build_stream(learn, None, CPU)
    with pytest.raises(UserError, match="outputs=3 is below the 4 classes of a task"):
        build_method(job(network="mlp-8", set={"outputs": 3}).learn, GNU, stream, CPU)
    with pytest.raises(UserError, match="interval must be above 0 and finite, not 0"):
        build_method(job(network="mlp-8", set={"interval": 0}).learn, GNU, stream, CPU)

    def short(name: str) -> StreamBuilder:
        return StreamBuilder("short", lambda data, *, tasks, seed: Stream("short", stream.tasks[:1], 4, (1, 8, 8)), "")

    monkeypatch.setattr(registry, "stream", short)
    with pytest.raises(UserError, match="The stream permuted-mnist has 1 tasks, and the run needs 2"):
        build_stream(learn, None, CPU)
