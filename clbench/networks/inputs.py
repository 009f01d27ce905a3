"""Inputs in the form that networks process fastest."""

import torch
from torch import Tensor

ELEMENTS_AT_A_TIME = 2**20
"""Values in one batch of test inputs: 1337 digits, 341 images of 32 x 32 pixels in colour, 6 of 224 x 224."""


def in_parts(inputs: Tensor) -> tuple[Tensor, ...]:
    """Test inputs [n, ...] in batches that need less memory than all at once, images with channels last.

    A single remaining input joins the last batch, because a network that normalises by the batch cannot take one input alone.
    """
    size = max(1, ELEMENTS_AT_A_TIME * len(inputs) // max(1, inputs.numel()))
    sizes = [size] * (len(inputs) // size) + [len(inputs) % size] * (len(inputs) % size > 0)
    if len(sizes) > 1 and sizes[-1] == 1 < size:
        sizes[-2:] = [size + 1]
    return tuple(map(channels_last, inputs.split(sizes)))


def channels_last(inputs: Tensor) -> Tensor:
    """The same inputs; images [n, channels, height, width] are in the memory format that is fastest for convolutions."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
