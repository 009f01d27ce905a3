"""What a run in progress writes: tables that grow, and states."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clbench.engine import durable, saved_state, table_files
from clbench.engine.asking import Score
from clbench.engine.record import COPIES, REMEDY, SCHEMA, Damaged, Extent
from clbench.engine.store import STATES, Run, update
from clbench.method import Method


@dataclass(frozen=True)
class Written:
    """A table as it is on disk: its columns, its length, and the running digest of its content."""

    columns: tuple[str, ...]
    length: int
    digest: Any

    @classmethod
    def of(cls, content: bytes) -> "Written":
        """A table with this content."""
        return cls(tuple(table_files.texts(content).columns), len(content), hashlib.sha256(content))

    def and_then(self, content: bytes) -> "Written":
        """The table after more rows."""
        digest = self.digest.copy()
        digest.update(content)
        return Written(self.columns, self.length + len(content), digest)

    @property
    def extent(self) -> Extent:
        """What the record says of it."""
        return Extent(bytes=self.length, sha256=self.digest.hexdigest())


class Tables:
    """The run's CSV tables: rows are collected here, and ``commit`` adds them to the files.

    ``scores`` and ``confusion`` name an ask by its label. It is a key of ``asks`` in ``run.json``, where its settings are; nothing reads
    settings from it.

    Making one mends the tables that a crash or another program damaged, takes up those of a run of schema 1, and removes states that a
    crash left and no record names. A ``UserError`` if a table cannot be mended.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rows: dict[str, list[dict[str, Any]]] = {}
        if run.extents is None:
            adopt(run)
        extents = run.extents or {}
        self.written = {name: Written.of(table_files.mend(run.path, name, extent)) for name, extent in extents.items()}
        for folder in (run.path / STATES).glob("*"):
            if folder.name.isdigit() and folder.name not in (run.record.get("state") or {folder.name: None}):
                shutil.rmtree(folder, ignore_errors=True)

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

    def forget_after(self, learned: int) -> None:
        """Drop the rows after ``learned`` tasks, collected or written."""
        self.rows = {table: [row for row in rows if row.get("learned", 0) <= learned] for table, rows in self.rows.items()}
        self._drop(self.written, lambda table: pd.to_numeric(table["learned"]) > learned if "learned" in table else None)

    def forget_answers(self, answers: Sequence[tuple[str, int]]) -> None:
        """Drop the rows of these answers (an ask's label, tasks learned): some of them are missing."""
        lost = [(label, str(learned)) for label, learned in answers]
        self._drop(("scores", "confusion"), lambda table: pd.MultiIndex.from_frame(table[["ask", "learned"]]).isin(lost))

    def _drop(self, tables: Iterable[str], which: Callable[[pd.DataFrame], Any]) -> None:
        """Drop the rows of written tables for which ``which`` holds."""
        whole = {}
        for name in self.written.keys() & {*tables}:
            table = self._texts(name)
            dropped = which(table)
            if dropped is not None and dropped.any():
                whole[name] = table_files.written(table[~dropped], header=True)
        if whole:
            self._write(whole, {}, {})

    def commit(self, **values: Any) -> None:
        """Add the collected rows to the tables and, at the same instant, ``values`` to the record (``store.update``).

        A crash leaves either everything as it was, or everything as it is afterwards.
        """
        whole, more = {}, {}
        for name, rows in self.rows.items():
            if not rows:
                continue
            table, written = pd.DataFrame(rows, dtype=object), self.written.get(name)  # counts with gaps stay whole numbers
            columns = [str(column) for column in table]
            if written is None:
                whole[name] = table_files.written(table, header=True)
            elif set(columns) <= set(written.columns):
                more[name] = table_files.written(table.reindex(columns=list(written.columns)), header=False)
            else:  # columns that an earlier version did not write are empty in its rows
                joined = list(dict.fromkeys([*written.columns, *columns]))
                earlier = table_files.written(self._texts(name).reindex(columns=joined, fill_value=""), header=True)
                whole[name] = earlier + table_files.written(table.reindex(columns=joined), header=False)
        if whole or more or values:
            self._write(whole, more, values)
        self.rows = {}

    def _texts(self, name: str) -> pd.DataFrame:
        return table_files.texts(table_files.read(self.run.path, name, self.written[name].extent))

    def _write(self, whole: Mapping[str, bytes], more: Mapping[str, bytes], values: Mapping[str, Any]) -> None:
        """Write tables anew, or append to them; then replace the record; then do the same to the copies, which counted until now."""
        earlier, path = self.written, self.run.path
        if whole.keys() & earlier.keys():
            durable.sync(path / COPIES)
        for name, content in whole.items():
            durable.replace(table_files.places(path, name)[0], content)
        for name, content in more.items():
            durable.append(table_files.places(path, name)[0], earlier[name].length, content)
        appended = {name: earlier[name].and_then(content) for name, content in more.items()}
        written = earlier | {name: Written.of(content) for name, content in whole.items()} | appended
        update(self.run, **(dict(values) | {"tables": {name: each.extent.model_dump() for name, each in written.items()}}))
        self.written = written
        for name, content in whole.items():
            durable.replace(table_files.places(path, name)[1], content)
        for name, content in more.items():
            durable.append(table_files.places(path, name)[1], earlier[name].length, content, force=False)


