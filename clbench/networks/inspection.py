"""What a network consists of: its parameters, its work, its last layer."""

import contextlib
import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.networks.dotted import Factory, oneline

MOST_PARAMETERS = 10**9
"""The limit for a network by name: 4 GB in float32."""


def check_size(parameters: int) -> None:
    """Raise a ``UserError`` for a network of more than ``MOST_PARAMETERS``."""
    if parameters > MOST_PARAMETERS:
        raise UserError(
            f"a network of {parameters:,} parameters is too large: ask for smaller layers or fewer outputs, at most "
            f"{MOST_PARAMETERS:,} parameters, which take 4 GB"
        )


def count_parameters(factory: Factory, outputs: int) -> int:
    """The number of parameters of a factory's modules. Allocates no weights, and draws no random numbers unless the factory needs them."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return sum(parameter.numel() for parameter in factory(outputs).parameters())


class Work(NamedTuple):
    """The cost of a step: numbers of parameters, of parameter tensors, and of all values that the layers output for one input."""

    parameters: int
    tensors: int
    outputs: int


def work(factory: Factory, outputs: int, input_shape: tuple[int, ...]) -> Work:
    """The work of a step on a factory's modules, from shapes alone.

    If a network cannot be called without values (it branches on them, say), its outputs count as 0.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        module = factory(outputs).to("meta").eval()
    sizes = [parameter.numel() for parameter in module.parameters()]
    output_sizes: list[int] = []

    def count(_: nn.Module, __: Any, result: Any) -> None:
        output_sizes.append(result.numel() if isinstance(result, Tensor) else 0)

    for layer in module.modules():
        if not any(layer.children()):
            layer.register_forward_hook(count)
    with contextlib.suppress(Exception), torch.no_grad():  # other people's code
        module(torch.empty(1, *input_shape, device="meta"))
        return Work(sum(sizes), len(sizes), sum(output_sizes))
    return Work(sum(sizes), len(sizes), 0)


def head_names(network: nn.Module, outputs: int, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the parameters of the last layer: the module that is called last of those whose ``weight`` has ``outputs`` rows.

    If the network cannot be called without values, it is the one that is registered last. Raises a ``UserError`` if there is no such
    module, or if it shares a parameter with another.
    """
    candidates = {
        name: m for name, m in network.named_modules() if isinstance(w := getattr(m, "weight", None), Tensor) and len(w) == outputs
    }
    called = [name for name in _called(network, input_shape) if name in candidates] if len(candidates) > 1 else []
    last = (called or list(candidates))[-1:]
    parameters = dict(candidates[last[0]].named_parameters(recurse=False)) if last else {}
    if "weight" not in parameters:
        raise UserError(f"The network has no last layer with {outputs} outputs to make heads of.")
    others = [m for m in network.modules() if m is not candidates[last[0]]]
    if {id(p) for p in parameters.values()} & {id(p) for m in others for p in m.parameters(recurse=False)}:
        raise UserError(f"The last layer of the network, {last[0]}, shares a parameter with another: give it its own.")
    return tuple(f"{last[0]}.{name}".lstrip(".") for name in parameters)


def _called(network: nn.Module, input_shape: tuple[int, ...]) -> list[str]:
    """The names of a network's modules in the order in which a forward pass calls them; none if that needs values."""
    twin, names = bare_twin(network).eval(), list[str]()
    for name, module in twin.named_modules():
        module.register_forward_hook(lambda *_, name=name: names.append(name))
    with contextlib.suppress(Exception), torch.no_grad():  # other people's code
        twin(torch.empty(2, *input_shape, device="meta"))
        return names
    return []


def bare_twin(network: nn.Module) -> nn.Module:
    """A copy in training mode without values, to be called with given parameters and buffers (``functional_call``).

    A parameter that several layers share is shared in the copy too: ``network.to("meta")`` would make it several. Raises a ``UserError``
    for a network that cannot be copied.
    """
    bare: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in network.parameters()}
    bare |= {id(buffer): buffer.detach().to("meta") for buffer in network.buffers()}
    try:
        return copy.deepcopy(network, bare).train()
    except Exception as error:  # other people's code
        advice = "use weight_norm of torch.nn.utils.parametrizations, not of torch.nn.utils"
        raise UserError(f"The network cannot be copied ({oneline(error)}): {advice}.") from error
