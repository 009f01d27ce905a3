"""The training step: against Avalanche's, against the peak of the matrix product, and against a roofline, all measured in one run."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch.nn import CrossEntropyLoss

from benchmarks.timing import bandwidth, best_seconds, peak_flops
from clbench import networks, spec
from clbench._torchvision import import_torchvision
from clbench.data import load
from clbench.evaluator import Schedule, teach
from clbench.method import Method
from clbench.stream import Stream

Row = tuple[str, float, str]
BATCH = 128
AT_ONCE = 4
"""Tasks that might be trained at a time."""
LEAST_BYTES = 4 * 4 + 2 + 2 + 1 / 8
"""The least memory traffic of a supermask step for each weight: scores and squares read and written in float32, the effective weight
written and the gradient read in bfloat16, and the sign of the weight."""


def rows(data: str, root: str | None) -> Iterator[Row]:
    """Benchmarks (a) and (b)."""
    updates = {}
    for method, scenario in (("naive", "gns"), ("supsup", "gnu")):
        updates[method] = 1 / update_seconds(method, scenario, "lenet-300-100", {}, data, root)
        yield f"{method}_lenet_updates_per_second", updates[method], "1/s"
    peer = avalanche_updates_per_second(data, root)
    yield "avalanche_naive_lenet_updates_per_second", peer, "1/s"
    yield "naive_lenet_vs_avalanche", updates["naive"] / peer, "ratio"
    yield "supsup_lenet_vs_avalanche_naive", updates["supsup"] / peer, "ratio"
    peak = peak_flops()
    yield "peak_bfloat16", peak / 1e9, "GFLOP/s"
    yield "peak_float32", peak_flops(torch.float32) / 1e9, "GFLOP/s"
    for name, network, outputs in (("lenet", "lenet-300-100", 100), ("fc", "fc-1024-1024", 500)):
        widths = [784, *map(int, network.partition("-")[2].split("-")), outputs]
        seconds = update_seconds("supsup", "gnu", network, {"outputs": outputs}, data, root)
        step = step_seconds(network, outputs, data, root)
        flops = step_flops(widths)
        products = product_seconds(widths)
        weights = sum(a * b for a, b in pairwise(widths))
        traffic = weights * LEAST_BYTES / bandwidth(weights)
        yield f"train_{name}_milliseconds", seconds * 1e3, "ms"
        yield f"train_{name}_step_milliseconds", step * 1e3, "ms"
        yield f"train_{name}_products_milliseconds", products * 1e3, "ms"
        yield f"train_{name}_traffic_milliseconds", traffic * 1e3, "ms"
        yield f"train_{name}_peak_fraction", flops / seconds / peak, "ratio"
        yield f"train_{name}_roofline_fraction", (products + traffic) / step, "ratio"
        yield f"train_{name}_with_data_roofline_fraction", (products + traffic) / seconds, "ratio"
        yield f"train_{name}_{AT_ONCE}_at_once_products_vs_one", product_seconds(widths, (AT_ONCE,)) / (AT_ONCE * products), "ratio"


def learner(
    method: str, scenario: str, network: str, parameters: dict[str, Any], data: str, root: str | None, tasks: int = 50
) -> tuple[Method, Stream]:
    """A method as a run of so many tasks would make it, and its stream of permutations."""
    settings = {"method": method, "scenario": scenario, "network": network, "set": parameters, "data": data}
    job = spec.resolve(spec.request(settings | {"tasks": tasks, "updates": 1000}))[0]
    stream = spec.build_stream(job.learn, root, torch.device("cpu"))
    return spec.build_method(job.learn, job.scenario, stream, torch.device("cpu")), stream


def step_seconds(network: str, outputs: int, data: str, root: str | None) -> float:
    """Seconds of one supermask step on a batch at hand."""
    made, stream = learner("supsup", "gnu", network, {"outputs": outputs}, data, root)
    made.begin_task(0, 1000)
    ((inputs, labels),) = stream[0].train.batches(1, BATCH, torch.Generator().manual_seed(0))
    return best_seconds(lambda: made.observe(inputs, labels), times=200 if network.startswith("lenet") else 60, repeats=8)


def update_seconds(method: str, scenario: str, network: str, parameters: dict[str, Any], data: str, root: str | None) -> float:
    """Seconds of one update of a method, data path and all: the best of some hundreds in a row."""
    made, stream = learner(method, scenario, network, parameters, data, root)
    updates = 300 if network.startswith("lenet") else 100
    task = iter(range(50))

    def some() -> None:
        index = next(task)
        teach(made, stream[index], index, Schedule(updates, BATCH, 0))

    return best_seconds(some, repeats=6) / updates


def step_flops(widths: list[int]) -> float:
    """Operations of a step's matrix products: forward, the gradient of the weights and, but for the first layer, of the inputs."""
    return sum(2 * BATCH * a * b * (2 if layer == 0 else 3) for layer, (a, b) in enumerate(pairwise(widths)))


def product_seconds(widths: list[int], tasks: tuple[int, ...] = ()) -> float:
    """Seconds of these matrix products alone, in bfloat16; for so many ``tasks`` at once as batched products."""
    weights = [torch.randn(*tasks, b, a).bfloat16() for a, b in pairwise(widths)]
    hidden = [torch.randn(*tasks, BATCH, a).bfloat16() for a in widths]

    def products() -> None:
        for layer, weight in enumerate(weights):
            hidden[layer] @ weight.mT
            hidden[layer + 1].mT @ hidden[layer]
            if layer:
                hidden[layer + 1] @ weight

    return best_seconds(products, times=50, repeats=7)


def avalanche_updates_per_second(data: str, root: str | None) -> float:
    """Updates per second of Avalanche's Naive strategy on its own PermutedMNIST: same network, batch and optimiser.

    Where full MNIST is not at hand, the embedded digits take its place inside Avalanche's benchmark.
    """
    torchvision = import_torchvision()
    from avalanche.benchmarks.classic import cmnist
    from avalanche.training.supervised import Naive

    with patch.object(cmnist, "get_mnist_dataset", lambda dataset_root: (Images(data, root, True), Images(data, root, False))):
        normalise = torchvision.transforms.Normalize((0.1307,), (0.3081,))
        to_tensor = torchvision.transforms.Compose([torchvision.transforms.ToTensor(), normalise])
        benchmark = cmnist.PermutedMNIST(2, seed=0, train_transform=to_tensor, eval_transform=to_tensor)
    network = networks.resolve("lenet-300-100", (1, 28, 28))(10)
    optimiser = torch.optim.RMSprop(network.parameters(), lr=1e-4)
    experience = benchmark.train_stream[0]
    a_pass = -(-len(experience.dataset) // BATCH)
    passes = max(1, 300 // a_pass)
    strategy = Naive(
        model=network,
        optimizer=optimiser,
        criterion=CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=passes,
        device="cpu",
        evaluator=None,
    )
    return passes * a_pass / best_seconds(lambda: strategy.train(experience, num_workers=0), repeats=2, warm=0)


class Images(torch.utils.data.Dataset):
    """One of clbench's data sets in the form of torchvision's MNIST: pairs of a picture and a label, and ``targets``."""

    def __init__(self, data: str, root: str | None, train: bool) -> None:
        found = load(data, root)
        self.images, labels = (found.train_images, found.train_labels) if train else (found.test_images, found.test_labels)
        self.targets = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index][0].numpy()), self.targets[index]
