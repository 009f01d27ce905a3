"""The only place that imports torchvision: ``import_torchvision()`` returns the module, with or without its compiled operators.

torchvision 0.28 registers shape functions for its operators ``nms`` and ``qnms`` while it is imported. Its compiled library does not load
with a build of torch that it was not made for (a package index may pair the CUDA build of torchvision with a CPU build of torch). Then the
operators do not exist, and the import fails with "operator torchvision::nms does not exist". clbench needs torchvision's data sets and
models, never those operators, so it declares the two without an implementation and imports again.

Importing torchvision takes a second or two: call this inside the function that needs it, not at the top of a module.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

T = TypeVar("T")

_declared: list[Any] = []  # the torch.library.Library: its declarations live as long as it does


def import_torchvision() -> ModuleType:
    """torchvision, imported as usual if its operators load, else after ``nms`` and ``qnms`` are declared.

    Any other error of the import is raised unchanged. Calling it again returns the same module.
    """
    return with_torchvision(lambda: importlib.import_module("torchvision"))


def with_torchvision(load: Callable[[], T]) -> T:
    """The result of ``load``, which may import torchvision. It is called again, with the operators declared, if they do not load."""
    try:
        return load()
    except RuntimeError as error:
        if _declared or "operator torchvision::nms does not exist" not in str(error):
            raise
    _declare_operators()
    return load()


def _declare_operators() -> None:
    """Declare the two operators, without an implementation."""
    from torch.library import Library

    library = Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + SIGNATURE)
    _declared.append(library)
