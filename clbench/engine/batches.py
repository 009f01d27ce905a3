"""The batches of a run: the images that its timetable asks for, drawn from one seeded generator for each task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench.engine.schedule import Timetable
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Stream, Task, unchanged


class Draws(dict[int, torch.Generator]):
    """The generators of the tasks' batches by task, as far as their batches have begun.

    ``states``: the states that generators had when a task was interrupted, from which its augmentation continues.
    """

    def __init__(self, states: Mapping[int, Tensor] | None = None) -> None:
        super().__init__()
        self.states = states or {}


def batches(
    timetable: Timetable, stream: Stream, seed: int, start: int = 0, draws: Draws | None = None, *, drift: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and labels of each batch from number ``start`` on. Images of earlier batches are not computed.

    Each task has shuffled passes over its data of its own, drawn from ``seed``; a task that recurs continues with them. The images of a
    batch with several tasks are in random order. ``draws`` gets the generators. With ``drift`` they are seen as at the place of the batch
    between the stream's tasks.
    """
    if drift:
        assert stream.between is not None
        unseen = [replace(task, train=replace(task.train, view=unchanged)) for task in stream]
        originals = batches(timetable, replace(stream, tasks=unseen), seed, start, draws)
        for number, (inputs, labels) in enumerate(originals, start):
            yield stream.between(timetable.place(number))(inputs), labels
        return
    sources: dict[int, Iterator[tuple[Tensor, Tensor]]] = {}
    for run, parts in timetable.runs(start):
        for batch in run:
            drawn = []
            for visit, _ in parts:
                task = stream.identity(visit)
                if task not in sources:
                    before, sizes = _sizes(timetable, stream, task, start)
                    sources[task] = source(stream[task], task, seed, sizes, before, draws)
                drawn.append(next(sources[task]))
            if len(drawn) == 1:
                yield drawn[0]
                continue
            order = torch.randperm(timetable.batch_size, generator=generator(seed, "mixed", batch))
            inputs, labels = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
            order = order.to(labels.device)
            yield inputs[order], labels[order]


class Sizes(NamedTuple):
    """The number of parts that a task has in the batches of a stream, and their sizes; a single size stands for all."""

    parts: int
    each: Sequence[int]


def _sizes(timetable: Timetable, stream: Stream, task: int, start: int) -> tuple[int, Sizes]:
    """The number of parts that ``task`` has before batch ``start``, and the sizes of all its parts."""
    visits = timetable.spans[:, 2]
    of_task = visits == task if stream.identities is None else np.array(stream.identities)[visits] == task
    firsts, ends, _, images = timetable.spans[of_task].T
    before = int((np.minimum(ends, start) - np.minimum(firsts, start)).sum())
    count = int((ends - firsts).sum())
    if (images == images[0]).all():
        return before, Sizes(count, [int(images[0])])
    batches = np.concatenate([np.arange(first, end) for first, end in zip(firsts, ends, strict=True)])
    in_order = np.argsort(batches, kind="stable")  # visits of one task may share a batch
    return before, Sizes(count, np.repeat(images, ends - firsts)[in_order].tolist())


def source(
    task: Task, index: int, seed: int, sizes: Sizes, skip: int = 0, draws: Draws | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts of a task from number ``skip`` on. A ``UserError`` if a split with its own order does not give what the run needs."""
    draws = Draws() if draws is None else draws
    draws[index] = generator(seed, "batches", index)
    alike = len(sizes.each) == 1
    if alike and not skip:
        given = task.train.batches(sizes.parts, sizes.each[0], draws[index])
    else:
        each = list(sizes.each) * sizes.parts if alike else sizes.each
        given = task.train.parts(each, draws[index], skip, draws.states.get(index))
    given, number = iter(given), skip
    for inputs, labels in given:
        number += 1
        part = _counted(task, number, inputs, labels, sizes)
        if number == sizes.parts:
            for more in given:  # a split that gives more than is needed is wrong too
                _counted(task, number + 1, *more, sizes)
        yield part
    if number != sizes.parts:
        raise UserError(
            f"The task {task.name} gave {number} batches, and the run needs {sizes.parts}: correct the order or batches of its "
            "training split."
        )


def _counted(task: Task, number: int, inputs: Tensor, labels: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Part ``number`` of a task (from 1), if the run needs it; otherwise a ``UserError``."""
    size = sizes.each[min(number, len(sizes.each)) - 1]
    if len(inputs) == len(labels) == size and number <= sizes.parts:
        return inputs, labels
    raise UserError(
        f"Batch {number} of the task {task.name} has {len(inputs)} images and {len(labels)} labels, and the run needs "
        f"{sizes.parts} batches of {size}: correct the order or batches of its training split."
    )
