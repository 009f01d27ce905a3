"""The paper's upper bound (Wortsman et al. 2020, section 4.1): fine-tuning on task after task, with a full copy stored for each.

Task i is answered by the copy made right after it, so the result is the diagonal of sequential fine-tuning. The trunk for task i was
trained on tasks 1 to i; head, optimiser and batch-norm statistics are re-initialised for each task. Other bounds are ``independent`` (a
network for each task) and ``joint`` (all data at once).

Stored to predict: all parameters and batch-norm statistics for each task. Needed to resume: nothing else.
"""

from typing import Literal

from clbench.method import Brief
from clbench.training import OPTIMISERS, LearningRateSchedule, Tensors

from ._check import for_check
from ._figure_2 import recipe
from ._per_task import PerTaskMethod


class UpperBound(PerTaskMethod):
    """Sequential fine-tuning, with a copy stored for each task."""

    name = "upper-bound"
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
        before = self.rows[-1] if self.rows else self.initial
        return {name: before[name] for name in self.trunk} | self.fresh_parameters(self.head, task)
