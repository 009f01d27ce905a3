"""Figures of a tiny budget, and the tables of the runs behind them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clbench import paper
from clbench.paper.base import Curve, PaperFigure


def with_settings(figure: PaperFigure, **changed: Any) -> PaperFigure:
    """The figure with other settings in all of its curves; ``set`` adds to theirs."""

    def curves(budget: str) -> Sequence[Curve]:
        return [
            dataclasses.replace(
                curve,
                settings={**curve.settings, **changed, "set": {**curve.settings.get("set", {}), **changed.get("set", {})}},
            )
            for curve in figure.curves(budget)
        ]

    return dataclasses.replace(figure, curves=curves)


def reproduce_tiny(name: str, folder: Path, seeds: tuple[int, ...] = (0,), **changed: Any) -> paper.Drawn:
    """A figure at the smoke budget with other settings, its runs in ``folder``."""
    return paper.reproduce(with_settings(paper.FIGURES[name], **changed), "smoke", folder, seeds=seeds)


def tables_of_runs(folder: Path, row: Mapping[Any, Any], name: str) -> list[pd.DataFrame]:
    """A table (scores, tasks, …) of each of the runs behind a point."""
    return [pd.read_csv(folder / "runs" / run / f"{name}.csv") for run in row["runs"].split()]


@pytest.fixture(scope="session")
def shrunk() -> Callable[..., PaperFigure]:
    return with_settings


@pytest.fixture(scope="session")
def reproduced() -> Callable[..., paper.Drawn]:
    return reproduce_tiny


@pytest.fixture(scope="session")
def tables_of() -> Callable[..., list[pd.DataFrame]]:
    return tables_of_runs
