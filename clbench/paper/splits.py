"""What the paper admits in section 5 and does not draw: task inference on tasks that are not alike, SplitMNIST in two classes each."""

from collections.abc import Sequence
from typing import Any

from clbench.paper.base import Curve, PaperFigure
from clbench.paper.comparison import ONE_SHOT, draw, inferring

BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {"updates": 100, "data": "mnist-5k"},
    "laptop": {"updates": 1000, "data": "mnist-5k"},
    "paper": {"updates": 1000, "data": "mnist"},
}
GG, GNU_H, GNU_G = "SupSup GG", "SupSup GNu H", "SupSup GNu G"


def curves(budget: str) -> Sequence[Curve]:
    """SupSup told the task, and inferring it from one image by both objectives, from one training."""
    shared = BUDGETS[budget] | {"stream": "split-mnist", "network": "lenet-300-100", "tasks": 5, "checkpoints": (1, 2, 3, 4, 5)}
    set_ = {"outputs": 100}
    asked = {name: ONE_SHOT | {"objective": objective} for name, objective in ((GNU_H, "H"), (GNU_G, "G"))}
    return [inferring(GG, shared, "supsup", set_)] + [inferring(name, shared, "supsup", set_, **ask) for name, ask in asked.items()]


SPLITS = PaperFigure("splits", "SplitMNIST: where tasks are not alike, inferring them fails", 2, curves, draw)
