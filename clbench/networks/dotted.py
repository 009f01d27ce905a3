"""Networks by dotted name: other people's functions and classes, called with the number of outputs."""

import inspect
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from clbench import sources
from clbench._torchvision import with_torchvision
from clbench.errors import UserError

Factory = Callable[[int], nn.Module]
"""From a number of outputs to a fresh module."""

OUTPUT_KEYWORDS = ("outputs", "num_classes", "num_outputs")


def is_dotted(name: str) -> bool:
    """Whether a name is the dotted name of other people's code."""
    return "." in name or ":" in name


def code(name: str) -> dict[str, str]:
    """Digests of the code of a network by dotted name, and of what it imports (``clbench.sources``); empty for clbench's own."""
    return sources.of_dotted(name) if is_dotted(name) else {}


def factory_of(name: str, input_shape: tuple[int, ...]) -> Factory:
    """The factory at a dotted name, which gets the number of outputs by the keyword in its signature."""
    sources.refresh(code(name))
    try:
        build = with_torchvision(lambda: pkgutil.resolve_name(name))
    except (Exception, SystemExit) as error:  # importing runs other people's code, which may raise anything
        raise UserError(f"The network {name!r} cannot be imported: {sources.reason(error)}{sources.where(error)}.") from error
    if isinstance(build, nn.Module):
        raise UserError(f"The network {name!r} is a module already: name the function or class that builds a fresh one.")
    if not callable(build):
        raise UserError(f"The network {name!r} is a {type(build).__name__}, not a function or class that builds modules.")
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError) as error:
        raise UserError(f"The network {name!r} has no signature to read: wrap it in a function of outputs.") from error
    keyword = _outputs_keyword(signature)
    if keyword is None:
        raise UserError(f"The network {name!r} takes no number of outputs: give it a parameter named {OUTPUT_KEYWORDS[0]}.")
    options = {"input_shape": input_shape} if "input_shape" in signature.parameters else {}
    try:
        signature.bind(**{keyword: 1}, **options)
    except TypeError as error:
        raise UserError(f"The network {name!r} needs more than {keyword}: {error}; wrap it in a function of outputs.") from error
    return partial(_call, name, build, keyword, options)


def _outputs_keyword(signature: inspect.Signature) -> str | None:
    """The name of the parameter of a factory that is its number of outputs; None if there is none."""
    parameters = signature.parameters
    named = [keyword for keyword in OUTPUT_KEYWORDS if keyword in parameters]
    if named:
        return named[0]
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "input_shape"]
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if any_keyword and not (positional and positional[0].default is inspect.Parameter.empty):
        return "num_classes"  # resnet18(pretrained=False, **kwargs) and the like pass it on
    return positional[0].name if positional else None


def _call(name: str, build: Callable[..., Any], keyword: str, options: dict[str, Any], outputs: int) -> nn.Module:
    try:
        module = build(**{keyword: outputs}, **options)
    except (Exception, SystemExit) as error:  # other people's code
        what = f"The network {name!r} failed to build with {keyword}={outputs}"
        raise UserError(f"{what}: {sources.reason(error)}{sources.where(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"The network {name!r} returned a {type(module).__name__}, not an nn.Module.")
    return module


def oneline(error: Exception) -> str:
    """An error of other people's code, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
