"""Shared by the methods that tell classes apart by a density over fixed features: means of classes and one covariance for all.

With features f(x) that never change, class c has the density N(mean_c, Sigma) with one Sigma for all classes (linear discriminant
analysis; streaming: Hayes & Kanan 2020; on random features: McDonnell et al. 2023). The logarithm of its density is, up to a term that is
the same for all classes,

    score_c(x) = w_c' f(x) - w_c' mean_c / 2,    w_c = Sigma^-1 mean_c

so that predicting takes one weight for each feature of a class and a number, and no Sigma. To learn more, the counts, the means and the
scatter are needed. They are sums: neither the order of the classes nor that of the batches changes them, except by rounding.

Sigma = (1 - r) S + r (tr S / p) I, with S the scatter divided by the number n of inputs, p the number of features, and r the oracle
approximating shrinkage of Chen et al. (2010), which needs nothing but S and n. Nothing is chosen on test data. Ledoit & Wolf's (2004) is
close to it, but needs fourth moments.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NEVER = torch.finfo(torch.float32).min
"""The score of a class without inputs: minus infinity, but finite, as learned tensors must be."""


class Discriminants(NamedTuple):
    """The scores of C classes over F features: ``weights`` float16 [C, F] in units of ``units`` [C], and ``offsets`` [C], float32."""

    weights: Tensor
    units: Tensor
    offsets: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """The logarithm of every class's density, up to a term that all classes share: [n, F] to [n, C]."""
        return (features @ self.weights.to(features.dtype).T) * self.units + self.offsets


class ClassStatistics:
    """The means of classes, float32 [C, F], their numbers of inputs, and the scatter around the means, float64 [F, F].

    Classes are numbered from 0; a number may come at any time, and again.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self.counts = torch.zeros(0, dtype=torch.int64, device=device)
        self.means = torch.zeros(0, features, device=device)
        self.scatter = torch.zeros(features, features, dtype=torch.float64, device=device)

    def add(self, features: Tensor, classes: Tensor) -> None:
        """Add inputs by their features [n, F], all finite, and their classes, int64 [n].

        The scatter around the mean of old and new inputs together is the sum of both scatters and of n m / (n + m) d d', with d the
        difference of the means (Chan, Golub & LeVeque 1979).
        """
        if not len(features):
            return
        self._make_room(int(classes.max()) + 1)
        present, places, new = classes.unique(return_inverse=True, return_counts=True)
        inputs = features.double()
        sums = torch.zeros(len(present), inputs.shape[1], dtype=torch.float64, device=inputs.device).index_add_(0, places, inputs)
        old, before = self.counts[present], self.means[present].double()
        means = sums / new[:, None]
        around = inputs - means[places]
        apart = (means - before) * (old * new / (old + new)).sqrt()[:, None]
        self.scatter += around.T @ around + apart.T @ apart
        self.means[present] = (before + (means - before) * (new / (old + new))[:, None]).float()
        self.counts[present] = old + new

    def _make_room(self, classes: int) -> None:
        more = max(0, classes - len(self.counts))
        self.counts = torch.cat([self.counts, self.counts.new_zeros(more)])
        self.means = torch.cat([self.means, self.means.new_zeros(more, self.means.shape[1])])

    def covariance(self) -> Tensor:
        """Sigma, the shrunk covariance, float64 [F, F]; the identity if no feature varies within a class."""
        total, features = int(self.counts.sum()), len(self.scatter)
        empirical = self.scatter / max(1, total)
        trace, squares = empirical.trace(), empirical.square().sum()
        excess = (total + 1) * (squares - trace.square() / features)
        shrinkage = ((squares + trace.square()) / excess).clamp(max=1.0) if excess > 0 else torch.ones_like(trace)
        sphere = torch.eye(features, dtype=empirical.dtype, device=empirical.device)
        return (1 - shrinkage) * empirical + shrinkage * trace / features * sphere if trace > 0 else sphere

    def discriminants(self) -> Discriminants:
        """What predicting needs."""
        precision = torch.cholesky_inverse(torch.linalg.cholesky(self.covariance())).float()
        weights = self.means @ precision
        units = weights.abs().amax(1).clamp(min=torch.finfo(weights.dtype).tiny)
        weights = (weights / units[:, None]).half()
        offsets = -(weights.float() * self.means).sum(1) * units / 2  # of the rounded weights: less of the error stays
        return Discriminants(weights, units, offsets.masked_fill(self.counts == 0, NEVER))

    def state(self) -> dict[str, Tensor]:
        """What adding more inputs needs. The scatter is symmetric: its lower half is enough."""
        rows, columns = torch.tril_indices(*self.scatter.shape)
        return {"counts": self.counts.clone(), "means": self.means.clone(), "scatter": self.scatter[rows, columns]}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        device = self.scatter.device
        self.counts, self.means = (state[name].to(device, copy=True) for name in ("counts", "means"))
        rows, columns = torch.tril_indices(*self.scatter.shape)
        self.scatter[rows, columns] = state["scatter"].to(device)
        self.scatter[columns, rows] = state["scatter"].to(device)
