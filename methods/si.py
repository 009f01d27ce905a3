"""SI, synaptic intelligence: the more a parameter contributed to the fall of the loss, the more its later changes cost.

    loss = cross-entropy + c * sum_k Omega_k (theta_k - theta~_k)^2
    during a task:    omega_k <- omega_k - g_k * (theta_k after the update - theta_k before it)
    at a task's end:  Omega_k <- Omega_k + max(omega_k, 0) / ((theta_k - theta~_k)^2 + xi),  theta~ <- theta,  omega <- 0

(Zenke, Poole & Ganguli 2017, equations 3 to 5). g is the gradient of the present batch's cross-entropy alone, without the penalty's, and
the displacement is the one that the optimiser made. There is no 1/2 before c.

Deviations: omega is clipped at 0, so that no parameter is pushed away from its anchor (van de Ven & Tolias's code adds it unclipped, and
there g is the gradient of the whole loss). The optimiser's state passes from task to task, while the paper re-initialises it (``restart``).
The reported loss is the cross-entropy.

The default c is van de Ven & Tolias's for permuted MNIST.

The sum is over the parameters that later tasks train: in GG the trunk (finished heads are frozen), in GNs and GNu the outputs too.

Stored to predict: the network; in GG a head for each task, in GNu outputs for every class of every task (see ``_weights.py``). Needed to
resume: Omega, of the size of the network (in GG: of the trunk), and the optimiser's averages if ``restart`` is off; between tasks theta~ is
the network itself and omega is 0.
"""

from typing import Literal

from torch import Tensor

from clbench.checks import above_zero, not_negative
from clbench.method import Brief
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split
from clbench.training import OPTIMISERS, Optimiser, Tensors

from ._van_de_ven import recipes
from ._weights import WeightMethod


def with_path_integral(inner: Optimiser, c: float) -> Optimiser:
    """``inner`` on the loss with the penalty. The slots ``importance`` and ``anchor`` are set from outside; ``path`` sums up omega."""

    def rule(parameter: Tensor, gradient: Tensor, slots: Tensors, step: Tensor, factor: Tensor) -> None:
        before = parameter.clone()
        surrogate = 2 * c * slots["importance"] * (parameter - slots["anchor"])
        inner.rule(parameter, gradient + surrogate, slots, step, factor)
        slots["path"].sub_(gradient * (parameter - before))

    return Optimiser((*inner.slots, "importance", "anchor", "path"), rule)


class SI(WeightMethod):
    """Synaptic intelligence, a penalty weighted by path integrals."""

    name = "si"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "Zenke, Poole, Ganguli: Continual learning through synaptic intelligence. ICML 2017"
    recipes = recipes(
        permuted={"GG": {"c": 5.0}, "GNs": {"c": 5.0}, "GNu": {"c": 0.1}},
        split={"GG": {"c": 50.0}, "GNs": {"c": 500.0}, "GNu": {"c": 0.5}},
    )

    def __init__(
        self,
        brief: Brief,
        *,
        c: float = 5.0,
        xi: float = 0.1,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``c``: the strength; ``xi``: damping, which bounds the importance of parameters that hardly moved; ``optimiser`` with its
        defaults but for the ``learning_rate``; ``restart``: whether it is re-initialised for each task."""
        not_negative(c=c)
        above_zero(xi=xi)
        inner = OPTIMISERS[optimiser](learning_rate)
        super().__init__(brief, optimiser=with_path_integral(inner, c), restart=restart)
        self.averages = inner.slots
        self.xi = xi
        self.importance: Tensors = {}

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.importance = self.widened(self.importance)
        for name, slots in self.state.slots.items():
            slots["path"].zero_()
            slots["anchor"].copy_(self.trained[name])
            if name in self.importance:
                slots["importance"].copy_(self.importance[name])

    def end_task(self, data: Split) -> None:
        for name in self.lasting:
            slots = self.state.slots[name]
            moved = self.trained[name] - slots["anchor"]
            self.importance[name] = slots["importance"] + slots["path"].clamp(min=0) / (moved.square() + self.xi)

    # State

    def progress(self) -> Tensors:
        return super().progress() | {f"importance.{name}": tensor for name, tensor in self.narrowed(self.importance).items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        prefix = "importance."
        for name, tensor in (progress or {}).items():
            if name.startswith(prefix):
                self.importance[name.removeprefix(prefix)] = tensor.to(self.brief.device, copy=True)
