"""HopSupSup: supermasks as attractors of a Hopfield network of fixed size (section 3.5 of the paper; Hopfield 1982; Storkey 1997).

A mask m, of hidden units and not of weights, is learned for each task on a random frozen network, and written as z = 2 m - 1 into
Psi [d, d], d being the number of hidden units; the mask itself is then forgotten. ``hebb``, as the paper writes it, and ``storkey``, as
the authors' code does (h = Psi z):

    Psi <- Psi + z z' / d
    Psi_uv <- Psi_uv + (z_u z_v - z_u h_vu - h_uv z_v) / d,    h_uv = h_u - Psi_uu z_u - Psi_uv z_v for v other than u

with h_uu = h_u - Psi_uu z_u, as the field of a pair leaves out the units of the pair.

To answer, a mask is found by the energy, whose minima are stored masks, and the entropy, which is low for the right one. (The paper's
energy lacks the minus: stored strings would be its maxima.) Every class of every task has an output of its own. There are three
searches, the last two by T steps of gradient descent with momentum from the mean of all stored z:

- ``search=recall``: first the energy alone. Random strings fall into attractors; the deepest are kept, as many as masks were stored. Then
  the entropy alone: each group of 64 images takes that with the lowest. It needs no luck with the start, but work for each mask stored.

- ``search=task``, the authors': one mask for all the images. Each step takes the next batch of 64 of them, T being the number of batches.
  All that is computed sees hard masks m = [z >= 0], s = 2 m - 1, and the gradient with respect to m is taken for that of z. Batch b from 0:

      (strength / d) ((b + 1) / T) (-s' Psi s / 2) + (1 - (b + 1) / T) H(p(x_b, m)) + (0.41 / d) z' z / 2

  As dm/dz is taken as 1, and not 1/2 as in (z + 1) / 2, steps are twice those of the search for a group. For some tasks it ends in another
  mask, from some orders of the batches or from all. It can be begun again (``restarts``) with other orders and with noise added to the
  mean; then the mask with the lowest entropy on all the images is kept. That helps, but not always.
- ``search=group``, clbench's first one: a mask for each group of 64 images, by 30 steps on these images and a mask (z + 1) / 2 that is not
  hard, weighted by t / T and 1 - t / T. It asks less of the images, which need only be of one task group by group.

Where the mask acts: on each hidden layer's activations (``output``, equation 5), or on what goes into them (``normalised``, as the authors'
code masks the normalised pre-activations). It needs a network that is an ``nn.Sequential`` and normalises what goes into its activations,
such as ``swish-2048x2048``: on others the entropy of the outputs does not tell the tasks apart.

What to expect: on SplitMNIST the entropy tells the right mask from the others for every group of 64 training images
(``python -m benchmarks.search``), so what is recalled is found; the descents miss it for some tasks (docs/differences.md,
``python -m benchmarks.searches``).

``memory=joint`` keeps one Psi of all hidden units, ``layers`` one of each layer's, as the authors' code does: less to keep, and
masks are found less often.

Deviation: steps grow with d, and the strength and the weight decay fall with it, so that one setting serves networks of any width (at the
authors' d = 4096 they are theirs: steps of 500, a strength of 1.5e-3, a weight decay of 1e-4). With fewer than 30 batches of images the
search for a task goes through them again, for 30 steps. Batch normalisation uses the batch's statistics, in training and in answering,
and the images of an ask, or of a group, share a mask: the method is transductive, as in the authors' code.

Stores, to predict: Psi, the sum of all z, their number, and the seed of the weights: the same however many tasks there are. To go on:
the first mask, for the record alone. The table ``recovery`` has, for each task just learned and each ``search``, begun once, how a mask is
found for some of its training images (64; for a task 30 batches of them): by step, the share of units that differ from the true mask, the
entropy (nats), and the energy of the signs of z; and ``goal``, the entropy with the true mask. The table ``retention`` has how much of the
first mask is lost: the share of its units that the others turn (the sign of (Psi z)_u - Psi_uu z_u).
"""

from .hopsupsup import HopSupSup

__all__ = ["HopSupSup"]
