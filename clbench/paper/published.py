"""Published numbers that clbench shows beside its own: each with its source, how it was seen, and the settings of the measurement.

This is the only place that holds them: figures, tables and ``docs/published.md`` read them here. Every number has a source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Standing = Literal["seen in the paper", "seen in the authors' repository", "second-hand", "read off a figure"]
"""How a number was seen; second-hand: only as others quote it."""


@dataclass(frozen=True)
class Published:
    """A number as it was published, in per cent (accuracies) or in megabytes of 1,000,000 bytes, to as many digits as were seen."""

    quantity: str
    value: float
    source: str
    standing: Standing
    setting: str
    unit: Literal["%", "MB"] = "%"

    @property
    def share(self) -> float:
        """A percentage from 0 to 1."""
        return self.value / 100

    @property
    def shown(self) -> str:
        """The number with its unit."""
        return f"{self.value:.10g} {self.unit}"

    @property
    def cited(self) -> str:
        """The source, and how it was seen if not in the source itself."""
        return self.source if self.standing == "seen in the paper" else f"{self.source} ({self.standing})"


SUPSUP = "arXiv 2006.14769"
IMAGENET = "SplitImageNet, 100 tasks of 10 classes, task given, ResNet-50, one seed"
ACCURACIES = {"upper bound": 92.55, "SupSup; edges 16": 89.58, "SupSup; edges 8": 88.68, "SupSup; edges 4": 86.37, "BatchE": 81.50}
SIZES = {"upper bound": 10222.81, "SupSup; edges 16": 195.18, "SupSup; edges 8": 100.98, "SupSup; edges 4": 65.50, "BatchE": 124.99}
SIZES |= {"single model": 102.23}
IMAGENET_ACCURACY = {
    curve: Published(f"SplitImageNet, {curve}", value, f"{SUPSUP}, Figure 2", "seen in the paper", IMAGENET)
    for curve, value in ACCURACIES.items()
}
IMAGENET_SIZE = {
    curve: Published(f"SplitImageNet, size of {curve}", value, f"{SUPSUP}, Figure 2", "seen in the paper", IMAGENET, "MB")
    for curve, value in SIZES.items()
}
"""The points of the paper's Figure 2 left, by the names of clbench's curves."""
CIFAR_LOWER_BOUND = Published(
    "SplitCIFAR100, lower bound",
    24.5,
    f"{SUPSUP}, section 4.1",
    "seen in the paper",
    "20 tasks of 5 classes, task given, narrow ResNet-18, 250 epochs, 5 seeds and splits",
)
CIFAR_SUPSUP = tuple(
    Published(
        f"SplitCIFAR100, SupSup, {which}",
        value,
        f"{SUPSUP}, Table 2 of the appendix",
        "second-hand",
        "20 tasks of 5 classes, task given, narrow ResNet-18, 250 epochs",
    )
    for which, value in (("lowest density", 77.56), ("highest density", 89.57), ("best with Transfer", 91.66))
)
PERMUTED_250 = Published(
    "PermutedMNIST, SupSup with H, 250 tasks",
    94.91,
    f"{SUPSUP}, section 4.2",
    "seen in the paper",
    "task inferred (GNu) once for each batch of 128 from one image, FC 1024-1024, 500 outputs, 1000 updates a task",
)
HOPSUPSUP = Published(
    "SplitMNIST, HopSupSup",
    97.43,
    f"{SUPSUP}, appendix",
    "second-hand",
    "task inferred, one search a task over its whole test set, 784-2048-2048-10, one epoch; seeds not seen (quoted as 20)",
)

THEIR_SCENARIOS = {"GG": "task", "GNs": "domain", "GNu": "class"}
"""What van de Ven & Tolias call the scenarios."""
_TABLES: tuple[tuple[str, str, str, Standing, str, dict[str, tuple[float, float, float]]], ...] = (
    (
        "permuted-mnist-32",
        "permuted MNIST",
        "arXiv 1809.10635, Table 4",
        "seen in the paper",
        "10 tasks, MLP 1000-1000, images padded to 32 x 32, Adam 1e-4, 5000 updates a task of 128 images",
        {
            "naive": (81.79, 78.51, 17.26),
            "ewc": (94.74, 94.31, 25.04),
            "online-ewc": (95.96, 94.42, 33.88),
            "si": (94.75, 95.33, 29.31),
        },
    ),
    (
        "split-mnist-raw",
        "split MNIST",
        "arXiv 1904.07734, Table 4",
        "second-hand",
        "5 tasks, MLP 400-400, Adam 1e-3, 2000 updates a task of 128 images",
        {
            "naive": (87.2, 59.2, 19.90),
            "ewc": (98.64, 63.95, 20.01),
            "online-ewc": (99.1, 64.3, 19.96),
            "si": (99.1, 65.4, 19.99),
        },
    ),
)
VAN_DE_VEN: Mapping[tuple[str, str, str], Published] = {
    (stream, method, scenario): Published(f"{name}, {method}, {theirs} scenario", value, source, standing, setting)
    for stream, name, source, standing, setting, rows in _TABLES
    for method, values in rows.items()
    for (scenario, theirs), value in zip(THEIR_SCENARIOS.items(), values, strict=True)
}
"""Means after all tasks, by clbench's stream, method and scenario."""

