"""iCaRL, incremental classifier and representation learning (Rebuffi et al. 2017): exemplars, distillation, and the nearest class mean.

    loss = sum over outputs of the binary cross-entropy with sigmoids; targets: for the task's classes the labels, for the classes of
           earlier tasks the probabilities that the network gave before the task
    class of x = argmin_k |phi(x) - m_k|,   m_k the mean of the features of the exemplars of class k

(algorithms 1 to 5 of the paper). phi are the inputs of the last layer, divided by their length, and so is m_k. Exemplars of a class are
chosen by herding: one after another, the image that brings the mean of the features of those chosen nearest to the mean of the class. At
most ``memory`` images are kept, the same number of each class: when a task ends, earlier classes give up the last of theirs.

Each update is on a batch of the task and a batch drawn from the exemplars. Method and paper are about classes of all tasks without the
task (GNu).

Deviations: the paper draws its batches from the task's images and the exemplars together; here the two have batches of their own. The run
decides the number of passes, and the optimiser's rate stays the same. Its state passes from task to task, unless ``restart`` is on.

Stored to predict: the network, and the mean of each class. Needed to resume: the exemplars (float32 images), and the optimiser's averages
if ``restart`` is off. The old network is the present one when a task begins.
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, one_hot

from clbench.checks import positive
from clbench.errors import UserError
from clbench.method import Brief, Prediction, Recipe
from clbench.networks import in_parts
from clbench.scenarios import GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._van_de_ven import PERMUTED, SOURCE, SPLIT
from ._weights import WeightMethod

ADAM = {"optimiser": "adam", "memory": 2000}


def herded(features: Tensor, number: int) -> Tensor:
    """The rows of the first ``number`` exemplars by herding: features [n, d]; int64 [number] (all, if there are fewer)."""
    mean, chosen, total = features.mean(0), list[int](), torch.zeros_like(features[0])
    left = torch.ones(len(features), dtype=torch.bool, device=features.device)
    for count in range(1, min(number, len(features)) + 1):
        distances = (mean - (total + features) / count).square().sum(1)
        row = int(distances.masked_fill(~left, float("inf")).argmin())
        chosen.append(row)
        left[row] = False
        total = total + features[row]
    return torch.tensor(chosen, device=features.device)


class ICaRL(WeightMethod):
    """iCaRL: herded exemplars, distillation, and the nearest mean of exemplars."""

    name = "icarl"
    scenarios = frozenset({GNU})
    citation = "Rebuffi, Kolesnikov, Sperl, Lampert: iCaRL: incremental classifier and representation learning. CVPR 2017"
    recipes = (
        Recipe("split-mnist-raw", "*", ADAM | {"learning_rate": 1e-3}, {}, SOURCE, "GNu", "van-de-ven-split", SPLIT),
        Recipe("permuted-mnist-32", "*", ADAM | {"learning_rate": 1e-4}, {}, SOURCE, "GNu", "van-de-ven-permuted", PERMUTED),
        for_check({"restart": True, "memory": 300}),
    )
    trains_at_end = True  # exemplars and their means
    price = 0.1  # the nearest mean

    def __init__(
        self,
        brief: Brief,
        *,
        memory: int = 2000,
        replay_batch: int = 128,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``memory``: images kept, of all classes together; ``replay_batch``: exemplars in each update; ``optimiser`` with its defaults but
        for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        positive(memory=memory, replay_batch=replay_batch)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.memory = memory
        self.replay_batch = replay_batch
        self.exemplars: list[Tensor] = []  # the images of each class, in the order of herding
        self.means = torch.empty(0, device=brief.device)  # [classes so far, features]
        self.old: Tensors = {}
        self.targets: Tensor | None = None
        self.trunk = copy.deepcopy(self.network)
        self.trunk.set_submodule(self.head[0].rpartition(".")[0], nn.Identity())

    def check_tasks(self, tasks: int) -> None:
        if self.memory < self.brief.classes * tasks:
            raise UserError(
                f"memory must be at least {self.brief.classes * tasks}, an exemplar for each class of {tasks} tasks, not {self.memory}."
            )

    def features(self, inputs: Tensor) -> Tensor:
        """phi(x) [n, features], in evaluation mode."""
        present = {name: tensor for name, tensor in (self.trained | self.buffers).items() if name not in self.head}
        parts = in_parts(inputs.to(self.brief.device))
        with torch.no_grad():
            return torch.cat([normalize(functional_call(self.trunk, present, (part,)).flatten(1)) for part in parts])

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        if task > 0:
            self.old = {name: tensor.clone() for name, tensor in (self.trained | self.buffers).items()}

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        if self.exemplars:
            draws = generator(self.brief.seed, "replay", self.task, self.rate.done)
            sizes = torch.tensor([len(images) for images in self.exemplars])
            numbers = torch.randint(int(sizes.sum()), (self.replay_batch,), generator=draws)
            classes = torch.arange(len(sizes)).repeat_interleave(sizes)[numbers].to(labels.device)
            images = torch.cat(self.exemplars)[numbers.to(inputs.device)]
            inputs, labels = torch.cat([inputs, images]), torch.cat([labels, classes])
            with torch.no_grad():
                self.targets = functional_call(self.network, self.old, (inputs,)).sigmoid()
        return super().update(inputs, labels)

    def given(self) -> dict[str, Any]:
        if self.targets is None:
            return {"seen": self.competing()}
        outputs = torch.arange(self.targets.shape[1], device=self.targets.device)
        return {"targets": self.targets, "old": outputs < self.first_output, "seen": self.competing()}

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        """The sum over the outputs of the tasks so far, the mean over the batch."""
        targets = one_hot(labels, logits.shape[1]).float()
        if "targets" in given:
            targets = torch.where(given["old"], given["targets"], targets)
        losses = binary_cross_entropy_with_logits(logits.masked_fill(~given["seen"], 0.0), targets, reduction="none")
        return losses.masked_fill(~given["seen"], 0.0).sum(1).mean()

    def end_task(self, data: Split) -> None:
        """Choose the exemplars of the task's classes, drop the last ones of the others, and compute all means."""
        inputs, labels = data.whole()
        each = self.memory // (self.brief.classes * self.tasks_seen)
        self.exemplars = [images[:each].clone() for images in self.exemplars]
        for label in range(self.brief.classes):
            images = inputs[labels == label]
            self.exemplars.append(images[herded(self.features(images), each)] if len(images) else images)
        present = [
            self.features(images).mean(0) if len(images) else torch.full_like(self.means[0], 1e6) for images in self.exemplars
        ]
        self.means = normalize(torch.stack(present))
        self.old, self.targets = {}, None

    # Answering

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        best = torch.cdist(self.features(inputs), self.means).argmin(1)
        return Prediction(best % self.brief.classes, best // self.brief.classes)

    # State

    def learned(self) -> Tensors:
        """The network, and the means of the classes' features."""
        return super().learned() | {"means": self.means.clone()}

    def progress(self) -> Tensors:
        """The exemplars, and the optimiser's state."""
        sizes = torch.tensor([len(images) for images in self.exemplars])
        images = {"exemplars": torch.cat(self.exemplars)} if self.exemplars else {}
        return super().progress() | images | {"exemplars of each class": sizes}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore({name: tensor for name, tensor in learned.items() if name != "means"}, progress)
        self.means = learned["means"].to(self.brief.device, copy=True)
        if progress is not None and "exemplars" in progress:
            images = progress["exemplars"].to(self.brief.device, copy=True)
            self.exemplars = [part.clone() for part in images.split(progress["exemplars of each class"].tolist())]
