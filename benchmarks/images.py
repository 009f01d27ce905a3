"""At image scale: a supermask step beside a dense one on ResNet-18, and what applying a mask costs a forward pass of ResNet-50."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from benchmarks.timing import best_seconds
from clbench import networks, registry
from clbench.method import Brief, Method
from clbench.methods.batche import BatchE
from clbench.methods.supsup import SupSup
from clbench.stream import Split
from clbench.training import compiler_found, product_type

Row = tuple[str, float, str]
BATCH, BATCH_50 = 128, 32
CPU = torch.device("cpu")


def rows() -> Iterator[Row]:
    """ResNet-18 in training, ResNet-50 in a forward pass."""
    seconds = {}
    compiled = compiler_found()
    for method, parameters in (
        ("upper-bound", {"optimiser": "adam"}),
        ("supsup", {"edges": 16.0, "outputs": 5, "optimiser": "adam"}),
    ):
        made = learner(method, "resnet-18-20", (3, 32, 32), 5, product_type(CPU), compiled, parameters)
        seconds[method] = step_seconds(made)
        yield f"resnet18_{method.replace('-', '_')}_step_milliseconds", seconds[method] * 1e3, "ms"
    yield "resnet18_supermask_step_vs_dense", seconds["supsup"] / seconds["upper-bound"], "ratio"
    single = learner("upper-bound", "resnet-18-20", (3, 32, 32), 5, torch.float32, compiled, {"optimiser": "adam"})
    yield "resnet18_dense_step_float32_vs_bfloat16", step_seconds(single) / seconds["upper-bound"], "ratio"
    yield from overheads()


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


def step_seconds(made: Method) -> float:
    """Seconds of one training step on a batch at hand."""
    made.begin_task(0, 1000)
    images, labels = torch.randn(BATCH, *made.brief.input_shape), torch.randint(0, made.brief.classes, (BATCH,))
    return best_seconds(lambda: made.observe(images, labels), times=5, repeats=4)


def overheads() -> Iterator[Row]:
    """The share of a forward pass of ResNet-50 (224 pixels, float32) that applying a mask, or BatchE's vectors, costs."""
    shape = (3, 224, 224)
    images = torch.randn(BATCH_50, *shape)
    supsup = learner("supsup", "resnet-50", shape, 10, torch.float32, False, {"edges": 16.0, "outputs": 10})
    batche = learner("batche", "resnet-50", shape, 10, torch.float32, False, {})
    assert isinstance(supsup, SupSup)
    assert isinstance(batche, BatchE)
    for each in (supsup, batche):
        each.begin_task(0, 1)
        each.end_task(Split(torch.empty(0, *shape), torch.empty(0, dtype=torch.int64)))
    base, mask, statistics = supsup.base, supsup.bank.mask(0), supsup.bank.statistics(0)
    masked = base.state(base.weights * mask, statistics)
    shared, own = batche.shared, batche.own_of(0)
    with torch.no_grad():
        forward = best_seconds(lambda: functional_call(base.network, masked, (images,)), times=1, repeats=5)
        applied = {
            "mask": best_seconds(lambda: base.state(base.weights * mask, statistics), times=5, repeats=5),
            "batche": best_seconds(lambda: batche.effective(shared | own), times=5, repeats=5),
        }
    yield f"resnet50_forward_batch_{BATCH_50}_milliseconds", forward * 1e3, "ms"
    for name, seconds in applied.items():
        yield f"resnet50_{name}_overhead", seconds / (forward + seconds), "ratio"
