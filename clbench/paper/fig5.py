"""Figure 5, FC 1024-1024. Left: RotatedMNIST, where SupSup infers the task by Binary from full batches. Right: BatchE infers its tasks.

The paper draws One-Shot for BatchE, and does not say from how many images. Here are One-Shot and Binary, each from one image and from a
whole batch of 128.
"""

from collections.abc import Sequence
from typing import Any

from clbench.paper.base import Curve, PaperFigure
from clbench.paper.comparison import CLASSES, draw, draw_beside, inferring, told

BINARY = {"algorithm": "binary", "group": 128, "evidence": 128, "objective": "H"}

BATCHE_GG = "BatchE GG"
BATCHE_WAYS: dict[str, dict[str, Any]] = {
    f"{name} from {words}": {"algorithm": algorithm, "group": 128, "evidence": evidence}
    for evidence, words in ((1, "1 image"), (128, "128 images"))
    for name, algorithm in (("One-Shot", "one-shot"), ("Binary", "binary"))
}
"""How BatchE is asked to infer the task of a batch of 128."""

ROTATED: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 30, "data": "mnist-5k", "checkpoints": (2, 3)},
    "laptop": {"tasks": 12, "updates": 500, "data": "mnist-5k", "checkpoints": (2, 4, 6, 8, 10, 12)},
    "paper": {"tasks": 36, "updates": 1000, "data": "mnist", "checkpoints": (2, 5, 10, 15, 20, 25, 30, 35, 36)},
}
ASKED = {"smoke": 256, "laptop": 256, "paper": 1280}
"""Test images of each task, for all curves: a decision by Binary from 128 images costs seconds."""

PERMUTED: dict[str, dict[str, Any]] = {
    "smoke": {"tasks": 3, "updates": 30, "data": "mnist-5k", "checkpoints": (1, 2, 3)},
    "laptop": {"tasks": 10, "updates": 500, "data": "mnist-5k", "checkpoints": (2, 4, 6, 8, 10)},
    "paper": {"tasks": 250, "updates": 1000, "data": "mnist", "checkpoints": (10, 50, 100, 150, 200, 250)},
}


def rotated(budget: str) -> Sequence[Curve]:
    """SupSup in GNu and told the task, from one training; PSP, BatchE and the upper bound in GG."""
    shared = ROTATED[budget] | {"stream": "rotated-mnist", "network": "fc-1024-1024", "ask": {"images": ASKED[budget]}}
    set_ = {"outputs": 200}
    return [
        inferring("SupSup GG", shared, "supsup", set_),
        inferring("SupSup GNu H", shared, "supsup", set_, **BINARY),
        told("PSP GG", shared, "psp", restart=True),
        told("BatchE GG", shared, "batche"),
        told("upper bound GG", shared, "upper-bound"),
    ]


def permuted(budget: str) -> Sequence[Curve]:
    """BatchE with 500 outputs, told the task and inferring it in four ways, from one training; and both bounds."""
    shared = PERMUTED[budget] | {"stream": "permuted-mnist", "network": "fc-1024-1024"}
    set_ = {"outputs": 500, "weight_decay": 0.0}
    return [
        told("upper bound GG", shared, "upper-bound"),
        inferring(BATCHE_GG, shared, "batche", set_),
        *(inferring(name, shared, "batche", set_, **way, objective="H") for name, way in BATCHE_WAYS.items()),
        told("lower bound GG", shared, "lower-bound"),
    ]


LEFT = PaperFigure(
    "fig5-left",
    "RotatedMNIST: SupSup in GNu by Binary from full batches",
    CLASSES,
    rotated,
    draw,
    beside=draw_beside,
    heading="Figure 5 left as run by clbench",
)
RIGHT = PaperFigure(
    "fig5-right",
    "PermutedMNIST: BatchE infers its tasks by One-Shot and Binary",
    CLASSES,
    permuted,
    draw,
    beside=draw_beside,
    heading="Figure 5 right as run by clbench",
)
