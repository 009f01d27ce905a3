"""Whether a stream is what it says: looked at when it is built, before anything is learned from it.

Tensors that tasks share are looked at once, and each task's view only at a sample of images, so that thousands of tasks cost little.
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
"""So many images of each half of a task, evenly spread, are looked at as their view shows them."""

Found = TypeVar("Found")


def checked(stream: Stream) -> Stream:
    """``stream`` with labels as int64 and floating-point images as float32, and a note where tasks recur.

    Raises a ``UserError`` for a stream without tasks, a half without images, labels that are no whole numbers from 0 below ``classes``,
    and inputs that are not float32, not of ``input_shape`` or not finite. Of image files (``ImageFiles``) only the labels are looked at.
    """
    if not len(stream):
        raise UserError(f"The stream {stream.name} has no tasks: give it at least one.")
    # A view that draws from the global generator must not shift what is drawn while learning.
    with torch.random.fork_rng():
        tasks, again = _looked_at(stream)
    return replace(stream, tasks=tasks, notes=(*stream.notes, *_recurring(again, len(tasks))))


def _looked_at(stream: Stream) -> tuple[list[Task], dict[int, int]]:
    """The checked tasks, and of each that recurs the number of its first appearance."""
    labels, images, digests = _once(_as_labels), _once(_as_images), _once(_digest)
    tasks, seen, again = list[Task](), dict[Any, int](), dict[int, int]()
    for index, task in enumerate(stream):
        halves, content = [], []
        for what, split in (("training", task.train), ("test", task.test)):
            where = f"of task {index} ({task.name})"
            _check_sizes(split, what, where)
            split = replace(split, labels=labels(split.labels, stream.classes, f"{what} labels {where}"))
            shown: Any = id(split.images)  # files: the same ones only if they are the same object
            if isinstance(split.images, Tensor):
                converted, odd = images(split.images)
                split = replace(split, images=converted)
                shown = _digest(_sample(split, odd, stream.input_shape, what, where))
            halves.append(split)
            content.append((shown, digests(split.labels)))
        tasks.append(replace(task, train=halves[0], test=halves[1]))
        first = seen.setdefault(tuple(content), index)
        if first < index:
            again[index] = first
    return tasks, again


def small_tasks(stream: Stream, batch_size: int) -> tuple[str, ...]:
    """A note on tasks with fewer training images than a batch, which repeats them (``Split.order``); none if there are no such tasks."""
    sizes = [len(task.train) for task in stream]
    small = [index for index, size in enumerate(sizes) if size < batch_size]
    if not small:
        return ()
    least = min(small, key=lambda index: sizes[index])
    return (
        f"Batches of {batch_size} repeat images in {len(small)} of {len(sizes)} tasks, which have fewer training images: "
        f"the fewest are the {sizes[least]} of task {least} ({stream[least].name}).",
    )


def _once(function: Callable[..., Found]) -> Callable[..., Found]:
    """``function`` of a tensor and whatever else, called once for each tensor."""
    known: dict[int, tuple[Tensor, Found]] = {}

    def call(tensor: Tensor, *rest: Any) -> Found:
        if id(tensor) not in known:
            known[id(tensor)] = (tensor, function(tensor, *rest))  # the tensor is kept, so that no other has its id
        return known[id(tensor)][1]

    return call


def _check_sizes(split: Split, what: str, where: str) -> None:
    for part in ("labels", "images") if type(split) is Split else ("labels",):  # other kinds bring images of their own
        found = getattr(split, part)
        if not isinstance(found, Tensor):
            raise UserError(f"The {what} {part} {where} are of type {type(found).__name__}: make a tensor of them.")
    if not len(split):
        raise UserError(f"There are no {what} images {where}: give it some, or leave the task out.")
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
    """Floating-point images as float32, and the rows of some that hold a value which is not finite."""
    if not images.dtype.is_floating_point:
        return images, torch.empty(0, dtype=torch.int64)
    images = images.float()
    # The least and the greatest of all values tell whether any is NaN or infinite, and need no memory.
    finite = not images.numel() or bool(torch.isfinite(torch.stack(images.aminmax())).all())
    return images, torch.empty(0, dtype=torch.int64) if finite else (~images.isfinite().flatten(1).all(1)).nonzero()[:SAMPLE, 0]


def _sample(split: Split, odd: Tensor, shape: tuple[int, ...], what: str, where: str) -> Tensor:
    """A sample of a half's inputs, the rows ``odd`` among them, if they are what a network takes."""
    rows = torch.cat([odd, torch.linspace(0, len(split) - 1, min(len(split), SAMPLE)).long().to(odd.device)])
    with naming(f"The view of the {what} images {where}"):
        inputs = split.view(split.images[rows.to(split.images.device)])
    if not isinstance(inputs, Tensor) or inputs.dtype != torch.float32:
        kind = _kind(inputs) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise UserError(f"The {what} inputs {where} are {kind}: make them float32, in the images or in the view.")
    if inputs.shape != (len(rows), *shape):
        raise UserError(
            f"The {what} inputs {where} have the shape {tuple(inputs.shape[1:])}, and the stream's input_shape is {tuple(shape)}: "
            "make them one."
        )
    finite = inputs.isfinite().flatten(1).all(1)
    if not finite.all():
        row = int(rows[int(finite.int().argmin())])
        raise UserError(f"Image {row} of the {what} images {where} has a value that is NaN or infinite: mend it or remove it.")
    return inputs


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _digest(tensor: Tensor) -> bytes:
    return hashlib.blake2b(tensor.detach().cpu().numpy().tobytes(), digest_size=16).digest()


def _recurring(again: dict[int, int], tasks: int) -> tuple[str, ...]:
    """A note on tasks that recur: ``again`` has the first appearance of each."""
    if not again:
        return ()
    index, first = next(iter(again.items()))
    more = f" (and {len(again) - 1} more of the {tasks} tasks are earlier ones again)" if len(again) > 1 else ""
    return (
        f"Task {index} is task {first} again{more}, by all labels and a sample of images: what recurs counts as another task, "
        "and no learner can tell the two apart.",
    )
