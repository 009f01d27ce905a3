"""Shared by the baselines of the paper's Figure 2: a recipe with their training on SplitCIFAR100 and SplitImageNet."""

from typing import Any

from clbench.method import Recipe

SOURCE = "Wortsman et al. 2020, section 4.1 (Figure 2), and the authors' scripts; without weight decay"


def recipe(**learn: Any) -> Recipe:
    """Parameters of Figure 2: a learning rate of 1e-3 that falls along a cosine, and those of the method, ``learn``."""
    return Recipe("split-*", "resnet-*", {"learning_rate": 1e-3, "schedule": "cosine"} | learn, source=SOURCE, scenario="GG")
