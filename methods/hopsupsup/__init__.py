"""HopSupSup: supermasks as attractors of a Hopfield network of fixed size (section 3.5 of the paper; Hopfield 1982; Storkey 1997).

A mask m, of hidden units and not of weights, is learned for each task on a random frozen network, and written as z = 2 m - 1 into
Psi [d, d], d being the number of hidden units; the mask itself is then forgotten. ``hebb``, as the paper writes it, and ``storkey``, as
the authors' code does (h = Psi z):

    Psi <- Psi + z z' / d
    Psi_uv <- Psi_uv + (z_u z_v - z_u h_vu - h_uv z_v) / d,    h_uv = h_u - Psi_uu z_u - Psi_uv z_v

To answer, a mask is found for each group of test images by T steps of gradient descent with momentum, from the mean of all stored z, on

    (strength / d) (t / T) (-z' Psi z / 2) + (1 - t / T) H(p(x, (z + 1) / 2))

the energy, whose minima are stored masks, and the entropy, which is low for the right one. (The paper's energy lacks the minus: stored
strings would be its maxima.) The signs of z at the end are the mask. Every class of every task has an output of its own.

Where the mask acts: on each hidden layer's activations (``output``, equation 5), or on what goes into them (``normalised``, as the authors'
code masks the normalised pre-activations). It needs a network that is an ``nn.Sequential`` and normalises what goes into its activations,
such as ``swish-2048x2048``: on others the entropy of the outputs does not tell the tasks apart.

What to expect: on SplitMNIST the entropy tells the right mask from the others for every group of 64 training images
(``python -m benchmarks.search``), but the descent begins where all masks are mixed, and what they have in common favours some classes.
Where that is stronger than what the images say, it ends in another task's mask, or between two (docs/differences.md).

Deviation: steps grow with d and the strength falls with it, so that one setting serves networks of any width (at the authors' d = 4096
they are theirs: steps of 500 and a strength of 1.5e-3). Batch normalisation uses the batch's statistics, in training and in answering,
which makes the method transductive, as in the authors' code.

Stores, to predict: Psi, the sum of all z, their number, and the seed of the weights: the same however many tasks there are. To go on:
the first mask, for the record alone. The table ``recovery`` has, for each task just learned, how a mask is found for some of its training
images: by step, the share of units that differ from the true mask, the entropy (nats), and the energy of the signs of z; and ``goal``,
the entropy with the true mask. The table ``retention`` has how much of the first mask is lost: the share of its units that the others
turn (the sign of (Psi z)_u - Psi_uu z_u).
"""

from .hopsupsup import HopSupSup

__all__ = ["HopSupSup"]
