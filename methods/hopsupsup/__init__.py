"""HopSupSup: supermasks as attractors of a Hopfield network of fixed size (section 3.5 of the paper; Hopfield 1982; Storkey 1997).

For each task, a mask m of hidden units (not of weights) is learned on a random frozen network. It is written as z = 2 m - 1 into
Psi [d, d], with d the number of hidden units; the mask itself is then forgotten. There are two rules, ``hebb`` as in the paper and
``storkey`` as in the authors' code (h = Psi z):

    Psi <- Psi + z z' / d
    Psi_uv <- Psi_uv + (z_u z_v - z_u h_vu - h_uv z_v) / d,    h_uv = h_u - Psi_uu z_u - Psi_uv z_v for v other than u

with h_uu = h_u - Psi_uu z_u, because the field of a pair leaves out the units of the pair.

To answer, a mask is found by the energy, whose minima are stored masks, and the entropy, which is low for the right one. (The paper's
energy lacks the minus: stored strings would be its maxima.) Every class of every task has an output of its own. There are three
searches; the last two take T steps of gradient descent with momentum from the mean of all stored z:

- ``search=recall``: first the energy alone. Random strings fall into attractors; the deepest ones are candidates, as many as masks were
  stored. Then the entropy alone: each group of 64 images takes the candidate with the lowest entropy. The result does not depend on a lucky
  start, but the work grows with the number of stored masks.

- ``search=task``, the authors': one mask for all the images. Each step takes the next batch of 64 of them, T being the number of batches.
  Everything is computed with hard masks m = [z >= 0], s = 2 m - 1, and the gradient with respect to m is used for z. For batch b from 0:

      (strength / d) ((b + 1) / T) (-s' Psi s / 2) + (1 - (b + 1) / T) H(p(x_b, m)) + (0.41 / d) z' z / 2

  Because dm/dz is taken as 1, and not 1/2 as in (z + 1) / 2, steps are twice those of the search for a group. For some tasks the search
  ends in another mask, with some orders of the batches or with all. It can be repeated (``restarts``) with other orders and with noise
  added to the mean; then the mask with the lowest entropy on all the images is used. That helps, but not always.
- ``search=group``, clbench's first search: a mask for each group of 64 images, by 30 steps on these images and a mask (z + 1) / 2 that is
  not hard, weighted by t / T and 1 - t / T. It demands less of the images: only those of a group need to be of one task.

Where the mask acts: on each hidden layer's activations (``output``, equation 5), or on the inputs of the activations (``normalised``: the
authors' code masks the normalised pre-activations). The network must be an ``nn.Sequential`` that normalises the inputs of its activations,
such as ``swish-2048x2048``: on others the entropy of the outputs does not distinguish the tasks.

What to expect: on SplitMNIST the entropy distinguishes the right mask from the others for every group of 64 training images
(``python -m benchmarks.search``), so that recall finds it. The descents miss it for some tasks (docs/differences.md,
``python -m benchmarks.searches``).

``memory=joint`` stores one Psi of all hidden units, ``layers`` one of each layer's, as the authors' code does: this takes less memory, and
masks are found less often.

Deviation: steps grow with d, and the strength and the weight decay fall with it, so that one setting serves networks of any width (at the
authors' d = 4096 the values are theirs: steps of 500, a strength of 1.5e-3, a weight decay of 1e-4). With fewer than 30 batches of images
the search for a task uses them again, for 30 steps. Batch normalisation uses the batch's statistics, in training and in answering,
and the images of an ask, or of a group, share a mask: the method is transductive, as in the authors' code.

Stored to predict: Psi, the sum of all z, their number, and the seed of the weights; the size does not depend on the number of tasks. Needed
to resume: the first mask, only for the table ``retention``. The table ``recovery`` shows, for each task just learned and each ``search``
without restarts, how a mask is found for some of its training images (64; for a task 30 batches of them): by step, the share of units that
differ from the true mask, the entropy (nats), and the energy of the signs of z; and ``goal``, the entropy with the true mask. The table
``retention`` shows how much of the first mask is lost: the share of its units that the others flip (the sign of (Psi z)_u - Psi_uu z_u).
"""

from .hopsupsup import HopSupSup

__all__ = ["HopSupSup"]
