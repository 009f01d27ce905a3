"""A Hopfield network: strings of -1 and 1 stored in a matrix by two rules, and found again by recall or by two descents on its energy."""

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
    # The field already leaves out one unit, as the pair of a unit with itself must. Only the other pairs leave out a second one.
    pairs = psi - psi.diagonal().diag()
    return psi + (torch.outer(z, z) - pull - pull.T + 2 * pairs) / len(z)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hebb": hebb, "storkey": storkey}


Memory = tuple[Tensor, ...]
"""Psi as the square blocks along its diagonal (everything else is 0): one [d, d] of all units, or one for the units of each layer."""


def fields(memory: Memory, z: Tensor) -> Tensor:
    """Psi z for strings [..., d]."""
    blocks = z.split([len(psi) for psi in memory], -1)
    return torch.cat([block @ psi for block, psi in zip(blocks, memory, strict=True)], -1)  # Psi is symmetric


def unstable(memory: Memory, z: Tensor) -> Tensor:
    """The share of the units of z [d] that the other units flip: 0 if z is stored, one half if nothing of it is left."""
    field = fields(memory, z) - torch.cat([psi.diagonal() for psi in memory]) * z
    return ((field >= 0) != (z >= 0)).float().mean()


ROUNDS = 100
"""The most updates of all units on the way to an attractor."""


def signs(z: Tensor) -> Tensor:
    """-1 and 1; a unit at 0 becomes 1."""
    return torch.where(z >= 0, 1.0, -1.0)


def energies(memory: Memory, strings: Tensor) -> Tensor:
    """-z' Psi z / 2 [q] of strings [q, d]."""
    return -(strings * fields(memory, strings)).sum(1) / 2


def recall(memory: Memory, total: Tensor, count: int, starts: Tensor) -> Tensor:
    """The ``count`` deepest attractors (or fewer) [count, d] that strings ``starts`` [q, d] fall into: at best the stored strings.

    All units follow their fields at once until none flips (``ROUNDS`` times at most). A stored string attracts with both signs: the sign
    that agrees with the sum ``total`` [d] of the stored strings is used.
    """
    strings = starts
    for _ in range(ROUNDS):
        updated = signs(fields(memory, strings))
        if torch.equal(updated, strings):
            break
        strings = updated
    strings = (strings * signs(strings @ total)[:, None]).unique(dim=0)
    return strings[energies(memory, strings).argsort()[:count]]


class State(NamedTuple):
    """The state of q descents: z [q, d], the entropies (nats) [q] there, and the energies [q] of the signs of z."""

    z: Tensor
    entropy: Tensor
    energy: Tensor


def descend(
    memory: Memory,
    start: Tensor,
    doubt: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    momentum: float,
    strength: float,
) -> list[State]:
    """Descents from ``start`` [q, d]: the states before each of ``steps`` steps and after the last.

    ``doubt`` gives the entropies [q] for masks [q, d] from 0 to 1; each depends on its own mask alone. Steps are ``step_size`` d times the
    gradient of ``doubt`` and of the energy, the latter times ``strength`` / d; both are weighted by time.
    """
    d = start.shape[1]
    z, velocity, states = start, torch.zeros_like(start), []

    def total(z: Tensor) -> tuple[Tensor, Tensor]:
        doubts = doubt((z + 1) / 2)
        return doubts.sum(), doubts

    slopes = grad_and_value(total, has_aux=True)
    for step in range(steps + 1):
        slope, (_, doubts) = slopes(z)
        field, string = fields(memory, z), signs(z)
        states.append(State(z, doubts, energies(memory, string)))
        share = step / steps
        velocity = momentum * velocity + (1 - share) * d * slope - strength * share * field
        z = z - step_size * velocity
    return states


def descend_by_signs(
    memory: Memory,
    start: Tensor,
    doubt: Callable[[Tensor, int], Tensor],
    *,
    steps: int,
    step_size: float,
    momentum: float,
    strength: float,
    decay: float,
) -> list[State]:
    """Descents in which entropy and energy see the signs of z alone, from ``start`` [q, d]: the states as ``descend`` gives them.

    ``doubt`` gives the entropies [q] for masks [q, d] of 0 and 1 and the number of the step. The slope at a mask is used as the slope at z,
    which is twice what it would be for a mask (z + 1) / 2; the same holds for the energy of 2 mask - 1. ``decay`` / d times z is added.
    """
    d = start.shape[1]
    z, velocity, states = start, torch.zeros_like(start), []

    def total(masks: Tensor, step: int) -> tuple[Tensor, Tensor]:
        doubts = doubt(masks, step)
        return doubts.sum(), doubts

    slopes = grad_and_value(total, has_aux=True)
    for step in range(steps + 1):
        string = signs(z)
        slope, (_, doubts) = slopes((string + 1) / 2, step)
        field = fields(memory, string)
        states.append(State(z, doubts, -(string * field).sum(1) / 2))
        share = (step + 1) / steps
        velocity = momentum * velocity + (1 - share) * d * slope - 2 * strength * share * field + decay * z
        z = z - step_size * velocity
    return states
