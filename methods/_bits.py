"""Shared by the methods that store masks: booleans as packed bits."""

import numpy as np
import torch
from torch import Tensor


def pack(mask: Tensor) -> Tensor:
    """Booleans of any shape as bits: uint8 [ceil(n / 8)], the first boolean in the highest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy())).to(mask.device)


def unpack(bits: Tensor, size: int) -> Tensor:
    """The inverse of ``pack``, flat: bits uint8 [..., ceil(size / 8)] as 0 and 1 in uint8 [..., size]."""
    return torch.from_numpy(np.unpackbits(bits.cpu().numpy(), axis=-1, count=size)).to(bits.device)
