"""XdG, context-dependent gating (Masse, Grant & Freedman 2018): each task uses its own random part of the hidden units.

    layer l computes W_l (g_l(task) * h),    g_l(task) in {0, 1}, with the fraction ``gated`` of zeros

h are the outputs of the layer before, and the input of the first layer is not gated. The task's number and the layer's name determine its
gates, which are never trained: tasks overlap in few units, so that they change each other little. Gates need the task in training and in
inference. All tasks share the weights, and each has a head.

``xdg`` is the gating, alone (``c`` 0) or with synaptic intelligence on the shared weights (``c`` above 0, see ``si.py``); ``xdg-ewc`` is
the gating with elastic weight consolidation (see ``ewc.py``).

Deviations: exactly the stated fraction of each layer's units is gated, rounded (the paper draws each unit by itself); convolutions are
gated by channel. The optimiser's state passes from task to task, unless ``restart`` is on.

Stored to predict: the trunk, a head for each task, and the seed of the gates. Needed to resume: what SI or EWC needs, and the optimiser's
averages if ``restart`` is off.
"""

from typing import Literal

from clbench.method import Brief, Recipe

from ._check import for_check
from ._fisher import Estimator
from ._gates import Gated
from ._van_de_ven import PERMUTED, SPLIT
from .ewc import EWC
from .si import SI

SOURCE = "van de Ven & Tolias 2018 (arXiv 1809.10635), Tables 3 and 4, and the authors' code"
ADAM = {"optimiser": "adam", "restart": False}
PUBLISHED = (
    Recipe(
        "permuted-mnist-32", "*", ADAM | {"gated": 0.55, "learning_rate": 1e-4}, {}, SOURCE, "GG", "van-de-ven-permuted", PERMUTED
    ),
    Recipe("split-mnist-raw", "*", ADAM | {"gated": 0.95, "learning_rate": 1e-3}, {}, SOURCE, "GG", "van-de-ven-split", SPLIT),
)


class XdG(Gated, SI):
    """Context-dependent gating, alone or with synaptic intelligence."""

    name = "xdg"
    citation = (
        "Masse, Grant, Freedman: Alleviating catastrophic forgetting using context-dependent gating and synaptic stabilization. "
        "PNAS 115(44), 2018"
    )
    recipes = (*PUBLISHED, for_check({"restart": True, "gated": 0.5}))
    price = 0.1  # fewer units for each task

    def __init__(
        self,
        brief: Brief,
        *,
        gated: float = 0.8,
        c: float = 0.0,
        xi: float = 0.1,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``gated``: the fraction of hidden units that a task does not use; ``c`` and ``xi``: the strength and damping of synaptic
        intelligence (``c`` 0: gating alone); ``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it is
        re-initialised for each task."""
        super().__init__(brief, gated=gated, c=c, xi=xi, optimiser=optimiser, learning_rate=learning_rate, restart=restart)


class XdGEWC(Gated, EWC):
    """Context-dependent gating with elastic weight consolidation."""

    name = "xdg-ewc"
    citation = XdG.citation
    recipes = (for_check({"restart": True, "gated": 0.5}),)
    price = 0.1  # fewer units for each task

    def __init__(
        self,
        brief: Brief,
        *,
        gated: float = 0.8,
        strength: float = 10.0,
        fisher: Estimator = "exact",
        samples: int = 500,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``gated``: the fraction of hidden units that a task does not use; ``strength``, ``fisher`` and ``samples``: those of EWC;
        ``optimiser`` with its defaults but for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        super().__init__(
            brief,
            gated=gated,
            strength=strength,
            fisher=fisher,
            samples=samples,
            optimiser=optimiser,
            learning_rate=learning_rate,
            restart=restart,
        )
