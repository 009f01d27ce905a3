"""PackNet: tasks packed into one network by pruning (Mallya & Lazebnik, CVPR 2018).

Each task first trains all weights that no earlier task owns; the others are fixed but in use. Then it prunes: in every layer it takes the
fraction ``keep`` of these weights with the largest magnitude as its own for ever, and sets the rest to 0 for later tasks. It trains its own
weights to the task's end. Task i is answered with the weights of tasks 1 to i:

    p = head_i(f(x, W * [owner <= i]))

Biases and normalisation scales are learned on the first task and frozen. Each task has a head, which is not pruned. The number of free
weights falls by the factor 1 - ``keep`` with each task: PackNet is made for few tasks.

Deviations: batch-norm statistics are per task; the optimiser is re-initialised for every task and for the training after pruning.

Stored to predict: W and the owner of each of the trunk's weights (a byte; two bytes from 256 tasks on), and for each task a head and
batch-norm statistics. Needed to resume: nothing else.
"""

from typing import Literal

import torch
from torch import Tensor

from clbench.errors import UserError
from clbench.method import Brief
from clbench.stream import Split
from clbench.training import OPTIMISERS, Tensors, named, part

from ._check import for_check
from ._per_task import FREE, KEPT, MASK, MaskMethod, free_or_kept

OWNER = ".owner"


class PackNet(MaskMethod):
    """Tasks packed into one network by iterative pruning."""

    name = "packnet"
    citation = "Mallya, Lazebnik: PackNet: adding multiple tasks to a single network by iterative pruning. CVPR 2018"
    recipes = (for_check(),)

    def __init__(
        self,
        brief: Brief,
        *,
        keep: float = 0.5,
        retrain: float = 1 / 3,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
    ) -> None:
        """``keep``: the fraction of the free weights that a task takes as its own; ``retrain``: the fraction of its updates after pruning;
        ``optimiser`` with its defaults but for the ``learning_rate``."""
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate))
        for what, value in {"keep": keep, "retrain": retrain}.items():
            if not 0 < value < 1:
                raise UserError(f"{what} must be between 0 and 1, not {value}.")
        self.keep, self.retrain = keep, retrain
        self.shared = {name: self.initial[name] for name in self.trunk}
        # Owners are counted from 1; 0 means free.
        self.shared |= {name + OWNER: torch.zeros_like(self.initial[name], dtype=torch.int16) for name in self.maskable}

    # Learning

    def learns_shared(self, task: int) -> bool:
        """Not as a whole: the part that a task may train is among its own tensors while it learns."""
        return False

    def fresh_own(self, task: int) -> Tensors:
        trained = self.trunk if task == 0 else self.maskable
        return self.fresh_parameters(self.head, task) | {name: self.shared[name] for name in trained}

    def fixed(self, task: int) -> Tensors:
        free = {name + FREE: self.shared[name + OWNER] == 0 for name in self.maskable}
        return free | {name + KEPT: self.shared[name] for name in self.maskable}

    def masked(self, name: str, tensors: Tensors) -> Tensor:
        return free_or_kept(name, tensors) if name + FREE in tensors else super().masked(name, tensors)

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.until_pruning = updates - max(1, round(self.retrain * updates))

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        if self.until_pruning == 0:
            self._prune()
        self.until_pruning -= 1
        return super().observe(inputs, labels)

    def _prune(self) -> None:
        """Give the largest free weights to the task, and set the rest to 0."""
        for name in self.maskable:
            fixed, owner = self.given["fixed"], self.shared[name + OWNER]
            size = torch.where(fixed[name + FREE], self.trained[name].abs(), -1).flatten()
            largest = size.topk(round(self.keep * int((size >= 0).sum()))).indices
            selected = torch.zeros_like(size, dtype=torch.bool).index_fill(0, largest, True).view(owner.shape)
            fixed |= {name + FREE: selected, name + KEPT: fixed[name + KEPT] * (owner > 0)}
            self.shared[name + OWNER] = owner.masked_fill(selected, self.task + 1)
        self._train(self.trained, self.step)

    def end_task(self, data: Split) -> None:
        self.trained |= {name: free_or_kept(name, self.given["fixed"] | self.trained) for name in self.maskable}
        super().end_task(data)

    def finished(self, task: int) -> Tensors:
        return {name: self.trained[name] for name in self.head}

    def settled(self) -> Tensors:
        """The weights that tasks own, and the parameters that only the first task learns."""
        of_first = {name: self.shared[name] for name in self.trunk if name not in self.maskable and self.rows}
        owned = {(task, name): self.shared[name + OWNER] == task + 1 for task in range(len(self.rows)) for name in self.maskable}
        return of_first | {f"{task}/{name}": self.shared[name][mask] for (task, name), mask in owned.items()}

    # Answering

    def own_of(self, task: int) -> Tensors:
        owners = {name: self.shared[name + OWNER] for name in self.maskable}
        return super().own_of(task) | {name + MASK: (owner > 0) & (owner <= task + 1) for name, owner in owners.items()}

    # State

    def learned(self) -> Tensors:
        number = torch.uint8 if len(self.rows) < 256 else torch.int16
        return {name: tensor.to(number) if name.endswith(OWNER) else tensor for name, tensor in super().learned().items()}

    def task_progress(self) -> Tensors | None:
        """Also what pruning changes: the owners, the free weights and the values of the others, and when it happens."""
        owners = {name + OWNER: self.shared[name + OWNER] for name in self.maskable}
        pruning = {"left": torch.tensor(self.until_pruning)}
        return (super().task_progress() or {}) | named(owners=owners, fixed=self.given["fixed"], pruning=pruning)

    def restore_task(self, progress: Tensors) -> None:
        super().restore_task(progress)
        self.shared |= part("owners", progress, self.brief.device)
        self.given["fixed"] = part("fixed", progress, self.brief.device)
        self.until_pruning = int(progress["pruning/left"])

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        self.shared = {name: tensor.short() if name.endswith(OWNER) else tensor for name, tensor in self.shared.items()}

    @classmethod
    def rewind(cls, learned: Tensors, tasks: int) -> Tensors | None:
        """Later tasks' weights were free and 0 then."""
        earlier = dict(super().rewind(learned, tasks) or {})
        for name in [name for name in learned if name.endswith(OWNER)]:
            weight, later = name.removesuffix(OWNER), learned[name] > tasks
            earlier |= {name: learned[name].masked_fill(later, 0), weight: learned[weight].masked_fill(later, 0)}
        return earlier
