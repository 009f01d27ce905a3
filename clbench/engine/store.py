"""Runs on disk: one folder for each learn half, named by its hash. This module alone knows the names of the files in it.

- ``run.json``, the record (``record``): learn half, scenario, asks, versions, machine, status, notes, and what of the other files counts;
- CSV tables that only grow (``table_files``): ``scores`` (one row for each ask, number of tasks learned, and task), ``confusion`` (true and
  inferred tasks), ``tasks`` (seconds, masks and bytes after each task), ``losses``, and the tables that the method writes;
  ``schedule`` (which tasks are in which batches, if not all tasks have the same whole batches), and of learners that choose themselves
  which component they train ``switches`` (from which batch on they train which) and ``boundaries`` (true change, detected at, delay, mask);
  ``inside`` (scores inside tasks, if they were asked for);
- ``copies/``, the record and the tables again;
- ``state/<tasks learned>/``: the last saved state, what was learned and what is needed to resume (``saved_state``), and while a run is in
  progress ``state/inside/``: what the batches of the next task have changed since;
- ``answers.jsonl``: the answers of an ask in progress.

What a run adds begins to count when the record is replaced, which names it. So at any instant the folder holds one whole run.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch

from clbench import registry
from clbench.engine import durable, record, saved_state, table_files
from clbench.engine.asking import Ask
from clbench.engine.divergence import Divergence
from clbench.engine.learn import Learn
from clbench.engine.record import REMEDY, Damaged, Extent
from clbench.engine.schedule import Timetable
from clbench.errors import UserError, tell
from clbench.method import Method
from clbench.scenario import Scenario

STATES = "state"
ANSWERS = "answers.jsonl"
RUNS = "runs"


@dataclass(frozen=True)
class Run:
    """A run's folder, to read. Every fact is read from the disk: what another process added is there the next time."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return record.exists(self.path)

    @property
    def record(self) -> dict[str, Any]:
        """The contents of ``run.json``, not to be changed; a ``UserError`` if they are damaged."""
        return record.read(self.path)

    @property
    def learn(self) -> Learn:
        """The learn half: all that decided what it learned."""
        return Learn(**self.record["learn"])

    @property
    def scenario(self) -> Scenario:
        """The scenario in which it was learned."""
        return registry.scenario(self.record["scenario"])

    @property
    def complete(self) -> bool:
        """Whether every task was learned."""
        return bool(self.record["status"] == "complete")

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Every question put to it so far."""
        return tuple(ask_from_record(entry) for entry in self.record["asks"])

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """The numbers of tasks learned at which it was asked so far."""
        return tuple(self.record["checkpoints"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that readers of its results must know."""
        return tuple(self.record.get("notes", ()))

    @property
    def diverged(self) -> Divergence | None:
        """Where its training diverged first, if it did."""
        divergence = self.record.get("diverged")
        return None if divergence is None else Divergence(**divergence)

    @property
    def extents(self) -> dict[str, Extent] | None:
        """How much of each table counts. None if the run is older than their recording (schema 1)."""
        recorded = self.record.get("tables")
        return None if recorded is None else {name: Extent(**extent) for name, extent in recorded.items()}

    def table_file(self, name: str) -> Path:
        """The file of the table of that name."""
        return table_files.places(self.path, name)[0]

    def table_names(self) -> list[str]:
        """The names of all tables that were written."""
        extents = self.extents
        return sorted(table_files.unrecorded(self.path) if extents is None else extents)

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables, empty if it was never written. ``UserError`` if it is damaged."""
        extents, file = self.extents, self.table_file(name)
        if extents is not None:
            return table_files.parsed(file, table_files.read(self.path, name, extents[name])) if name in extents else pd.DataFrame()
        return table_files.parsed(file, table_files.read_unrecorded(self.path, name)) if file.exists() else pd.DataFrame()

    @property
    def inside(self) -> Path:
        """The folder of the state inside a task that was saved last (``saved_state``); a later state between two tasks removes it."""
        return self.path / STATES / "inside"

    @property
    def answers_file(self) -> Path:
        """The file of the answers of an ask in progress (``answers``)."""
        return self.path / ANSWERS

    def holds(self, learned: int) -> bool:
        """Whether the last saved state is that after so many tasks; that after none needs no saving."""
        saved = self.saved()
        return learned == (0 if saved is None else saved[0])

    def saved(self) -> tuple[int, Path] | None:
        """The last saved state: the number of tasks learned, and its folder. None before the first; a ``UserError`` if it is gone."""
        recorded = self.record.get("state")
        if self.extents is None or recorded is None:  # the folders themselves tell
            names = [folder.name for folder in (self.path / STATES).glob("*") if folder.name.isdigit()]
        else:
            names = list(recorded)
        last = max(names, key=int, default=None)
        if last is None:
            return None
        folder = self.path / STATES / last
        if not folder.is_dir():
            raise Damaged(f"The run {self.path} has lost its saved state, the folder {folder}: put it back, or {REMEDY}.")
        return int(last), folder

    def last_state(self) -> tuple[int, Path]:
        """As ``saved``; a ``UserError`` if there is none."""
        saved = self.saved()
        if saved is None:
            raise Damaged(f"The run {self.path} has lost its saved state, all of {self.path / STATES}: put it back, or {REMEDY}.")
        return saved

    @property
    def digests(self) -> dict[str, str] | None:
        """The digests of the files of the last saved state. None if the run is older than their recording."""
        recorded = self.record.get("state")
        return None if recorded is None else recorded.get(self.last_state()[1].name, {})

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """A file of the last saved state, ``learned``, ``progress`` or ``generator``; a ``UserError`` if it is not this run's."""
        (learned, folder), sizes = self.last_state(), {"learned": "stored_bytes", "progress": "progress_bytes"}
        tasks = self.table("tasks")
        known = tasks.loc[tasks["learned"] == learned, sizes[name]].tolist() if name in sizes and not tasks.empty else []
        tensors = saved_state.read(folder, name, self.digests, int(known[-1]) if known else None)
        if name == "generator" and tensors["state"].shape != torch.get_rng_state().shape:
            raise Damaged(f"The generator in {folder} is not one of this version of PyTorch: {REMEDY}.")
        return tensors

    def restore(self, method: Method, learned: dict[str, torch.Tensor], progress: dict[str, torch.Tensor] | None = None) -> None:
        """Put a state of this run into a fresh method; a ``UserError`` if it does not fit."""
        saved_state.restore(method, self.last_state()[1], self.digests, learned, progress)

    def unanswered(self, asks: tuple[Ask, ...], checkpoints: tuple[int, ...]) -> list[tuple[Ask, int]]:
        """The pairs of an ask and a checkpoint that have no scores yet, or not of every task."""
        scores = self.table("scores")
        tasks = {} if scores.empty else scores.dropna(subset="accuracy").groupby(["ask", "learned"])["task"].nunique().to_dict()
        different = {learned: self.different(learned) for learned in checkpoints}
        return [
            (ask, learned) for learned in checkpoints for ask in asks if tasks.get((ask.label, learned), 0) < different[learned]
        ]

    @property
    def timetable(self) -> Timetable:
        """Which tasks are in which batches."""
        return self.learn.schedule().timetable(self.learn.tasks, self.record.get("shares"))

    @property
    def tasks(self) -> list[int]:
        """The task of each visit, numbered by its first one."""
        return self.record.get("identities") or list(range(self.learn.tasks))

    def different(self, learned: int) -> int:
        """The number of different tasks among the first ``learned``."""
        return len(set(self.tasks[:learned]))


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """For writing to a run: a ``UserError`` if another process works on it."""
    folder = run.path.parent.parent / ".locks"
    lock = filelock.FileLock(folder / run.path.name, timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"Another process is working on the run {run.path}: wait until it is done, and try again.") from None
    except OSError as error:
        raise UserError(f"Nothing can be written to {folder.parent} ({error.strerror or error}).") from None
    try:
        yield
    finally:
        lock.release()


