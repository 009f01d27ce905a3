"""Naive fine-tuning: one network trained on every task in turn, with nothing against forgetting. The floor that every method must beat.

    loss = cross-entropy of the present batch

Stores the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``).
"""

from typing import Literal

from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.training import OPTIMISERS

from ._van_de_ven import recipes
from ._weights import WeightMethod


class Naive(WeightMethod):
    """Naive fine-tuning, without anything against forgetting."""

    name = "naive"
    scenarios = frozenset({GG, GNS, GNU, NNS})
    acts_against_forgetting = False
    recipes = recipes(permuted={"*": {}}, split={"*": {}})

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``optimiser`` with its defaults but for the ``learning_rate``; it goes on from task to task, as it must where no task is given,
        or with ``restart`` begins again with each given task."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate), restart=restart)
