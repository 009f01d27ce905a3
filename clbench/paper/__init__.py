"""The figures of the paper, from runs: ``figure("fig4")`` does what is missing of them and draws. One module a figure.

A new figure is a module with a ``PaperFigure`` and its name in ``FIGURES``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from clbench.engine.settings import Overwrite
from clbench.errors import unknown
from clbench.paper import fig2, fig3, fig5, fig6, fig7, splits
from clbench.paper.base import Curve, Drawn, PaperFigure, Watch, reproduce, unwatched
from clbench.paper.calibration import CALIBRATION
from clbench.paper.fig4 import FIG4, MASKS_OUT
from clbench.paper.inference import INFERENCE
from clbench.paper.inference import MIXED as INFERENCE_MIXED
from clbench.paper.matrix import MATRIX
from clbench.paper.psp_first import PSP_FIRST

__all__ = ["FIGURES", "Curve", "Drawn", "PaperFigure", "figure", "reproduce"]

FIGURES: dict[str, PaperFigure] = {
    made.name: made
    for made in (
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
        ),
    )
}
"""Every figure by name."""


def figure(
    name: str,
    budget: str = "laptop",
    results: str | Path = "results",
    *,
    seeds: Sequence[int] | None = None,
    from_results: bool = False,
    watch: Watch = unwatched,
    data_root: str | None = None,
    device: torch.device | None = None,
    overwrite: Overwrite = "missing",
) -> Drawn:
    """Do the runs of a figure of the paper that are missing, and draw it into ``results``/figures as .csv, .png and .pdf.

    ``seeds``: None for the budget's, which is several (``PaperFigure.seeds``) at the paper's and one at the others. ``from_results``
    draws from stored runs and does none; a ``UserError`` names what is missing. ``watch`` is called with each job and each
    record of it as it comes; ``data_root``, ``device`` and ``overwrite`` are those of ``clbench.engine.execute.execute``.
    """
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    return reproduce(
        FIGURES[name],
        budget,
        Path(results),
        seeds=None if seeds is None else tuple(seeds),
        from_results=from_results,
        watch=watch,
        data_root=data_root,
        device=device,
        overwrite=overwrite,
    )
