"""The devices that a run can compute on. To add one, add PyTorch's name of it to ``ACCELERATORS``, and what it can do to the functions
below if it differs.

Imports PyTorch only when it is needed, so that ``clbench --help`` answers at once.
"""

import shutil
from typing import TYPE_CHECKING

from clbench.errors import UserError

if TYPE_CHECKING:
    import torch

ACCELERATORS = ("cuda",)
"""The kinds of device that are used instead of the processor if they are there, the most wanted first."""
NAMES = f"auto, {', '.join(('cpu', *ACCELERATORS[:-1]))} or {ACCELERATORS[-1]}"
"""What a person may ask for."""


def accelerator() -> str | None:
    """The first of ``ACCELERATORS`` that this machine has; None if it has none."""
    import torch

    return next((kind for kind in ACCELERATORS if torch.get_device_module(kind).is_available()), None)


def usual() -> "torch.device":
    """This machine's accelerator, or else its processor."""
    import torch

    return torch.device(accelerator() or "cpu")


def chosen(name: str) -> "torch.device":
    """The device called ``name``; ``auto`` is the usual one. Raises a ``UserError`` for one that is unknown or not there."""
    import torch

    if name == "auto":
        return usual()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Unknown device {name!r}: give {NAMES}.") from None
    if device.type not in ("cpu", *ACCELERATORS):
        raise UserError(f"clbench cannot use the device {name!r}: give {NAMES}.")
    if device.type != "cpu" and not torch.get_device_module(device.type).is_available():
        raise UserError(f"This machine has no GPU for --device {name}: use --device cpu.")
    if device.type != "cpu" and (device.index or 0) >= (count := torch.get_device_module(device.type).device_count()):
        raise UserError(f"This machine has no device {name}: the numbers of its GPUs are below {count}.")
    return device


def description() -> str:
    """The accelerator's name in full, or that there is none."""
    import torch

    kind = accelerator()
    return "none: everything runs on the CPU" if kind is None else str(torch.get_device_module(kind).get_device_name(0))


def product_type(device: "torch.device") -> "torch.dtype":
    """The fastest type for matrix products on ``device``: bfloat16 if the processor multiplies it in hardware, else float32."""
    import torch

    if device.type != "cpu":
        return torch.bfloat16
    features = torch.cpu.get_capabilities()
    return torch.bfloat16 if features.get("avx512_bf16") or features.get("amx_bf16") else torch.float32


def compiler_found() -> bool:
    """Whether ``torch.compile`` has what it needs on this machine: a C++ compiler, or a GPU."""
    return accelerator() is not None or any(shutil.which(name) for name in ("c++", "g++", "clang++"))
