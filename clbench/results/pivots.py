"""Runs grouped and pivoted: one of their values in the cells, any of their facts as rows and columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from clbench import terminal
from clbench.engine.asking import ABOUT
from clbench.errors import UserError, unknown
from clbench.files import write_text
from clbench.results import tables
from clbench.results.columns import Column, find
from clbench.results.formats import NONE, number
from clbench.results.lines import asked_about_all, lines_of
from clbench.results.renderers import RENDERERS, csv, with_line_below

N = Column("n", "n", "the runs that a line is a mean over", "", lambda answers: 1.0, number)
"""The one column that is of averages alone."""


class Pivoted(NamedTuple):
    """A pivoted table: as numbers, and as it is shown."""

    numbers: pd.DataFrame
    text: pd.DataFrame
    title: str
    below: str
    """What is to be said below it (``clbench.results.tables.below``)."""

    def show(self) -> None:
        """Print it."""
        from rich.table import Table

        table = Table(*self.text.columns, title=self.title)
        for row in self.text.itertuples(index=False):
            table.add_row(*row)
        console = terminal.console()
        console = console if console.is_terminal else terminal.console(width=tables.WIDE)
        console.print(table)
        if self.below:
            console.print(self.below, highlight=False)

    def write(self, path: Path) -> Path:
        """Write it: to .csv as numbers, to .md or .tex as it is shown."""
        if path.suffix not in (".csv", *RENDERERS):
            raise UserError(f"A table is written to a .csv, .md or .tex file, not to {path.name}.")
        if path.suffix == ".csv":
            write_text(path, csv(self.numbers))
        else:
            write_text(path, with_line_below(RENDERERS[path.suffix](self.text), self.below, path.suffix))
        return path


def pivot(averages: pd.DataFrame, rows: Sequence[str], columns: Sequence[str], value: str = "accuracy") -> Pivoted:
    """``averages`` (a frame of ``clbench.results.frames.over_seeds``) with these facts as rows and columns, and ``value`` in the cells.

    Facts are method, scenario, stream, data, network, tasks, learned, and any setting of learning or asking (outputs, objective).
    What was asked about some of the images (``images``, ``sample``) is left out if the same cell has a line about all. Raises a
    ``UserError`` for an unknown fact, and if several lines fall into one cell: it names the facts that differ.
    """
    column = N if value == N.name else find(value)
    lines = lines_of(averages)
    facts = [
        {**line.place, "learned": str(learned), **line.learning, **line.ask}
        for line, learned in zip(lines, averages["learned"], strict=True)
    ]
    known = dict.fromkeys(key for fact in facts for key in fact)
    for name in (*rows, *columns):
        if name not in known:
            raise unknown("fact of these runs", name, list(known))
        if [*rows, *columns].count(name) > 1:
            raise UserError(f"{name} is named twice among rows and columns: name other columns (--columns) or leave it out.")
    # What only some methods have is empty for the others.
    cells = pd.DataFrame([{name: fact.get(name, "") for name in known} for fact in facts])
    places = [*rows, *columns]
    if set(ABOUT).isdisjoint(places):
        cells = asked_about_all(cells, places, lines)
        averages = averages.reset_index(drop=True).loc[cells.index]
    doubled = cells.duplicated(places, keep=False)
    if doubled.any():
        first = cells.loc[doubled, places].iloc[0]
        alike = cells[(cells[places] == first).all(axis=1)]
        apart = [name for name in known if alike[name].nunique() > 1]
        raise UserError(f"{' '.join(filter(None, first))} has {len(alike)} lines: add {' or '.join(apart)} to --rows or --columns.")
    numbers = cells.assign(number=averages[value].to_numpy())
    half_widths = averages.get(column.interval_name, [float("nan")] * len(averages))
    text = [column.text(*pair) for pair in zip(averages[value], half_widths, strict=True)]
    spread = [
        frame.pivot(index=list(rows), columns=list(columns), values="number") for frame in (numbers, cells.assign(number=text))
    ]
    names = [" ".join(name) if isinstance(name, tuple) else str(name) for name in spread[0].columns]
    flat = [frame.set_axis(names, axis=1).reset_index() for frame in spread]
    return Pivoted(flat[0], flat[1].fillna(NONE), column.title, tables.below(averages))
