"""Runs grouped and pivoted: one value of theirs in cells, any of their facts as rows and columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from clbench.engine.evaluator import ABOUT
from clbench.errors import UserError, unknown
from clbench.results import tables
from clbench.results.renderers import RENDERERS, with_line_below, writing

SHARES = ("accuracy", "task_accuracy", "forgetting")
"""Values with an interval over seeds, shown in percent."""
OTHERS = {
    "decisions": tables.number,
    "stored_bytes": tables.bytes_,
    "progress_bytes": tables.bytes_,
    "train_seconds": tables.seconds,
    "eval_seconds": tables.seconds,
    "components": tables.number,
    "n": tables.number,
}
"""Other values, and how each is shown."""


class Pivoted(NamedTuple):
    """A pivoted table: as numbers, and as it is shown."""

    numbers: pd.DataFrame
    text: pd.DataFrame
    value: str
    below: str
    """What is to be said below it (``clbench.results.tables.below``)."""

    def show(self) -> None:
        """Print it."""
        from rich.console import Console
        from rich.table import Table

        made = Table(*self.text.columns, title=self.value.replace("_", " ") + (" %" if self.value in SHARES else ""))
        for row in self.text.itertuples(index=False):
            made.add_row(*row)
        console = Console()
        console = console if console.is_terminal else Console(width=tables.WIDE)
        console.print(made)
        if self.below:
            console.print(self.below, highlight=False)

    def write(self, path: Path) -> Path:
        """Write it: to .csv as numbers, to .md or .tex as it is shown."""
        if path.suffix not in (".csv", *RENDERERS):
            raise UserError(f"A table is written to a .csv, .md or .tex file, not to {path.name}.")
        with writing(path):
            if path.suffix == ".csv":
                path.write_text(self.numbers.to_csv(index=False))
            else:
                path.write_text(with_line_below(RENDERERS[path.suffix](self.text), self.below, path.suffix))
        return path


def pivot(averages: pd.DataFrame, rows: Sequence[str], columns: Sequence[str], value: str = "accuracy") -> Pivoted:
    """``averages`` (a frame of ``clbench.results.frames.over_seeds``) with these facts as rows and columns, and ``value`` in the cells.

    Facts are method, scenario, stream, data, network, tasks, learned, and any setting of learning or asking (outputs, objective).
    What was asked about some of the images (``images``, ``sample``) is left out where the same cell has a line about all. Raises a
    ``UserError`` for what is no fact, and where several lines would fall into one cell: it names what tells them apart.
    """
    if value not in (*SHARES, *OTHERS):
        raise unknown("value", value, (*SHARES, *OTHERS))
    facts = [
        {name: str(row[name]) for name in ("scenario", "stream", "data", "network", "tasks", "learned")}
        | {"method": row["method"] + tables.marks(row)}
        | tables.read_settings(row["settings"])
        | tables.read_settings(row["ask"])
        for row in averages.to_dict("records")
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
        cells = tables.asked_about_all(cells, places, averages["ask"].reset_index(drop=True))
        averages = averages.reset_index(drop=True).loc[cells.index]
    doubled = cells.duplicated(places, keep=False)
    if doubled.any():
        first = cells.loc[doubled, places].iloc[0]
        alike = cells[(cells[places] == first).all(axis=1)]
        apart = [name for name in known if alike[name].nunique() > 1]
        raise UserError(f"{' '.join(filter(None, first))} has {len(alike)} lines: add {' or '.join(apart)} to --rows or --columns.")
    numbers = cells.assign(number=averages[value].to_numpy())
    if value in SHARES:
        text = [tables.percent(*pair) for pair in zip(averages[value], averages[f"{value}_interval"], strict=True)]
    else:
        text = [OTHERS[value](number) for number in averages[value]]
    spread = [
        frame.pivot(index=list(rows), columns=list(columns), values="number") for frame in (numbers, cells.assign(number=text))
    ]
    names = [" ".join(name) if isinstance(name, tuple) else str(name) for name in spread[0].columns]
    flat = [frame.set_axis(names, axis=1).reset_index() for frame in spread]
    return Pivoted(flat[0], flat[1].fillna(tables.NONE), value, tables.below(averages))
