"""Other people's networks: what a trial shows before anything is learned, and the notes and errors that follow."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from clbench import devices
from clbench.data import Dataset
from clbench.engine import execution, request, store
from clbench.engine.probe import batch_use
from clbench.errors import Notice, UserError
from clbench.method import Brief
from clbench.methods._inference import decide
from clbench.networks import in_parts
from clbench.results.frames import frame
from clbench.scenarios import GNS

FULL = {"group": 20, "evidence": 20}


def layered(*middle: nn.Module) -> nn.Sequential:
    """Eight hidden units, with something in their midst."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *middle)


class ByHand(nn.Module):
    """Subtracts the batch's mean and divides by its deviation, which is NaN for one image."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        return centred / (centred.square().sum(0) / (len(x) - 1)).sqrt()


class Centred(nn.Module):
    """Subtracts the batch's mean: one image runs, and every one alone is alike."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Float32Only(nn.Linear):
    """As PyTorch's attention with dropout: a step in bfloat16 is a RuntimeError."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected scalar type Float but found BFloat16")
        return super().forward(x)


class HeadFirst(nn.Module):
    """The head is registered before the trunk, and a trunk layer has as many units as there are classes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head, self.a, self.b = nn.Linear(32, outputs), nn.Linear(64, 4), nn.Linear(4, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x.flatten(1)).relu()).relu())


class ConvolutionHead(nn.Module):
    """No linear layer at all: a 1 x 1 convolution and a mean give the outputs."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trunk, self.head = nn.Conv2d(1, 8, 5, 2), nn.Conv2d(8, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).relu()).mean((2, 3))


def batch_statistics(outputs: int) -> nn.Module:
    return layered(nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU(), nn.Linear(8, outputs))


def running_statistics(outputs: int) -> nn.Module:
    return layered(nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))


def noisy(outputs: int) -> nn.Module:
    return layered(nn.Dropout(0.5), nn.Linear(8, outputs))


def for_large_images(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(99, outputs))


@pytest.fixture(autouse=True)
def bring(make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks above as a module of somebody's; every data set is the tiny one; bfloat16 is the fastest here."""
    module = types.ModuleType("mine")
    vars(module).update(
        batch_statistics=batch_statistics,
        running_statistics=running_statistics,
        noisy=noisy,
        for_large_images=for_large_images,
        float32_only=lambda outputs: layered(nn.ReLU(), Float32Only(8, outputs)),
        HeadFirst=HeadFirst,
        ConvolutionHead=ConvolutionHead,
    )
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))
    monkeypatch.setattr(devices, "product_type", lambda device: torch.bfloat16)


def done(results: Path, method: str, network: str, **settings: Any) -> store.Run:
    usual = {"scenario": "gns", "tasks": 2, "updates": 5, "batch_size": 16}
    (job,) = request.resolve(request.request({"method": method, "network": network} | usual | settings))
    return execution.execute(job, results)


# Batch statistics


@pytest.mark.parametrize(
    ("middle", "mixed", "alone"),
    [
        ((), False, True),
        ((nn.BatchNorm1d(8),), False, True),
        ((nn.LayerNorm(8),), False, True),
        ((nn.Dropout(0.5),), False, True),
        ((nn.BatchNorm1d(8, track_running_stats=False),), True, False),
        ((ByHand(),), True, False),
        ((Centred(),), True, True),
        ((nn.Unflatten(1, (2, 2, 2)), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()), True, True),
    ],
)
def test_whether_a_network_mixes_a_batch_is_tried(
    middle: tuple[nn.Module, ...], mixed: bool, alone: bool, make_brief: Callable[..., Brief]
) -> None:
    state = torch.get_rng_state()
    brief = make_brief(GNS, lambda outputs: layered(*middle, nn.Linear(8, outputs)))
    assert batch_use(brief) == (mixed, alone)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("network", ["swish-16", "mine:batch_statistics", "mine:running_statistics", "mlp-16"])
def test_whatever_answers_with_a_batch_s_statistics_is_marked_transductive(network: str, tmp_path: Path) -> None:
    mixed = "batch" in network or "swish" in network
    runs = [done(tmp_path, "naive", network), done(tmp_path, "supsup", network, ask=FULL)]
    assert [run.record["transductive"] for run in runs] == [mixed, mixed]
    scores: pd.DataFrame = frame(runs)
    assert (scores["transductive"] == mixed).all()