def save_state(method: Method, learned: int, tables: Tables) -> None:
    """Save the state after ``learned`` tasks and the tables' rows up to there, at one instant; then remove the earlier state."""
    run, name = tables.run, str(learned)
    states, recorded = run.path / STATES, run.record.get("state") or {}
    if name in recorded and (states / name).is_dir():
        tables.commit()
        remove_earlier_states(run)
        return
    folder = states / name
    with durable.writing(folder):
        shutil.rmtree(folder, ignore_errors=True)  # no record names it: it was left by a crash
        folder.mkdir(parents=True)
        digests = saved_state.write(method, folder)
    durable.sync(folder)
    tables.commit(state={name: digests})
    remove_earlier_states(run)


def remove_earlier_states(run: Run) -> None:
    """Remove all states but the last one between two tasks and, if it is later, the one inside a task."""
    saved, inside = run.saved(), saved_state.newest_inside(run.inside)
    if saved is None:
        return
    last = {saved[1].name, run.inside.name if inside is not None and inside[0] >= saved[0] else saved[1].name}
    for state in (run.path / STATES).iterdir():
        if state.name not in last:
            shutil.rmtree(state, ignore_errors=True)


def adopt(run: Run) -> None:
    """Take up a run of schema 1: cut its tables to what its saved state knows, and record how much of them counts.

    ``Damaged`` if a row is missing that cannot be computed from the state. Missing scores can; they are asked for again.
    """
    saved = run.saved()
    learned = 0 if saved is None else saved[0]
    contents = {}
    for name in table_files.unrecorded(run.path) if learned else ():
        content = table_files.whole_lines(run.path, name)
        if content.strip():
            table = table_files.parsed(run.table_file(name), content)
            kept = table["learned"] <= learned if "learned" in table else pd.Series(True, table.index)
            contents[name] = content if kept.all() else table_files.written(table_files.texts(content)[kept], header=True)
    for name in ("tasks", "losses") if learned else ():
        if name in contents or name == "tasks":  # a method that returns no loss has no table of losses
            table = table_files.parsed(run.table_file(name), contents[name]) if name in contents else pd.DataFrame({"learned": []})
            rows = table.groupby("learned").size()
            if list(rows.index) != list(range(1, learned + 1)) or rows.iloc[-1] < rows.iloc[0]:
                raise Damaged(f"The file {run.table_file(name)} lacks rows: {REMEDY}.")
    for name, content in contents.items():
        if run.table_file(name).read_bytes() != content:
            durable.replace(run.table_file(name), content)
    recorded = run.record.get("state")
    values: dict[str, Any] = {} if saved is None or not recorded else {"state": {saved[1].name: recorded.get(saved[1].name)}}
    extents = {name: table_files.extent_of(content).model_dump() for name, content in contents.items()}
    update(run, schema=SCHEMA, tables=extents, **values)
