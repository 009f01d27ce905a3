"""Which device a run computes on."""

from types import SimpleNamespace

import pytest
import torch

from clbench import devices
from clbench.engine.settings import Execution
from clbench.errors import UserError


def has(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    """Let this machine have only these accelerators, of those that clbench knows and one more."""
    monkeypatch.setattr(devices, "ACCELERATORS", ("cuda", "xpu"))
    monkeypatch.setattr(
        torch,
        "get_device_module",
        lambda kind: SimpleNamespace(
            is_available=lambda: kind in present, get_device_name=lambda index: f"{kind} {index}", device_count=lambda: 2
        ),
    )


def test_auto_is_the_first_accelerator_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, "xpu", "cuda")
    assert (devices.chosen("auto"), devices.description()) == (torch.device("cuda"), "cuda 0")
    has(monkeypatch, "xpu")
    assert (devices.chosen("auto"), devices.description()) == (torch.device("xpu"), "xpu 0")
    assert devices.product_type(devices.chosen("xpu:1")) == torch.bfloat16


def test_without_an_accelerator_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch)
    assert devices.chosen("auto") == devices.chosen("cpu") == torch.device("cpu")
    assert devices.description() == "none: everything runs on the CPU"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quantum", "Unknown device 'quantum': give auto, cpu or cuda."),
        ("meta", "clbench cannot use the device 'meta': give auto, cpu or cuda."),
        ("cuda:1", "This machine has no GPU for --device cuda:1: use --device cpu."),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    has(monkeypatch)
    with pytest.raises(UserError, match=message):
        devices.chosen(name)


def test_a_number_beyond_the_last_accelerator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, "cuda")
    assert devices.chosen("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="This machine has no device cuda:2: the numbers of its GPUs are below 2"):
        devices.chosen("cuda:2")


def test_the_help_names_the_devices() -> None:
    assert Execution.model_fields["device"].description == "auto, cpu or cuda."
