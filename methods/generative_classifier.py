"""A generative classifier (van de Ven, Li & Tolias 2021): a small variational autoencoder for each class, and Bayes' rule.

    class of x = argmax_k log p_k(x)
    log p_k(x) = log 1/S sum_s p_k(x | z_s) p(z_s) / q_k(z_s | x),    z_s drawn from q_k(z | x)

(section 3 of the paper; classes are equally likely a priori). The model of class k is trained on its images alone, by the evidence lower
bound log p_k(x | z) - KL(q_k(z | x) | p(z)). Classes share nothing, and nothing is ever forgotten. The run's network is not used.

Encoder and decoder have two hidden layers of the same width with ReLU; p(z) is a standard normal. ``likelihood``: p(x | z) is a product of
Bernoulli distributions, for inputs from 0 to 1, or of normal ones with variance 1.

Deviations: the same draws for all images of a class give their z_s, so that an answer does not depend on the other images.

Stored to predict: encoder and decoder of each class, and the seed of the draws. Needed to resume: nothing else.
"""

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from clbench.checks import positive
from clbench.errors import UserError
from clbench.method import Brief, Prediction, Recipe
from clbench.seeding import generator
from clbench.training import Tensors, adam

from ._autoencoder import Autoencoder, divergence, log_likelihood
from ._per_class import ModelPerClass, drawn, parameters_of
from ._van_de_ven import SPLIT

VALUES_AT_A_TIME = 2**22
"""Elements of the decoded samples in memory at once."""


class GenerativeClassifier(ModelPerClass):
    """A variational autoencoder per class; the class with the highest likelihood wins."""

    name = "generative-classifier"
    citation = "van de Ven, Li, Tolias: Class-incremental learning with generative classifiers. CVPR Workshops 2021"
    price = 0.15  # each class learns from its own images alone
    recipes = (
        Recipe(
            "split-mnist-raw",
            "*",
            {"width": 85, "latent": 5, "likelihood": "bernoulli", "learning_rate": 1e-3},
            {"samples": 100},
            source="van de Ven, Li & Tolias 2021 (CVPR Workshops), Table 2, and the authors' code",
            scenario="GNu",
            name="van-de-ven-split",
            run={**SPLIT, "updates": 1000, "batch_size": 256},  # 1000 batches of 128 for each of the two classes
        ),
        Recipe("check", "*", {"width": 40}, {"samples": 5}, "for so short a stream"),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        width: int = 85,
        latent: int = 5,
        likelihood: Literal["bernoulli", "normal"] = "normal",
        learning_rate: float = 1e-3,
    ) -> None:
        """``width``: units of each hidden layer; ``latent``: dimensions of z; ``likelihood``: the distribution of a pixel; Adam's
        ``learning_rate``."""
        positive(width=width, latent=latent)
        self.pixels = math.prod(brief.input_shape)
        self.latent = latent
        self.likelihood = likelihood
        self.seed = brief.seed
        self.autoencoder_of = partial(drawn, partial(Autoencoder, self.pixels, width, latent))
        super().__init__(brief, self.autoencoder_of(self.seed, "network"), optimiser=adam(learning_rate))

    def fresh(self, number: int) -> Tensors:
        return parameters_of(self.autoencoder_of(self.seed, "autoencoder", number), self.brief.device)

    def given(self, inputs: Tensor) -> dict[str, Any]:
        draws = generator(self.seed, "noise", len(self.models), self.rate.done)
        return {"noise": torch.randn(len(inputs), self.latent, generator=draws).to(inputs.device)}

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        if self.likelihood == "bernoulli" and not (inputs.min() >= 0 and inputs.max() <= 1):
            raise UserError(
                "likelihood=bernoulli needs inputs from 0 to 1: take a stream that is not normalised, such as split-mnist-raw, "
                "or likelihood=normal."
            )
        return super().observe(inputs, labels)

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The negative evidence lower bound, divided by the number of pixels."""
        flat = inputs.flatten(1)
        mean, log_variance, outputs = functional_call(self.twin, trained, (flat, given["noise"]))
        bound = log_likelihood(flat, outputs.float(), self.likelihood) - divergence(mean.float(), log_variance.float())
        return -bound.mean() / self.pixels, {}

    def scores(self, inputs: Tensor, models: list[Tensors], first: int, **asking: Any) -> Tensor:
        """log p_k(x), by importance sampling."""
        samples = int(asking["samples"])
        at_a_time = max(1, VALUES_AT_A_TIME // (samples * self.pixels))
        columns = []
        for number, model in enumerate(models, start=first):
            noise = torch.randn(samples, self.latent, generator=generator(self.seed, "importance", number)).to(inputs.device)
            parts = [self._log_density(model, part, noise) for part in inputs.flatten(1).split(at_a_time)]
            columns.append(torch.cat(parts))
        return torch.stack(columns, 1)

    def _log_density(self, model: Tensors, flat: Tensor, noise: Tensor) -> Tensor:
        """log p(x) [n] for images [n, pixels], with z_s = mean + deviation * noise_s."""
        many = flat[:, None].expand(-1, len(noise), -1)
        mean, log_variance, outputs = functional_call(self.network, model, (many, noise))
        latent = mean + (log_variance / 2).exp() * noise
        # log p(z) - log q(z | x): the constants of the two normal distributions are the same.
        ratio = (noise.square() + log_variance - latent.square()).sum(2) / 2
        return (log_likelihood(many, outputs, self.likelihood) + ratio).logsumexp(1) - math.log(len(noise))

    def predict(self, inputs: Tensor, task: int | None = None, *, samples: int = 10) -> Prediction:
        """``samples``: S, the draws for the likelihood of each image and class (the paper's number has 10000; each costs a pass)."""
        return self.answer(inputs, task, samples=samples)

    def check_ask(self, **parameters: Any) -> None:
        positive(samples=parameters.get("samples"))

    def learned(self) -> Tensors:
        return super().learned() | {"seed": torch.tensor(self.seed)}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        self.seed = int(learned["seed"])
