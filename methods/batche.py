"""BatchE, BatchEnsemble for lifelong learning (Wen et al., ICLR 2020).

All tasks share the weights W. For each weight, task i has two vectors whose outer product scales it elementwise:

    W_i = W * (s_i t_i')        s_i along the outputs of W, t_i along its inputs (a convolution's kernel is scaled as one)

W, s_1 and t_1 are learned on the first task. Then W is frozen, and later tasks learn only s_i and t_i, which start as random signs.
With ``trunk="random"`` ("Rand W") W is never trained. All weights that layers multiply by have vectors, the last layer's too; biases,
normalisation scales and embeddings belong to W.

Task inference as in "Supermasks in Superposition" (Wortsman et al. 2020, Figure 5 right): every rank-one matrix, and the task's batch-norm
statistics, get a coefficient in p(alpha) = f(x, W * sum_i alpha_i s_i t_i'). One-Shot takes the task along which the objective, the
entropy H or G of the superfluous outputs, falls most at alpha = 1/k: dH/dalpha_i = s_i' (W * dH/dW_eff) t_i. Binary takes several such
steps: it rules out half of the tasks, and repeats the step at the mean of the others. The large-batch algorithms (appendix C of that paper)
answer all images of evidence as every task, and take the task with the lowest mean entropy or the highest mean maximum probability.

The paper says of Figure 5 right that One-Shot "can be used". Its text gives no numbers and does not say from how many images a task is
inferred, and its scripts do not draw the figure. Two independent implementations infer 24 to 32 % of ten permutations by One-Shot from one
image. ``clbench figure fig5-right`` shows the results of One-Shot and Binary from 1 and from 128 images; it cannot show what the paper's
line was.

Deviations: the optimiser is re-initialised for every task; W is Kaiming normal in every network, while the authors' configurations leave a
ResNet's weights as PyTorch draws them (uniform, with a sixth of the variance); predictions are made among the task's own labels, never a
superfluous output; if the task has to be inferred, the recipe leaves out weight decay. Adam turns weight decay into a pull as strong as the
loss's wherever gradients are small: s of the superfluous outputs goes to 0 on all tasks but the first, and One-Shot assigns nearly every
image to the first task (5 permutations of the embedded MNIST, LeNet, 300 updates, H from one image: 28 % of tasks are inferred correctly
with weight decay, 80 % without).

Stored to predict: W (if it is random, its seed), and the vectors and batch-norm statistics of each task. Needed to resume: nothing else.
"""

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from clbench.checks import above_zero
from clbench.engine.probe import batch_use
from clbench.errors import UserError
from clbench.method import Brief, Prediction, Recipe
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.training import LearningRateSchedule, Tensors, adam

from ._check import for_check
from ._figure_2 import recipe
from ._inference import (
    GRADIENT_BYTES,
    ONE_SHOT,
    DifferentiableStatistics,
    Inference,
    answer_by_task,
    binary,
    decide,
)
from ._objectives import ObjectiveName, entropy, slope_of
from ._per_task import PerTaskMethod, random_parameters

FIGURE_5 = "Wortsman et al. 2020, Figure 5 right; without weight decay, which costs One-Shot most of its tasks"
TO_INFER = {"outputs": 500, "weight_decay": 0.0}
LARGE_BATCH = {"algorithm": "large-batch-entropy", "group": 128, "evidence": 128}
Algorithm = Literal["one-shot", "binary", "large-batch-entropy", "large-batch-probability"]


