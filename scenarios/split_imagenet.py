"""SplitImageNet (the paper's section 4.1): 100 tasks of 10 classes, which the stream seed draws at random, from any tree of image files.

A tree has a folder for each class in ``train`` and in ``val``. It lies below the data root, and ``--data`` names its folder. Images are
224 pixels wide and high. ``split-tiny-imagenet`` is the same with 64 pixels.
"""

from functools import partial
from pathlib import Path

import torch

from clbench.data.image_files import file_split, tree
from clbench.seeding import generator
from clbench.stream import Split, Stream, StreamBuilder, Task

from ._classes import dealt

CLASSES = 10
"""Classes of a task."""


def split_files(name: str, side: int, folder: Path, *, tasks: int, seed: int) -> Stream:
    """``tasks`` tasks of ten classes of the images below ``folder``."""
    files = tree(folder)
    names = list(files)

    def split(classes: list[int], which: int) -> Split:
        labelled = [(path, label) for label, number in enumerate(classes) for path in files[names[number]][which]]
        # Shuffled: otherwise all images of a group would be of one class.
        order = torch.randperm(len(labelled), generator=generator(seed, "order"))
        paths, labels = zip(*(labelled[row] for row in order.tolist()), strict=True)
        return file_split(paths, labels, side)

    all_tasks = [
        Task(split(classes, 0), split(classes, 1), f"classes {', '.join(names[number] for number in classes)}")
        for classes in dealt(len(names), CLASSES, tasks, seed, str(folder))
    ]
    return Stream(name, all_tasks, CLASSES, (3, side, side))


STREAMS = (
    StreamBuilder(
        "split-imagenet",
        partial(split_files, "split-imagenet", 224),
        "ten classes per task of a tree of images, drawn at random",
        data=(),
        full_data="imagenet",
        any_folder=True,
        most_tasks=100,
    ),
    StreamBuilder(
        "split-tiny-imagenet",
        partial(split_files, "split-tiny-imagenet", 64),
        "the same at 64 pixels, with Tiny-ImageNet's 200 classes",
        data=(),
        full_data="tiny-imagenet-200",
        any_folder=True,
        most_tasks=20,
    ),
)
