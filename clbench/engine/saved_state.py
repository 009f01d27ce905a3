"""The saved state of a run: a folder of safetensors files, known by their digests and checked before they are restored.

A state inside a task is one file, whose name says where: ``<tasks learned>+<batches of the next>-<digest>.safetensors``.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from clbench import storage
from clbench.engine import durable
from clbench.engine.lesson import Midway, global_generators
from clbench.errors import UserError, tell
from clbench.method import Method

Tensors = dict[str, Tensor]
FILES = ("learned", "progress", "generator")
"""The files of a state."""
RUN = "run"
"""The name of the tensor in a state inside a task that names its run."""
REMEDY = "put the original back, or repeat the run with --overwrite always"


def write(method: Method, folder: Path) -> dict[str, str]:
    """Save a method's state, and the global generator's, in ``folder``; returns the digests of the files by name."""
    files = {"learned": method.learned(), "progress": method.progress(), "generator": global_generators()}
    for name, tensors in files.items():
        storage.save(tensors, _file(folder, name))
    return {name: _digest(_file(folder, name)) for name in files}


def read(folder: Path, name: str, digests: Mapping[str, str] | None, size: int | None = None) -> Tensors:
    """One file of a state, ``learned``, ``progress`` or ``generator``; a ``UserError`` if it is not what its run saved.

    ``digests`` are those that the run recorded. If it recorded none, the file must have the ``size`` in its table of tasks (if that has
    one), and all values must be finite.
    """
    file = _file(folder, name)
    tensors = storage.load(file)
    if digests is not None and digests.get(name) != _digest(file):
        raise UserError(f"The file {file} is not the one that its run saved: {REMEDY}.")
    if digests is None:
        if size is not None and size != file.stat().st_size:
            raise UserError(f"The file {file} has {file.stat().st_size} bytes, and its run saved {size}: {REMEDY}.")
        for key, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise UserError(f"The file {file} holds values in {key} that are not finite: {REMEDY}.")
    return tensors


def restore(
    method: Method, folder: Path, digests: Mapping[str, str] | None, learned: Tensors, progress: Tensors | None = None
) -> None:
    """Restore a fresh method. A ``UserError`` if the state cannot be this method's; a state with digests is known to be the run's.

    Names, shapes and types must be those of the method after it is restored. They must also fit a fresh method, as far as that has any
    tensors; those may have fewer rows, as tasks add rows.
    """
    if digests is not None:
        method.restore(learned, progress)
        return
    files: list[tuple[str, Tensors, Callable[[], Tensors]]] = [("learned", learned, method.learned)]
    files += [("progress", progress, method.progress)] if progress is not None else []
    fresh = {name: _tensors(read) for name, _, read in files}
    with misfit_named(folder, digests):
        method.restore(learned, progress)
    for name, tensors, read in files:
        if misfit := _misfit(tensors, fresh[name], _tensors(read)):
            raise UserError(f"The file {_file(folder, name)} does not fit its run ({misfit}): {REMEDY}.")


def write_inside(state: Midway, folder: Path, run: str) -> None:
    """Save the state inside a task of the run of that name, instead of earlier ones: a crash leaves one of them whole."""
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    earlier = list(folder.iterdir())
    content = storage.to_bytes(state.plain() | {RUN: torch.tensor(list(run.encode()), dtype=torch.uint8)})
    name = f"{state.learned}+{state.batches}-{hashlib.sha256(content).hexdigest()}.safetensors"
    durable.replace(folder / name, content)
    for old in earlier:
        if old.name != name:
            old.unlink()


def newest_inside(folder: Path) -> tuple[int, int, Path] | None:
    """The last state inside a task: tasks learned, batches of the next, and its file. None if there is none."""
    matches = [re.fullmatch(r"(\d+)\+(\d+)-\w+\.safetensors", file.name) for file in folder.glob("*")]
    return max(((int(match[1]), int(match[2]), folder / match[0]) for match in matches if match), default=None)


def read_inside(folder: Path, run: str) -> Midway | None:
    """The last state inside a task; None if there is none. One that is damaged, or of another run, is left out with a notice."""
    found = newest_inside(folder)
    if found is None:
        return None
    file = found[2]
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() in file.name:
        tensors = storage.from_bytes(content)
        if bytes(tensors.pop(RUN).numpy()).decode() == run:
            return Midway.from_plain(tensors)
    tell([f"The file {file} is damaged or of another run: what it holds of a task is learned again."])
    shutil.rmtree(folder)
    return None


@contextmanager
def misfit_named(folder: Path, digests: Mapping[str, str] | None) -> Iterator[None]:
    """Turn any error of a method that works on a state without digests into a ``UserError``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if digests is not None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"The state in {folder} does not fit its run ({reason}): {REMEDY}.") from error


def _misfit(saved: Tensors, fresh: Tensors, restored: Tensors) -> str:
    """How a saved state differs from those of the restored and of a fresh method; empty if it fits."""
    if unmatched := sorted(saved.keys() ^ restored.keys()):
        return f"{unmatched[0]} is {'no tensor of this method' if unmatched[0] in saved else 'missing'}"
    for name, tensor in saved.items():
        for other, rows in ((restored[name], 0), (fresh.get(name, tensor), 1)):
            if other.ndim and tensor.shape[rows:] != other.shape[rows:] and (other.numel() or not rows):
                return f"{name} has the shape {tuple(tensor.shape)} and not {tuple(other.shape)}"
            if tensor.dtype != other.dtype and other.numel():
                return f"{name} has the type {tensor.dtype} and not {other.dtype}"
    return ""


def _tensors(read: Callable[[], Tensors]) -> Tensors:
    """What a method's ``learned`` or ``progress`` returns; nothing if it has nothing to return yet."""
    with suppress(Exception):
        return read()
    return {}


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
