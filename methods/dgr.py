"""DGR, deep generative replay (Shin et al. 2017): a generator draws images of earlier tasks, and the old network says what they are.

    loss = 1/t cross-entropy of the batch + (1 - 1/t) replay,    t the number of tasks so far
    replay = cross-entropy of drawn images with the old network's answer as label, or with ``distill`` (DGR+distill of van de Ven & Tolias
             2018) T^2 * the cross-entropy with its probabilities, both at temperature T

The generator is a variational autoencoder. It learns from the batch and from its own earlier images in the same proportions (its loss is
the negative evidence lower bound). Old network and old generator are copies from the task's beginning. In GG each drawn image gets an
answer of every old task's head, and the loss is their mean. In GNs there is one head. In GNu the old network's answer is a class of any
earlier task, and the outputs of all tasks so far compete.

Deviations: Shin et al. have a generative adversarial network; the autoencoder, the weights 1/t and 1 - 1/t, and the distillation are van de
Ven & Tolias's. The optimisers' states pass from task to task, unless ``restart`` is on.

Stored to predict: the network, with outputs for each task in GG and GNu. Needed to resume: the generator, and the averages of both
optimisers if ``restart`` is off.
"""

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import one_hot

from clbench.checks import above_zero, positive
from clbench.errors import UserError
from clbench.method import Brief, Recipe
from clbench.networks import bare_twin
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Step, Tensors, TrainingState, adam, named, part

from ._autoencoder import Autoencoder, divergence, log_likelihood
from ._check import for_check
from ._one_layer import OneLayerMethod
from ._per_class import drawn, parameters_of
from ._van_de_ven import PERMUTED, SPLIT

NEVER = -1e9
"""A logit with probability 0, finite."""
SOURCE = "van de Ven & Tolias 2018 (arXiv 1809.10635), Tables 3 and 4, and the authors' code"


def published(name: str, *, distill: bool) -> tuple[Recipe, ...]:
    """The recipes for their two streams, for all scenarios."""
    shared = {"optimiser": "adam", "likelihood": "bernoulli", "latent": 100, "distill": distill}
    streams = (("permuted-mnist-32", PERMUTED, 1e-4, 1000), ("split-mnist-raw", SPLIT, 1e-3, 400))
    return tuple(
        Recipe(
            stream,
            "*",
            shared | {"width": width, "learning_rate": rate, "generator_rate": rate},
            {},
            SOURCE,
            scenario,
            f"{name}-permuted" if stream.startswith("permuted") else f"{name}-split",
            run,
        )
        for stream, run, rate, width in streams
        for scenario in ("GG", "GNs", "GNu")
    )


