"""EWC, elastic weight consolidation, offline: each finished task t has its own quadratic penalty, anchor theta_t and Fisher F_t.

    loss = cross-entropy + strength/2 * sum_t sum_k F_tk (theta_k - theta_tk)^2

(Kirkpatrick et al. 2017, equation 3, with F_t the mean over samples of squared per-sample gradients: see ``_fisher.py``).

Deviations: none in what is learned. A sum of quadratics is one quadratic, so two tensors represent all tasks: with F = sum_t F_t and
anchor = sum_t F_t theta_t / F, the penalty above is strength/2 * sum_k F_k (theta_k - anchor_k)^2 plus a constant (Huszár 2018). The
constant has no gradient and is left out of the reported loss. Memory does not grow with tasks, as it does in implementations that store
2 t tensors. The optimiser's state passes from task to task, unless ``restart`` is on.

The sum pulls from the end of the last task back to a mean of all ends, so that with many tasks those in the middle suffer. Online EWC
is anchored at the last end and has no such pull. The default strength was chosen on ten permutations of mnist-5k in GNs (LeNet-300-100,
stream seed 100, 500 updates a task).

Stored to predict: the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``). Needed to
resume: F and anchor, each of the size of the network (in GG: of the trunk), and the optimiser's averages if ``restart`` is off.
"""

from typing import Literal

import torch

from clbench.method import Brief
from clbench.training import OPTIMISERS, Tensors

from ._a_gem_table import recipe
from ._fisher import Estimator, FisherPenalty
from ._van_de_ven import recipes


class EWC(FisherPenalty):
    """Elastic weight consolidation, a penalty for each task."""

    name = "ewc"
    citation = "Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks. PNAS 114(13), 2017"
    recipes = (
        *recipes(
            permuted={"GG": {"strength": 500.0}, "GNs": {"strength": 500.0}, "GNu": {"strength": 1.0}},
            split={"GG": {"strength": 1e7}, "GNs": {"strength": 1e6}, "GNu": {"strength": 1e8}},
            always={"fisher": "predicted", "samples": 60_000},
        ),
        recipe({"strength": 20.0, "learning_rate": 0.03, "fisher": "empirical"}),  # their 10 has no 1/2 after it
    )

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float = 10.0,
        fisher: Estimator = "exact",
        samples: int = 500,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``strength``: lambda, before the 1/2; ``fisher``: how the information is estimated (``_fisher.py``), from ``samples`` training
        images of a task (all, if it has fewer); ``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it
        is re-initialised for each task."""
        super().__init__(
            brief,
            strength=strength,
            fisher=fisher,
            samples=samples,
            optimiser=OPTIMISERS[optimiser](learning_rate),
            restart=restart,
        )

    def consolidate(self, fisher: Tensors) -> None:
        for name, new in fisher.items():
            present = self.trained[name]
            before = self.importance.get(name, torch.zeros_like(new))
            anchor = self.anchor.get(name, present)
            self.importance[name] = before + new
            mean = anchor + new / (before + new) * (present - anchor)
            self.anchor[name] = torch.where(before > 0, mean, present)
