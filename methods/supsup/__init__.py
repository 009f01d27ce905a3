"""SupSup, Supermasks in Superposition (Wortsman et al., NeurIPS 2020).

A random network is never trained; each task finds a supermask M_i on it, and outputs are p = f(x, W * M_i) (equation 1). Where the task is
not given, it is inferred from the superposition of all masks: p(alpha) = f(x, W * sum_i alpha_i M_i) (equation 2), by the gradient of the
entropy H or of the superfluous outputs' logsumexp G with respect to alpha (equations 3 and 4, section 3.6). Where it is not even given in
training, a mask is allocated when the inference is uncertain (section 3.4).

Masked are the weights that layers multiply by: linear, convolutional, recurrent and attention layers', and of a layer of one's own the
parameters of two or more dimensions that have ``weight`` in their names. Biases are 0; all else (gains of normalisation, embeddings, class
tokens) stays as the network begins with it. ``clbench show NETWORK`` lists which is which.

Deviations from the paper: masks that are not yet trained are no candidates of One-Shot and Binary; with no task in training the candidates
include one untrained spare, and a new mask is allocated also if the spare wins (as written, the rule would allocate for ever); predictions
are made among the task's own labels, never a superfluous output; "Transfer" averages earlier scores, not masks.

Stores, to predict: a packed bit per maskable weight and task (edge-popup's masks, which are sparser, as the coded gaps between kept
weights: ``coding.py``), batch-norm statistics per task, and the seed of the random weights. To go on:
nothing between tasks that are given (with Transfer the running mean of scores), else the live scores, optimiser state and counters.
"""

from .._inference import entropy
from .inference import values_by_way
from .layout import Layout
from .masking import kept_weights
from .supsup import SupSup

__all__ = ["Layout", "SupSup", "entropy", "kept_weights", "values_by_way"]
