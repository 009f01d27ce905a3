"""The one door to Avalanche: whatever clbench uses of it is imported here, quietly, and from here everywhere else.

Importing this module takes seconds, and raises a ``UserError`` where Avalanche is not installed.
"""

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np
import torch

from clbench._torchvision import import_torchvision
from clbench.errors import UserError
from clbench.seeding import derive

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about packages that it can do without
        import_torchvision()
        from avalanche.benchmarks import DatasetExperience, classic
        from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TaskAwareSupervisedClassificationDataset
        from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
        from avalanche.logging import InteractiveLogger
        from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule, avalanche_forward
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
    with torch.random.fork_rng(), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(ours)
        random.seed(ours)
        np.random.seed(ours % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
