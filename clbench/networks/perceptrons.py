"""Multilayer perceptrons, with ReLU or with Swish."""

import math
from collections import OrderedDict
from itertools import pairwise

from torch import nn

from clbench.errors import UserError
from clbench.networks.inspection import check_size


def mlp(input_shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int, *, bias: bool) -> nn.Sequential:
    """A multilayer perceptron with ReLU: inputs [n, *input_shape] are flattened, the outputs are [n, outputs].

    Its linear layers are named fc1, fc2, ... and have PyTorch's default initialisation, drawn from the global generator. Raises a
    ``UserError`` if a width or the number of outputs is not positive.
    """
    widths = _widths(input_shape, hidden, outputs)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out, bias=bias)
        if i <= len(hidden):
            layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


def _widths(input_shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int) -> tuple[int, ...]:
    """The units of each layer, checked."""
    widths = (math.prod(input_shape), *hidden, outputs)
    if min(widths) < 1:
        raise UserError(f"A network needs at least one unit in every layer, not {'-'.join(map(str, widths))}.")
    check_size(sum(fan_in * fan_out for fan_in, fan_out in pairwise(widths)))
    return widths


def swish(input_shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """HopSupSup's network (Wortsman et al. 2020, section 3.5): linear layers without biases, and Swish.

    After each hidden layer comes batch normalisation by the statistics of the batch itself.
    """
    widths = _widths(input_shape, hidden, outputs)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out, bias=False)
        if i <= len(hidden):
            layers[f"norm{i}"] = nn.BatchNorm1d(fan_out, affine=False, track_running_stats=False)
            layers[f"swish{i}"] = nn.SiLU()
    return nn.Sequential(layers)
