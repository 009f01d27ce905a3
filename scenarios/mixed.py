"""Streams of unlike tasks: permuted digits, rotated digits and a third kind in turn. Their tasks are not uniform in difficulty.

If tasks are not alike, task inference degrades (the paper's section 5). Rotations and permutations are those of the other streams. In
``mixed`` the third kind is Fashion-MNIST, unpermuted at first and then permuted; digits and clothes are each normalised with their own
statistics. In ``mixed-digits`` it is two consecutive classes of upright digits, so that it needs no other data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from clbench.data import Dataset
from clbench.errors import UserError
from clbench.seeding import generator
from clbench.stream import Stream, StreamBuilder, Task

from ._mnist import background, pixel_map, task_maker
from .rotated_mnist import STEP, rotation
from .split_mnist import split


def in_turn(name: str, digits: Dataset, third: Callable[[int, Tensor], Task], *, tasks: int, seed: int, classes: int) -> Stream:
    """``tasks`` tasks in turn: permuted digits, digits rotated by 10, 20, … degrees, and ``third(turn, permutation)`` with turns from 0."""
    _, channels, height, width = digits.train_images.shape
    black, digit_task = background(digits), task_maker(digits)
    draws = generator(seed, "permutations")
    all_tasks = []
    for i in range(tasks):
        turn, kind = divmod(i, 3)
        permutation = torch.randperm(height * width, generator=draws)
        if kind == 0:
            all_tasks.append(digit_task(f"permutation {turn}", pixel_map(permutation, black)))
        elif kind == 1:
            degrees = STEP * (turn + 1) % 360
            all_tasks.append(digit_task(f"{degrees}°", pixel_map(rotation(degrees, height, width), black)))
        else:
            all_tasks.append(third(turn, permutation))
    return Stream(name, all_tasks, classes, (channels, height, width))


def mixed(digits: Dataset, fashion: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` tasks of digits; every third one is of Fashion-MNIST."""
    if fashion.train_images.shape[1:] != digits.train_images.shape[1:]:
        raise UserError(f"The stream mixed needs images of one size, but {digits.name} and {fashion.name} have different sizes.")
    fashion_task, black = task_maker(fashion), background(digits)

    def third(turn: int, permutation: Tensor) -> Task:
        source = torch.arange(len(permutation)) if turn == 0 else permutation
        return fashion_task(f"{fashion.name} {turn}", pixel_map(source, black))

    return in_turn("mixed", digits, third, tasks=tasks, seed=seed, classes=max(digits.classes, fashion.classes))


def mixed_digits(digits: Dataset, *, tasks: int, seed: int) -> Stream:
    """``tasks`` tasks of digits; every third one has only two classes."""
    pairs = split("", digits, tasks=min(5, -(-tasks // 3)), seed=seed)
    return in_turn("mixed-digits", digits, lambda turn, _: pairs[turn], tasks=tasks, seed=seed, classes=digits.classes)


STREAMS = (
    StreamBuilder(
        "mixed",
        mixed,
        "permuted digits, rotated digits and Fashion-MNIST in turn",
        data=("mnist-5k+fashion-mnist", "mnist+fashion-mnist"),
        full_data="mnist+fashion-mnist",
        most_tasks=108,
    ),
    StreamBuilder(
        "mixed-digits",
        mixed_digits,
        "permuted digits, rotated digits and two upright classes in turn",
        data=("mnist-5k", "mnist"),
        most_tasks=15,
    ),
)
