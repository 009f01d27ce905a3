"""Shared by the streams made from MNIST-like data: pixel maps, and one name for each family of data."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from clbench.data import Dataset
from clbench.stream import Split, Stream, StreamBuilder, Task


def mnist_streams(
    kind: str, build: Callable[..., Stream], summary: str, most_tasks: int | None = None, *, suffix: str = "", fixed: str = ""
) -> tuple[StreamBuilder, ...]:
    """The stream ``kind`` for digits and for Fashion-MNIST, each under its own name: the same tasks on different images.

    ``fixed`` is as in ``StreamBuilder``; ``{name}`` in it stands for the stream's name.
    """

    def of(images: str, summary: str, data: tuple[str, ...]) -> StreamBuilder:
        name = f"{kind}-{images}{suffix}"
        why = fixed.format(name=name)
        return StreamBuilder(name, partial(build, name), summary, data, full_data=data[-1], most_tasks=most_tasks, fixed=why)

    return of("mnist", summary, ("mnist-5k", "mnist")), of("fashion-mnist", f"{summary} (Fashion-MNIST)", ("fashion-mnist",))


def pixel_map(source: Tensor, background: float) -> Callable[[Tensor], Tensor]:
    """A view that fills pixel p of every channel from pixel ``source[p]``, or with ``background`` if ``source[p]`` is -1.

    ``source``: int64, [height * width]. Applied to [n, channels, height, width], it returns new memory of that shape.
    """
    outside = (source < 0).nonzero().squeeze(1)
    inside = source.clamp(min=0)

    def view(images: Tensor) -> Tensor:
        flat = images.flatten(2)
        pixels = flat.gather(2, inside.to(images.device).expand(flat.shape))  # twice as fast as index_select
        if len(outside):
            pixels[..., outside] = background
        return pixels.view_as(images)

    return view


def task_maker(data: Dataset) -> Callable[[str, Callable[[Tensor], Tensor]], Task]:
    """A function that creates a task with all images and classes of ``data`` from a name and a view. Its tasks share the images."""
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)

    def make(name: str, view: Callable[[Tensor], Tensor]) -> Task:
        return Task(Split(train, data.train_labels, view), Split(test, data.test_labels, view), name)

    return make


def background(data: Dataset) -> float:
    """The input value of a black pixel."""
    return float(data.inputs(torch.zeros_like(data.train_images[:1])).flatten()[0])
