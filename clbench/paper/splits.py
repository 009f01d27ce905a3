"""What the paper admits in section 5 and does not draw: task inference on tasks that are not alike.

SplitMNIST with two classes a task, SplitCIFAR100 with five, and unlike tasks in turn (``mixed``: at the paper's budget with Fashion-MNIST).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from clbench.paper.base import Curve, PaperFigure
from clbench.paper.comparison import ONE_SHOT, draw, draw_beside, inferring

DIGITS: dict[str, dict[str, Any]] = {
    "smoke": {"updates": 100, "data": "mnist-5k"},
    "laptop": {"updates": 1000, "data": "mnist-5k"},
    "paper": {"updates": 1000, "data": "mnist"},
}
DIGITS = {
    name: budget | {"stream": "split-mnist", "network": "lenet-300-100", "tasks": 5, "checkpoints": (1, 2, 3, 4, 5)}
    for name, budget in DIGITS.items()
}
# Figure 2's networks and budgets, with 100 outputs of which five carry labels.
PHOTOGRAPHS: dict[str, dict[str, Any]] = {
    "smoke": {"stream": "split-tinted-digits", "data": "mnist-5k", "network": "resnet-18-8", "tasks": 3, "updates": 40},
    "laptop": {"stream": "split-cifar100", "network": "resnet-18-20", "tasks": 20, "updates": 120},
    "paper": {"stream": "split-cifar100", "network": "resnet-18-20", "tasks": 20, "updates": 5000},
}
PHOTOGRAPHS["smoke"] |= {"batch_size": 64, "checkpoints": (1, 2, 3)}
PHOTOGRAPHS["laptop"] |= {"checkpoints": (1, 5, 10, 15, 20)}
PHOTOGRAPHS["paper"] |= {"checkpoints": (1, 5, 10, 15, 20)}
UNLIKE: dict[str, dict[str, Any]] = {
    "smoke": {"stream": "mixed-digits", "tasks": 6, "updates": 100, "data": "mnist-5k", "checkpoints": (3, 6)},
    "laptop": {"stream": "mixed-digits", "tasks": 15, "updates": 1000, "data": "mnist-5k", "checkpoints": (3, 6, 9, 12, 15)},
    "paper": {"stream": "mixed", "tasks": 99, "updates": 1000, "data": "mnist+fashion-mnist", "checkpoints": (9, 33, 66, 99)},
}
UNLIKE = {name: budget | {"network": "lenet-300-100"} for name, budget in UNLIKE.items()}
GG, GNU_H, GNU_G = "SupSup GG", "SupSup GNu H", "SupSup GNu G"


def curves(budgets: Mapping[str, Mapping[str, Any]], set_: Mapping[str, Any], budget: str) -> Sequence[Curve]:
    """SupSup told the task, and inferring it from one image by both objectives, from one training."""
    shared = budgets[budget]
    questions = {name: ONE_SHOT | {"objective": objective} for name, objective in ((GNU_H, "H"), (GNU_G, "G"))}
    return [inferring(GG, shared, "supsup", set_)] + [
        inferring(name, shared, "supsup", set_, **ask) for name, ask in questions.items()
    ]


SPLITS = PaperFigure(
    "splits",
    "SplitMNIST: where tasks are not alike, inferring them fails",
    2,
    partial(curves, DIGITS, {"outputs": 100}),
    draw,
    beside=draw_beside,
)
CIFAR = PaperFigure(
    "splits-cifar100",
    "SplitCIFAR100 in GNu: where tasks are hard, inferring them fails",
    5,
    partial(curves, PHOTOGRAPHS, {"outputs": 100, "edges": 16.0}),
    draw,
    beside=draw_beside,
)
MIXED = PaperFigure(
    "mixed",
    "Unlike tasks in turn: where they are not uniform, inferring them fails",
    10,
    partial(curves, UNLIKE, {"outputs": 100}),
    draw,
    beside=draw_beside,
)
