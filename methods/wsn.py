"""WSN, winning subnetworks (Kang et al., ICML 2022).

Weights W and their scores are trained jointly on every task. Task i uses a head of its own and, in each layer, the fraction ``density`` of
the weights with the largest scores by magnitude at the task's end:

    p = head_i(f(x, W * M_i)),    M_i = [|score| among the layer's largest],    the gradient of M_i passes straight to |score|.

Weights that an earlier mask uses are fixed: they may be selected again, never changed. Scores pass from task to task and start
Kaiming uniform. Biases and normalisation scales are learned on the first task and frozen.

Deviations: batch-norm statistics are per task; the optimiser is re-initialised for every task; masks are stored as bits, without the
paper's Huffman code.

Stored to predict: W, and for each task a bit for every weight of the trunk, a head and batch-norm statistics. Needed to resume: the scores.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.method import Brief
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors

from ._bits import pack
from ._check import for_check
from ._per_task import FREE, KEPT, MASK, MaskMethod, free_or_kept, straight_through

SCORE = ".score"


class WSN(MaskMethod):
    """Winning subnetworks: weights and masks trained jointly, weights in use frozen."""

    name = "wsn"
    citation = (
        "Kang, Mina, Madjid, Yoon, Hasegawa-Johnson, Hwang, Yoo: Forget-free continual learning with winning subnetworks. ICML 2022"
    )
    recipes = (for_check(),)

    def __init__(
        self,
        brief: Brief,
        *,
        density: float = 0.5,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
    ) -> None:
        """``density``: the fraction of a layer's weights that a task uses; ``optimiser`` with its defaults but for the
        ``learning_rate``, for both weights and scores."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate))
        if not 0 < density <= 1:
            raise UserError(f"density must be above 0 and at most 1, not {density}.")
        self.density = density
        self.shared = {name: self.initial[name] for name in self.trunk}
        draws = generator(brief.seed, "scores")
        shapes = {name: self.initial[name].shape for name in self.maskable}
        scores = {name: nn.init.kaiming_uniform_(torch.empty(shape), a=5**0.5, generator=draws) for name, shape in shapes.items()}
        self.scores = {name + SCORE: score.to(brief.device) for name, score in scores.items()}
        self.free = {name + FREE: torch.ones_like(self.initial[name], dtype=torch.bool) for name in self.maskable}

    # Learning

    def learns_shared(self, task: int) -> bool:
        """Not as a whole: the part that a task may train is among its own tensors while it learns."""
        return False

    def fresh_own(self, task: int) -> Tensors:
        trained = self.trunk if task == 0 else self.maskable
        return self.fresh_parameters(self.head, task) | {name: self.shared[name] for name in trained} | self.scores

    def fixed(self, task: int) -> Tensors:
        return self.free | {name + KEPT: self.shared[name] for name in self.maskable}

    def masked(self, name: str, tensors: Tensors) -> Tensor:
        if name + SCORE not in tensors:
            return super().masked(name, tensors)
        size = tensors[name + SCORE].abs()
        return free_or_kept(name, tensors) * straight_through(self.largest(size), size)

    def largest(self, size: Tensor) -> Tensor:
        """The mask of the fraction ``density`` of a layer's weights with the largest scores: booleans in its shape."""
        smallest = size.numel() - max(1, round(self.density * size.numel()))
        return size >= size.detach().flatten().kthvalue(smallest + 1).values

    def end_task(self, data: Split) -> None:
        self.trained |= {name: free_or_kept(name, self.given["fixed"] | self.trained) for name in self.maskable}
        self.scores = {name: self.trained[name] for name in self.scores}
        super().end_task(data)
        self._fix(len(self.rows) - 1)

    def finished(self, task: int) -> Tensors:
        masks = {name + MASK: pack(self.largest(self.scores[name + SCORE].abs())) for name in self.maskable}
        return {name: self.trained[name] for name in self.head} | masks

    def _fix(self, task: int) -> None:
        """Remove the weights that the mask of ``task`` selects from the free ones."""
        masks = self.own_of(task)
        self.free = {name + FREE: self.free[name + FREE] & ~masks[name + MASK] for name in self.maskable}

    # State

    def settled(self) -> Tensors:
        """The weights that tasks use, and the parameters that only the first task learns."""
        of_first = {name: self.shared[name] for name in self.trunk if name not in self.maskable and self.rows}
        used = {(task, name): self.own_of(task)[name + MASK] for task in range(len(self.rows)) for name in self.maskable}
        return of_first | {f"{task}/{name}": self.shared[name][mask] for (task, name), mask in used.items()}

    def progress(self) -> Tensors:
        return dict(self.scores)

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        for task in range(len(self.rows)):
            self._fix(task)
        if progress is not None:
            self.scores = {name: progress[name].to(self.brief.device, copy=True) for name in self.scores}
