"""The one door to Avalanche: whatever clbench uses of it is imported here, quietly, and from here everywhere else.

Importing this module takes seconds, and raises a ``UserError`` where Avalanche is not installed.
"""

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench._torchvision import import_torchvision
from clbench.errors import UserError
from clbench.seeding import derive

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about packages that it can do without
        import_torchvision()
        from avalanche.benchmarks import DatasetExperience, classic
        from avalanche.benchmarks.utils import (
            AvalancheDataset,
            ConstantSequence,
            DataAttribute,
            TaskAwareSupervisedClassificationDataset,
        )
        from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
        from avalanche.logging import InteractiveLogger
        from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule, avalanche_forward
        from avalanche.models.base_model import BaseModel
        from avalanche.models.dynamic_modules import avalanche_model_adaptation
        from avalanche.training import supervised
        from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
        from avalanche.training.templates import SupervisedMetaLearningTemplate, SupervisedTemplate
except ModuleNotFoundError as error:
    if error.name != "avalanche":
        raise
    raise UserError("Avalanche is not installed: install it with `pip install avalanche-lib quadprog`.") from None

__all__ = [
    "AvalancheDataset",
    "BaseModel",
    "ConstantSequence",
    "DataAttribute",
    "DatasetExperience",
    "EvaluationPlugin",
    "IncrementalClassifier",
    "InteractiveLogger",
    "MultiHeadClassifier",
    "MultiTaskModule",
    "SupervisedMetaLearningTemplate",
    "SupervisedPlugin",
    "SupervisedTemplate",
    "TaskAwareSupervisedClassificationDataset",
    "accuracy_metrics",
    "avalanche_forward",
    "avalanche_model_adaptation",
    "classic",
    "gathered",
    "loss_metrics",
    "supervised",
    "undisturbed",
]


@contextmanager
def undisturbed(seed: int, *purpose: object) -> Iterator[None]:
    """Let Avalanche draw from the global generators of PyTorch, NumPy and Python: seeded for ``purpose``, and afterwards as they were.

    What it prints and its warnings are kept back.
    """
    ours = derive(seed, *purpose)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    # Warnings are recorded to no end, because ignoring them does not keep back those that Avalanche insists on.
    with torch.random.fork_rng(), redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True):
        torch.manual_seed(ours)
        random.seed(ours)
        np.random.seed(ours % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def gathered(dataset: Any) -> tuple[Tensor, Tensor]:
    """All inputs and labels of a data set of Avalanche's, float32 and int64, through its evaluation transform."""
    to_tensor = import_torchvision().transforms.functional.to_tensor
    rows = [row[:2] for row in dataset.eval()]
    inputs = [image if isinstance(image, Tensor) else to_tensor(image) for image, _ in rows]
    if len({image.shape for image in inputs}) != 1:
        raise UserError("The inputs of a data set of Avalanche's differ in shape, or there are none: clbench needs them all alike.")
    return torch.stack(inputs).float(), torch.tensor([int(label) for _, label in rows])
