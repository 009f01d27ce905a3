"""Random generators: every use of randomness has a generator of its own for its purpose, and none draws from the global one."""

import hashlib

import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for ``purpose`` from ``seed``: equal arguments give equal seeds, different ones independent seeds."""
    text = repr((int(seed), *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for ``purpose``: its numbers are the same for every device, because they are drawn on the CPU and then moved."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
