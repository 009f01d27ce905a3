"""Networks by name, and the modules that they build."""

import difflib
import re
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from clbench.errors import UserError
from clbench.networks.dotted import Factory, factory_of, is_dotted
from clbench.networks.inspection import count_parameters
from clbench.networks.perceptrons import mlp, swish
from clbench.networks.resnets import resnet_18, resnet_50

BIAS_FREE = {"lenet-300-100": (300, 100), "fc-1024-1024": (1024, 1024)}
"""The paper's networks for MNIST (section 4.2), by the widths of their hidden layers. Neither has biases."""
KNOWN = (
    *BIAS_FREE,
    "mlp-AxB... (as mlp-400x400)",
    "swish-AxB... (as swish-2048x2048)",
    "resnet-18-W (as resnet-18-20)",
    "resnet-50",
    "package.module:factory",
)


WIDTH = "[1-9][0-9]{0,8}"
"""A width in a name."""


class Row(NamedTuple):
    """A row of the catalogue. ``parameters`` is their number for 10 outputs and the usual inputs; None if it depends on the name."""

    name: str
    description: str
    parameters: int | None


def resolve(name: str, input_shape: tuple[int, ...]) -> Factory:
    """The factory of that name: from a number of outputs to a fresh module for inputs [n, *input_shape].

    - ``lenet-300-100`` and ``fc-1024-1024``: the paper's networks (Wortsman et al. 2020, section 4.2; LeCun et al.
      1998 for the first), without biases;
    - ``mlp-AxB...``: hidden layers of A, B, ... units with biases, as ``mlp-400x400`` (van de Ven & Tolias 2019);
    - ``swish-AxB...``: hidden layers without biases, each with batch normalisation by the statistics of the batch itself, and Swish
      (Wortsman et al. 2020, section 3.5: HopSupSup);
    - ``resnet-18-W``: ResNet-18 for small images with W channels in its first stage, and ``resnet-50`` (see ``resnets``);
    - ``package.module:factory`` or ``package.module.factory``: any importable class or function that returns an
      ``nn.Module``. It gets the number of outputs by the keyword ``outputs``, ``num_classes`` or ``num_outputs``,
      whichever its signature has, else as its first positional argument (if that has a default and the signature
      takes any keyword, as ``num_classes``); and ``input_shape`` if its signature has that.

    A factory draws from PyTorch's global random generator, as modules do; ``seeded`` calls it without changing that.

    Raises a ``UserError`` for a name that is unknown, malformed or cannot be imported, and for a factory that cannot be called with a
    number of outputs. A factory of a dotted name raises a ``UserError`` if it fails or returns anything but an ``nn.Module``.
    """
    if name in BIAS_FREE:
        return partial(mlp, input_shape, BIAS_FREE[name], bias=False)
    if name.startswith("mlp-"):
        return partial(mlp, input_shape, widths(name, "mlp"), bias=True)
    if name.startswith("swish-"):
        return partial(swish, input_shape, widths(name, "swish"))
    if name.startswith("resnet-18-"):
        return partial(resnet_18, input_shape, _resnet_width(name))
    if name == "resnet-50":
        return partial(resnet_50, input_shape)
    if is_dotted(name):
        return factory_of(name, input_shape)
    wanted, guesses = name.lower(), [*BIAS_FREE, "mlp-400x400", "resnet-18-20", "resnet-50"]
    completions = [guess for guess in guesses if guess.startswith(wanted)]
    close = completions[:1] or difflib.get_close_matches(wanted, guesses, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(f"Unknown network {name!r}.{hint} Known: {', '.join(KNOWN)}.")


def widths(name: str, kind: str) -> tuple[int, ...]:
    """The hidden units of a network ``kind-AxB...``, layer by layer; a ``UserError`` if the name is malformed."""
    if not re.fullmatch(rf"{kind}-{WIDTH}(x{WIDTH})*", name):
        raise UserError(f"Malformed network {name!r}: give positive widths of hidden layers, as in {kind}-400x400.")
    return tuple(map(int, name.removeprefix(f"{kind}-").split("x")))


def _resnet_width(name: str) -> int:
    if not re.fullmatch(f"resnet-18-{WIDTH}", name):
        raise UserError(f"Malformed network {name!r}: give the channels of the first stage, as in resnet-18-20.")
    return int(name.rpartition("-")[2])


def seeded(factory: Factory, outputs: int, seed: int) -> nn.Module:
    """The module that a factory builds when PyTorch's random generator starts from ``seed``: the same every time.

    The global generator is left as it was, also after an error. The module is built on the CPU, whatever the default device, so that its
    weights do not depend on the device: move it afterwards.
    """
    # Not torch.manual_seed, which seeds every accelerator's generator as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return factory(outputs)


def catalogue() -> list[Row]:
    """The networks that ``resolve`` knows, for ``clbench list networks``. Allocates no weights and draws no random numbers."""
    rows = [
        ("lenet-300-100", "784-300-100-outputs, ReLU, no biases (the paper's LeNet)"),
        ("fc-1024-1024", "784-1024-1024-outputs, ReLU, no biases (the paper's FC)"),
        ("mlp-400x400", "ReLU, with biases; mlp-AxB... for any number and widths of hidden layers"),
        ("swish-2048x2048", "Swish and batch normalisation, no biases (HopSupSup's); swish-AxB... for any hidden layers"),
    ]
    small, large = resolve("resnet-18-20", (3, 32, 32)), resolve("resnet-50", (3, 224, 224))
    residual = [
        Row("resnet-18-20", "for small images, no biases; resnet-18-W for any number of channels", count_parameters(small, 10)),
        Row("resnet-50", "torchvision's, for large images", count_parameters(large, 10)),
    ]
    dotted = Row("package.module:factory", "any importable function or class that builds an nn.Module", None)
    return [Row(name, description, count_parameters(resolve(name, (1, 28, 28)), 10)) for name, description in rows] + [
        *residual,
        dotted,
    ]
