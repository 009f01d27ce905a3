"""Which weights a mask selects, by their scores: those of 0 or more, or the largest of each layer."""

import torch
from torch import Tensor

from clbench.checks import above_zero
from clbench.errors import UserError

from .layout import Layout

Kept = dict[str, int]
"""The number of weights of each layer that a mask selects."""


def kept_weights(layout: Layout, density: float | None, edges: float | None) -> Kept | None:
    """The number of weights of each layer that edge-popup selects, or None for masks that select all scores of 0 or more.

    ``density``: the same share of each layer, above 0 and below 1. ``edges``: ``edges`` * (outputs + inputs) of a layer's weights, channels
    for a convolution, and at most half (Mocanu et al. 2018, SET: an Erdős-Rényi graph; the paper's Figure 2).
    """
    if density is None and edges is None:
        return None
    if density is not None and edges is not None:
        raise UserError("density and edges both set how many weights a mask keeps: give one of them.")
    if density is not None:
        if not 0 < density < 1:
            raise UserError(f"density must be above 0 and below 1, not {density}.")
        return {name: max(1, round(density * shape.numel())) for name, shape in layout.shapes.items()}
    assert edges is not None
    above_zero(edges=edges)
    return {name: max(1, min(shape.numel() // 2, int(edges * (shape[0] + shape[1])))) for name, shape in layout.shapes.items()}


def selected(score: Tensor, kept: int | None = None) -> Tensor:
    """The mask of a layer's scores, as booleans: the scores of 0 or more (None), or the ``kept`` largest by magnitude.

    Scores that tie with the smallest selected one are selected too.
    """
    if kept is None:
        return score >= 0
    magnitude = score.detach().abs()
    return magnitude >= magnitude.flatten().kthvalue(score.numel() - kept + 1).values


def straight_through(score: Tensor, kept: int | None = None) -> Tensor:
    """The mask as 0 and 1, with the derivative of the score, or of its magnitude if that decides (edge-popup)."""
    proxy = score if kept is None else score.abs()
    return selected(score, kept).to(score.dtype) + (proxy - proxy.detach())


def mask_of(scores: dict[str, Tensor], kept: Kept | None) -> dict[str, Tensor]:
    """The masks of all layers."""
    return {name: selected(score, None if kept is None else kept[name]) for name, score in scores.items()}


def flat(masks: dict[str, Tensor]) -> Tensor:
    """Masks [*shape] of all layers end to end: [D]."""
    return torch.cat([mask.flatten() for mask in masks.values()])
