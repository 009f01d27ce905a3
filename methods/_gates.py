"""Shared by the variants of context-dependent gating: hidden units that are gated by the task (see ``xdg.py``)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from clbench.checks import below_one
from clbench.method import Brief
from clbench.scenarios import GG
from clbench.seeding import generator
from clbench.training import Tensors

from ._weights import WeightMethod

GATES = "gates"
"""The name of the buffer in each gated layer."""


def gated_network(network: nn.Module) -> nn.Module:
    """The network with a buffer of gates, which are all open, at the input of each linear or convolutional layer but the first."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | _ConvNd)]
    for layer in layers[1:]:
        units = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        layer.register_buffer(GATES, torch.ones(units))
        layer.register_forward_pre_hook(apply_gates)
    return network


def apply_gates(layer: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    """The layer's input, with gated units (of a linear layer) or channels (of a convolution) set to 0."""
    (inputs,) = arguments
    shape = (-1, *(1 for _ in layer.kernel_size)) if isinstance(layer, _ConvNd) else (-1,)
    return (inputs * layer.get_buffer(GATES).view(shape),)


class Gated(WeightMethod):
    """A method whose hidden units are gated by the task, on top of another that trains the weights of one network."""

    scenarios = frozenset({GG})
    learning_depends_on: ClassVar[frozenset[str]] = frozenset({"task_given_in_training"})

    def __init__(self, brief: Brief, *, gated: float, **learning: Any) -> None:
        below_one(gated=gated)
        super().__init__(brief._replace(network=lambda outputs: gated_network(brief.network(outputs))), **learning)
        self.brief = brief
        self.gated = gated
        self.seed = brief.seed

    def gates(self, task: int) -> Tensors:
        """The gates of a task, by the names of their buffers: 0 or 1."""
        drawn = {}
        for name, buffer in self.buffers.items():
            if name.rpartition(".")[2] == GATES:
                order = torch.randperm(len(buffer), generator=generator(self.seed, "gates", task, name))
                drawn[name] = (order >= round(self.gated * len(buffer))).float().to(self.brief.device)
        return drawn

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        self.buffers = self.buffers | self.gates(task)

    def logits(self, inputs: Tensor, task: int | None = None) -> Tensor:
        assert task is not None
        present = self.buffers
        self.buffers = present | self.gates(task)
        try:
            return super().logits(inputs, task)
        finally:
            self.buffers = present

    def learned(self) -> Tensors:
        """Parameters and buffers, and the seed of the gates instead of the gates."""
        stored = {name: tensor for name, tensor in super().learned().items() if name.rpartition(".")[2] != GATES}
        return stored | {"gates' seed": torch.tensor(self.seed)}

    def restore(self, learned: Tensors, progress: Tensors | None = None) -> None:
        self.seed = int(learned["gates' seed"])
        super().restore(learned | {f"buffer.{name}": gates for name, gates in self.gates(0).items()}, progress)
        self.buffers = self.buffers | self.gates(self.task)
