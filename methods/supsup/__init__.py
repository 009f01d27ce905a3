"""SupSup, Supermasks in Superposition (Wortsman et al., NeurIPS 2020).

A random network is never trained. Each task finds a supermask M_i on it, and outputs are p = f(x, W * M_i) (equation 1). If the task is
not given, it is inferred from the superposition of all masks: p(alpha) = f(x, W * sum_i alpha_i M_i) (equation 2), by the gradient of the
entropy H or of the superfluous outputs' logsumexp G with respect to alpha (equations 3 and 4, section 3.6). If it is not even given in
training, a mask is allocated when the inference is uncertain (section 3.4). Where tasks are not alike, confidences do not say which mask
fits. ``algorithm=statistics``, which the paper does not have, infers the task from densities of the random network's hidden units
(``statistics.py``; ``--set statistics=hidden``).

Masks cover the weights that layers multiply by: those of linear, convolutional, recurrent and attention layers, and in layers of your own
the parameters of two or more dimensions that have ``weight`` in their names. Biases are 0. Everything else (gains of normalisation,
embeddings, class tokens) keeps the network's initial values. ``clbench show NETWORK`` lists which is which.

Deviations from the paper: masks that are not yet trained are no candidates of One-Shot and Binary; with no task in training the candidates
include one untrained spare, and a new mask is allocated also if the spare wins (as written, the rule would allocate for ever); predictions
are made among the task's own labels, never a superfluous output; "Transfer" averages earlier scores, not masks.

Beyond the paper, ``allocation=surprise`` finds tasks of any length, with boundaries inside a batch, and tasks that come again. The loss of
a batch before it is learned is compared with the usual loss of the mask in training: the lowest that its running mean over 20 batches was.
If it is higher by a quarter of the loss of a guess, log(classes), and by 6 standard deviations, the batch is not learned, and the losses of
five other masks, the shortlist of One-Shot by H, are compared. The mask with the lowest loss is trained again if it knows the batch; if
none does, and none knows the next batch either, a new mask begins. Its limits: a mask notices another task only after some 50 batches; a
few images of the next task are learned if they are less than about a sixth of a batch; tasks that are alike, or that change bit by bit,
share a mask (``docs/results.md`` has the numbers). Masks are not merged if they run out: two masks have only half of their bits in common,
and a mask of both does neither task.

Stored to predict: a packed bit per maskable weight and task (edge-popup's masks, which are sparser, as the coded gaps between selected
weights: ``coding.py``), batch-norm statistics per task, and the seed of the random weights; with ``statistics``, for each class of each
task, two bytes for each feature and eight more. Needed to resume: nothing else between given tasks (with Transfer the running mean of
scores; with ``statistics`` the class means, and their covariance once); if no task is given, the live scores, the optimiser's state and
counters, and by surprise the usual loss of every mask.
"""

from .._objectives import entropy
from .inference import values_by_way
from .layout import Layout
from .masking import kept_weights
from .supsup import SupSup

__all__ = ["Layout", "SupSup", "entropy", "kept_weights", "values_by_way"]
