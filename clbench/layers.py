"""Which parameters of a network are weights, by which a layer multiplies what it is given."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList

NOT_MULTIPLYING = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
"""Layers whose ``weight`` is a table or a gain."""


def weights(network: nn.Module) -> tuple[str, ...]:
    """The names of the parameters by which a layer multiplies its input, in the order of ``named_parameters``, which names each once.

    They are those of two or more dimensions with ``weight`` in their own name: of linear, convolutional, recurrent and attention layers,
    and of a layer of one's own. Tables of embeddings, gains of normalisation, and what has another name (a class token, the embedding
    of positions) are none. Of ``weight_norm`` the direction is one and the gain is none; other parametrisations have none.
    """
    found = {
        id(parameter)
        for layer in network.modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim >= 2 and _multiplies(layer, name)
    }
    return tuple(name for name, parameter in network.named_parameters() if id(parameter) in found)


def _multiplies(layer: nn.Module, name: str) -> bool:
    if isinstance(layer, ParametrizationList):
        return len(layer) == 1 and isinstance(layer[0], _WeightNorm) and name == "original1"
    return "weight" in name and not isinstance(layer, NOT_MULTIPLYING)
