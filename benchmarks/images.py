"""At image scale: a supermask step beside a dense one on ResNet-18."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.timing import best_seconds
from clbench import networks, registry
from clbench.devices import compiler_found, product_type
from clbench.method import Brief, Method

Row = tuple[str, float, str]
BATCH = 128
CPU = torch.device("cpu")


def rows() -> Iterator[Row]:
    """ResNet-18 in training."""
    seconds = {}
    compiled = compiler_found()
    for method, parameters in (
        ("upper-bound", {"optimiser": "adam"}),
        ("supsup", {"edges": 16.0, "outputs": 5, "optimiser": "adam"}),
    ):
        instance = learner(method, "resnet-18-20", (3, 32, 32), 5, product_type(CPU), compiled, parameters)
        seconds[method] = step_seconds(instance)
        yield f"resnet18_{method.replace('-', '_')}_step_milliseconds", seconds[method] * 1e3, "ms"
    yield "resnet18_supermask_step_vs_dense", seconds["supsup"] / seconds["upper-bound"], "ratio"
    single = learner("upper-bound", "resnet-18-20", (3, 32, 32), 5, torch.float32, compiled, {"optimiser": "adam"})
    yield "resnet18_dense_step_float32_vs_bfloat16", step_seconds(single) / seconds["upper-bound"], "ratio"


def learner(
    method: str,
    network: str,
    shape: tuple[int, ...],
    classes: int,
    precision: torch.dtype,
    compiled: bool,
    parameters: dict[str, Any],
) -> Method:
    """A method on random images."""
    factory = networks.resolve(network, shape)

    def build(outputs: int) -> nn.Module:
        return networks.seeded(factory, outputs, 0)

    brief = Brief(registry.scenario("GG"), build, shape, classes, 0, CPU, precision, compiled)
    make: Any = registry.method(method)
    return make(brief, **parameters)


def step_seconds(method: Method) -> float:
    """Seconds of one training step on a batch at hand."""
    method.begin_task(0, 1000)
    images, labels = torch.randn(BATCH, *method.brief.input_shape), torch.randint(0, method.brief.classes, (BATCH,))
    return best_seconds(lambda: method.observe(images, labels), times=5, repeats=4)