A_GEM = "arXiv 1812.00420"
GENERATIVE = "arXiv 2104.10093"
_ONE_PASS = "17 tasks after 3 for cross-validation, MLP 256-256, one head, SGD, one pass in batches of 10, 5 seeds"
_SPLIT = "5 tasks, class scenario, images from 0 to 1, 10 seeds"
_HNET = "5 tasks, task inferred by entropy, MLP 400-400 written in chunks, Adam 1e-3, 2000 updates a task of 128 images"
_ZOO: tuple[tuple[str, str, str, float, str, Standing, str], ...] = (
    *(
        (method, "a-gem-table-4", "GNs", value, f"{A_GEM}, Table 4", "seen in the paper", _ONE_PASS)
        for method, value in (("naive", 47.9), ("ewc", 68.3), ("mas", 69.6), ("rwalk", 85.7), ("gem", 89.5), ("a-gem", 89.1))
    ),
    ("slda", "van-de-ven-split", "GNu", 87.30, f"{GENERATIVE}, Table 2", "seen in the paper", f"{_SPLIT}, on pixels"),
    (
        "generative-classifier",
        "van-de-ven-split",
        "GNu",
        93.25,
        f"{GENERATIVE}, Table 4",
        "seen in the paper",
        f"{_SPLIT}, 1000 updates a class of 128 images, 100 samples (93.79 with 10000)",
    ),
    *(
        (method, recipe, scenario, value, f"arXiv 1809.10635, Table {table}", "seen in the paper", _TABLES[table == 3][4])
        for method, recipe, table, values in (
            ("xdg", "van-de-ven-split", 3, {"GG": 98.74}),
            ("xdg", "van-de-ven-permuted", 4, {"GG": 91.40}),
            ("dgr", "van-de-ven-split", 3, {"GG": 99.47, "GNs": 95.74, "GNu": 91.24}),
            ("dgr", "van-de-ven-permuted", 4, {"GG": 92.52, "GNs": 95.09, "GNu": 92.19}),
            ("dgr", "van-de-ven-distill-split", 3, {"GG": 99.59, "GNs": 96.94, "GNu": 91.84}),
            ("dgr", "van-de-ven-distill-permuted", 4, {"GG": 97.51, "GNs": 97.35, "GNu": 96.38}),
        )
        for scenario, value in values.items()
    ),
    ("icarl", "van-de-ven-split", "GNu", 94.57, "arXiv 1904.07734, Table 4", "second-hand", f"{_TABLES[1][4]}, 2000 exemplars"),
    ("hnet", "hypercl-split", "GNu", 69.48, "arXiv 1906.00695, split MNIST, HNET+ENT", "second-hand", _HNET),
)
ZOO: Mapping[tuple[str, str, str], Published] = {
    (method, recipe, scenario): Published(f"{method}, {recipe}, {scenario}", value, source, standing, setting)
    for method, recipe, scenario, value, source, standing, setting in _ZOO
}
"""Means after all tasks, by the method, the name of its recipe, and the scenario."""

ALL = (
    *IMAGENET_ACCURACY.values(),
    *IMAGENET_SIZE.values(),
    CIFAR_LOWER_BOUND,
    *CIFAR_SUPSUP,
    PERMUTED_250,
    HOPSUPSUP,
    *VAN_DE_VEN.values(),
    *ZOO.values(),
)
"""Every number."""
