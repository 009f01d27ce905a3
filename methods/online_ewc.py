"""Online EWC: one quadratic penalty, anchored at the last task's end, whose Fisher is a decaying sum over tasks.

    loss = cross-entropy + strength/2 * gamma * sum_k F*_k (theta_k - theta*_k)^2
    after each task t:  F* <- gamma F* + F_t,  theta* <- theta

(Schwarz et al. 2018, section 3.2, with F_t the mean over samples of squared per-sample gradients: see ``_fisher.py``). ``gamma`` acts
twice: in the merge, and in the penalty. With gamma = 1 the only difference from offline EWC is the anchor.

Deviations: the knowledge base and the distillation of Progress & Compress are left out; the optimiser's state passes from task to task,
unless ``restart`` is on.

The default strength was chosen on ten permutations of mnist-5k in GNs (LeNet-300-100, stream seed 100, 500 updates a task).

Stored to predict: the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``). Needed to
resume: gamma F* and theta*, each of the size of the network (in GG: of the trunk), and the optimiser's averages if ``restart`` is off.
"""

from typing import Literal

from clbench.errors import UserError
from clbench.method import Brief
from clbench.training import OPTIMISERS, Tensors

from ._fisher import Estimator, FisherPenalty
from ._van_de_ven import recipes


class OnlineEWC(FisherPenalty):
    """Online elastic weight consolidation, one decaying penalty for all tasks."""

    name = "online-ewc"
    citation = "Schwarz et al.: Progress & Compress: a scalable framework for continual learning. ICML 2018"
    recipes = recipes(
        permuted={
            "GG": {"strength": 500.0, "gamma": 0.8},
            "GNs": {"strength": 1000.0, "gamma": 0.9},
            "GNu": {"strength": 5.0, "gamma": 1.0},
        },
        split={
            "GG": {"strength": 1e8, "gamma": 0.8},
            "GNs": {"strength": 1e8, "gamma": 0.7},
            "GNu": {"strength": 1e9, "gamma": 0.8},
        },
        always={"fisher": "predicted", "samples": 60_000},
    )

    def __init__(
        self,
        brief: Brief,
        *,
        strength: float = 30.0,
        gamma: float = 1.0,
        fisher: Estimator = "exact",
        samples: int = 500,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``strength``: lambda, before the 1/2; ``gamma``: decay of earlier tasks' Fisher, from 0 to 1; ``fisher``: how the information is
        estimated (``_fisher.py``), from ``samples`` training images of a task (all, if it has fewer); ``optimiser`` with its defaults but
        for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        super().__init__(
            brief,
            strength=strength,
            fisher=fisher,
            samples=samples,
            optimiser=OPTIMISERS[optimiser](learning_rate),
            restart=restart,
        )
        if not 0 <= gamma <= 1:
            raise UserError(f"gamma must be between 0 and 1, not {gamma}.")
        self.gamma = gamma

    def consolidate(self, fisher: Tensors) -> None:
        for name, new in fisher.items():
            # ``importance`` is gamma F*: both the penalty and the next merge use it in this form.
            self.importance[name] = self.gamma * (self.importance.get(name, 0.0) + new)
            self.anchor[name] = self.trained[name].clone()
