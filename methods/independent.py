"""A bound: an independent network for each task, trained from its own initial weights and stored as a whole.

Nothing passes between tasks, so nothing is forgotten and nothing is transferred. The paper's upper bound is a different method,
``upper-bound``.

Stored to predict: all parameters and batch-norm statistics for each task. Needed to resume: nothing else.
"""

from typing import Literal

from clbench.method import Brief
from clbench.training import OPTIMISERS, LearningRateSchedule, Tensors

from ._check import for_check
from ._figure_2 import recipe
from ._per_task import PerTaskMethod


class Independent(PerTaskMethod):
    """A network for each task."""

    name = "independent"
    recipes = (recipe(optimiser="adam"), for_check())

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        schedule: LearningRateSchedule = "constant",
    ) -> None:
        """``optimiser`` with its defaults but for the ``learning_rate``, which follows ``schedule`` over a task's updates."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), schedule=schedule)

    def fresh_own(self, task: int) -> Tensors:
        return self.fresh_parameters(self.initial, task)
