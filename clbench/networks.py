"""Backbones by name: plain PyTorch modules, of which no layer class is special.

Five kinds of name are known: the paper's two networks for digits, its residual networks (`resnets.py`), `mlp-AxB...` for a multilayer
perceptron with biases, `swish-AxB...` for HopSupSup's, and the dotted name of anything importable that builds an ``nn.Module``.
`resolve` turns a name into a factory from a number of outputs to a fresh module; `seeded` calls a factory so that its random
initialisation follows from a seed and nothing else.
"""

import contextlib
import copy
import difflib
import inspect
import math
import pkgutil
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clbench import sources
from clbench._torchvision import with_torchvision
from clbench.errors import UserError
from clbench.resnets import resnet_18, resnet_50

Factory = Callable[[int], nn.Module]

# The paper's networks for MNIST (section 4.2), by the widths of their hidden layers. Neither has a bias anywhere.
BIAS_FREE = {"lenet-300-100": (300, 100), "fc-1024-1024": (1024, 1024)}
OUTPUT_KEYWORDS = ("outputs", "num_classes", "num_outputs")
ELEMENTS_AT_A_TIME = 2**20
"""Of a batch of test inputs: 1337 digits, 341 images of 32 x 32 pixels in colour, 6 of 224 x 224."""
KNOWN = (
    *BIAS_FREE,
    "mlp-AxB... (as mlp-400x400)",
    "swish-AxB... (as swish-2048x2048)",
    "resnet-18-W (as resnet-18-20)",
    "resnet-50",
    "package.module:factory",
)


class Row(NamedTuple):
    """A line of the catalogue; ``parameters`` counts those for 28x28 inputs and 10 outputs, None where open."""

    name: str
    description: str
    parameters: int | None


