"""The only place that imports Avalanche, without its warnings; all other modules import from here.

Importing this module takes seconds, and raises a ``UserError`` if Avalanche is not installed.
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
        warnings.simplefilter("ignore")  # about packages that it does not need
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
    """Seed the global generators of PyTorch, NumPy and Python for ``purpose`` while Avalanche runs, and restore them afterwards.

    Its output and its warnings are suppressed.
    """
    our_seed = derive(seed, *purpose)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    # Warnings are recorded and dropped, because a filter that ignores them does not suppress those that Avalanche forces.
    with torch.random.fork_rng(), redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True):
        torch.manual_seed(our_seed)
        random.seed(our_seed)
        np.random.seed(our_seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def gathered(dataset: Any) -> tuple[Tensor, Tensor]:
    """All inputs (float32, after the evaluation transform) and labels (int64) of one of Avalanche's data sets."""
    to_tensor = import_torchvision().transforms.functional.to_tensor
    rows = [row[:2] for row in dataset.eval()]
    inputs = [image if isinstance(image, Tensor) else to_tensor(image) for image, _ in rows]
    if len({image.shape for image in inputs}) != 1:
        raise UserError(
            "The inputs of an Avalanche data set differ in shape, or there are none: clbench needs inputs of one shape."
        )
    return torch.stack(inputs).float(), torch.tensor([int(label) for _, label in rows])
