"""Separate heads (Wortsman et al. 2020, section 4.1): a trunk that never changes after the first task, and a last layer for each task.

    p = head_i(trunk(x))

``trunk="first-task"``: learned on the first task together with its head, then frozen. ``trunk="random"`` ("Rand W"): as the layers
initialise themselves, never trained. The optimiser and the batch-norm statistics are re-initialised for every task.

Stored to predict: the trunk (if it is random, its seed), and each task's head and batch-norm statistics. Needed to resume: nothing else.
"""

from typing import Literal

from clbench.checks import above_zero
from clbench.method import Brief
from clbench.training import OPTIMISERS, LearningRateSchedule, Tensors

from ._check import for_check
from ._figure_2 import recipe
from ._per_task import PerTaskMethod, redrawn


class SeparateHeads(PerTaskMethod):
    """Separate heads on a frozen trunk."""

    name = "separate-heads"
    price = 0.1  # the trunk is the first task's
    recipes = (
        for_check({"head_learning_rate": 0.01}),
        recipe(optimiser="adam", head_learning_rate=1e-2),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        trunk: Literal["first-task", "random"] = "first-task",
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        head_learning_rate: float = 1e-3,
        schedule: LearningRateSchedule = "constant",
    ) -> None:
        """``trunk``: where it comes from; ``optimiser`` with ``learning_rate`` while the trunk is trained and with ``head_learning_rate``
        when only the head is (ten times as much, as in the paper's experiments); both follow ``schedule`` over a task's updates.
        """
        above_zero(head_learning_rate=head_learning_rate)
        make = OPTIMISERS[optimiser]
        super().__init__(brief, optimiser=make(learning_rate), later=make(head_learning_rate), schedule=schedule)
        self.frozen = trunk == "random"
        self.shared = self.initial_shared()

    def initial_shared(self) -> Tensors:
        trunk = self.trunk
        return redrawn(self.network, trunk, self.seed, 0) if self.frozen else {name: self.initial[name] for name in trunk}

    def fresh_own(self, task: int) -> Tensors:
        return self.fresh_parameters(self.head, task)