def run_at(results: Path, learn: Learn) -> Run:
    """The run of a learn half in a results folder, whether it exists or not."""
    return Run(results / RUNS / learn.hash)


def runs_in(results: Path) -> list[Run]:
    """All runs in a results folder, by hash."""
    folders = sorted(folder for folder in (results / RUNS).glob("*") if not folder.name.startswith("."))
    return [Run(folder) for folder in folders if record.exists(folder)]


def find(name: str, results: Path) -> Run:
    """The run at a path, or in ``results`` by its hash or the beginning of it."""
    at_path = Run(Path(name))
    if at_path.exists:
        return at_path
    matches = [run for run in runs_in(results) if name and run.path.name.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise UserError(f"There is no run {name!r} in {results}: give a run's folder, or the first letters of its hash.")
    raise UserError(f"{name!r} matches {len(matches)} runs: {', '.join(run.path.name for run in matches)}.")


def writable(results: Path) -> Path:
    """The results folder, created if it is missing; a ``UserError`` if nothing can be written there."""
    try:
        (results / RUNS).mkdir(parents=True, exist_ok=True)
        probe = results / RUNS / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"Nothing can be written to the results folder {results} ({reason}): name another with --results."
        ) from None
    return results


def create(run: Run, first: dict[str, Any]) -> None:
    """Begin a run with its first record: an earlier one in its folder is removed with all its results."""
    earlier = run.path.with_name(f".{run.path.name}.removed")  # renamed first: half of it must not be taken for a run
    with durable.writing(run.path):
        if earlier.exists():
            shutil.rmtree(earlier)
        if run.path.exists():
            os.replace(run.path, earlier)
            shutil.rmtree(earlier)
        run.path.mkdir(parents=True)
    record.write(run.path, first | {"schema": record.SCHEMA, "tables": {}, "state": {}})


def update(run: Run, *, asks: tuple[Ask, ...] = (), checkpoints: tuple[int, ...] = (), **values: Any) -> None:
    """Add asks and checkpoints to the record, and set other values."""
    present = run.record
    known = {ask.label for ask in run.asks}
    added = {
        "asks": [*present["asks"], *(ask_record(ask) for ask in asks if ask.label not in known)],
        "checkpoints": sorted({*present["checkpoints"], *checkpoints}),
    }
    record.write(run.path, present | added | values)


def add_notes(run: Run, sentences: Iterable[str]) -> None:
    """Add sentences that readers of the run's results must know to its record (``notes``), and warn of the new ones."""
    known = run.notes
    new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    if new:
        update(run, notes=[*known, *new])
        tell(new)


def ask_record(ask: Ask) -> dict[str, Any]:
    """An ask in the form of ``run.json``."""
    about = {"images": ask.images, "sample": ask.sample}
    return {"scenario": ask.scenario.name, "parameters": dict(ask.parameters), **about, "version": ask.version}


def ask_from_record(entry: dict[str, Any]) -> Ask:
    """The inverse of ``ask_record``."""
    about = {"images": entry["images"], "sample": entry.get("sample")}
    return Ask(registry.scenario(entry["scenario"]), entry["parameters"], **about, version=entry.get("version", 1))


def now() -> str:
    """The present time, in the form of the record."""
    return datetime.now(UTC).isoformat(timespec="seconds")
