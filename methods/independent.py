"""A bound: an independent network for each task, trained from weights of its own and kept whole.

Nothing passes between tasks, so that nothing is forgotten and nothing transferred. The paper's upper bound is another (``upper-bound``).

Stores, to predict: all parameters and batch-norm statistics for each task. To go on: nothing more.
"""

from typing import Literal

from clbench.method import Brief
from clbench.training import OPTIMISERS, Schedule, Tensors

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
        schedule: Schedule = "constant",
    ) -> None:
        """``optimiser`` with its defaults but for the ``learning_rate``, which follows ``schedule`` over a task's updates."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), schedule=schedule)

    def fresh_own(self, task: int) -> Tensors:
        return self.fresh_parameters(self.initial, task)
