"""What the requirements compare: states bit by bit and through files, the global random generators, memory."""

import contextlib
import gc
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench import storage
from clbench.method import Method, Prediction

Tensors = Mapping[str, Tensor]


def copies(tensors: Tensors) -> dict[str, Tensor]:
    """Copies of the tensors."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def present(prediction: Prediction) -> dict[str, Tensor]:
    """The tensors of a prediction, by name."""
    return {name: tensor for name, tensor in prediction._asdict().items() if tensor is not None}


def both(learner: Method) -> dict[str, Tensor]:
    """Copies of all that is learned and in progress."""
    return copies(learner.learned()) | {f"progress {name}": tensor for name, tensor in copies(learner.progress()).items()}


def differing(one: Tensors, other: Tensors) -> set[str]:
    """The names of tensors that only one of them has, or that differ in a bit."""
    return changes(one, other) | changes(other, one)


def changes(before: Tensors, after: Tensors) -> set[str]:
    """The names of tensors that are missing afterwards, or that differ in a bit."""
    return {name for name, tensor in before.items() if name not in after or not _same(tensor, after[name])}


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.detach().cpu().flatten().contiguous().view(torch.uint8) for tensor in (one, other)))


def some(names: set[str]) -> str:
    """The first few of the names."""
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def through_a_file(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors, written to a file and read back."""
    with tempfile.TemporaryDirectory() as folder:
        storage.save(tensors, Path(folder) / "tensors")
        return copies(storage.load(Path(folder) / "tensors"))


@contextlib.contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seed the global generators with ``seed``, and restore them afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one is meant)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def generator_states() -> dict[str, Any]:
    """The states of the global random generators, by library."""
    return {
        "PyTorch": torch.get_rng_state().tolist(),
        "NumPy": repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        "Python": random.getstate(),
    }


def reachable_bytes(thing: Any) -> int:
    """The bytes of all tensors and arrays that ``thing`` keeps alive; shared memory counts once."""
    seen: dict[int, Any] = {}
    memories: dict[int, int] = {}
    waiting = [thing]
    while waiting:
        here = waiting.pop()
        if id(here) in seen or isinstance(here, type | ModuleType):
            continue
        seen[id(here)] = here
        if isinstance(here, Tensor) and here.device.type != "meta":
            memories[here.untyped_storage().data_ptr()] = here.untyped_storage().nbytes()
            waiting.append(here.grad)
        elif isinstance(here, np.ndarray):
            memories[here.ctypes.data] = here.nbytes
        # A function keeps its closure alive; everything else that it refers to belongs to its module.
        waiting.extend(here.__closure__ or () if isinstance(here, FunctionType) else gc.get_referents(here))
    return sum(memories.values())
