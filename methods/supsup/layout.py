"""The layout of a PyTorch module's parameters in the flat vectors that masks and gradients are."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.networks import weights as weights_of
from clbench.seeding import generator


@dataclass(frozen=True)
class Layout:
    """Named tensors laid end to end. ``size`` is the length of the flat vector."""

    shapes: dict[str, torch.Size]

    @property
    def size(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of ``flat`` ([..., size]) as the named tensors ([..., *shape])."""
        pieces = flat.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: piece.view(*flat.shape[:-1], *shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def join(self, tensors: dict[str, Tensor], batched: bool = False) -> Tensor:
        """The inverse of ``split``, in new memory: [size], or [n, size] for tensors with a leading batch dimension."""
        start = 1 if batched else 0
        return torch.cat([tensors[name].flatten(start) for name in self.shapes], dim=-1)


@dataclass(frozen=True, eq=False)
class Base:
    """The random network that all masks share: never trained, and regenerated from a seed.

    ``weights``: [D] signed Kaiming constants, the maskable parameters; ``fixed``: the other parameters (biases at 0; all others, such as
    normalisation scales and embeddings, at the network's initial values) and integer buffers, the same for all tasks; ``statistics``:
    the layout of the floating-point buffers (running means and variances of batch normalisation), of which each task has its own, with
    their initial values ``fresh`` [F].
    """

    network: nn.Module
    layout: Layout
    weights: Tensor
    fixed: dict[str, Tensor]
    statistics: Layout
    fresh: Tensor

    def state(self, weights: Tensor, statistics: Tensor) -> dict[str, Tensor]:
        """Everything that ``functional_call`` needs, from flat effective weights [D] and flat statistics [F]."""
        return self.fixed | self.layout.split(weights) | self.statistics.split(statistics)


def signed_kaiming_constant(shape: torch.Size, draws: torch.Generator) -> Tensor:
    """Weights of +c or -c with equal probability, c being the standard deviation of He's normal initialisation with gain sqrt 2.

    Section 3.1 of the paper; Ramanujan et al. 2019. The fan-in is the number of weights of one output unit.
    """
    constant = math.sqrt(2.0 / shape[1:].numel())
    signs = torch.randint(0, 2, shape, generator=draws, dtype=torch.float32) * 2 - 1
    return signs * constant


def random_scores(layout: Layout, draws: torch.Generator) -> Tensor:
    """Flat scores [D], uniform within 1 / sqrt(fan-in): Kaiming-uniform with a = sqrt 5, as in the authors' recipe."""
    scores = [(torch.rand(shape, generator=draws) * 2 - 1) / math.sqrt(shape[1:].numel()) for shape in layout.shapes.values()]
    return torch.cat([score.flatten() for score in scores])


def random_base(network: nn.Module, seed: int, device: torch.device) -> Base:
    """The frozen random network on which masks are learned: ``clbench.networks.weights`` says which parameters are maskable.

    Raises ``UserError`` if no parameter is maskable.
    """
    network = network.to(device).eval()
    named = dict(network.named_parameters())
    layout = Layout({name: named[name].shape for name in weights_of(network)})
    if not layout.shapes:
        raise UserError("The network has no weights to mask: `clbench show NETWORK` lists its parameters.")
    draws = generator(seed, "weights")
    weights = torch.cat([signed_kaiming_constant(shape, draws).flatten() for shape in layout.shapes.values()])
    others = {name: p.detach() for name, p in named.items() if name not in layout.shapes}
    fixed = {n: torch.zeros_like(p) if p.ndim < 2 and "bias" in n.rpartition(".")[2] else p.clone() for n, p in others.items()}
    buffers = dict(network.named_buffers())
    statistics = Layout({name: b.shape for name, b in buffers.items() if b.is_floating_point()})
    fixed |= {name: b for name, b in buffers.items() if not b.is_floating_point()}
    fresh = torch.cat([buffers[name].flatten() for name in statistics.shapes]) if statistics.shapes else torch.empty(0)
    return Base(network, layout, weights.to(device), fixed, statistics, fresh.to(device).clone())
