"""Tiny stand-ins, learnable in a few updates: a data set of noisy prototypes, permutations of it as a stream, and briefs.

They are functions that tests call with what matters to them, made once a session so that hypothesis can use them too.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from clbench import networks
from clbench.data import Dataset
from clbench.method import Brief
from clbench.scenario import Scenario
from clbench.stream import Split, Stream, Task

# What is tested is too small for several threads to gain anything, and they lose much where the processor is busy.
torch.set_num_threads(1)

SIDE = 8
CLASSES = 4


def noisy_prototypes(name: str = "tiny", seed: int = 0, classes: int = CLASSES, train: int = 200, test: int = 60) -> Dataset:
    """Images of noise around one random prototype for each class."""
    draws = torch.Generator().manual_seed(seed)
    prototypes = torch.randint(0, 256, (classes, 1, SIDE, SIDE), generator=draws).float()

    def part(images: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(images) % classes
        noise = 60 * torch.randn(images, 1, SIDE, SIDE, generator=draws)
        return (prototypes[labels] + noise).clamp(0, 255).to(torch.uint8), labels

    return Dataset(name, *part(train), *part(test), classes, mean=(0.5,), std=(0.25,))


def permuted(pixels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, pixels].view_as(images)


def permutations(tasks: int = 3, seed: int = 0) -> Stream:
    """A stream whose tasks permute the pixels of the tiny data."""
    data = noisy_prototypes()
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)
    draws = torch.Generator().manual_seed(seed + 1)
    stream_tasks = []
    for i in range(tasks):
        pixels = torch.randperm(SIDE * SIDE, generator=draws)
        view = partial(permuted, pixels)
        stream_tasks.append(Task(Split(train, data.train_labels, view), Split(test, data.test_labels, view), f"permutation {i}"))
    return Stream("tiny", stream_tasks, CLASSES, (1, SIDE, SIDE))


def small_mlp(outputs: int) -> nn.Module:
    """The network that briefs have if they are told no other."""
    return networks.mlp((1, SIDE, SIDE), (64,), outputs, bias=False)


def small_convolution(outputs: int) -> nn.Module:
    """A convolution with batch normalisation and a linear layer, for the images of the tiny data."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 3 * 3, outputs, bias=False)
    )


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Dataset]:
    return noisy_prototypes


@pytest.fixture(scope="session")
def make_stream() -> Callable[..., Stream]:
    return permutations


@pytest.fixture(scope="session")
def convolution() -> Callable[[int], nn.Module]:
    return small_convolution


@pytest.fixture(scope="session")
def make_brief() -> Callable[..., Brief]:
    def make(
        scenario: Scenario,
        network: Callable[[int], nn.Module] = small_mlp,
        *,
        input_shape: tuple[int, ...] = (1, SIDE, SIDE),
        classes: int = CLASSES,
        seed: int = 0,
        precision: torch.dtype = torch.float32,
    ) -> Brief:
        def seeded(outputs: int) -> nn.Module:
            return networks.seeded(network, outputs, seed)

        return Brief(scenario, seeded, input_shape, classes, seed, precision=precision)

    return make
