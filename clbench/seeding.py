"""Random generators of one's own: every use of randomness names its purpose, and none touches the global generator."""

import hashlib

import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for ``purpose`` from ``seed``: equal arguments give equal seeds, others independent ones."""
    text = repr((int(seed), *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for ``purpose``: draws are the same on every device because they are made on the CPU and moved."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
