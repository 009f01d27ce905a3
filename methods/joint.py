"""A bound: joint training. All data are kept, and after each task the network is trained on the data of all tasks so far.

Batches are drawn uniformly from all stored images. In GG and GNu the last layer has outputs for every class of every task. In GG only
the outputs of an image's own task compete, in GNu all do. In GNs all tasks share one head. Training continues from the weights of the
last task, with a re-initialised optimiser. Nothing is learned before a task ends, because its data come then (without augmentation).

Stored to predict: the network. Needed to resume: the inputs and labels of all tasks.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clbench.checks import positive
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._one_layer import OneLayerMethod
from ._per_task import FrozenRows


class Joint(OneLayerMethod):
    """Joint training on the data of all tasks so far."""

    name = "joint"
    scenarios = frozenset({GG, GNS, GNU})
    recipes = (for_check(),)
    trains_at_end = True

    def __init__(
        self,
        brief: Brief,
        *,
        updates: int | None = None,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
    ) -> None:
        """``updates`` after each task (None: the task's number of batches, times the tasks so far); ``optimiser`` with its defaults
        but for the ``learning_rate``."""
        positive(updates=updates)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate))
        self.updates = updates
        self.data = FrozenRows()
        self.batch_size = 0

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        return cross_entropy(self.only_own_task(logits, labels), labels)

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.updates_here = self.updates or updates * (task + 1)

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        """Record the size of a batch. Nothing is learned before the task's data are complete."""
        self.batch_size = len(labels)

    def end_task(self, data: Split) -> None:
        inputs, labels = data.whole()
        self.data.append({"inputs": inputs, "labels": labels + self.first_output})
        sizes = torch.tensor([len(images["labels"]) for images in self.data])
        ends = sizes.cumsum(0)
        draws = generator(self.brief.seed, "joint", self.task)
        for numbers in torch.randint(int(ends[-1]), (self.updates_here, self.batch_size), generator=draws):
            tasks = torch.bucketize(numbers, ends, right=True)
            rows = numbers - (ends - sizes)[tasks]
            drawn = [(self.data[task], rows[tasks == task].to(labels.device)) for task in tasks.unique().tolist()]
            self.update(*(torch.cat([images[what][chosen] for images, chosen in drawn]) for what in ("inputs", "labels")))

    def task_progress(self) -> Tensors | None:
        """Also the size of a batch, which is known from the first one."""
        return (super().task_progress() or {}) | {"batch_size": torch.tensor(self.batch_size)}

    def restore_task(self, progress: Tensors) -> None:
        super().restore_task(progress)
        self.batch_size = int(progress["batch_size"])

    def progress(self) -> Tensors:
        return {f"{what}.{task}": tensor for task, images in enumerate(self.data) for what, tensor in images.items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned)
        stored = {} if progress is None else {name: tensor.to(self.brief.device) for name, tensor in progress.items()}
        self.data = FrozenRows(
            {what: stored[f"{what}.{task}"] for what in ("inputs", "labels")} for task in range(len(stored) // 2)
        )
