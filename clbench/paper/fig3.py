"""Figure 3: PermutedMNIST. SupSup, which infers the task (GNu), against methods that are told it (GG).

Left LeNet 300-100 with 100 outputs, right FC 1024-1024 with 500. The upper bound is the paper's: sequential fine-tuning, each task
scored right after it was learned.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from clbench.paper.base import Curve, PaperFigure, Reference
from clbench.paper.comparison import CLASSES, ONE_SHOT, draw, draw_beside, inferring, told
from clbench.paper.published import PERMUTED_250

PAPER = {"tasks": 250, "updates": 1000, "data": "mnist", "checkpoints": (10, 50, 100, 150, 200, 250)}
LENET: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 100, "data": "mnist-5k", "checkpoints": (1, 2, 3)},
    "laptop": {"tasks": 20, "updates": 1000, "data": "mnist-5k", "checkpoints": (1, 5, 10, 15, 20)},
    "paper": PAPER,
}
FC: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 30, "data": "mnist-5k", "checkpoints": (1, 2, 3)},
    # PSP forgets slowly in so wide a network: fewer tasks would not show that.
    "laptop": {"tasks": 50, "updates": 1000, "data": "mnist-5k", "checkpoints": (1, 10, 20, 30, 40, 50)},
    "paper": PAPER,
}
GNU_H = "SupSup GNu H"


def curves(network: str, outputs: int, budgets: dict[str, dict[str, Any]], budget: str) -> Sequence[Curve]:
    """SupSup with both objectives and told the task, from one training; PSP, BatchE and the upper bound in GG."""
    shared = budgets[budget] | {"stream": "permuted-mnist", "network": network}
    set_ = {"outputs": outputs}
    return [
        inferring("SupSup GG", shared, "supsup", set_),
        inferring(GNU_H, shared, "supsup", set_, **ONE_SHOT, objective="H"),
        inferring("SupSup GNu G", shared, "supsup", set_, **ONE_SHOT, objective="G"),
        told("PSP GG", shared, "psp", restart=True),
        told("BatchE GG", shared, "batche"),
        told("upper bound GG", shared, "upper-bound"),
    ]


def made(
    side: str, network: str, outputs: int, budgets: dict[str, dict[str, Any]], reference: tuple[Reference, ...]
) -> PaperFigure:
    """One side of the figure."""
    lines: Callable[[str], Sequence[Curve]] = partial(curves, network, outputs, budgets)
    title = f"PermutedMNIST with {network}: SupSup in GNu against PSP and BatchE in GG"
    heading = f"Figure 3 {side} as run by clbench"
    return PaperFigure(f"fig3-{side}", title, CLASSES, lines, draw, reference, beside=draw_beside, heading=heading)


LEFT = made("left", "lenet-300-100", 100, LENET, ())
RIGHT = made("right", "fc-1024-1024", 500, FC, (Reference(GNU_H, 250, PERMUTED_250),))
