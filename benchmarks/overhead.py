"""What a task's mask, or BatchE's two vectors for each layer, add to a forward pass of ResNet-50 (section 4.1).

BatchE is measured in both of its forms. *Weights*: s t' is multiplied into W once for the batch, as clbench does it. *Vectors*: t scales
each layer's input and s its output, W * (s t') x = s * (W (t * x)), which is the form of Wen et al.: in it every image of a mini-batch
can have its own vectors. A mask has only the first form.

Measured is the processor's time. A machine's speed drifts, so that the forms are measured in turn, round by round; each number is the
median of the rounds' ratios.
"""

import copy
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.images import learner
from benchmarks.timing import processor_seconds
from clbench.methods.batche import BatchE
from clbench.methods.supsup import SupSup
from clbench.stream import Split
from clbench.training import Tensors

Row = tuple[str, float, str]
BATCH = 32
SHAPE = (3, 224, 224)
NETWORK = "resnet-50"
ROUNDS = 5


def rows() -> Iterator[Row]:
    """Shares of a forward pass (float32): the time that is added, of the pass without it."""
    images = torch.randn(BATCH, *SHAPE)
    supsup = learner("supsup", NETWORK, SHAPE, 10, torch.float32, False, {"edges": 16.0, "outputs": 10})
    batche = learner("batche", NETWORK, SHAPE, 10, torch.float32, False, {})
    assert isinstance(supsup, SupSup)
    assert isinstance(batche, BatchE)
    for each in (supsup, batche):
        each.begin_task(0, 1)
        each.end_task(Split(torch.empty(0, *SHAPE), torch.empty(0, dtype=torch.int64)))
    base, mask, statistics = supsup.base, supsup.bank.mask(0), supsup.bank.statistics(0)
    masked = base.state(base.weights * mask, statistics)
    by_vectors = vectorised(batche.network, batche.own_of(0))
    shared = batche.shared | batche.fresh_buffers
    calls = {
        "plain": lambda: functional_call(base.network, masked, (images,)),
        "mask": lambda: base.state(base.weights * mask, statistics),
        "batche_weights": lambda: batche.effective(batche.shared | batche.own_of(0)),
        "batche_vectors": lambda: functional_call(by_vectors, shared, (images,)),
    }
    with torch.no_grad():
        for call in calls.values():
            call()  # to warm up
        measured = [{name: processor_seconds(call) for name, call in calls.items()} for _ in range(ROUNDS)]
    yield f"resnet50_forward_batch_{BATCH}_processor_milliseconds", 1e3 * median(each["plain"] for each in measured), "ms"
    added = {
        "mask": [each["mask"] for each in measured],
        "batche_weights": [each["batche_weights"] for each in measured],
        "batche_vectors": [each["batche_vectors"] - each["plain"] for each in measured],
    }
    for name, seconds in added.items():
        shares = [more / (each["plain"] + more) for more, each in zip(seconds, measured, strict=True)]
        yield f"resnet50_{name}_overhead", median(shares), "ratio"
        for number, share in enumerate(shares):
            yield f"resnet50_{name}_overhead_round_{number}", share, "ratio"


def vectorised(network: nn.Module, vectors: Tensors) -> nn.Module:
    """A copy of a network in which ``own``'s vectors (``LAYER.weight.s`` and ``.t``) scale each layer's output and input."""
    network = copy.deepcopy(network)
    for name in {key.removesuffix(".weight.s") for key in vectors if key.endswith(".weight.s")}:
        layer = network.get_submodule(name)
        by_channel = (-1, *[1] * (layer.get_parameter("weight").ndim - 2))
        s, t = (vectors[f"{name}.weight.{which}"].view(by_channel) for which in "st")
        layer.register_forward_pre_hook(lambda layer, inputs, t=t: (inputs[0] * t,))
        layer.register_forward_hook(lambda layer, inputs, outputs, s=s: scaled(outputs, s, layer.bias))
    return network


def scaled(outputs: Tensor, s: Tensor, bias: Tensor | None) -> Tensor:
    """A layer's outputs with the product of W scaled by ``s`` and the bias as it is."""
    return outputs * s if bias is None else (outputs - bias) * s + bias
