"""A bound: joint training. All data are kept, and after each task the network is trained on those of all tasks so far.

Batches are drawn uniformly from all images kept. In GG and GNu the last layer has outputs for every class of every task; in GG only those
of an image's own task compete, in GNu all do. In GNs all tasks share one head. The weights are trained on from one task to the next, with
a fresh optimiser; nothing is learned before a task ends, as its data come then (without augmentation).

Stores, to predict: the network. To go on: the inputs and labels of all tasks.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clbench.checks import positive
from clbench.method import Brief, Prediction
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._per_task import Rows
from ._weights import WeightMethod


class Joint(WeightMethod):
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
        """``updates`` after each task (None: as many as the task brings batches, times the tasks so far); ``optimiser`` with its defaults
        but for the ``learning_rate``."""
        positive(updates=updates)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate))
        self.updates = updates
        # With all tasks in a batch, a head for each is one layer of which each image sees its own task's outputs.
        self.masked = self.head_per_task
        self.head_per_task, self.tasks_compete = False, self.head_per_task or self.tasks_compete
        self.data = Rows()

    def objective(self, logits: Tensor, labels: Tensor, given: dict) -> Tensor:
        if self.masked:
            task_of_output = torch.arange(logits.shape[1], device=logits.device) // self.brief.classes
            own = task_of_output == (labels // self.brief.classes)[:, None]
            logits = logits.masked_fill(~own, float("-inf"))
        return cross_entropy(logits, labels)

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.updates_here = self.updates or updates * (task + 1)

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        """Nothing is learned before the task's data are complete; a batch only says how large batches are."""
        self.batch_size = len(labels)

    def end_task(self, data: Split) -> None:
        inputs, labels = data.whole()
        self.data.append({"inputs": inputs, "labels": labels + self.first_output})
        sizes = torch.tensor([len(kept["labels"]) for kept in self.data])
        last = sizes.cumsum(0)
        draws = generator(self.brief.seed, "joint", self.task)
        for chosen in torch.randint(int(last[-1]), (self.updates_here, self.batch_size), generator=draws):
            tasks = torch.bucketize(chosen, last, right=True)
            rows = chosen - (last - sizes)[tasks]
            parts = [(self.data[task], rows[tasks == task].to(labels.device)) for task in tasks.unique().tolist()]
            self.update(*(torch.cat([kept[what][some] for kept, some in parts]) for what in ("inputs", "labels")))

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        if task is None or not self.masked:
            return super().predict(inputs)
        first = self.brief.classes * task
        with torch.no_grad():
            return Prediction(self.logits(inputs)[:, first : first + self.brief.classes].argmax(1))

    def progress(self) -> Tensors:
        return {f"{what}.{task}": tensor for task, kept in enumerate(self.data) for what, tensor in kept.items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned)
        kept = {} if progress is None else {name: tensor.to(self.brief.device) for name, tensor in progress.items()}
        self.data = Rows({what: kept[f"{what}.{task}"] for what in ("inputs", "labels")} for task in range(len(kept) // 2))
