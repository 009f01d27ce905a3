import importlib
import sys
from types import ModuleType

import pytest
import torch

from clbench import _torchvision


def test_nothing_is_declared_where_the_operators_load(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: pytest.fail("declared"))
    assert _torchvision.import_torchvision() is module


def test_operators_are_declared_once_where_they_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    declared: list[str] = []
    module = ModuleType("torchvision")

    def import_module(name: str) -> ModuleType:
        if not declared:
            raise RuntimeError("operator torchvision::nms does not exist")
        return module

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(_torchvision, "_declared", [])
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: declared.append("nms and qnms"))
    assert _torchvision.import_torchvision() is module
    assert _torchvision.import_torchvision() is module
    assert declared == ["nms and qnms"]


def test_a_module_that_imports_torchvision_is_loaded_again_once_its_operators_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    declared: list[str] = []

    def load() -> str:
        if not declared:
            raise RuntimeError("operator torchvision::nms does not exist")
        return "loaded"

    monkeypatch.setattr(_torchvision, "_declared", [])
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: declared.append("nms and qnms"))
    assert _torchvision.with_torchvision(load) == "loaded"


@pytest.mark.parametrize("error", [RuntimeError("something else"), ImportError("no module named torchvision")])
def test_other_failures_are_raised_as_they_are(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def import_module(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(_torchvision, "_declare_operators", lambda: pytest.fail("declared"))
    with pytest.raises(type(error), match=str(error)):
        _torchvision.import_torchvision()


def test_the_real_torchvision_is_imported_and_its_operators_exist() -> None:
    module = _torchvision.import_torchvision()
    assert module is _torchvision.import_torchvision() is sys.modules["torchvision"]
    assert module.datasets.MNIST.resources
    assert torch.ops.torchvision.nms
    assert torch.ops.torchvision.qnms
