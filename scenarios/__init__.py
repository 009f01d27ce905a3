"""The four scenarios of the paper's Table 1, and the streams. To add a stream, add a file that names it in ``STREAMS``."""

from clbench.scenario import Scenario

from .gg import GG
from .gns import GNS
from .gnu import GNU
from .nns import NNS

SCENARIOS: tuple[Scenario, ...] = (GG, GNS, GNU, NNS)

__all__ = ["GG", "GNS", "GNU", "NNS", "SCENARIOS"]
