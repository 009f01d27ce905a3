"""The figures of the paper, from runs: ``figure("fig4")`` does the missing runs and draws. One module for each figure.

A new figure is a module with a ``PaperFigure`` and its name in ``FIGURES``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from clbench.engine.settings import DEFAULT_BUDGET, USUAL, Overwrite
from clbench.errors import UserError, unknown
from clbench.paper import fig2, fig3, fig5, fig6, fig7, splits
from clbench.paper.base import Curve, Drawn, PaperFigure, Watch, redraw, reproduce, unwatched
from clbench.paper.calibration import CALIBRATION
from clbench.paper.fig4 import FIG4, MASKS_OUT
from clbench.paper.inference import INFERENCE
from clbench.paper.inference import MIXED as INFERENCE_MIXED
from clbench.paper.matrix import MATRIX
from clbench.paper.psp_first import PSP_FIRST
from clbench.paper.streams import STREAMS, TIMELINE

__all__ = ["ALL", "FIGURES", "Curve", "Drawn", "PaperFigure", "figure", "from_table", "reproduce"]

FIGURES: dict[str, PaperFigure] = {
    each.name: each
    for each in (
        *(
            fig2.LEFT,
            fig2.RIGHT,
            fig2.TRANSFER,
            fig3.LEFT,
            fig3.RIGHT,
            FIG4,
            fig5.LEFT,
            fig5.RIGHT,
            fig6.LEFT,
            fig6.LEFT_SIZES,
            fig6.RIGHT,
            fig6.RIGHT_SIZES,
            fig7.FIG7,
        ),
        *(
            fig7.BY_GROUP,
            fig7.HOPFIELD,
            splits.SPLITS,
            splits.CIFAR,
            splits.MIXED,
            MASKS_OUT,
            INFERENCE,
            INFERENCE_MIXED,
            CALIBRATION,
            MATRIX,
            PSP_FIRST,
            STREAMS,
            TIMELINE,
        ),
    )
}
"""Every figure by name."""
LAST = ("fig2-right", "transfer", "splits-cifar100", "fig2-left", "mixed", "inference-mixed")
"""Figures that need photographs or, at the paper's budget, Fashion-MNIST, which clbench does not bring: they are made after the others."""
ALL = (*(name for name in FIGURES if name not in LAST), *LAST)
"""The names of all figures, in the order in which they are made."""


def figure(
    name: str,
    budget: str = DEFAULT_BUDGET,
    results: str | Path = "results",
    *,
    seeds: Sequence[int] | None = None,
    from_results: bool = False,
    watch: Watch = unwatched,
    data_root: str | None = None,
    device: torch.device | None = None,
    overwrite: Overwrite = USUAL.overwrite,
) -> Drawn:
    """Do the runs of a figure of the paper that are missing, and draw it into ``results``/figures as .csv, .png and .pdf.

    ``seeds``: None for the budget's, which are several (``PaperFigure.seeds``) at the paper's and one at the others. ``from_results``
    draws from stored runs and does none; a ``UserError`` names what is missing. ``watch`` is called with each job and each
    record of it as it comes; ``data_root``, ``device`` and ``overwrite`` are those of ``clbench.engine.execution.execute``.
    """
    return reproduce(
        named(name),
        budget,
        Path(results),
        seeds=None if seeds is None else tuple(seeds),
        from_results=from_results,
        watch=watch,
        data_root=data_root,
        device=device,
        overwrite=overwrite,
    )


def from_table(name: str, folder: str | Path) -> Drawn:
    """Draw a figure from its table ``folder``/NAME.csv alone, without any run, and write the pictures beside it."""
    figure, file = named(name), Path(folder) / f"{name}.csv"
    if not file.exists():
        raise UserError(f"There is no table {file}: name a folder that holds it, or make the figure with `clbench figure {name}`.")
    return redraw(figure, file)


def named(name: str) -> PaperFigure:
    """The figure of that name; a ``UserError`` if there is none."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    return FIGURES[name]
