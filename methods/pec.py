"""PEC, prediction-error classification (Zajac, Tuytelaars & van de Ven 2024): for each class a small student imitates a random teacher.

    score_k(x) = - |g_k(x) - h(x)|^2 / d

h is a wide random network that is never trained, and g_k a narrow one that is trained on the images of class k alone to give the same d
outputs (equations 1 and 2 of the paper). On images unlike those that it saw, a student errs more: the class of the student with the
smallest error wins. Classes share nothing that is trained, and nothing is ever forgotten.

Teacher and students have one hidden layer with layer normalisation and GELU, with PyTorch's initialisation; all students start from the
same values. Each student has an Adam of its own, which takes a step for every batch that shows its class. The run's network is not used.

Deviations: the paper's tasks have one class; in tasks of several the learning rate falls over the task's updates, not the class's. The
paper makes one pass with batches of one image (``--batch-size 1``).

Stored to predict: the students, and the seed of the teacher. Needed to resume: nothing else.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.checks import positive
from clbench.method import Brief, Recipe
from clbench.training import LearningRateSchedule, Tensors, adam

from ._per_class import ModelPerClass, drawn, parameters_of
from ._van_de_ven import SPLIT


def imitator(pixels: int, width: int, outputs: int) -> nn.Module:
    """A network with one hidden layer, for a student or the teacher."""
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, outputs))


class PEC(ModelPerClass):
    """Prediction-error classification, a student of a random teacher for each class."""

    name = "pec"
    citation = "Zajac, Tuytelaars, van de Ven: Prediction error-based classification for class-incremental learning. ICLR 2024"
    price = 0.1  # each class learns from its own images alone
    recipes = (
        Recipe(
            "split-mnist-raw",
            "*",
            {"width": 10, "teacher_width": 5000, "outputs": 99, "learning_rate": 0.01, "schedule": "linear"},
            source="the authors' code (their table's number could not be seen)",
            scenario="GNu",
            name="one-pass-split",
            run={**SPLIT, "updates": 12_000, "batch_size": 1},
        ),
        Recipe("check", "*", {"teacher_width": 300}, source="for so short a stream"),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        width: int = 10,
        teacher_width: int = 5000,
        outputs: int = 99,
        learning_rate: float = 0.01,
        schedule: LearningRateSchedule = "linear",
    ) -> None:
        """``width``: a student's hidden units; ``teacher_width``: the teacher's; ``outputs``: d; Adam's ``learning_rate``, and how it falls
        within a task."""
        positive(width=width, teacher_width=teacher_width, outputs=outputs)
        pixels = math.prod(brief.input_shape)
        self.teacher_of = partial(drawn, partial(imitator, pixels, teacher_width, outputs))
        self.student_of = partial(drawn, partial(imitator, pixels, width, outputs))
        super().__init__(brief, self.student_of(brief.seed, "student"), optimiser=adam(learning_rate), schedule=schedule)
        self._seed(brief.seed)

    def _seed(self, seed: int) -> None:
        """Draw the teacher and the initial student."""
        self.seed = seed
        self.teacher = self.teacher_of(seed, "teacher").requires_grad_(False).to(self.brief.device)
        self.initial = parameters_of(self.student_of(seed, "student"), self.brief.device)

    def fresh(self, number: int) -> Tensors:
        return self.initial

    def given(self, inputs: Tensor) -> dict[str, Any]:
        return {"targets": self.teacher(inputs)}

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        return (functional_call(self.twin, trained, (inputs,)) - given["targets"]).square().mean(), {}

    def scores(self, inputs: Tensor, models: list[Tensors], first: int, **asking: Any) -> Tensor:
        targets = self.teacher(inputs)
        errors = [(functional_call(self.network, model, (inputs,)) - targets).square().mean(1) for model in models]
        return -torch.stack(errors, 1)

    def learned(self) -> Tensors:
        return super().learned() | {"seed": torch.tensor(self.seed)}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        self._seed(int(learned["seed"]))
