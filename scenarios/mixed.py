"""A stream of unlike tasks: permuted digits, rotated digits and Fashion-MNIST in turn. Its tasks are not uniform in difficulty.

Where tasks are not alike, task inference degrades (the paper's section 5). Rotations and permutations are those of the other streams;
Fashion-MNIST comes as it is at first and permuted after that. The digits and the clothes are normalised each with their own statistics.
"""

import torch

from clbench.data import Dataset
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Stream, StreamBuilder

from ._mnist import background, pixel_map, task_maker
from .rotated_mnist import STEP, rotation


def mixed(digits: Dataset, fashion: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` tasks: permuted digits, digits rotated by 10, 20, … degrees, Fashion-MNIST, and so on."""
    _, channels, height, width = digits.train_images.shape
    if fashion.train_images.shape[1:] != digits.train_images.shape[1:]:
        raise UserError(f"The stream mixed needs images of one size, but {digits.name} and {fashion.name} differ.")
    black, digit_task, fashion_task = background(digits), task_maker(digits), task_maker(fashion)
    draws = generator(seed, "permutations")
    made = []
    for i in range(tasks):
        turn, kind = divmod(i, 3)
        permutation = torch.randperm(height * width, generator=draws)
        if kind == 0:
            made.append(digit_task(f"permutation {turn}", pixel_map(permutation, black)))
        elif kind == 1:
            degrees = STEP * (turn + 1) % 360
            made.append(digit_task(f"{degrees}°", pixel_map(rotation(degrees, height, width), black)))
        else:
            kept = torch.arange(height * width) if turn == 0 else permutation
            made.append(fashion_task(f"{fashion.name} {turn}", pixel_map(kept, black)))
    return Stream("mixed", made, max(digits.classes, fashion.classes), (channels, height, width))


STREAMS = (
    StreamBuilder(
        "mixed",
        mixed,
        "permuted digits, rotated digits and Fashion-MNIST in turn",
        data=("mnist-5k+fashion-mnist", "mnist+fashion-mnist"),
        full_data="mnist+fashion-mnist",
        most_tasks=108,
    ),
)
