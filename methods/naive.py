"""Naive fine-tuning: one network trained on every task in turn, with nothing against forgetting. Every method should do better.

    loss = cross-entropy of the present batch

Stored to predict: the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``). Needed to
resume: the optimiser's averages if ``restart`` is off.
"""

from typing import Literal

from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.training import OPTIMISERS

from ._a_gem_table import recipe
from ._van_de_ven import recipes
from ._weights import WeightMethod


class Naive(WeightMethod):
    """Naive fine-tuning, with nothing against forgetting."""

    name = "naive"
    scenarios = frozenset({GG, GNS, GNU, NNS})
    acts_against_forgetting = False
    recipes = (*recipes(permuted={"*": {}}, split={"*": {}}), recipe({"learning_rate": 0.03}))

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it is re-initialised for each given task."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
