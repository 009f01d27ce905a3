"""What a run in progress writes: tables that grow, and a clock that says when to save."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clbench.engine.evaluator import Score
from clbench.engine.schedule import Timetable
from clbench.engine.store import Run

SAVING_SHARE = 0.05
"""The state is saved after a task if that keeps the time spent on saving below this share of the run."""


class Tables:
    """The run's CSV tables: rows are collected here, and appended to the files when a state is saved.

    ``scores`` and ``confusion`` name an ask by its label. It is a key of ``asks`` in ``run.json``, where its settings are; nothing reads
    settings from it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, table: str, **row: Any) -> None:
        """Add one row to ``table``."""
        self.rows.setdefault(table, []).append(row)

    def add_score(self, score: Score) -> None:
        """Add a score's rows to ``scores`` and ``confusion``."""
        self.add(
            "scores",
            learned=score.learned,
            task=score.task,
            scenario=score.ask.scenario.name,
            ask=score.ask.label,
            accuracy=score.accuracy,
            task_accuracy=score.task_accuracy,
            images=score.images,
            decisions=score.decisions,
            seconds=round(score.seconds, 6),
        )
        for inferred, images in score.inferred.items():
            self.add("confusion", learned=score.learned, ask=score.ask.label, task=score.task, inferred=inferred, images=images)

    def flush(self) -> None:
        """Append all rows to their files."""
        for table, rows in self.rows.items():
            _append(self.run.table_file(table), rows)
        self.rows = {}

    def forget_after(self, learned: int) -> None:
        """Drop the rows that an interrupted run wrote after it saved the state of ``learned`` tasks."""
        for file in self.run.table_files():
            table = pd.read_csv(file)
            if "learned" in table and (table["learned"] > learned).any():
                table[table["learned"] <= learned].to_csv(file, index=False)

    def forget_answers(self, answers: Sequence[tuple[str, int]]) -> None:
        """Drop the rows of these answers (an ask's label, tasks learned): writing them was interrupted."""
        for file in map(self.run.table_file, ("scores", "confusion")):
            if answers and file.exists():
                table = pd.read_csv(file)
                cut_off = pd.MultiIndex.from_frame(table[["ask", "learned"]]).isin(answers)
                if cut_off.any():
                    table[~cut_off].to_csv(file, index=False)


def write_schedule(run: Run, timetable: Timetable) -> None:
    """Write which tasks are in which batches as the table ``schedule``: rows as in ``Timetable.rows``."""
    pd.DataFrame(timetable.rows()).to_csv(run.table_file("schedule"), index=False)


def _append(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows to a table. Columns that an earlier version did not write are empty in its rows."""
    new = pd.DataFrame(rows, dtype=object)  # a column of counts with gaps stays one of whole numbers
    if not file.exists():
        new.to_csv(file, index=False)
        return
    columns = [str(name) for name in pd.read_csv(file, nrows=0)]
    if missing := [str(name) for name in new if name not in columns]:
        columns += missing
        pd.read_csv(file, dtype=str, keep_default_na=False).reindex(columns=columns, fill_value="").to_csv(file, index=False)
    new.reindex(columns=columns).to_csv(file, mode="a", header=False, index=False)


class SavingClock:
    """Says when to save again: saving takes at most ``SAVING_SHARE`` of the time."""

    def __init__(self) -> None:
        self.cost = 0.0
        self.since = time.perf_counter()

    def due(self) -> bool:
        """Whether enough time has passed since the last saving for another that takes as long."""
        return time.perf_counter() - self.since >= self.cost / SAVING_SHARE

    def time(self, save: Callable[[], None]) -> None:
        """Save, and remember how long that took."""
        began = time.perf_counter()
        save()
        self.since = time.perf_counter()
        self.cost = self.since - began
