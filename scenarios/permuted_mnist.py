"""PermutedMNIST (Kirkpatrick et al. 2017): each task shows all digits with its own fixed random permutation of the pixels.

One generator per stream seed draws all permutations, so that seeds share no tasks. Every task is permuted, the first one too.
"""

import torch

from clbench.data import Dataset
from clbench.seeding import generator
from clbench.stream import Stream

from ._mnist import mnist_streams, pixel_map, task_maker


def permuted(name: str, data: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` permutations of the pixels of ``data``."""
    _, channels, height, width = data.train_images.shape
    draws = generator(seed, "permutations")
    permutations = [torch.randperm(height * width, generator=draws) for _ in range(tasks)]
    make = task_maker(data)
    all_tasks = [make(f"permutation {i}", pixel_map(p, background=0.0)) for i, p in enumerate(permutations)]
    return Stream(name, all_tasks, data.classes, (channels, height, width))


STREAMS = mnist_streams("permuted", permuted, "a fixed random permutation of the pixels per task")
