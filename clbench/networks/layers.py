"""Which parameters of a network are weights: those by which a layer multiplies its input."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList

NOT_MULTIPLYING = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
"""Layers whose ``weight`` is a table or a scale."""


def weights(network: nn.Module) -> tuple[str, ...]:
    """The names of the parameters by which a layer multiplies its input, in the order of ``named_parameters``, which names each once.

    They have two or more dimensions, and ``weight`` in their own name: parameters of linear, convolutional, recurrent and attention layers,
    and of other people's layers. Tables of embeddings, scales of normalisation, and parameters with another name (a class token, the
    embedding of positions) are not weights. Of ``weight_norm``, the direction is a weight and the scale is not; other parametrisations have
    none.
    """
    weight_ids = {
        id(parameter)
        for layer in network.modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim >= 2 and _multiplies(layer, name)
    }
    return tuple(name for name, parameter in network.named_parameters() if id(parameter) in weight_ids)


def _multiplies(layer: nn.Module, name: str) -> bool:
    if isinstance(layer, ParametrizationList):
        return len(layer) == 1 and isinstance(layer[0], _WeightNorm) and name == "original1"
    return "weight" in name and not isinstance(layer, NOT_MULTIPLYING)
