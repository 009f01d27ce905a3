"""What a run was learned from, by digest: people's own code, trees of image files, and the images that a stream of their own gives.

The digests of a ``Learn`` name today's code and data when it is resolved; here they are compared with what is there when it is built.
"""

import hashlib
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
"""So many inputs of each half of a task are looked at as a learner sees them, through the task's view."""
AGAIN = "or do the run again, which makes another one"


def code(method: str, stream: str, network: str) -> dict[str, str]:
    """The digests of all code of a run that is not clbench's, by file or module; releases of installed packages."""
    return registry.code(method) | registry.code(stream) | networks.code(network)


def data_version(names: str) -> int:
    """The version of data sets joined by ``+``; 1 for data of a stream's own."""
    from clbench.data import SOURCES

    return max((SOURCES[name].version for name in names.split("+") if name in SOURCES), default=1)


def check_code(learn: "Learn") -> None:
    """Raise a ``UserError`` if today's code or data sets are not those of ``learn``: it says which changed."""
    today = code(learn.method, learn.stream, learn.network)
    recorded = learn.code
    if not recorded:  # of a run done before clbench looked beyond the file itself
        files = {learn.method: learn.source, learn.stream: learn.stream_source}
        recorded = {next(iter(registry.code(name))): digest for name, digest in files.items() if digest}
        today = {name: today.get(name, "") for name in recorded}
    if changed := sorted(name for name in recorded | today if recorded.get(name) != today.get(name)):
        raise UserError(
            f"The code of {_named(changed)} changed since the run {learn.hash} was made: put it back as it was, {AGAIN}."
        )
    versions = {learn.method: (learn.version, registry.method(learn.method).version)}
    versions |= {f"the data set {learn.data}": (learn.data_version, data_version(learn.data))}
    for what, (then, now) in versions.items():
        if then != now:
            raise UserError(
                f"The run {learn.hash} was made with version {then} of {what}, and this clbench has version {now}: "
                f"use the clbench that it was made with, {AGAIN}."
            )


def check_tree(learn: "Learn", folder: Path) -> None:
    """Raise a ``UserError`` if the files below ``folder`` are not those that ``learn`` was resolved with."""
    from clbench.data.image_files import manifest

    if learn.data_source is not None and manifest(folder) != learn.data_source:
        raise UserError(
            f"The image files in {folder} changed since the run {learn.hash} was made: put them back as they were, {AGAIN}."
        )


def folder_of(data: str, data_root: str | None) -> Path:
    """The folder of a tree of image files: the one below the data root that ``--data`` names."""
    from clbench.data import data_root as root

    return root(data_root) / data


def tree_digest(data: str, data_root: str | None) -> str | None:
    """The digest of a tree of image files (``image_files.manifest``); None if it is not there."""
    from clbench.data.image_files import manifest

    return manifest(folder_of(data, data_root))


def contents(stream: Stream) -> str:
    """A digest of a stream's images and labels, and of the first inputs of each half of a task as a learner sees them."""
    found = hashlib.sha256()
    hashed: dict[int, Tensor] = {}  # tasks share images
    with naming(f"The stream {stream.name}"):
        for task in stream.to(torch.device("cpu")):  # elsewhere a view may come out otherwise in the last digit
            for half in (task.train, task.test):
                inputs, _ = half.whole(SEEN)
                own = [each for each in (half.images, half.labels) if isinstance(each, Tensor) and id(each) not in hashed]
                hashed |= {id(each): each for each in own}
                _add(found, [inputs, *own])
    return found.hexdigest()[:12]


def _add(digest: Any, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)


def _named(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
