"""Shared by the methods in Table 4 of Chaudhry et al. 2019 (A-GEM): the setting of its column for permuted MNIST, as recipes."""

from collections.abc import Mapping
from typing import Any

from clbench.method import Recipe

NAME = "a-gem-table-4"
"""The recipes' name."""


def recipe(learn: Mapping[str, Any], scenario: str = "GNs") -> Recipe:
    """A method's parameters there: plain SGD, batches of 10, one pass over each of 20 tasks, and a network of 2 x 256 units.

    The paper chooses parameters on three further tasks, and tests on 17. One head serves all tasks, as in the authors' code.
    """
    return Recipe(
        "permuted-mnist",
        "mlp-256x256",
        {"optimiser": "sgd", **learn},
        source="Chaudhry et al. 2019 (arXiv 1812.00420), Table 4 and appendix G",
        scenario=scenario,
        name=NAME,
        run={"data": "mnist", "network": "mlp-256x256", "tasks": 17, "updates": 5500, "batch_size": 10},
    )
