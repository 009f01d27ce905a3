"""PSP, parameter superposition (Cheung et al., NeurIPS 2019).

All tasks train one set of weights W, each in its own context: where a layer computes W x, it computes W (C_i x) for task i, with a fixed
random C_i. Contexts of different tasks are nearly orthogonal in high dimensions, so that what one task writes into W looks like noise to
the others. ``rotation``: C_i is orthogonal, drawn from the Haar measure; ``binary``: C_i is diagonal with random signs.

    y = (W C_i) x = W (C_i x)

Contexts are applied to the input of every linear layer, and by channel to that of every convolution. Multiplying the input costs less
than multiplying W, which is done where a layer's input cannot be had (attention, recurrent layers, layers of one's own); what layers do
not multiply by, such as embeddings, has no context. A task's contexts follow from the seed, the task's number and the layer's name, and are
never trained; how well they can be had again from the seed is how reproducible the machine's QR decomposition is. W starts Xavier normal.

Deviations: the optimiser goes on from task to task unless ``restart`` is on; batch-norm statistics are per task. Of the paper's contexts
the complex ones are left out.

Stores, to predict: W, batch-norm statistics per task, and the seed of all contexts; with ``store_contexts`` the contexts themselves
(n^2 floats a rotation, n bits of signs), as a learner would that cannot draw them again. To go on: nothing more, or RMSprop's averages.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from clbench.layers import weights
from clbench.method import Brief
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import Tensors, rmsprop

from ._check import for_check
from ._per_task import PerTaskMethod, Rows, pack, random_parameters, unpack

CONTEXT = "context"
"""The name, in each layer, under which ``functional_call`` hands in its context."""


class PSP(PerTaskMethod):
    """Parameter superposition."""

    name = "psp"
    citation = "Cheung, Terekhov, Chen, Agrawal, Olshausen: Superposition of many models into one. NeurIPS 2019"
    recipes = (for_check({"restart": True}),)

    def __init__(
        self,
        brief: Brief,
        *,
        contexts: Literal["rotation", "binary"] = "rotation",
        store_contexts: bool = False,
        learning_rate: float = 1e-4,
        restart: bool = False,
    ) -> None:
        """``contexts``: what kind; ``store_contexts``: whether they are counted as tensors, not as a seed; RMSprop's ``learning_rate``;
        ``restart``: whether RMSprop begins again with each task, as in the paper's figures."""
        network, self.sizes = in_context(brief.network(brief.classes))
        super().__init__(brief, optimiser=rmsprop(learning_rate), network=network)
        self.inside = [name for name in self.linear if f"{name}.{CONTEXT}" in self.sizes]
        self.draw = haar_rotation if contexts == "rotation" else random_signs
        self.stored = store_contexts
        self.restart = restart
        self.averages: Tensors = {}
        self.shared = self.initial_shared()

    def initial_shared(self) -> Tensors:
        return random_parameters(self.initial, self.linear, generator(self.seed, "weights"), nn.init.xavier_normal_)

    def learns_shared(self, task: int) -> bool:
        return True

    def effective(self, tensors: Tensors) -> Tensors:
        """W C for the weights of layers whose input cannot be had."""
        turned = {name: transformed(tensors[name], tensors[f"{name}.{CONTEXT}"], 1) for name in self.inside}
        return {name: tensor for name, tensor in tensors.items() if name.removesuffix(f".{CONTEXT}") not in turned} | turned

    def fixed(self, task: int) -> Tensors:
        """The task's contexts, drawn from the seed."""
        draws = {name: generator(self.seed, "context", task, name) for name in self.sizes}
        return {name: self.draw(size, draws[name]).to(self.brief.device) for name, size in self.sizes.items()}

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        if self.averages:
            self.state.restore(self.averages)

    def end_task(self, data: Split) -> None:
        self.averages = {} if self.restart else self.state.tensors()
        super().end_task(data)

    def finished(self, task: int) -> Tensors:
        contexts = self.given["fixed"] if self.stored else {}
        return {name: pack(context > 0) if context.ndim == 1 else context for name, context in contexts.items()}

    def own_of(self, task: int) -> Tensors:
        kept = super().own_of(task) if self.stored else self.fixed(task)
        # Signs are kept as bits.
        return {
            name: as_signs(unpack(c, torch.Size([self.sizes[name]]))) if c.dtype == torch.uint8 else c for name, c in kept.items()
        }

    def learned(self) -> Tensors:
        return super().learned() | {"seed": torch.tensor(self.seed), "tasks": torch.tensor(len(self.rows))}

    def progress(self) -> Tensors:
        return {f"optimiser.{name}": tensor for name, tensor in self.averages.items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        held = {name.removeprefix("optimiser."): tensor for name, tensor in (progress or {}).items()}
        self.averages = {name: tensor.to(self.brief.device, copy=True) for name, tensor in held.items()}
        self.seed = int(learned["seed"])
        self.rows = self.rows or Rows({} for _ in range(int(learned["tasks"])))  # a task may have nothing of its own but a number

    @classmethod
    def rewind(cls, learned: Tensors, tasks: int) -> Tensors | None:
        """Every task changes the weights that all share."""
        return None


def in_context(network: nn.Module) -> tuple[nn.Module, dict[str, int]]:
    """The network with a place for a context at the input of each linear and convolutional layer; the names and sizes of all contexts.

    The context of a weight of another layer has that weight's name before its own.
    """
    # Attention computes with its last layer's weight and never calls the layer.
    uncalled = {id(layer.out_proj) for layer in network.modules() if isinstance(layer, nn.MultiheadAttention)}
    sizes, served = {}, set[int]()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | _ConvNd) and id(layer) not in uncalled:
            layer.register_buffer(CONTEXT, None)
            layer.register_forward_pre_hook(apply_context)
            sizes[f"{name}.{CONTEXT}".removeprefix(".")] = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
            served |= {id(parameter) for parameter in layer.parameters()}
    inside = {name: network.get_parameter(name) for name in weights(network)}
    return network, sizes | {f"{name}.{CONTEXT}": weight.shape[1] for name, weight in inside.items() if id(weight) not in served}


def apply_context(layer: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    """The layer's input x as C x: features are the last dimension of a linear layer's input, channels that before a convolution's space."""
    (inputs,) = arguments
    context = layer.get_buffer(CONTEXT)
    dimension = -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1
    return (transformed(inputs, context if context.ndim == 1 else context.T, dimension),)


def transformed(tensor: Tensor, context: Tensor, dimension: int) -> Tensor:
    """The product of ``tensor`` along a dimension with a context: a matrix, or the diagonal of one."""
    last = tensor.movedim(dimension, -1)
    return (last * context if context.ndim == 1 else last @ context).movedim(-1, dimension)


def haar_rotation(size: int, draws: torch.Generator) -> Tensor:
    """A random orthogonal matrix, float32 [size, size]: Q of a Gaussian matrix's QR, with R's diagonal made positive (Mezzadri 2007)."""
    # In float64, so that after rounding it is as orthogonal as float32 can be.
    q, r = torch.linalg.qr(torch.randn(size, size, generator=draws, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def random_signs(size: int, draws: torch.Generator) -> Tensor:
    """The diagonal of a binary context: 1 or -1 with equal probability, float32 [size]."""
    return as_signs(torch.randint(0, 2, (size,), generator=draws))


def as_signs(bits: Tensor) -> Tensor:
    """1 where a bit is set, else -1."""
    return bits.float() * 2 - 1
