"""Streams: the tasks that a learner meets, one after another."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from clbench.errors import UserError

ROWS_AHEAD = 2**20
"""Number of rows that are drawn together (8 MB), because the rows of millions of batches would fill the memory."""

MOST_TASKS = 100_000
"""The limit: the permutations of so many tasks, with 784 pixels each, take 0.6 GB. The paper has 2,500."""


def unchanged(images: Tensor) -> Tensor:
    """The identity view: a fresh copy, so that a learner can neither recognise images by their memory nor change the data."""
    return images.clone()


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images of one task. Tasks share ``images``, and each has its own ``view`` of them.

    ``images``: [n, *input_shape], float32 (or bytes, which the ``view`` converts to float32); ``labels``: int64 [n], counted from 0 within
    the task; ``view`` maps a batch of images to a batch of inputs of the same shape in fresh memory (a permutation of pixels, a rotation).
    ``augment`` is applied to training batches only, not in ``whole``.
    """

    images: Tensor
    labels: Tensor
    view: Callable[[Tensor], Tensor] = unchanged
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def whole(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """All inputs and labels in a fixed order (the first ``limit`` of them), as fresh copies and without augmentation."""
        return self.view(self.images[:limit]), self.labels[:limit].clone()

    def order(self, updates: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """The rows of each batch, int64 [batch_size]: shuffled passes over the data, one after another, ``ROWS_AHEAD`` drawn together.

        A batch that is larger than the split repeats images: each equally often, or once more.
        """
        left = torch.empty(0, dtype=torch.int64)
        while updates:
            missing = min(updates * batch_size, max(batch_size, ROWS_AHEAD)) - len(left)
            passes = range(-(-missing // len(self)))
            rows = torch.cat([left, *(torch.randperm(len(self), generator=generator) for _ in passes)])
            whole = min(updates, len(rows) // batch_size)
            yield from rows[: whole * batch_size].view(whole, batch_size).to(self.labels.device)
            left = rows[whole * batch_size :]
            updates -= whole

    def batches(self, updates: int, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """``updates`` batches of exactly ``batch_size``: shuffled passes over the data, one after another."""
        return self._inputs(lambda draws: self.order(updates, batch_size, draws), generator, 0)

    def parts(
        self, sizes: Sequence[int], generator: torch.Generator, skip: int = 0, augmentation: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of the same passes, cut into parts of these ``sizes``, from part number ``skip`` on.

        Of skipped parts only the rows are drawn, unless their augmentation has to draw its random numbers: ``augmentation``, the state
        that ``generator`` had after them, spares that.
        """
        return self._inputs(lambda draws: self.cut(sizes, draws), generator, skip, augmentation)

    def cut(self, sizes: Sequence[int], generator: torch.Generator) -> Iterator[Tensor]:
        """The rows of ``order``, cut into parts of these ``sizes`` (all above 0)."""
        largest = max(sizes)
        order = iter(self.order(-(-sum(sizes) // largest), largest, generator))
        left = torch.empty(0, dtype=torch.int64, device=self.labels.device)
        for size in sizes:
            while len(left) < size:
                drawn = next(order, None)
                if drawn is None:
                    return
                left = torch.cat([left, drawn])
            yield left[:size]
            left = left[size:]

    def _inputs(
        self,
        order: Callable[[torch.Generator], Iterable[Tensor]],
        generator: torch.Generator,
        skip: int,
        augmentation: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of the rows that ``order`` draws, without the first ``skip``."""
        rows_draws = generator
        if self.augment:  # random numbers for augmentation come after those for all rows
            rows_draws = torch.Generator().set_state(generator.get_state())
            for _ in order(generator):
                pass
            if augmentation is not None:
                generator.set_state(augmentation)
        for number, rows in enumerate(order(rows_draws)):
            if number < skip and (not self.augment or augmentation is not None):
                continue
            inputs = self.view(self.images.index_select(0, rows))  # three times as fast as images[rows]
            inputs = self.augment(inputs, generator) if self.augment else inputs
            if number >= skip:
                yield inputs, self.labels[rows]


@dataclass(frozen=True, eq=False)
class Task:
    """One task: images to learn from, images to ask about, and a name for people, which a learner never sees."""

    train: Split
    test: Split
    name: str


@dataclass(frozen=True, eq=False)
class Stream:
    """A sequence of classification tasks of one input shape. ``classes`` is the number of labels of the largest task (footnote 2)."""

    name: str
    tasks: Sequence[Task]
    classes: int
    input_shape: tuple[int, ...]
    notes: tuple[str, ...] = ()
    """Sentences that readers of results on it must know. Runs record them and give them as warnings."""
    identities: tuple[int, ...] | None = None
    """For each task, the number of the first one that is the same task. None: no task recurs. What recurs is one task in every score."""

    between: Callable[[float], Callable[[Tensor], Tensor]] | None = None
    """If the space of tasks is continuous: the view of images at a place between tasks, 0 for the first, 1 for the second, and so on."""

    def identity(self, index: int) -> int:
        """The number of the first task that is the same as task ``index``: the number of both in every score."""
        return index if self.identities is None else self.identities[index]

    def seen(self, learned: int) -> list[int]:
        """The numbers of the different tasks among the first ``learned``."""
        return [index for index in range(learned) if self.identity(index) == index]

    def shares(self) -> list[int]:
        """For each task, the number of training images that make one pass over its data, shared equally by its visits."""
        visits = Counter(map(self.identity, range(len(self))))
        return [len(task.train) // visits[self.identity(index)] for index, task in enumerate(self)]

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Task:
        return self.tasks[index]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def to(self, device: torch.device) -> "Stream":
        """The stream with its images and labels on ``device``; tensors that tasks share are moved once."""
        moved: dict[int, Tensor] = {}

        def move(tensor: Tensor) -> Tensor:
            return moved.setdefault(id(tensor), tensor.to(device))

        def split(half: Split) -> Split:
            return replace(half, images=move(half.images), labels=move(half.labels))

        tasks = [replace(task, train=split(task.train), test=split(task.test)) for task in self.tasks]
        return replace(self, tasks=tasks)


@dataclass(frozen=True)
class StreamBuilder:
    """How a named stream is made: ``build(*datasets, tasks=…, seed=…)`` gives a ``Stream``.

    ``data`` names the data sets that it can be built from, the default first; several sets in one stream are joined by ``+``.
    ``full_data`` is the data set of the paper's protocol. A builder without ``data`` has its own, named by ``full_data``: it gets the data
    root instead of data sets, or, with ``any_folder``, the folder below it that ``--data`` names. ``most_tasks`` is the number of tasks
    that it has (None: any number), and ``usual_tasks`` the number that is used if none is given (None: all, or that of the budget). If the
    seed changes nothing, ``fixed`` says why, and what to use instead.
    """

    name: str
    build: Callable[..., Stream]
    summary: str
    data: tuple[str, ...] = field(default=("mnist-5k", "mnist", "fashion-mnist"))
    full_data: str = "mnist"
    any_folder: bool = False
    most_tasks: int | None = None
    usual_tasks: int | None = None
    fixed: str = ""

    def check_tasks(self, tasks: int) -> int:
        """``tasks`` if this stream has that many; otherwise a ``UserError``."""
        if tasks < 1:
            raise UserError(f"The number of tasks must be at least 1, not {tasks}.")
        if self.most_tasks is not None and tasks > self.most_tasks:
            raise UserError(f"The stream {self.name} has {self.most_tasks} tasks: ask for at most that many, not {tasks}.")
        if tasks > MOST_TASKS:
            raise UserError(
                f"{tasks:,} tasks are too many, because a stream is in memory with all its tasks: ask for at most {MOST_TASKS:,}."
            )
        return tasks
