"""Shared by the baselines of the paper's Figure 2: their training on SplitCIFAR100 and SplitImageNet as a recipe."""

from typing import Any

from clbench.method import Recipe

SOURCE = "Wortsman et al. 2020, section 4.1 (Figure 2), and the authors' scripts; without weight decay"


def recipe(**own: Any) -> Recipe:
    """Adam at 1e-3, unless it is a method's ``own`` business, falling along a cosine."""
    return Recipe("split-*", "resnet-*", {"learning_rate": 1e-3, "schedule": "cosine"} | own, source=SOURCE, scenario="GG")
