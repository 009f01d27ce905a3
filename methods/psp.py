"""PSP, parameter superposition (Cheung et al., NeurIPS 2019).

All tasks train one set of weights W, each in its own context: instead of W x, a layer computes W (C_i x) for task i, with a fixed
random C_i. In high dimensions, contexts of different tasks are nearly orthogonal, so that what one task writes into W looks like noise to
the others. ``rotation``: C_i is orthogonal, drawn from the Haar measure; ``binary``: C_i is diagonal with random signs.

    y = (W C_i) x = W (C_i x)

Contexts are applied to the input of every linear layer, and by channel to the input of every convolution. Multiplying the input costs less
than multiplying W; W is multiplied only if a layer's input is not accessible (attention, recurrent layers, layers of your own). Parameters
that layers do not multiply by, such as embeddings, have no context. The seed, the task's number and the layer's name determine a task's
contexts, which are never trained. They can be drawn again exactly only if the machine's QR decomposition gives the same result again. W
starts Xavier normal.

Deviations: the optimiser's state passes from task to task unless ``restart`` is on; batch-norm statistics are per task. The paper's complex
contexts are left out.

Stored to predict: W, batch-norm statistics per task, and the seed of all contexts; with ``store_contexts`` the contexts themselves
(n^2 floats a rotation, n bits of signs), as a learner would that cannot draw them again. Needed to resume: RMSprop's averages if
``restart`` is off.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from clbench.method import Brief
from clbench.networks import weights
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import Tensors, rmsprop

from ._bits import pack, unpack
from ._check import for_check
from ._per_task import FrozenRows, PerTaskMethod, random_parameters

CONTEXT = "context"
"""The name of the buffer in each layer through which ``functional_call`` passes the context."""


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
        """``contexts``: their kind; ``store_contexts``: whether they are stored as tensors instead of a seed; RMSprop's ``learning_rate``;
        ``restart``: whether RMSprop is re-initialised for each task, as in the paper's figures."""
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
        """W C for the weights of layers whose input is not accessible."""
        products = {name: transformed(tensors[name], tensors[f"{name}.{CONTEXT}"], 1) for name in self.inside}
        return {name: tensor for name, tensor in tensors.items() if name.removesuffix(f".{CONTEXT}") not in products} | products

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
        contexts = super().own_of(task) if self.stored else self.fixed(task)
        # Signs are stored as bits.
        return {name: as_signs(unpack(c, self.sizes[name])) if c.dtype == torch.uint8 else c for name, c in contexts.items()}

    def learned(self) -> Tensors:
        return super().learned() | {"seed": torch.tensor(self.seed), "tasks": torch.tensor(len(self.rows))}

    def progress(self) -> Tensors:
        return {f"optimiser.{name}": tensor for name, tensor in self.averages.items()}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        super().restore(learned, progress)
        averages = {name.removeprefix("optimiser."): tensor for name, tensor in (progress or {}).items()}
        self.averages = {name: tensor.to(self.brief.device, copy=True) for name, tensor in averages.items()}
        self.seed = int(learned["seed"])
        self.rows = self.rows or FrozenRows({} for _ in range(int(learned["tasks"])))  # a task may have no tensors of its own

    @classmethod
    def rewind(cls, learned: Tensors, tasks: int) -> Tensors | None:
        """None: every task changes the shared weights."""
        return None


def in_context(network: nn.Module) -> tuple[nn.Module, dict[str, int]]:
    """The network with a buffer for a context at the input of each linear and convolutional layer; the names and sizes of all contexts.

    The name of the context of another layer's weight begins with the weight's name.
    """
    # Attention uses the weight of its last layer but never calls the layer.
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
    """The layer's input x as C x, along the features of a linear layer (the last dimension) or the channels of a convolution."""
    (inputs,) = arguments
    context = layer.get_buffer(CONTEXT)
    dimension = -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1
    return (transformed(inputs, context if context.ndim == 1 else context.T, dimension),)


def transformed(tensor: Tensor, context: Tensor, dimension: int) -> Tensor:
    """The product of ``tensor`` along a dimension with a context: a matrix, or its diagonal."""
    last = tensor.movedim(dimension, -1)
    return (last * context if context.ndim == 1 else last @ context).movedim(-1, dimension)


def haar_rotation(size: int, draws: torch.Generator) -> Tensor:
    """A random orthogonal matrix, float32 [size, size]: Q of a Gaussian matrix's QR, with R's diagonal made positive (Mezzadri 2007)."""
    # In float64, so that the rounded result is as orthogonal as float32 allows.
    q, r = torch.linalg.qr(torch.randn(size, size, generator=draws, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def random_signs(size: int, draws: torch.Generator) -> Tensor:
    """The diagonal of a binary context: 1 or -1 with equal probability, float32 [size]."""
    return as_signs(torch.randint(0, 2, (size,), generator=draws))


def as_signs(bits: Tensor) -> Tensor:
    """1 for each bit that is set, otherwise -1."""
    return bits.float() * 2 - 1
