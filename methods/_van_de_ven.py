"""Shared by the regularising methods: the published strengths of van de Ven & Tolias 2019, as recipes for their two streams.

They come from the authors' grid searches, which score by the accuracies that their scripts report. Their setting: multilayer perceptrons
with biases, Adam at a constant rate, batches of 128; permuted MNIST with 2 x 1000 units and 5000 updates a task, split MNIST with 2 x 400
units and 2000 updates. As here, their penalties are lambda/2 * F, with F the mean over all training images of a task (of the squared
gradient for the predicted label), gamma acts in the merge and in the penalty, SI's c has no 1/2, and in GNu the outputs of the tasks so far
compete. Adam's averages pass from task to task (``restart`` is off), and this matters: in the class scenario of permuted MNIST, SI reaches
18 % if Adam is re-initialised for each task.
"""

from collections.abc import Mapping
from typing import Any

from clbench.method import Recipe

from ._check import for_check

SOURCE = "van de Ven & Tolias 2019 (arXiv 1904.07734) and the authors' code"

PERMUTED: Mapping[str, Any] = {"data": "mnist", "network": "mlp-1000x1000", "tasks": 10, "updates": 5000, "batch_size": 128}
SPLIT: Mapping[str, Any] = {"data": "mnist", "network": "mlp-400x400", "tasks": 5, "updates": 2000, "batch_size": 128}
"""The other settings of the two streams."""

OfScenario = Mapping[str, Mapping[str, Any]]


def recipes(*, permuted: OfScenario, split: OfScenario, always: Mapping[str, Any] | None = None) -> tuple[Recipe, ...]:
    """A recipe for each of their streams and scenarios (``always`` is added to each), and one for ``clbench check``."""
    streams = (("permuted-mnist-32", PERMUTED, 1e-4, permuted), ("split-mnist-raw", SPLIT, 1e-3, split))
    adam = {"optimiser": "adam", "restart": False, **(always or {})}
    published = (
        Recipe(
            stream,
            "*",
            adam | {"learning_rate": rate} | dict(strengths),
            {},
            SOURCE,
            scenario,
            "van-de-ven-permuted" if stream.startswith("permuted") else "van-de-ven-split",
            run,
        )
        for stream, run, rate, by_scenario in streams
        for scenario, strengths in by_scenario.items()
    )
    return (*published, for_check({"restart": True}))  # without it, naive fine-tuning forgets too little in so short a stream
