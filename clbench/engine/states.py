"""The saved state of a run: written whole, known by its digests, and looked at before it is taken up."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from clbench import storage
from clbench.errors import UserError
from clbench.method import Method

Tensors = dict[str, Tensor]
REMEDY = "put back the one that belongs there, or do the run again with --overwrite always"


def write(method: Method, folder: Path) -> dict[str, str]:
    """Save a method's state, and the global generator's, in ``folder``; the digests of the files by name."""
    parts = {"learned": method.learned(), "progress": method.progress(), "generator": {"state": torch.get_rng_state()}}
    for name, tensors in parts.items():
        storage.save(tensors, _file(folder, name))
    return {name: _digest(_file(folder, name)) for name in parts}


def read(folder: Path, name: str, digests: Mapping[str, str] | None, size: int | None = None) -> Tensors:
    """One of the files of a state, ``learned``, ``progress`` or ``generator``; a ``UserError`` if it is not what its run saved.

    ``digests`` are those that the run recorded. Of a run that recorded none, the file must have the ``size`` that its table of tasks
    says, where it says one, and all values must be finite.
    """
    file = _file(folder, name)
    tensors = storage.load(file)
    if digests is not None and digests.get(name) != _digest(file):
        raise UserError(f"The file {file} is not the one that its run saved: {REMEDY}.")
    if digests is None:
        if size is not None and size != file.stat().st_size:
            raise UserError(f"The file {file} has {file.stat().st_size} bytes where its run saved {size}: {REMEDY}.")
        for key, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise UserError(f"The file {file} holds values in {key} that are not finite: {REMEDY}.")
    return tensors


def take_up(
    method: Method, folder: Path, digests: Mapping[str, str] | None, learned: Tensors, progress: Tensors | None = None
) -> None:
    """Restore a fresh method. A ``UserError`` if the state cannot be of this method's; one with digests is the run's own.

    Names, shapes and types must be those of the method once it is restored, and of a fresh one as far as that has anything: there a
    tensor may have fewer rows, for tasks to come.
    """
    if digests is not None:
        method.restore(learned, progress)
        return
    parts: list[tuple[str, Tensors, Callable[[], Tensors]]] = [("learned", learned, method.learned)]
    parts += [("progress", progress, method.progress)] if progress is not None else []
    fresh = {name: _of(kept) for name, _, kept in parts}
    with fitting(folder, digests):
        method.restore(learned, progress)
    for name, given, kept in parts:
        if found := _misfit(given, fresh[name], _of(kept)):
            raise UserError(f"The file {_file(folder, name)} does not fit its run, for {found}: {REMEDY}.")


@contextmanager
def fitting(folder: Path, digests: Mapping[str, str] | None) -> Iterator[None]:
    """For a method's work on a state without digests: a ``UserError`` for whatever it stumbles over."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if digests is not None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"The state in {folder} does not fit its run ({reason}): {REMEDY}.") from error


def _misfit(given: Tensors, fresh: Tensors, now: Tensors) -> str:
    """How a state differs from that of the method which took it up, and from a fresh one; empty if it does not."""
    if odd := sorted(given.keys() ^ now.keys()):
        return f"{odd[0]} is {'no tensor of this method' if odd[0] in given else 'not there'}"
    for name, tensor in given.items():
        for other, rows in ((now[name], 0), (fresh.get(name, tensor), 1)):
            if other.ndim and tensor.shape[rows:] != other.shape[rows:] and (other.numel() or not rows):
                return f"{name} has the shape {tuple(tensor.shape)} and not {tuple(other.shape)}"
            if tensor.dtype != other.dtype and other.numel():
                return f"{name} has the type {tensor.dtype} and not {other.dtype}"
    return ""


def _of(kept: Callable[[], Tensors]) -> Tensors:
    """What a method keeps; nothing where it can keep nothing yet."""
    with suppress(Exception):
        return kept()
    return {}


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
