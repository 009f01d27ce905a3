"""The paper's lower bound: a shared trunk trained on every task in turn, with a head for each (Wortsman et al. 2020, section 4.1).

In GG this is naive fine-tuning: the same method by the name that the paper's tables have for it. Batch-norm statistics are shared, as the
trunk is.

Stores, to predict: the network, and a head for each task. To go on: nothing more.
"""

from typing import Literal

from clbench.method import Brief
from clbench.scenarios import GG
from clbench.training import OPTIMISERS, Schedule

from ._check import for_check
from ._figure_2 import recipe
from ._weights import WeightMethod


class LowerBound(WeightMethod):
    """A shared trunk trained on, and a head for each task: naive fine-tuning in GG."""

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
        schedule: Schedule = "constant",
    ) -> None:
        """``optimiser`` with its defaults but for the ``learning_rate``, which follows ``schedule`` over a task's updates; begun afresh
        with each task."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), schedule=schedule)