def mlp(input_shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int, *, bias: bool) -> nn.Sequential:
    """A multilayer perceptron with ReLU: inputs [n, *input_shape] are flattened first, the result is [n, outputs].

    Its linear layers are named fc1, fc2, ... and have PyTorch's default initialisation, drawn from the global
    generator. Raises `UserError` if a width or the number of outputs is not positive.
    """
    widths = (math.prod(input_shape), *hidden, outputs)
    if min(widths) < 1:
        raise UserError(f"a network needs at least one unit in every layer, not {'-'.join(map(str, widths))}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out, bias=bias)
        if i <= len(hidden):
            layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


def resolve(name: str, input_shape: tuple[int, ...]) -> Factory:
    """The factory that a name stands for: from a number of outputs to a fresh module for inputs [n, *input_shape].

    - ``lenet-300-100`` and ``fc-1024-1024``: the paper's networks (Wortsman et al. 2020, section 4.2; LeCun et al.
      1998 for the first), without biases;
    - ``mlp-AxB...``: hidden layers of A, B, ... units with biases, as ``mlp-400x400`` (van de Ven & Tolias 2019);
    - ``swish-AxB...``: hidden layers without biases, each with batch normalisation by the batch's own statistics and Swish
      (Wortsman et al. 2020, section 3.5: HopSupSup);
    - ``resnet-18-W``: ResNet-18 for small images with W channels in its first stage, and ``resnet-50`` (see ``resnets.py``);
    - ``package.module:factory`` or ``package.module.factory``: any importable class or function that returns an
      ``nn.Module``. It gets the number of outputs by the keyword ``outputs``, ``num_classes`` or ``num_outputs``,
      whichever its signature has, else as its first positional argument (if that has a default and the signature
      takes any keyword, as ``num_classes``); and ``input_shape`` if its signature has that.

    A factory draws from PyTorch's global random generator, as modules do; `seeded` calls it without touching that.

    Raises `UserError` for a name that is unknown, malformed or cannot be imported, and for a factory that cannot be
    called with a number of outputs. A factory of a dotted name raises `UserError` when it fails or returns anything
    but an ``nn.Module``.
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
        return _dotted(name, input_shape)
    wanted, guesses = name.lower(), [*BIAS_FREE, "mlp-400x400", "resnet-18-20", "resnet-50"]
    begun = [guess for guess in guesses if guess.startswith(wanted)]
    close = begun[:1] or difflib.get_close_matches(wanted, guesses, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(f"unknown network {name!r}.{hint} Known: {', '.join(KNOWN)}.")


def is_dotted(name: str) -> bool:
    """Whether a name stands for a person's own factory, of whose modules nothing is known."""
    return "." in name or ":" in name


def code(name: str) -> dict[str, str]:
    """Digests of the code of a network by dotted name, and of what it imports (``clbench.sources``); empty for clbench's own."""
    return sources.of_dotted(name) if is_dotted(name) else {}


def widths(name: str, kind: str) -> tuple[int, ...]:
    """The hidden units of a network ``kind-AxB...``, layer by layer; a ``UserError`` if the name is malformed."""
    if not re.fullmatch(rf"{kind}-[1-9][0-9]*(x[1-9][0-9]*)*", name):
        raise UserError(f"malformed network {name!r}: give positive widths of hidden layers, as in {kind}-400x400")
    return tuple(map(int, name.removeprefix(f"{kind}-").split("x")))


def _resnet_width(name: str) -> int:
    if not re.fullmatch("resnet-18-[1-9][0-9]*", name):
        raise UserError(f"malformed network {name!r}: give the channels of the first stage, as in resnet-18-20")
    return int(name.rpartition("-")[2])


def seeded(factory: Factory, outputs: int, seed: int) -> nn.Module:
    """The module that a factory builds when PyTorch's random generator starts from ``seed``: the same every time.

    The global generator is left as it was, also after an error. The module is built on the CPU, whatever the default
    device, so that its weights do not depend on the device; move it afterwards.
    """
    # Not torch.manual_seed, which seeds every accelerator's generator as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return factory(outputs)


def swish(input_shape: tuple[int, ...], hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """HopSupSup's network: after each hidden layer, without biases, batch normalisation by the batch's own statistics, and Swish."""
    widths = (math.prod(input_shape), *hidden, outputs)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out, bias=False)
        if i <= len(hidden):
            layers[f"norm{i}"] = nn.BatchNorm1d(fan_out, affine=False, track_running_stats=False)
            layers[f"swish{i}"] = nn.SiLU()
    return nn.Sequential(layers)


def catalogue() -> list[Row]:
    """What `resolve` knows, for ``clbench list networks``. Builds no weights and draws no random numbers."""
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


def count_parameters(factory: Factory, outputs: int) -> int:
    """How many parameters the modules of a factory have. Builds no weights and draws no random numbers where the factory needs none."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return sum(parameter.numel() for parameter in factory(outputs).parameters())


class Work(NamedTuple):
    """What a step on a network costs: its parameters, the tensors that they come in, and what its layers put out for one input."""

    parameters: int
    tensors: int
    outputs: int


def work(factory: Factory, outputs: int, input_shape: tuple[int, ...]) -> Work:
    """The work of a step on a factory's modules, reckoned without computing anything.

    What the layers of a network put out that cannot be called without values (a branch on them) counts as nothing.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        module = factory(outputs).to("meta").eval()
    sizes = [parameter.numel() for parameter in module.parameters()]
    put_out: list[int] = []

    def count(_: nn.Module, __: Any, result: Any) -> None:
        put_out.append(result.numel() if isinstance(result, Tensor) else 0)

    for layer in module.modules():
        if not any(layer.children()):
            layer.register_forward_hook(count)
    with contextlib.suppress(Exception), torch.no_grad():  # other people's code
        module(torch.empty(1, *input_shape, device="meta"))
        return Work(sum(sizes), len(sizes), sum(put_out))
    return Work(sum(sizes), len(sizes), 0)


def _dotted(name: str, input_shape: tuple[int, ...]) -> Factory:
    """The factory at a dotted name, told the number of outputs in the way that its signature asks for."""
    sources.refresh(code(name))
    try:
        build = with_torchvision(lambda: pkgutil.resolve_name(name))
    except Exception as error:  # importing runs other people's code: anything may come
        raise UserError(f"network {name!r} cannot be imported: {oneline(error)}") from error
    if isinstance(build, nn.Module):
        raise UserError(f"network {name!r} is built already; name the function or class that builds a fresh one")
    if not callable(build):
        raise UserError(f"network {name!r} is a {type(build).__name__}, not a function or class that builds modules")
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError) as error:
        raise UserError(f"network {name!r} has no signature to read; wrap it in a function of outputs") from error
    keyword = _outputs_keyword(signature)
    if keyword is None:
        raise UserError(f"network {name!r} takes no number of outputs; give it a parameter named {OUTPUT_KEYWORDS[0]}")
    options = {"input_shape": input_shape} if "input_shape" in signature.parameters else {}
    try:
        signature.bind(**{keyword: 1}, **options)
    except TypeError as error:
        raise UserError(f"network {name!r} needs more than {keyword}: {error}; wrap it in a function of outputs") from error
    return partial(_call, name, build, keyword, options)