class DGR(OneLayerMethod):
    """Deep generative replay, with or without distillation."""

    name = "dgr"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Shin, Lee, Kim, Kim: Continual learning with deep generative replay. NeurIPS 2017"
    recipes = (
        *published("van-de-ven", distill=False),
        *published("van-de-ven-distill", distill=True),
        for_check({"optimiser": "rmsprop", "restart": True, "width": 150, "latent": 20, "generator_rate": 3e-3, "distill": True}),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        distill: bool = False,
        temperature: float = 2.0,
        replay_batch: int = 128,
        width: int = 400,
        latent: int = 100,
        likelihood: Literal["bernoulli", "normal"] = "normal",
        generator_rate: float = 1e-3,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "adam",
        learning_rate: float = 1e-3,
        restart: bool = False,
    ) -> None:
        """``distill``: whether drawn images have the old network's probabilities at ``temperature`` instead of a label; ``replay_batch``:
        images drawn for each update; ``width`` and ``latent``: units of the autoencoder's hidden layers and of z; ``likelihood`` of its
        pixels (bernoulli, for inputs from 0 to 1, or normal with variance 1); ``generator_rate``: its Adam's learning rate;
        ``optimiser`` of the network with its defaults but for the ``learning_rate``; ``restart``: whether both optimisers are
        re-initialised for each task."""
        positive(replay_batch=replay_batch, width=width, latent=latent)
        above_zero(temperature=temperature, generator_rate=generator_rate)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
        self.distill = distill
        self.temperature = temperature
        self.replay_batch = replay_batch
        self.latent = latent
        self.likelihood = likelihood
        self.pixels = math.prod(brief.input_shape)
        self.autoencoder = drawn(partial(Autoencoder, self.pixels, width, latent), brief.seed, "autoencoder").to(brief.device)
        self.autoencoder_twin = bare_twin(self.autoencoder)
        self.generator = {name: t.clone() for name, t in parameters_of(self.autoencoder, brief.device).items()}
        self.generator_step = Step(self.bound, adam(generator_rate), precision=brief.precision, compiled=brief.compiled)
        self.generator_state = TrainingState(self.generator_step.optimiser, self.generator)
        self.old: Tensors = {}
        self.old_generator: Tensors = {}
        self.targets: Tensor | None = None

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        if self.restart:
            self.generator_state = TrainingState(self.generator_step.optimiser, self.generator)
        if task > 0:
            self.old = {name: tensor.clone() for name, tensor in (self.trained | self.buffers).items()}
            self.old_generator = {name: tensor.clone() for name, tensor in self.generator.items()}

    def end_task(self, data: Split) -> None:
        """Forget the copies of the old network and generator."""
        self.old, self.old_generator, self.targets = {}, {}, None

    def update(self, inputs: Tensor, labels: Tensor) -> Tensor:
        if self.likelihood == "bernoulli" and not (inputs.min() >= 0 and inputs.max() <= 1):
            raise UserError(
                "likelihood=bernoulli needs inputs from 0 to 1: take a stream that is not normalised, such as split-mnist-raw, "
                "or likelihood=normal."
            )
        share = 1.0
        if self.old:
            share = 1 / (self.task + 1)
            replayed = self.draw(self.replay_batch)
            with torch.no_grad():
                self.targets = functional_call(self.network, self.old, (replayed,))
            inputs, labels = torch.cat([inputs, replayed]), torch.cat([labels, labels.new_zeros(len(replayed))])
        present = len(inputs) - (self.replay_batch if self.old else 0)
        weights = torch.full((len(inputs),), share / present, device=inputs.device)
        weights[present:] = (1 - share) / self.replay_batch
        noise = torch.randn(len(inputs), self.latent, generator=self._draws("noise")).to(inputs.device)
        self.generator_step(self.generator, {"noise": noise, "weights": weights}, self.generator_state, inputs, labels)
        return super().update(inputs, labels)

    def _draws(self, purpose: str) -> torch.Generator:
        return generator(self.brief.seed, purpose, self.task, self.rate.done)

    def draw(self, images: int) -> Tensor:
        """Images of earlier tasks, from the old generator."""
        latent = torch.randn(images, self.latent, generator=self._draws("replay")).to(self.brief.device)
        with torch.no_grad():
            decoder = {n.removeprefix("decoder."): t for n, t in self.old_generator.items() if n.startswith("decoder.")}
            outputs = functional_call(self.autoencoder.get_submodule("decoder"), decoder, (latent,))
        return (outputs.sigmoid() if self.likelihood == "bernoulli" else outputs).view(-1, *self.brief.input_shape)

    # The losses

    def bound(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        """The generator's loss: the weighted sum of the negative evidence lower bounds, for each pixel."""
        flat = inputs.flatten(1)
        mean, log_variance, outputs = functional_call(self.autoencoder_twin, trained, (flat, given["noise"]))
        bounds = log_likelihood(flat, outputs.float(), self.likelihood) - divergence(mean.float(), log_variance.float())
        return -(given["weights"] * bounds).sum() / self.pixels, {}

    def given(self) -> dict[str, Any]:
        if self.targets is None:
            return {}
        task_of_output = torch.arange(self.targets.shape[1], device=self.targets.device) // self.brief.classes
        old = task_of_output < self.task if self.grows else task_of_output == 0
        heads = self.task if self.within_task else 1
        numbers = {"share": 1 / (self.task + 1), "heads": float(heads)}
        return {"targets": self.targets, "old": old} | {n: torch.tensor(v, device=old.device) for n, v in numbers.items()}

    def objective(self, logits: Tensor, labels: Tensor, given: dict[str, Any]) -> Tensor:
        """The loss of a batch, followed by drawn images if there are earlier tasks."""
        if "targets" not in given:
            return super().objective(logits, labels, given)
        size = len(given["targets"])
        batch = super().objective(logits[:-size], labels[:-size], given)
        replay = self.replay_loss(logits[-size:], given["targets"], given["old"]) / given["heads"]
        return given["share"] * batch + (1 - given["share"]) * replay

    def replay_loss(self, logits: Tensor, targets: Tensor, old: Tensor) -> Tensor:
        """The cross-entropies of drawn images [n, outputs] with the old network's answers (``old``: bool [outputs]), over its heads."""
        outputs = self.brief.classes if self.within_task else len(old)
        scale = self.temperature if self.distill else 1.0
        answers = (targets.masked_fill(~old, NEVER) / scale).unflatten(1, (-1, outputs))
        wanted = answers.softmax(2) if self.distill else one_hot(answers.argmax(2), outputs).float()
        likelihoods = (logits.clamp(min=NEVER) / scale).unflatten(1, (-1, outputs)).log_softmax(2)
        losses = -(wanted * likelihoods).flatten(1).masked_fill(~old, 0.0).sum(1).mean()
        return losses * scale**2

    # State

    def progress(self) -> Tensors:
        """The generator, and the optimisers' states."""
        state = {} if self.restart else self.generator_state.tensors()
        named = {f"generator.{name}": tensor.clone() for name, tensor in self.generator.items()}
        return super().progress() | named | {f"generator's optimiser.{name}": tensor.clone() for name, tensor in state.items()}

    def task_progress(self) -> Tensors | None:
        own = named(generator=self.generator, generator_optimiser=self.generator_state.tensors())
        return (super().task_progress() or {}) | own

    def restore_task(self, progress: Tensors) -> None:
        super().restore_task(progress)
        stored = part("generator", progress, self.brief.device)
        self.generator = {name: stored[name].clone() for name in self.generator}
        self.generator_state.restore(part("generator_optimiser", progress, self.brief.device))

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        if progress is None:
            return
        self.generator = {name: progress[f"generator.{name}"].to(self.brief.device, copy=True) for name in self.generator}
        self.generator_state = TrainingState(self.generator_step.optimiser, self.generator)
        prefix = "generator's optimiser."
        state = {name.removeprefix(prefix): tensor for name, tensor in progress.items() if name.startswith(prefix)}
        if state:
            self.generator_state.restore(state)
