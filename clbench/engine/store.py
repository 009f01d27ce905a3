"""Runs on disk: one folder for each learn half, named by its hash. This module alone knows the names of the files in it.

- ``run.json``, the record: learn half, scenario, asks, versions, machine, status, notes;
- CSV tables that only grow: ``scores`` (one row for each ask, number of tasks learned, and task), ``confusion`` (true and inferred tasks),
  ``tasks`` (seconds, masks and bytes after each task), ``losses``, and the tables that the method writes;
- ``state/<tasks learned>/``: the last saved state, what was learned and what is needed to resume (``saved_state``).
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch

from clbench import registry
from clbench.engine import saved_state
from clbench.engine.divergence import Divergence
from clbench.engine.evaluator import Ask
from clbench.engine.learn import Learn
from clbench.errors import UserError, tell
from clbench.method import Method
from clbench.scenario import Scenario

RECORD = "run.json"
STATES = "state"
RUNS = "runs"


@dataclass(frozen=True)
class Run:
    """A run's folder, to read. Every fact is read from the disk: what another process added is there the next time."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / RECORD).is_file()

    @property
    def record(self) -> dict[str, Any]:
        """The contents of ``run.json``, not to be changed. The file is parsed once, and again only after it was written."""
        file = self.path / RECORD
        status = file.stat()
        return _parsed(file, (status.st_ino, status.st_mtime_ns, status.st_size))

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

    def table_file(self, name: str) -> Path:
        """The file of the table of that name."""
        return self.path / f"{name}.csv"

    def table_files(self) -> list[Path]:
        """The files of all tables that were written."""
        return sorted(self.path.glob("*.csv"))

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables, empty if it was never written. ``UserError`` if it cannot be read."""
        file = self.table_file(name)
        try:
            return pd.read_csv(file) if file.exists() else pd.DataFrame()
        except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
            raise UserError(f"{file} cannot be read ({error}): repeat the run with --overwrite always.") from None

    def saved(self) -> tuple[int, Path] | None:
        """The last saved state: the number of tasks learned, and its folder. None before the first."""
        folders = [folder for folder in (self.path / STATES).glob("*") if folder.name.isdigit()]
        last = max(folders, key=lambda folder: int(folder.name), default=None)
        return None if last is None else (int(last.name), last)

    @property
    def digests(self) -> dict[str, str] | None:
        """The digests of the files of the last saved state. None if the run is older than their recording."""
        saved, recorded = self.saved(), self.record.get("state")
        assert saved is not None
        return None if recorded is None else recorded.get(str(saved[0]), {})

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """A file of the last saved state, ``learned``, ``progress`` or ``generator``; a ``UserError`` if it is not this run's."""
        saved, sizes = self.saved(), {"learned": "stored_bytes", "progress": "progress_bytes"}
        assert saved is not None
        tasks = self.table("tasks")
        known = tasks.loc[tasks["learned"] == saved[0], sizes[name]].tolist() if name in sizes and not tasks.empty else []
        return saved_state.read(saved[1], name, self.digests, int(known[-1]) if known else None)

    def restore(self, method: Method, learned: dict[str, torch.Tensor], progress: dict[str, torch.Tensor] | None = None) -> None:
        """Put a state of this run into a fresh method; a ``UserError`` if it does not fit."""
        saved = self.saved()
        assert saved is not None
        saved_state.restore(method, saved[1], self.digests, learned, progress)

    def unanswered(self, asks: tuple[Ask, ...], checkpoints: tuple[int, ...]) -> list[tuple[Ask, int]]:
        """The pairs of an ask and a checkpoint that have no scores yet, or not of every task."""
        scores = self.table("scores")
        tasks = {} if scores.empty else scores.dropna(subset="accuracy").groupby(["ask", "learned"])["task"].nunique().to_dict()
        return [(ask, learned) for learned in checkpoints for ask in asks if tasks.get((ask.label, learned), 0) < learned]


@lru_cache(maxsize=4096)
def _parsed(file: Path, version: tuple[int, int, int]) -> dict[str, Any]:
    """The contents of a ``run.json``; ``version`` is in the key of the cache: a file that was written since is parsed again."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        raise UserError(f"The file {file} is damaged: remove its folder and repeat the run.") from None


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
    return [Run(file.parent) for file in sorted((results / RUNS).glob(f"*/{RECORD}"))]


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


def create(run: Run, record: dict[str, Any]) -> None:
    """Begin a run: an earlier one in its folder is removed with all its results."""
    if run.path.exists():
        shutil.rmtree(run.path)
    run.path.mkdir(parents=True, exist_ok=True)
    _write_record(run, record)


def update(run: Run, *, asks: tuple[Ask, ...] = (), checkpoints: tuple[int, ...] = (), **values: Any) -> None:
    """Add asks and checkpoints to the record, and set other values."""
    record = run.record
    known = {ask.label for ask in run.asks}
    added = {
        "asks": [*record["asks"], *(ask_record(ask) for ask in asks if ask.label not in known)],
        "checkpoints": sorted({*record["checkpoints"], *checkpoints}),
    }
    _write_record(run, record | added | values)


def add_notes(run: Run, sentences: Iterable[str]) -> None:
    """Add sentences that readers of the run's results must know to its record (``notes``), and warn of the new ones."""
    known = run.notes
    new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    if new:
        update(run, notes=[*known, *new])
        tell(new)


def save_state(run: Run, method: Method, learned: int) -> None:
    """Replace the saved state by that after ``learned`` tasks: a crash leaves one of them whole.

    The new digests are recorded before the new state is in its place, and the earlier ones are kept until it is there.
    """
    earlier = list((run.path / STATES).glob("*"))
    folder, partial = run.path / STATES / str(learned), run.path / STATES / f"{learned}.part"
    if folder.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digests = saved_state.write(method, partial)
    recorded = run.record.get("state", {})
    update(run, state={old.name: recorded.get(old.name) for old in earlier if old.name.isdigit()} | {folder.name: digests})
    partial.rename(folder)
    for old in earlier:
        shutil.rmtree(old, ignore_errors=True)


def _write_record(run: Run, record: dict[str, Any]) -> None:
    """Replace ``run.json``: an interruption leaves the old one or the new one."""
    partial = run.path / f"{RECORD}.part"
    partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    partial.rename(run.path / RECORD)


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