def _outputs_keyword(signature: inspect.Signature) -> str | None:
    """The keyword by which a factory takes its number of outputs; None if there is none."""
    parameters = signature.parameters
    named = [keyword for keyword in OUTPUT_KEYWORDS if keyword in parameters]
    if named:
        return named[0]
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "input_shape"]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if anything and not (positional and positional[0].default is inspect.Parameter.empty):
        return "num_classes"  # resnet18(pretrained=False, **kwargs) and its like, which pass it on
    return positional[0].name if positional else None


def _call(name: str, build: Callable[..., Any], keyword: str, options: dict[str, Any], outputs: int) -> nn.Module:
    try:
        module = build(**{keyword: outputs}, **options)
    except Exception as error:  # other people's code
        raise UserError(f"network {name!r} failed to build with {keyword}={outputs}: {oneline(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"network {name!r} returned a {type(module).__name__}, not an nn.Module")
    return module


def oneline(error: Exception) -> str:
    """Another's error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def in_parts(inputs: Tensor) -> tuple[Tensor, ...]:
    """Test inputs [n, ...] in batches that a network can take without the memory for all of them, images with channels last.

    One input that is left over joins the last batch: a network that normalises by the batch could not take it.
    """
    size = max(1, ELEMENTS_AT_A_TIME * len(inputs) // max(1, inputs.numel()))
    sizes = [size] * (len(inputs) // size) + [len(inputs) % size] * (len(inputs) % size > 0)
    if len(sizes) > 1 and sizes[-1] == 1 < size:
        sizes[-2:] = [size + 1]
    return tuple(map(channels_last, inputs.split(sizes)))


def channels_last(inputs: Tensor) -> Tensor:
    """The same inputs; images [n, channels, height, width] in the memory format in which convolutions are fastest."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def head_names(network: nn.Module, outputs: int, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the parameters of the last layer: of the modules whose ``weight`` has ``outputs`` rows the one that is called last.

    Of a network that cannot be called without values, the one that is registered last. Raises `UserError` if no module is one, or if it
    shares a parameter with another.
    """
    like = {
        name: m for name, m in network.named_modules() if isinstance(w := getattr(m, "weight", None), Tensor) and len(w) == outputs
    }
    called = [name for name in _called(network, input_shape) if name in like] if len(like) > 1 else []
    last = (called or list(like))[-1:]
    own = dict(like[last[0]].named_parameters(recurse=False)) if last else {}
    if "weight" not in own:
        raise UserError(f"the network has no last layer with {outputs} outputs that heads could be made of")
    others = [m for m in network.modules() if m is not like[last[0]]]
    if {id(p) for p in own.values()} & {id(p) for m in others for p in m.parameters(recurse=False)}:
        raise UserError(f"the last layer of the network, {last[0]}, shares a parameter with another: give it its own")
    return tuple(f"{last[0]}.{name}".lstrip(".") for name in own)


def _called(network: nn.Module, input_shape: tuple[int, ...]) -> list[str]:
    """The names of a network's modules in the order in which a forward pass calls them; nothing where that needs values."""
    twin, names = bare_twin(network).eval(), list[str]()
    for name, module in twin.named_modules():
        module.register_forward_hook(lambda *_, name=name: names.append(name))
    with contextlib.suppress(Exception), torch.no_grad():  # other people's code
        twin(torch.empty(2, *input_shape, device="meta"))
        return names
    return []


def bare_twin(network: nn.Module) -> nn.Module:
    """A copy in training mode and without values, to be called with parameters and buffers from outside (``functional_call``).

    A parameter that several layers share is one in the copy too: ``network.to("meta")`` would make it several. Raises `UserError` for a
    network that cannot be copied.
    """
    bare: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in network.parameters()}
    bare |= {id(buffer): buffer.detach().to("meta") for buffer in network.buffers()}
    try:
        return copy.deepcopy(network, bare).train()
    except Exception as error:  # other people's code
        advice = "of two functions weight_norm, torch.nn.utils.parametrizations has the one whose networks can be"
        raise UserError(f"the network cannot be copied ({oneline(error)}): {advice}") from error