class BatchE(PerTaskMethod):
    """BatchEnsemble for lifelong learning."""

    name = "batche"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Wen, Tran, Ba: BatchEnsemble: an alternative approach to efficient ensemble and lifelong learning. ICLR 2020"
    price = 0.06  # the trunk is the first task's
    recipes = (
        for_check({"vector_learning_rate": 0.03}, scenario="GG"),
        recipe(vector_learning_rate=0.1, weight_decay=0.0),
        for_check(TO_INFER | {"outputs": 50, "vector_learning_rate": 0.03}, LARGE_BATCH),
        Recipe("*", "*", TO_INFER, source=FIGURE_5, scenario="GN[su]"),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        outputs: int | None = None,
        trunk: Literal["first-task", "random"] = "first-task",
        learning_rate: float = 1e-4,
        vector_learning_rate: float = 1e-2,
        weight_decay: float = 1e-4,
        schedule: LearningRateSchedule = "constant",
    ) -> None:
        """Create a learner that has no tasks yet.

        ``outputs``: the output size, superfluous neurons included (None: the number of classes); ``trunk``: where W comes from. Adam has
        ``learning_rate`` while W is trained, ``vector_learning_rate`` when only the vectors are, and ``weight_decay`` on everything that
        is trained; both rates follow ``schedule`` over a task's updates.
        """
        self.outputs = outputs = brief.classes if outputs is None else outputs
        if outputs < brief.classes:
            raise UserError(f"outputs={outputs} is below the {brief.classes} classes of a task: give at least that many.")
        above_zero(vector_learning_rate=vector_learning_rate)
        optimiser, later = (adam(rate, weight_decay=weight_decay) for rate in (learning_rate, vector_learning_rate))
        super().__init__(brief, optimiser=optimiser, later=later, network=brief.network(outputs), schedule=schedule)
        self.frozen = trunk == "random"
        self.weights = {name: self.initial[name].shape for name in self.linear}
        self.shared = self.initial_shared()

    # Learning

    def initial_shared(self) -> Tensors:
        return random_parameters(self.initial, self.linear, generator(self.seed, "weights"), nn.init.kaiming_normal_)

    def fresh_own(self, task: int) -> Tensors:
        """Vectors s and t of random signs for each weight."""
        draws = generator(self.seed, "vectors", task)
        sizes = {f"{name}.{which}": shape["st".index(which)] for name, shape in self.weights.items() for which in "st"}
        signs = {name: torch.randint(0, 2, (size,), generator=draws) * 2.0 - 1 for name, size in sizes.items()}
        return {name: tensor.to(self.brief.device) for name, tensor in signs.items()}

    def effective(self, tensors: Tensors) -> Tensors:
        """W * (s t'); for vectors [k, n] instead of [n], W * sum_i s_i t_i'."""

        def scaled(name: str) -> Tensor:
            s, t = (tensors[f"{name}.{which}"].view(-1, self.weights[name]["st".index(which)]) for which in "st")
            scale = s.T @ t
            return tensors[name] * scale.view(*scale.shape, *[1] * (len(self.weights[name]) - 2))

        return {name: scaled(name) if name in self.weights else tensors[name] for name in self.initial}

    # Answering

    @cached_property
    def alone(self) -> bool:
        """Whether the network takes one image by itself."""
        return batch_use(self.brief).alone

    def check_ask(self, **parameters: Any) -> None:
        how = Inference(**parameters)
        how.check(self.brief, self.outputs)
        if how.algorithm not in (ONE_SHOT, "binary") and how.objective != "H":
            raise UserError(f"objective={how.objective} belongs to algorithm=one-shot and binary, not to {how.algorithm}.")

    def predict(
        self,
        inputs: Tensor,
        task: int | None = None,
        *,
        algorithm: Algorithm = ONE_SHOT,
        objective: ObjectiveName = Inference.objective,
        group: int = Inference.group,
        evidence: int = Inference.evidence,
    ) -> Prediction:
        """Answer as the given task, or as the inferred one.

        ``group`` consecutive images share one inferred task, which the first ``evidence`` of them decide: 1 and 1 let every image
        identify its own task, 128 and 1 are the paper's protocol, 128 and 128 are a large batch. ``objective`` belongs to ``one-shot`` and
        ``binary``.
        """
        inputs = inputs.to(self.brief.device)
        if task is not None:
            return super().predict(inputs, task)

        def infer(groups: Tensor) -> Tensor:
            if algorithm == "binary":
                return binary(lambda alpha: self.slope(groups, objective, alpha), groups, len(self.rows))
            return (self.slope(groups, objective) if algorithm == ONE_SHOT else self.doubt(groups, algorithm)).argmin(1)

        alone = evidence == 1 or self.alone
        # A group's gradient is one of each weight, and of what it contracts to with each task's vectors.
        floats = sum(shape.numel() + shape[0] * len(self.rows) for shape in self.weights.values())
        if algorithm == "binary":  # superpositions of its own, with their scales
            floats *= 3
        tasks = decide(infer, inputs, group=group, evidence=evidence, at_a_time=GRADIENT_BYTES // (4 * floats), alone=alone)
        return Prediction(answer_by_task(inputs, tasks, lambda some, task: super(BatchE, self).predict(some, task).labels), tasks)

    def slope(self, groups: Tensor, objective: str, alpha: Tensor | None = None) -> Tensor:
        """The derivative of the objective with respect to every alpha, for groups [q, e, *input_shape]: [q, k].

        ``alpha``: [q, k], or None for 1/k everywhere.
        """
        stacked, count = self.rows.stacked(), len(self.rows)
        value = slope_of(objective)

        def of_group(alpha: Tensor, images: Tensor) -> Tensor:
            state = self.superposed(stacked, alpha)
            return value(functional_call(self.network, state, (images,)), self.brief.classes).mean()

        by_group = None if alpha is None else 0
        at = torch.full((count,), 1 / count, device=groups.device) if alpha is None else alpha
        with DifferentiableStatistics():
            return vmap(grad(of_group), in_dims=(by_group, 0))(at, groups)

    def superposed(self, stacked: Tensors, alpha: Tensor) -> Tensors:
        """Parameters and buffers of the superposition of all tasks, from their stacked vectors and statistics [k, n]."""
        vectors = {name: alpha[:, None] * tensor if name.endswith(".s") else tensor for name, tensor in stacked.items()}
        statistics = {name: torch.tensordot(alpha, stacked[name], 1) for name in self.statistics}
        return self.fresh_buffers | self.effective(self.shared | vectors) | statistics

    def doubt(self, groups: Tensor, algorithm: str) -> Tensor:
        """How little the evidence [q, e, *input_shape] fits each task, by a large-batch algorithm: [q, k]."""
        images = groups.flatten(0, 1)
        with torch.no_grad():
            logits = [self.logits(images, task) for task in range(len(self.rows))]
        of_image = [
            entropy(outputs, self.brief.classes) if algorithm == "large-batch-entropy" else -outputs.softmax(1).amax(1)
            for outputs in logits
        ]
        return torch.stack([values.view(groups.shape[:2]).mean(1) for values in of_image], 1)
