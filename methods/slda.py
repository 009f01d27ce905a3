"""SLDA, deep streaming linear discriminant analysis (Hayes & Kanan 2020): a Gaussian per class over fixed features, with one covariance.

    score_k(x) = m_k' L f(x) - m_k' L m_k / 2,    L = ((1 - e) S + e I)^-1

f are features that are never trained, m_k is the mean of class k, S the covariance within classes that all classes share, and e the
``shrinkage`` (equations 1 to 4 of the paper). Means and S are summed up image by image: the order of images and tasks does not matter, and
nothing is ever forgotten. Classes of different tasks are different classes, in GNs too; only in NNs, where no task is known, a label is one
class.

Features: ``random``, relu(R x) with a fixed Gaussian R (the paper has a pretrained network, which clbench does not), or ``pixels``, the
inputs themselves, as in the SLDA of van de Ven, Li & Tolias 2021.

Deviations: S is the exact scatter about the final means, while the paper adds each image's deviation from the mean so far; it therefore
needs no base initialisation.

Stored to predict: the linear classifier (d + 1 floats a class) and the seed of the features. Needed to resume: the number and mean of each
class, and one triangle of the scatter (d (d + 1) / 2 numbers in float64, whatever the number of classes).
"""

import math
from typing import Literal

import torch
from torch import Tensor

from clbench.checks import positive
from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction, Recipe
from clbench.networks import in_parts
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.seeding import generator

from ._per_class import answers
from ._statistics import NEVER, ClassStatistics
from ._van_de_ven import SPLIT


class SLDA(Method):
    """Streaming linear discriminant analysis on fixed features."""

    name = "slda"
    scenarios = frozenset({GG, GNS, GNU, NNS})
    learning_depends_on = frozenset({"task_given_in_training"})
    citation = "Hayes, Kanan: Lifelong machine learning with deep streaming linear discriminant analysis. CVPR Workshops 2020"
    price = 0.1  # a linear classifier of fixed features
    recipes = (
        Recipe(
            "split-mnist-raw",
            "*",
            {"features": "pixels", "shrinkage": 1e-4},
            source="van de Ven, Li & Tolias 2021 (CVPR Workshops), Table 2, and the authors' code",
            scenario="GNu",
            name="van-de-ven-split",
            run={**SPLIT, "updates": 94},  # one pass
        ),
    )

    def __init__(
        self, brief: Brief, *, features: Literal["random", "pixels"] = "random", width: int = 1000, shrinkage: float = 1e-4
    ) -> None:
        """``features``: relu of ``width`` random projections, or the inputs; ``shrinkage``: e, from 0 to 1."""
        super().__init__(brief)
        positive(width=width)
        if not 0 < shrinkage <= 1:
            raise UserError(f"shrinkage must be above 0 and at most 1, not {shrinkage}.")
        self.shrinkage = shrinkage
        self.pixels = math.prod(brief.input_shape)
        self.width = width if features == "random" else 0
        self.seed = brief.seed
        self.first = 0
        self.projection = self._projection()
        self.statistics = ClassStatistics(self.width or self.pixels, brief.device)
        self.classifier: dict[str, Tensor] = {}  # of the statistics as they are now, or empty

    def _projection(self) -> Tensor | None:
        if not self.width:
            return None
        draws = generator(self.seed, "features")
        return (torch.randn(self.pixels, self.width, generator=draws) * math.sqrt(2 / self.pixels)).to(self.brief.device)

    def features(self, inputs: Tensor) -> Tensor:
        """f(x) for inputs [n, *input_shape]."""
        flat = inputs.flatten(1)
        return flat if self.projection is None else (flat @ self.projection).relu()

    def begin_task(self, task: int, updates: int) -> None:
        self.first = self.brief.classes * task

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        self.statistics.add(self.features(inputs), labels + self.first)
        self.classifier = {}

    def discriminant(self) -> dict[str, Tensor]:
        """The classifier: weights [classes so far, d] and biases [classes so far]. A class without images never wins."""
        if not self.classifier:
            means = self.statistics.means.double()
            covariance = self.statistics.scatter / self.statistics.counts.sum()
            shrunk = (1 - self.shrinkage) * covariance + self.shrinkage * torch.eye(len(covariance), device=covariance.device)
            weights = torch.linalg.solve(shrunk, means.T).T
            biases = torch.where(self.statistics.counts > 0, -(weights * means).sum(1) / 2, NEVER)
            self.classifier = {"weights": weights.float(), "biases": biases.float()}
        return self.classifier

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        linear = self.discriminant()
        parts = in_parts(inputs.to(self.brief.device))
        scores = torch.cat([self.features(part) @ linear["weights"].T + linear["biases"] for part in parts])
        prediction = answers(scores, self.brief.classes, task)
        return prediction if self.brief.scenario.task_given_in_training else Prediction(prediction.labels)

    def learned(self) -> dict[str, Tensor]:
        """The classifier and the seed of the features."""
        return {name: tensor.clone() for name, tensor in self.discriminant().items()} | {"seed": torch.tensor(self.seed)}

    def progress(self) -> dict[str, Tensor]:
        """The statistics."""
        return self.statistics.state()

    def task_progress(self) -> dict[str, Tensor] | None:
        """The statistics."""
        return self.statistics.state()

    def restore_task(self, progress: dict[str, Tensor]) -> None:
        self.statistics.restore(progress)
        self.classifier = {}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        self.seed = int(learned["seed"])
        self.projection = self._projection()
        self.classifier = {name: learned[name].to(self.brief.device, copy=True) for name in ("weights", "biases")}
        if progress is not None:
            self.statistics.restore(progress)
