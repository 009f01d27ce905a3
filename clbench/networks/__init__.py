"""Networks by name: plain PyTorch modules, without special layer classes.

``resolve`` turns a name into a factory, from a number of outputs to a fresh module. Five kinds of name are known: the paper's two networks
for digits, ``mlp-AxB...`` and ``swish-AxB...`` (``perceptrons``), the residual networks (``resnets``), and the dotted name of anything
importable that builds an ``nn.Module`` (``dotted``). ``seeded`` calls a factory so that its random initialisation depends on a seed and
nothing else.
"""

from clbench.networks.by_name import KNOWN, Row, catalogue, resolve, seeded, widths
from clbench.networks.dotted import OUTPUT_KEYWORDS, Factory, code, is_dotted, oneline
from clbench.networks.inputs import channels_last, in_parts
from clbench.networks.inspection import Work, bare_twin, count_parameters, head_names, work
from clbench.networks.layers import weights
from clbench.networks.perceptrons import mlp, swish
from clbench.networks.resnets import resnet_18, resnet_50

__all__ = [
    "KNOWN",
    "OUTPUT_KEYWORDS",
    "Factory",
    "Row",
    "Work",
    "bare_twin",
    "catalogue",
    "channels_last",
    "code",
    "count_parameters",
    "head_names",
    "in_parts",
    "is_dotted",
    "mlp",
    "oneline",
    "resnet_18",
    "resnet_50",
    "resolve",
    "seeded",
    "swish",
    "weights",
    "widths",
    "work",
]
