"""A Hopfield network: strings of -1 and 1 written into a matrix, by two rules, and found again by descent on its energy."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value


def hebb(psi: Tensor, z: Tensor) -> Tensor:
    """Psi [d, d] with z [d] of -1 and 1 stored by Hebb's rule."""
    return psi + torch.outer(z, z) / len(z)


def storkey(psi: Tensor, z: Tensor) -> Tensor:
    """Psi [d, d] with z [d] of -1 and 1 stored by Storkey's rule, whose local fields leave out both units of a pair."""
    field = psi @ z - psi.diagonal() * z
    pull = torch.outer(z, field)
    return psi + (torch.outer(z, z) - pull - pull.T + 2 * psi) / len(z)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hebb": hebb, "storkey": storkey}


def unstable(psi: Tensor, z: Tensor) -> Tensor:
    """The share of the units of z [d] that the others of z turn: 0 if it is stored, one half if nothing of it is left."""
    field = psi @ z - psi.diagonal() * z
    return ((field >= 0) != (z >= 0)).float().mean()


class State(NamedTuple):
    """Where q descents are: z [q, d], the entropies (nats) [q] there, and the energies [q] of the strings of its signs."""

    z: Tensor
    entropy: Tensor
    energy: Tensor


def descend(
    psi: Tensor,
    start: Tensor,
    doubt: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    momentum: float,
    strength: float,
) -> list[State]:
    """Descents from ``start`` [q, d]: the states before each of ``steps`` steps and after the last.

    ``doubt`` gives the entropies [q] for masks [q, d] from 0 to 1, of each mask alone. Steps are ``step_size`` d times the gradient of
    ``doubt`` and of the energy, the latter ``strength`` / d times; both are weighted by time.
    """
    d = start.shape[1]
    z, velocity, states = start, torch.zeros_like(start), []

    def total(z: Tensor) -> tuple[Tensor, Tensor]:
        doubts = doubt((z + 1) / 2)
        return doubts.sum(), doubts

    slopes = grad_and_value(total, has_aux=True)
    for step in range(steps + 1):
        slope, (_, found) = slopes(z)
        field = z @ psi  # Psi is symmetric
        signs = torch.where(z >= 0, 1.0, -1.0)
        states.append(State(z, found, -(signs * (signs @ psi)).sum(1) / 2))
        share = step / steps
        velocity = momentum * velocity + (1 - share) * d * slope - strength * share * field
        z = z - step_size * velocity
    return states
