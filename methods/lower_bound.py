"""The paper's lower bound: a shared trunk trained on every task in turn, with a head for each (Wortsman et al. 2020, section 4.1).

In GG this is naive fine-tuning, under the name that the paper's tables give it. Batch-norm statistics are shared, like the trunk.

Stored to predict: the network, and a head for each task. Needed to resume: nothing else.
"""

from typing import Literal

from clbench.method import Brief
from clbench.scenarios import GG
from clbench.training import OPTIMISERS, LearningRateSchedule

from ._check import for_check
from ._figure_2 import recipe
from ._weights import WeightMethod


class LowerBound(WeightMethod):
    """Naive fine-tuning in GG: a shared trunk trained on every task, and a head for each."""

    name = "lower-bound"
    scenarios = frozenset({GG})
    acts_against_forgetting = False
    recipes = (recipe(optimiser="adam"), for_check())

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        schedule: LearningRateSchedule = "constant",
    ) -> None:
        """``optimiser`` with its defaults but for the ``learning_rate``, which follows ``schedule`` over a task's updates;
        re-initialised for each task."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), schedule=schedule)
