"""The code and data behind a run, by digest: code from outside clbench, folders of image files, and the images of streams from outside.

A ``Learn`` has the digests of code and data at the time of the request. Here they are compared with those at the time of the run.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clbench import networks, registry
from clbench.errors import UserError
from clbench.sources import naming
from clbench.stream import Stream

if TYPE_CHECKING:
    from clbench.engine.learn import Learn

SEEN = 32
"""Number of inputs of each half of a task that are digested as a learner sees them, through the task's view."""
AGAIN = "or repeat the run, which makes a new one"


def code(method: str, stream: str, network: str) -> dict[str, str]:
    """The digests of all code of a run from outside clbench, by file or module; the releases of installed packages."""
    return registry.code(method) | registry.code(stream) | networks.code(network)


def check_trusted(learn: "Learn", trusted: Iterable[str | Path]) -> None:
    """Raise a ``UserError`` if ``learn``, which another person may have written, names code that is neither clbench's nor ``trusted``.

    ``trusted`` are files (``my_method.py``), and modules or packages of networks (``my_project.networks``). Nothing is imported. Then
    ``check_code`` says whether the code is still what the run was made with.
    """
    files = {os.path.realpath(str(each).partition(".py:")[0].removesuffix(".py") + ".py") for each in trusted}
    modules = {str(each) for each in trusted}
    for name in (learn.method, learn.stream):
        file = registry.file_of(name)
        if file is not None and os.path.realpath(file) not in files:
            raise _untrusted(learn, file)
    if networks.is_dotted(learn.network):
        module = learn.network.partition(":")[0] if ":" in learn.network else learn.network.rpartition(".")[0]
        parts = module.split(".")
        if modules.isdisjoint(".".join(parts[:length]) for length in range(1, len(parts) + 1)):
            raise _untrusted(learn, module)


def _untrusted(learn: "Learn", code: str) -> UserError:
    return UserError(
        f"The run {learn.hash} was made with code from outside clbench, {code}, which is not run only because a record names it: look at "
        f"the code and, if it is yours or may run here, add --trust {code}."
    )


def check_record(learn: "Learn", name: str) -> None:
    """Raise a ``UserError`` if ``learn`` is not what the run folder called ``name`` must hold: then another run was put there."""
    if learn.hash != name:
        raise UserError(
            f"The record in the run folder {name} is that of another run, {learn.hash}: remove the folder, and run again."
        )


def data_version(names: str) -> int:
    """The highest version of data sets joined by ``+``; 1 if a stream has its own data."""
    from clbench.data import SOURCES

    return max((SOURCES[name].version for name in names.split("+") if name in SOURCES), default=1)


def check_code(learn: "Learn") -> None:
    """Raise a ``UserError`` that says which code or data set has changed since ``learn`` was made."""
    today = code(learn.method, learn.stream, learn.network)
    recorded = learn.code
    if not recorded:  # a run from before clbench digested more than the file itself
        files = {learn.method: learn.source, learn.stream: learn.stream_source}
        recorded = {next(iter(registry.code(name))): digest for name, digest in files.items() if digest}
        today = {name: today.get(name, "") for name in recorded}
    if changed := sorted(name for name in recorded | today if recorded.get(name) != today.get(name)):
        raise UserError(f"The code of {_listed(changed)} changed since the run {learn.hash} was made: restore it, {AGAIN}.")
    versions = {learn.method: (learn.version, registry.method(learn.method).version)}
    versions |= {f"the data set {learn.data}": (learn.data_version, data_version(learn.data))}
    for what, (then, now) in versions.items():
        if then != now:
            raise UserError(
                f"The run {learn.hash} was made with version {then} of {what}, and this clbench has version {now}: "
                f"use the clbench that made it, {AGAIN}."
            )


def check_tree(learn: "Learn", folder: Path) -> None:
    """Raise a ``UserError`` if the files below ``folder`` have changed since ``learn`` was made."""
    from clbench.data.image_files import manifest

    if learn.data_source is not None and manifest(folder) != learn.data_source:
        raise UserError(f"The image files in {folder} changed since the run {learn.hash} was made: restore them, {AGAIN}.")


def folder_of(data: str, data_root: str | None) -> Path:
    """The folder of image files that ``--data`` names, below the data root; a ``UserError`` if it would lie elsewhere."""
    from clbench.data import data_root as root

    if Path(data).is_absolute() or ".." in Path(data).parts:
        raise UserError(f"--data names a folder below the data root, not {data}: name the folder that it lies in with --data-root.")
    return root(data_root) / data


def tree_digest(data: str, data_root: str | None) -> str | None:
    """The digest of a folder of image files (``image_files.manifest``); None if the folder is missing."""
    from clbench.data.image_files import manifest

    return manifest(folder_of(data, data_root))


def contents(stream: Stream) -> str:
    """A digest of a stream's images and labels, and of the first inputs of each half of a task as a learner sees them."""
    digest = hashlib.sha256()
    digested: dict[int, Tensor] = {}  # tasks share images
    with naming(f"The stream {stream.name}"):
        for task in stream.to(torch.device("cpu")):  # on other devices a view may differ in the last digit
            for half in (task.train, task.test):
                inputs, _ = half.whole(SEEN)
                new = [each for each in (half.images, half.labels) if isinstance(each, Tensor) and id(each) not in digested]
                digested |= {id(each): each for each in new}
                _add(digest, [inputs, *new])
    return digest.hexdigest()[:12]


def _add(digest: Any, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
