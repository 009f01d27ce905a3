"""The bytes of the paper's Figure 2 left (SplitImageNet: ResNet-50, 100 tasks of 10 classes), computed without any training.

There are two accountings. The paper's: 4 bytes for each parameter of the usual 1000-way ResNet-50 for dense networks, 16-bit indices of
the kept weights and 4-byte normalisation statistics for masks, 4-byte vectors for BatchE. And the file's: what clbench's methods write;
the masks are random here, with the same number of weights kept. 1 MB is a million bytes. The methods are named because they are the lines
of the paper's figure; any other method's file is measured by ``file``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clbench import networks, registry, storage
from clbench._torchvision import import_torchvision
from clbench.method import Brief, Method
from clbench.methods.supsup import Layout, kept_weights
from clbench.networks import weights
from clbench.paper.published import IMAGENET_SIZE
from clbench.stream import Split

TASKS, CLASSES, INPUT = 100, 10, (3, 224, 224)
EDGES = (16.0, 8.0, 4.0)


class Size(NamedTuple):
    """A line of the table: megabytes by the paper's accounting and in clbench's file, the paper's number, and the formula."""

    name: str
    paper_accounting: float
    file: float
    paper: float
    formula: str


def sizes() -> list[Size]:
    """Every line of Figure 2 left. Draws three random masks of ResNet-50; takes some seconds."""
    usual = networks.count_parameters(lambda outputs: import_torchvision().models.resnet50(num_classes=outputs), 1000)
    with torch.device("meta"):
        network = networks.resolve("resnet-50", INPUT)(CLASSES)
    layout = Layout({name: network.get_parameter(name).shape for name in weights(network)})
    statistics = sum(b.numel() for b in network.buffers() if b.is_floating_point())
    ends = sum(shape[0] + shape[1] for shape in layout.shapes.values())
    lines = [
        Size(
            "upper bound",
            megabytes(4 * usual * TASKS),
            file("upper-bound"),
            IMAGENET_SIZE["upper bound"].value,
            f"{TASKS} x 4 B x {usual:,}",
        ),
        Size("single model", megabytes(4 * usual), file("naive", tasks=1), IMAGENET_SIZE["single model"].value, f"4 B x {usual:,}"),
        Size(
            "BatchE",
            megabytes(4 * (usual + ends * TASKS)),
            file("batche"),
            IMAGENET_SIZE["BatchE"].value,
            f"4 B x ({usual:,} + {TASKS} x {ends:,} inputs and outputs of layers)",
        ),
    ]
    for edges in EDGES:
        selected = sum((kept_weights(layout, None, edges) or {}).values())
        lines.append(
            Size(
                f"SupSup; edges {edges:g}",
                megabytes(TASKS * (2 * selected + 4 * statistics)),
                file("supsup", edges=edges, outputs=CLASSES),
                IMAGENET_SIZE[f"SupSup; edges {edges:g}"].value,
                f"{TASKS} x (2 B x {selected:,} weights kept + 4 B x {statistics:,} statistics)",
            )
        )
    return lines


def megabytes(count: float) -> float:
    """Bytes in millions."""
    return count / 1e6


def file(method: str, tasks: int = TASKS, **parameters: Any) -> float:
    """Megabytes of the file from which a method predicts, after so many tasks of ``CLASSES`` classes on a ResNet-50 that is not trained."""
    make: Any = registry.method(method)
    factory = networks.resolve("resnet-50", INPUT)

    def network(outputs: int) -> nn.Module:
        return networks.seeded(factory, outputs, 0)

    learner: Method = make(Brief(registry.scenario("GG"), network, INPUT, CLASSES, 0), **parameters)
    states = []
    for task in range(min(2, tasks)):
        learner.begin_task(task, 1)
        learner.end_task(Split(torch.empty(0, *INPUT), torch.empty(0, dtype=torch.int64)))
        states.append({name: tensor.to("meta") for name, tensor in learner.learned().items()})
    return megabytes(storage.file_bytes(states[0] if tasks == 1 else grown(states[0], states[1], tasks)))


def grown(first: Mapping[str, Tensor], second: Mapping[str, Tensor], tasks: int) -> dict[str, Tensor]:
    """The shapes after ``tasks`` tasks, from those after one and two: every task adds as much as the second."""
    return {
        name: torch.empty(_grown(first[name].shape, t.shape, tasks), dtype=t.dtype, device="meta") for name, t in second.items()
    }


def _grown(first: torch.Size, second: torch.Size, tasks: int) -> list[int]:
    return [after + (after - before) * (tasks - 2) for before, after in zip(first, second, strict=True)]
