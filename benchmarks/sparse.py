"""Sparse One-Shot, which clbench does not have: is it worth scoring masks only on the weights with the largest gradients?

Agreement with all weights is measured on trained masks, seconds on random masks, which cost the same. To score few weights, masks must be
stored weight by weight (the transpose of the bank): a copy in bytes if memory is enough, else in bits.
"""

from collections.abc import Iterator

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.timing import best_seconds
from benchmarks.training import BATCH, learner
from clbench.engine.evaluator import evaluate
from clbench.engine.schedule import Schedule
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.bank import MaskBank, multiplies_bytes, two_bytes
from clbench.methods.supsup.inference import superposed_gradient

Row = tuple[str, float, str]
FRACTIONS = (0.3, 0.1, 0.05, 0.02, 0.01)
TRAINED, IMAGES = 250, 4
"""Trained masks, and images of each task that ask for their task."""
SPEED_FRACTION = 0.1
MANY = 100_000
ROOM = 12e9
"""Bytes of memory that must be free for so many masks."""


def rows(data: str, root: str | None) -> Iterator[Row]:
    """The curve of agreement, and what the sparse product gains for one query and for the paper's 79."""
    method, stream = learner("supsup", "gnu", "lenet-300-100", {"outputs": 100}, data, root, tasks=TRAINED)
    assert isinstance(method, SupSup)
    for _ in evaluate(method, stream, [], [], Schedule(1000, BATCH, 0)):
        pass
    right, same = 0, dict.fromkeys(FRACTIONS, 0)
    for task in range(TRAINED):
        groups = stream[task].test.whole(IMAGES)[0][:, None]
        gradients, statistics = superposed_gradient(method.base, *method.bank.mean(), groups, ["H"], 10)
        full = method.bank.inner(gradients[0], statistics[0]).argmin(1)
        right += int((full == task).sum())
        for fraction in FRACTIONS:
            sparse = method.bank.inner(largest_alone(gradients[0], fraction), statistics[0]).argmin(1)
            same[fraction] += int((sparse == full).sum())
    yield f"sparse_{TRAINED}_all_weights_right", right / (TRAINED * IMAGES), "ratio"
    for fraction, number in same.items():
        yield f"sparse_{TRAINED}_agreement_at_{fraction:g}", number / (TRAINED * IMAGES), "ratio"
    size = method.bank.size
    for count in (250, 2500):
        bank, by_weight = random_masks(count, size)
        for queries in (1, 79):
            gradients = torch.randn(queries, size) ** 3
            yield from compared(count, queries, gradients, bank, lambda g: sparse_inner(by_weight, g))  # noqa: B023
    if psutil.virtual_memory().available < ROOM:
        return
    bits = np.random.default_rng(0).integers(0, 256, (size, MANY // 8), dtype=np.uint8)
    bank = MaskBank(size, 0, torch.device("cpu"), integers=multiplies_bytes(torch.device("cpu")), working_bytes=2**30)
    # The cost does not depend on the bits, so that all blocks can be the same. This reaches into the bank: appending would take hours.
    rows = bank._bits.rows_per_block
    block = torch.from_numpy(bits.reshape(-1)[: rows * bank._bits.length].copy()).view(rows, -1)
    bank._bits.blocks, bank._bits.filled = [block] * -(-MANY // rows), MANY
    bank._statistics.blocks, bank._statistics.filled = [torch.empty(rows, 0)] * -(-MANY // rows), MANY
    gradients = torch.randn(1, size) ** 3
    yield from compared(MANY, 1, gradients, bank, lambda g: sparse_inner_of_bits(bits, g), repeats=1)


def compared(count: int, queries: int, gradients: Tensor, bank: MaskBank, sparse: object, repeats: int = 3) -> Iterator[Row]:
    """Seconds a query by the bank and sparsely."""
    assert callable(sparse)
    none = torch.empty(queries, 0)
    dense_seconds = best_seconds(lambda: bank.inner(gradients, none), repeats=repeats, warm=1 if repeats > 1 else 0) / queries
    sparse_seconds = best_seconds(lambda: sparse(gradients), repeats=repeats, warm=1 if repeats > 1 else 0) / queries
    yield f"sparse_{count}_queries_{queries}_all_weights_milliseconds", dense_seconds * 1e3, "ms"
    yield f"sparse_{count}_queries_{queries}_at_{SPEED_FRACTION:g}_milliseconds", sparse_seconds * 1e3, "ms"
    yield f"sparse_{count}_queries_{queries}_at_{SPEED_FRACTION:g}_gain", dense_seconds / sparse_seconds, "ratio"


def random_masks(count: int, size: int) -> tuple[MaskBank, Tensor]:
    """A bank of random masks, and a copy of it weight by weight, int8 [D, k]."""
    cpu = torch.device("cpu")
    bank = MaskBank(size, 0, cpu, integers=multiplies_bytes(cpu), working_bytes=2**30)
    by_weight = torch.empty(size, count, dtype=torch.int8)
    for row in range(count):
        mask = torch.rand(size) < 0.5
        bank.append(mask, torch.empty(0))
        by_weight[:, row] = mask
    return bank, by_weight


def largest_alone(gradients: Tensor, fraction: float) -> Tensor:
    """Gradients [q, D] with all but the largest by amount at 0."""
    largest = gradients.abs().topk(int(fraction * gradients.shape[1]), dim=1).indices
    return torch.zeros_like(gradients).scatter_(1, largest, gradients.gather(1, largest))


def sparse_inner(by_weight: Tensor, gradients: Tensor) -> Tensor:
    """Products [q, k] on the largest gradients of each query alone."""
    products = []
    for gradient in gradients:
        largest = gradient.abs().topk(int(SPEED_FRACTION * len(gradient))).indices.sort().values
        parts, unit = two_bytes(gradient[largest][None])
        high, low = torch._int_mm(parts, by_weight.index_select(0, largest)).double()
        products.append((256 * high + low) * unit[0])
    return torch.stack(products)


def sparse_inner_of_bits(bits: np.ndarray, gradients: Tensor) -> Tensor:
    """The same for masks in bits, uint8 [D, k / 8]."""
    products = []
    for gradient in gradients:
        largest = gradient.abs().topk(int(SPEED_FRACTION * len(gradient))).indices.sort().values
        parts, unit = two_bytes(gradient[largest][None])
        total = torch.zeros(2, bits.shape[1] * 8, dtype=torch.float64)
        for some, part in zip(largest.split(2000), parts.split(2000, dim=1), strict=True):
            masks = torch.from_numpy(np.unpackbits(bits[some.numpy()], axis=1)).view(torch.int8)
            total += torch._int_mm(part.contiguous(), masks)
        products.append((256 * total[0] + total[1]) * unit[0])
    return torch.stack(products)
