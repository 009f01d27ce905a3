"""Which weights a mask keeps, by their scores: those of 0 or more, or the largest of each layer."""

import torch
from torch import Tensor

from clbench.checks import above_zero
from clbench.errors import UserError

from .layout import Layout

Kept = dict[str, int]
"""How many weights of each layer a mask keeps."""


def kept_weights(layout: Layout, density: float | None, edges: float | None) -> Kept | None:
    """How many weights edge-popup keeps in each layer, or None for masks that keep all scores of 0 or more.

    ``density``: the same share of each layer, above 0 and below 1. ``edges``: ``edges`` * (outputs + inputs) of a layer's weights, channels
    for a convolution, and at most half (Mocanu et al. 2018, SET: an Erdős-Rényi graph; the paper's Figure 2).
    """
    if density is None and edges is None:
        return None
    if density is not None and edges is not None:
        raise UserError("density and edges both say how many weights are kept: give one of them.")
    if density is not None:
        if not 0 < density < 1:
            raise UserError(f"density must be above 0 and below 1, not {density}.")
        return {name: max(1, round(density * shape.numel())) for name, shape in layout.shapes.items()}
    assert edges is not None
    above_zero(edges=edges)
    return {name: max(1, min(shape.numel() // 2, int(edges * (shape[0] + shape[1])))) for name, shape in layout.shapes.items()}


def selected(score: Tensor, kept: int | None = None) -> Tensor:
    """The mask of a layer's scores, in booleans: where they are at least 0 (None), or where ``kept`` are largest by magnitude.

    Of equal magnitudes at the edge all are kept.
    """
    if kept is None:
        return score >= 0
    magnitude = score.detach().abs()
    return magnitude >= magnitude.flatten().kthvalue(score.numel() - kept + 1).values


def straight_through(score: Tensor, kept: int | None = None) -> Tensor:
    """The mask as 0 and 1, with the derivative of the score, or of its magnitude where that decides (edge-popup)."""
    proxy = score if kept is None else score.abs()
    return selected(score, kept).to(score.dtype) + (proxy - proxy.detach())


def mask_of(scores: dict[str, Tensor], kept: Kept | None) -> dict[str, Tensor]:
    """The masks of all layers."""
    return {name: selected(score, None if kept is None else kept[name]) for name, score in scores.items()}


def flat(masks: dict[str, Tensor]) -> Tensor:
    """Masks [*shape] of all layers end to end: [D]."""
    return torch.cat([mask.flatten() for mask in masks.values()])
