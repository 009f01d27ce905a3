"""Piggyback: masks on a trained trunk (Mallya, Davis, Lazebnik, ECCV 2018).

The trunk W and the first head are learned on the first task, unmasked; then W is frozen. Every later task learns a real-valued score for
each of the trunk's weights, which a threshold turns into a mask, and a head of its own:

    p = head_i(f(x, W * M_i)),    M_i = [score > threshold],    the gradient passes straight through the threshold.

Scores start at 1e-2 and the threshold is 5e-3, as published, so every mask starts with all weights selected. Biases and normalisation
scales belong to W. SupSup differs: W is random, the head is masked too, and the scores start at random.

Deviations: the trunk is learned on the stream's first task, not on ImageNet; batch-norm statistics are per task.

Stored to predict: W, and for each task a bit for every weight of the trunk, a head and batch-norm statistics. Needed to resume: nothing
else.
"""

from typing import Literal

import torch
from torch import Tensor

from clbench.checks import above_zero
from clbench.method import Brief
from clbench.training import OPTIMISERS, Tensors, adam

from ._bits import pack
from ._check import for_check
from ._per_task import MASK, MaskMethod, straight_through

SCORE = ".score"
START, THRESHOLD = 1e-2, 5e-3


class Piggyback(MaskMethod):
    """Masks on a trunk trained on the first task."""

    name = "piggyback"
    citation = (
        "Mallya, Davis, Lazebnik: Piggyback: adapting a single network to multiple tasks by learning to mask weights. ECCV 2018"
    )
    recipes = (for_check({"mask_learning_rate": 0.001}),)

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        mask_learning_rate: float = 1e-4,
    ) -> None:
        """``optimiser`` with its ``learning_rate`` for the trunk; Adam with ``mask_learning_rate`` for later tasks' scores and heads."""
        above_zero(mask_learning_rate=mask_learning_rate)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), later=adam(mask_learning_rate))
        self.shared = {name: self.initial[name] for name in self.trunk}

    def fresh_own(self, task: int) -> Tensors:
        scores = {} if task == 0 else {name + SCORE: torch.full_like(self.initial[name], START) for name in self.maskable}
        return self.fresh_parameters(self.head, task) | scores

    def masked(self, name: str, tensors: Tensors) -> Tensor:
        score = tensors.get(name + SCORE)
        if score is None:
            return super().masked(name, tensors)
        return tensors[name] * straight_through(score > THRESHOLD, score)

    def finished(self, task: int) -> Tensors:
        ones = {
            name: torch.ones_like(self.initial[name]) for name in self.maskable
        }  # the first task has no scores: all are selected
        masks = {name + MASK: pack(self.trained.get(name + SCORE, ones[name]) > THRESHOLD) for name in self.maskable}
        return {name: self.trained[name] for name in self.head} | masks
