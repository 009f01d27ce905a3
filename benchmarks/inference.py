"""Task inference at many tasks: One-Shot beside stacked float masks and exhaustive search, a check of NNs, and bytes a task."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import functional_call

from benchmarks.timing import best_seconds, peak_flops
from clbench import networks, storage
from clbench.methods.supsup import entropy
from clbench.methods.supsup.allocation import uncertainty
from clbench.methods.supsup.bank import WORKING_BYTES, MaskBank, multiplies_bytes
from clbench.methods.supsup.inference import exhaustive, one_shot, superposed_gradient
from clbench.methods.supsup.layout import Base, random_base

Row = tuple[str, float, str]
CLASSES, OUTPUTS = 10, 500
QUERIES = 79
"""Decisions that the paper's protocol takes for 10,000 test images."""
ROUNDS = 5
"""How often One-Shot is timed with so many masks: the best is its time, and a claim is judged by all."""
STACKED_GIGABYTES = 4
"""Float masks are stacked for as many tasks as fit into this; beyond, their time is extrapolated linearly, and the row says so. The
formula takes three times as much, for products and their gradients.

``stacked`` is the paper's formula written plainly, one image at a time as the paper asks; ``stacked_product`` the same with matrix
products; ``stacked_batched_product`` only the product of clbench's own batch of gradients with float masks."""


def rows(counts: tuple[int, ...] = (10, 100, 500, 1000, 2500)) -> Iterator[Row]:
    """Benchmarks (c), (d) and (e)."""
    cpu = torch.device("cpu")
    base = random_base(networks.seeded(networks.resolve("lenet-300-100", (1, 28, 28)), OUTPUTS, 0), 0, cpu)
    size = base.layout.size
    bank = MaskBank(size, 0, cpu, integers=multiplies_bytes(cpu), working_bytes=WORKING_BYTES)
    draws = torch.Generator().manual_seed(0)
    groups = torch.randn(QUERIES, 1, 1, 28, 28, generator=draws)
    per_stacked = per_product = per_batched = 0.0
    for count in counts:
        while len(bank) < count:
            bank.append(torch.rand(size, generator=draws) < 0.5, torch.empty(0))
        rounds = [
            best_seconds(lambda: one_shot(base, bank, groups, "H", CLASSES), repeats=1, warm=int(number == 0)) / QUERIES
            for number in range(ROUNDS)
        ]
        ours = min(rounds)
        tried = best_seconds(lambda: exhaustive(base, bank, groups, "H", CLASSES), repeats=1, warm=0) / QUERIES
        if 4 * size * count <= STACKED_GIGABYTES * 1e9:
            masks = torch.stack([bank.mask(row).float() for row in range(count)])
            image = groups[0]
            stacked = best_seconds(lambda: stacked_one_shot(base, masks, image, plainly), repeats=2)  # noqa: B023 (called in this round)
            product = best_seconds(lambda: stacked_one_shot(base, masks, image, as_a_product), repeats=2)  # noqa: B023
            gradients, _ = superposed_gradient(base, *bank.mean(), groups, ["H"], CLASSES)
            batched = best_seconds(lambda: gradients[0] @ masks.T, repeats=2) / QUERIES  # noqa: B023
            per_stacked, per_product, per_batched = stacked / count, product / count, batched / count
            yield f"stacked_{count}_megabytes", masks.nbytes / 1e6, "MB"
            del masks
            yield f"stacked_product_{count}_milliseconds_per_image", product * 1e3, "ms"
            yield f"stacked_batched_product_{count}_milliseconds_per_image", batched * 1e3, "ms"
            yield f"stacked_{count}_milliseconds_per_image", stacked * 1e3, "ms"
        else:
            yield f"stacked_{count}_milliseconds_per_image_extrapolated", per_stacked * count * 1e3, "ms"
        yield f"oneshot_{count}_milliseconds_per_image", ours * 1e3, "ms"
        for number, seconds in enumerate(rounds):
            yield f"oneshot_{count}_round_{number}", seconds * 1e3, "ms"
        yield f"exhaustive_{count}_milliseconds_per_image", tried * 1e3, "ms"
        yield f"oneshot_{count}_vs_stacked", per_stacked * count / ours, "ratio"
        yield f"oneshot_{count}_vs_stacked_product", per_product * count / ours, "ratio"
        yield f"oneshot_{count}_vs_stacked_batched_product", per_batched * count / ours, "ratio"
        yield f"oneshot_{count}_megabytes", (bank.packed().nbytes + min(count * size, WORKING_BYTES)) / 1e6, "MB"
        yield f"oneshot_{count}_vs_exhaustive", tried / ours, "ratio"
        # One forward and backward pass of an image is a thousandth of the inner products with the masks at k = 2,500.
        yield f"oneshot_{count}_peak_fraction", 2 * size * count / ours / peak_flops(), "ratio"
    batch = torch.randn(128, 1, 28, 28, generator=draws)
    spare = torch.rand(size, generator=draws) < 0.5
    seconds = best_seconds(lambda: uncertainty(base, bank, spare, batch, CLASSES), repeats=3)
    yield f"nns_check_{len(bank)}_seconds", seconds, "s"
    yield "bytes_per_task", storage.file_bytes({"masks": bank.packed()}) / len(bank), "B"


def plainly(alpha: Tensor, masks: Tensor) -> Tensor:
    """The sum over i of alpha_i M_i, as the paper writes it (equation 2)."""
    return (alpha[:, None] * masks).sum(0)


def as_a_product(alpha: Tensor, masks: Tensor) -> Tensor:
    """The same sum as one matrix product."""
    return alpha @ masks


def stacked_one_shot(base: Base, masks: Tensor, image: Tensor, superpose: Callable[[Tensor, Tensor], Tensor]) -> int:
    """One-Shot with alpha on k stacked float masks [k, D]: a superposition, and one backward pass to alpha."""
    alpha = torch.full((len(masks),), 1 / len(masks), requires_grad=True)
    effective = base.weights * superpose(alpha, masks)
    value = entropy(functional_call(base.network, base.state(effective, base.fresh), (image,)), CLASSES).mean()
    (slope,) = torch.autograd.grad(value, alpha)
    return int(slope.argmin())