@pytest.mark.parametrize(
    ("method", "settings", "instead"),
    [
        ("supsup", {}, "give --ask evidence and group of 2 or more"),
        ("supsup", {"scenario": "gnu", "ask": {"group": 1}}, "give --ask evidence and group of 2 or more"),
        ("supsup", {"scenario": "gnu", "ask": {"algorithm": "exhaustive"}}, "give --ask evidence and group of 2 or more"),
        ("batche", {}, "give --ask evidence and group of 2 or more"),
        ("ewc", {}, "use the method si"),
        ("online-ewc", {"scenario": "gg"}, "use the method si"),
        ("naive", {"ask": {"images": 1}}, "give --ask images of 2 or more"),
        ("supsup", {"scenario": "gg", "ask": {"images": 1}}, "give --ask images of 2 or more"),
    ],
)
def test_what_needs_one_image_by_itself_is_refused_before_anything_is_learned(
    method: str, settings: dict[str, Any], instead: str, tmp_path: Path
) -> None:
    for network in ("mine:batch_statistics", "swish-16"):
        with pytest.raises(UserError, match=instead):
            done(tmp_path, method, network, **settings)
    assert not list((tmp_path / "runs").glob("*/run.json"))


@pytest.mark.parametrize("method", ["supsup", "batche"])
def test_one_image_that_is_left_over_joins_the_group_before(method: str, tmp_path: Path) -> None:
    """60 images in groups of 59."""
    run = done(tmp_path, method, "swish-16", ask={"group": 59, "evidence": 2})
    assert run.complete


def test_groups_where_one_image_is_left_over() -> None:
    inputs = torch.arange(7.0)[:, None]

    def infer(groups: Tensor) -> Tensor:
        return groups[:, :, 0].sum(1).long()

    assert decide(infer, inputs, group=3, evidence=2, at_a_time=9).tolist() == [1, 1, 1, 7, 7, 7, 6]
    assert decide(infer, inputs, group=3, evidence=2, at_a_time=9, alone=False).tolist() == [1, 1, 1, 7, 7, 7, 7]
    assert decide(infer, inputs[:1], group=3, evidence=2, at_a_time=9, alone=False).tolist() == [0]


def test_no_part_of_the_test_inputs_is_one_input_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.networks.inputs.ELEMENTS_AT_A_TIME", 12)
    sizes = {n: [len(batch) for batch in in_parts(torch.zeros(n, 4))] for n in (1, 2, 3, 4, 5, 7, 8)}
    assert sizes == {1: [1], 2: [2], 3: [3], 4: [4], 5: [3, 2], 7: [3, 4], 8: [3, 3, 2]}
    parts = torch.cat(in_parts(torch.arange(28.0).view(7, 4)))
    assert torch.equal(parts, torch.arange(28.0).view(7, 4))


# Precision


def test_a_network_that_takes_no_bfloat16_is_trained_in_float32_and_the_record_says_so(tmp_path: Path) -> None:
    with pytest.warns(Notice, match=r"mine:float32_only cannot be trained in bfloat16 \(RuntimeError: expected .* float32\.$"):
        run = done(tmp_path, "naive", "mine:float32_only")
    assert run.learn.precision == "float32"
    assert run.path.name == run.learn.hash
    assert "trained in float32" in run.notes[0]
    (asked,) = request.resolve(
        request.request(
            {"method": "naive", "network": "mine:float32_only", "scenario": "gns", "tasks": 2, "precision": "float32"}
        ).model_copy(update={"updates": 5, "batch_size": 16})
    )
    assert asked.learn.hash == run.learn.hash
    assert done(tmp_path, "naive", "mine:noisy").learn.precision == "bfloat16"


def test_bfloat16_that_was_asked_for_and_cannot_be_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"naive cannot use the network mine:float32_only in bfloat16 .* use --precision float32"):
        done(tmp_path, "naive", "mine:float32_only", precision="bfloat16")
    assert not list((tmp_path / "runs").glob("*/run.json"))


# Whatever else


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_network_that_cannot_be_called_is_refused_in_one_sentence(precision: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        done(tmp_path, "naive", "mine:for_large_images", precision=precision)
    assert str(refusal.value).startswith(
        "naive cannot use the network mine:for_large_images on inputs of 1 x 8 x 8 in batches of 16 (RuntimeError: mat1"
    )
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "runs").glob("*/run.json"))


@pytest.mark.parametrize("network", ["mine:noisy", "mine:HeadFirst", "mine:ConvolutionHead"])
@pytest.mark.parametrize(("method", "scenario"), [("naive", "gnu"), ("naive", "gg"), ("supsup", "gnu"), ("packnet", "gg")])
def test_unusual_networks_run_and_give_the_same_twice(network: str, method: str, scenario: str, tmp_path: Path) -> None:
    accuracies = [frame([done(tmp_path / name, method, network, scenario=scenario)])["accuracy"].tolist() for name in "ab"]
    assert accuracies[0] == accuracies[1]
    assert len(accuracies[0]) == 3


def test_trying_a_network_changes_nothing_that_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws from the global generator, from which the trial draws too."""
    tried = frame([done(tmp_path / "tried", "naive", "mine:noisy")])["accuracy"].tolist()
    monkeypatch.setattr("clbench.networks.is_dotted", lambda name: False)
    monkeypatch.setattr("clbench.networks.resolve", lambda name, shape: noisy)
    assert frame([done(tmp_path / "not", "naive", "mine:noisy")])["accuracy"].tolist() == tried
