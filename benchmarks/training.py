"""The training step: against Avalanche's, against the peak of the matrix product, and against a roofline, all measured in one run."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch.nn import CrossEntropyLoss

from benchmarks.timing import bandwidth, best_seconds, peak_flops
from clbench import networks
from clbench._torchvision import import_torchvision
from clbench.data import load
from clbench.engine import build, request
from clbench.engine.evaluator import teach_together
from clbench.engine.schedule import Schedule
from clbench.method import Method
from clbench.stream import Stream

Row = tuple[str, float, str]
BATCH = 128
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
        instance, stream = learner("supsup", "gnu", network, {"outputs": outputs}, data, root)
        step, alone = step_seconds(instance, stream, instance.tasks_at_once), step_seconds(instance, stream, 1)
        products, products_alone = product_seconds(widths, instance.tasks_at_once), product_seconds(widths)
        weights = sum(a * b for a, b in pairwise(widths))
        traffic = weights * LEAST_BYTES / bandwidth(weights * instance.tasks_at_once)
        yield f"train_{name}_tasks_at_once", instance.tasks_at_once, "count"
        yield f"train_{name}_milliseconds", seconds * 1e3, "ms"
        yield f"train_{name}_step_milliseconds", step * 1e3, "ms"
        yield f"train_{name}_step_alone_milliseconds", alone * 1e3, "ms"
        yield f"train_{name}_products_milliseconds", products * 1e3, "ms"
        yield f"train_{name}_products_alone_milliseconds", products_alone * 1e3, "ms"
        yield f"train_{name}_traffic_milliseconds", traffic * 1e3, "ms"
        yield f"train_{name}_peak_fraction", step_flops(widths) / seconds / peak, "ratio"
        yield f"train_{name}_roofline_fraction", (products + traffic) / step, "ratio"
        yield f"train_{name}_with_data_roofline_fraction", (products + traffic) / seconds, "ratio"
        yield f"train_{name}_roofline_alone_fraction", (products_alone + traffic) / alone, "ratio"


def learner(
    method: str, scenario: str, network: str, parameters: dict[str, Any], data: str, root: str | None, tasks: int = 50
) -> tuple[Method, Stream]:
    """A method as a run of so many tasks would make it, and its stream of permutations."""
    settings = {"method": method, "scenario": scenario, "network": network, "set": parameters, "data": data}
    job = request.resolve(request.request(settings | {"tasks": tasks, "updates": 1000}))[0]
    stream = build.build_stream(job.learn, root, torch.device("cpu"))
    return build.build_method(job.learn, job.scenario, stream, torch.device("cpu")), stream


def step_seconds(instance: Method, stream: Stream, tasks: int) -> float:
    """Seconds of one task's supermask step on a batch at hand, with so many tasks trained at a time."""
    return best_seconds(supermask_step(instance, stream, tasks), times=200 if instance.tasks_at_once > 1 else 60, repeats=8) / tasks


def supermask_step(instance: Method, stream: Stream, tasks: int) -> Callable[[], object]:
    """One step of so many tasks at a time, on batches at hand."""
    batches = [next(stream[task].train.batches(1, BATCH, torch.Generator().manual_seed(0))) for task in range(tasks)]
    if tasks == 1:
        instance.begin_task(0, 1000)
        return lambda: instance.observe(*batches[0])
    instance.begin_tasks(range(tasks), 1000)
    inputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
    return lambda: instance.observe_tasks(inputs, labels)


def update_seconds(method: str, scenario: str, network: str, parameters: dict[str, Any], data: str, root: str | None) -> float:
    """Seconds of one update of one task, taught as in a run, with the data path: the best of some hundreds in a row."""
    instance, stream = learner(method, scenario, network, parameters, data, root)
    updates = 300 if network.startswith("lenet") else 100
    first = iter(range(0, len(stream), instance.tasks_at_once))

    def some() -> None:
        begin = next(first)
        list(teach_together(instance, stream, range(begin, begin + instance.tasks_at_once), Schedule(updates, BATCH, 0)))

    return best_seconds(some, repeats=6) / updates / instance.tasks_at_once


def step_flops(widths: list[int]) -> float:
    """Operations of a step's matrix products: forward, the gradient of the weights and, except in the first layer, of the inputs."""
    return sum(2 * BATCH * a * b * (2 if layer == 0 else 3) for layer, (a, b) in enumerate(pairwise(widths)))


def product_seconds(widths: list[int], tasks: int = 1) -> float:
    """Seconds of one task's matrix products alone, in bfloat16; those of several tasks at a time as batched products."""
    leading = (tasks,) if tasks > 1 else ()
    weights = [torch.randn(*leading, b, a).bfloat16() for a, b in pairwise(widths)]
    hidden = [torch.randn(*leading, BATCH, a).bfloat16() for a in widths]

    def products() -> None:
        for layer, weight in enumerate(weights):
            hidden[layer] @ weight.mT
            hidden[layer + 1].mT @ hidden[layer]
            if layer:
                hidden[layer + 1] @ weight

    return best_seconds(products, times=50, repeats=7) / tasks


def avalanche_updates_per_second(data: str, root: str | None) -> float:
    """Updates per second of Avalanche's Naive strategy on its own PermutedMNIST: same network, batch and optimiser.

    Without full MNIST, the embedded digits take its place inside Avalanche's benchmark.
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
        dataset = load(data, root)
        self.images, labels = (dataset.train_images, dataset.train_labels) if train else (dataset.test_images, dataset.test_labels)
        self.targets = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index][0].numpy()), self.targets[index]
