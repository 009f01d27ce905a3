"""Check a stream when it is built, before anything is learned from it.

Tensors that tasks share are checked once, and the view of each task only on a sample of images, so that thousands of tasks cost little.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from clbench.errors import UserError
from clbench.sources import naming
from clbench.stream import Split, Stream, Task

SAMPLE = 4
"""Number of images of each half of a task, evenly spread, that are checked through the view."""

Result = TypeVar("Result")


def checked(stream: Stream) -> Stream:
    """``stream`` with labels as int64 and floating-point images as float32, and a note if tasks recur.

    Raises a ``UserError`` for a stream without tasks, a half without images, labels that are not whole numbers from 0 to ``classes`` - 1,
    and inputs that are not float32, not of ``input_shape`` or not finite. Of image files (``ImageFiles``) only the labels are checked.
    """
    if not len(stream):
        raise UserError(f"The stream {stream.name} has no tasks: give it at least one.")
    # A view that draws from the global generator must not shift what is drawn while learning.
    with torch.random.fork_rng():
        tasks, recurring = _checked_tasks(stream)
    return replace(stream, tasks=tasks, notes=(*stream.notes, *_recurring(recurring, len(tasks))))


def _checked_tasks(stream: Stream) -> tuple[list[Task], dict[int, int]]:
    """The checked tasks, and the number of the first appearance of each task that recurs."""
    labels, images, digests = _once(_as_labels), _once(_as_images), _once(_digest)
    tasks, first_seen, recurring = list[Task](), dict[Any, int](), dict[int, int]()
    for index, task in enumerate(stream):
        halves, content = [], []
        for what, split in (("training", task.train), ("test", task.test)):
            where = f"of task {index} ({task.name})"
            _check_sizes(split, what, where)
            split = replace(split, labels=labels(split.labels, stream.classes, f"{what} labels {where}"))
            identity: Any = id(split.images)  # image files are the same only if they are the same object
            if isinstance(split.images, Tensor):
                converted, not_finite = images(split.images)
                split = replace(split, images=converted)
                identity = _digest(_sample(split, not_finite, stream.input_shape, what, where))
            halves.append(split)
            content.append((identity, digests(split.labels)))
        tasks.append(replace(task, train=halves[0], test=halves[1]))
        first = first_seen.setdefault(tuple(content), index)
        if stream.identity(first) != stream.identity(index):
            recurring[index] = first
    return tasks, recurring


def small_tasks(stream: Stream, batch_size: int) -> tuple[str, ...]:
    """A note on tasks with fewer training images than a batch, whose batches repeat images (``Split.order``); none if there are none."""
    sizes = [len(task.train) for task in stream]
    small = [index for index, size in enumerate(sizes) if size < batch_size]
    if not small:
        return ()
    least = min(small, key=lambda index: sizes[index])
    return (
        f"Batches of {batch_size} repeat images in {len(small)} of {len(sizes)} tasks, which have fewer training images: "
        f"the fewest are the {sizes[least]} of task {least} ({stream[least].name}).",
    )


def _once(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function`` of a tensor and further arguments, called once for each tensor."""
    known: dict[int, tuple[Tensor, Result]] = {}

    def call(tensor: Tensor, *rest: Any) -> Result:
        if id(tensor) not in known:
            known[id(tensor)] = (tensor, function(tensor, *rest))  # the tensor is kept, so that no other gets its id
        return known[id(tensor)][1]

    return call


def _check_sizes(split: Split, what: str, where: str) -> None:
    for field in ("labels", "images") if type(split) is Split else ("labels",):  # subclasses have other kinds of images
        value = getattr(split, field)
        if not isinstance(value, Tensor):
            raise UserError(f"The {what} {field} {where} are of type {type(value).__name__}: make a tensor of them.")
    if not len(split):
        raise UserError(f"There are no {what} images {where}: add images, or remove the task.")
    if len(split.images) != len(split.labels):
        raise UserError(
            f"There are {len(split.images)} {what} images and {len(split.labels)} {what} labels {where}: give each image one label."
        )


def _as_labels(labels: Tensor, classes: int, name: str) -> Tensor:
    """Labels as int64."""
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.ndim != 1:
        raise UserError(f"The {name} are {_kind(labels)}: make them whole numbers, one for each image, as labels.long() does.")
    least, most = (int(value) for value in labels.long().aminmax())
    if least < 0 or most >= classes:
        raise UserError(
            f"The {name} run from {least} to {most}, and the stream has {classes} classes: count labels from 0 to {classes - 1}."
        )
    return labels.long()


def _as_images(images: Tensor) -> tuple[Tensor, Tensor]:
    """Floating-point images as float32, and the rows of some images that hold a value which is not finite."""
    if not images.dtype.is_floating_point:
        return images, torch.empty(0, dtype=torch.int64)
    images = images.float()
    # If any value is NaN or infinite, the least or the greatest is; finding these needs no memory.
    finite = not images.numel() or bool(torch.isfinite(torch.stack(images.aminmax())).all())
    return images, torch.empty(0, dtype=torch.int64) if finite else (~images.isfinite().flatten(1).all(1)).nonzero()[:SAMPLE, 0]


def _sample(split: Split, not_finite: Tensor, shape: tuple[int, ...], what: str, where: str) -> Tensor:
    """A sample of the inputs of a half, the rows ``not_finite`` among them; a ``UserError`` if a network cannot take them."""
    rows = torch.cat([not_finite, torch.linspace(0, len(split) - 1, min(len(split), SAMPLE)).long().to(not_finite.device)])
    with naming(f"The view of the {what} images {where}"):
        inputs = split.view(split.images[rows.to(split.images.device)])
    if not isinstance(inputs, Tensor) or inputs.dtype != torch.float32:
        kind = _kind(inputs) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise UserError(f"The {what} inputs {where} are {kind}: make them float32, in the images or in the view.")
    if inputs.shape != (len(rows), *shape):
        raise UserError(
            f"The {what} inputs {where} have the shape {tuple(inputs.shape[1:])}, and the stream's input_shape is {tuple(shape)}: "
            "make them equal."
        )
    finite = inputs.isfinite().flatten(1).all(1)
    if not finite.all():
        row = int(rows[int(finite.int().argmin())])
        raise UserError(f"Image {row} of the {what} images {where} has a value that is NaN or infinite: correct or remove it.")
    return inputs


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _digest(tensor: Tensor) -> bytes:
    return hashlib.blake2b(tensor.detach().cpu().numpy().tobytes(), digest_size=16).digest()


def _recurring(recurring: dict[int, int], tasks: int) -> tuple[str, ...]:
    """A note on tasks that recur: ``recurring`` has the first appearance of each."""
    if not recurring:
        return ()
    index, first = next(iter(recurring.items()))
    more = f" (and {len(recurring) - 1} more of the {tasks} tasks repeat earlier ones)" if len(recurring) > 1 else ""
    return (
        f"Task {index} is task {first} again{more}, by all labels and a sample of images: it counts as another task, "
        "and no learner can distinguish the two.",
    )
