"""Runs on disk, to read and to write: one folder for each learn half, named by its hash."""

import json
import os
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
from clbench.engine import states
from clbench.engine.divergence import Divergence
from clbench.engine.evaluator import Ask
from clbench.engine.learn import Learn
from clbench.errors import UserError, tell
from clbench.method import Method
from clbench.scenario import Scenario


@dataclass(frozen=True)
class Run:
    """A run's folder, to read."""

    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """The contents of ``run.json``."""
        try:
            return json.loads((self.path / "run.json").read_text())
        except json.JSONDecodeError:
            raise UserError(f"The file {self.path / 'run.json'} is damaged: remove its folder and do the run again.") from None

    @property
    def learn(self) -> Learn:
        """The learn half of the spec."""
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
        """The numbers of tasks learned at which it was asked."""
        return tuple(self.record["checkpoints"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that whoever reads its results must know."""
        return tuple(self.record.get("notes", ()))

    @property
    def diverged(self) -> Divergence | None:
        """Where its training diverged first, if it did."""
        found = self.record.get("diverged")
        return None if found is None else Divergence(**found)

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables, empty if it was never written. ``UserError`` if it cannot be read."""
        file = self.path / f"{name}.csv"
        try:
            return pd.read_csv(file) if file.exists() else pd.DataFrame()
        except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
            raise UserError(f"{file} cannot be read ({error}): do the run again with --overwrite always.") from None

    def saved(self) -> tuple[int, Path] | None:
        """The last saved state: the tasks learned and its folder. None before the first."""
        states = [p for p in (self.path / "state").glob("*") if p.name.isdigit()]
        last = max(states, key=lambda p: int(p.name), default=None)
        return None if last is None else (int(last.name), last)

    @property
    def digests(self) -> dict[str, str] | None:
        """Those of the files of the last saved state. None for a state of before they were recorded."""
        saved, recorded = self.saved(), self.record.get("state")
        assert saved is not None
        return None if recorded is None else recorded.get(str(saved[0]), {})

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """A file of the last saved state, ``learned``, ``progress`` or ``generator``; a ``UserError`` if it is not this run's."""
        saved, sizes = self.saved(), {"learned": "stored_bytes", "progress": "progress_bytes"}
        assert saved is not None
        tasks = self.table("tasks")
        known = tasks.loc[tasks["learned"] == saved[0], sizes[name]].tolist() if name in sizes and not tasks.empty else []
        return states.read(saved[1], name, self.digests, int(known[-1]) if known else None)

    def restore(self, method: Method, learned: dict[str, torch.Tensor], progress: dict[str, torch.Tensor] | None = None) -> None:
        """Have a fresh method take up a state of this run's; a ``UserError`` if it does not fit."""
        saved = self.saved()
        assert saved is not None
        states.take_up(method, saved[1], self.digests, learned, progress)

    def unanswered(self, asks: tuple[Ask, ...], checkpoints: tuple[int, ...]) -> list[tuple[Ask, int]]:
        """The pairs of an ask and a checkpoint of which there are no scores yet, or not of every task."""
        scores = self.table("scores")
        there = {} if scores.empty else scores.dropna(subset="accuracy").groupby(["ask", "learned"])["task"].nunique().to_dict()
        return [(ask, learned) for learned in checkpoints for ask in asks if there.get((ask.label, learned), 0) < learned]


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """For writing to a run: a ``UserError`` if another process is at it."""
    folder = run.path.parent.parent / ".locks"
    lock = filelock.FileLock(folder / run.path.name, timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"Another process is at work on the run {run.path}: wait until it is done, and try again.") from None
    except OSError as error:
        raise UserError(f"Nothing can be written to {folder.parent} ({error.strerror or error}).") from None
    try:
        yield
    finally:
        lock.release()


def find(name: str, results: Path) -> Run:
    """The run at a path, or in ``results`` by its hash or the beginning of it."""
    direct = Path(name)
    if (direct / "run.json").is_file():
        return Run(direct)
    known = sorted((results / "runs").glob("*/run.json"))
    matches = [file.parent for file in known if name and file.parent.name.startswith(name)]
    if len(matches) == 1:
        return Run(matches[0])
    if not matches:
        raise UserError(f"There is no run {name!r} in {results}: give a run's folder, or the first letters of its hash.")
    raise UserError(f"{name!r} is the beginning of {len(matches)} runs: {', '.join(sorted(p.name for p in matches))}.")


def writable(results: Path) -> Path:
    """The results folder, made if need be; a ``UserError`` if nothing can be written there."""
    try:
        (results / "runs").mkdir(parents=True, exist_ok=True)
        probe = results / "runs" / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"Nothing can be written to the results folder {results} ({reason}): name another with --results."
        ) from None
    return results


def update(run: Run, *, asks: tuple[Ask, ...] = (), checkpoints: tuple[int, ...] = (), **values: Any) -> None:
    """Add asks and checkpoints to the record, and set other values."""
    record = run.record
    known = {ask_from_record(entry).label for entry in record["asks"]}
    record["asks"] += [ask_record(ask) for ask in asks if ask.label not in known]
    record["checkpoints"] = sorted({*record["checkpoints"], *checkpoints})
    write_record(run, record | values)


def note(run: Run, sentences: Iterable[str]) -> None:
    """Keep sentences that whoever reads the run's results must know (``notes`` in ``run.json``), and say those that are new."""
    known = run.notes
    new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    if new:
        update(run, notes=[*known, *new])
        tell(new)


def write_record(run: Run, record: dict[str, Any]) -> None:
    """Replace ``run.json``: an interruption leaves the old one or the new one."""
    part = run.path / "run.json.part"
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.rename(run.path / "run.json")


def ask_record(ask: Ask) -> dict[str, Any]:
    """An ask as it stands in ``run.json``."""
    about = {"images": ask.images, "sample": ask.sample}
    return {"scenario": ask.scenario.name, "parameters": dict(ask.parameters), **about, "version": ask.version}


def ask_from_record(entry: dict[str, Any]) -> Ask:
    """The inverse of ``ask_record``."""
    about = {"images": entry["images"], "sample": entry.get("sample")}
    return Ask(registry.scenario(entry["scenario"]), entry["parameters"], **about, version=entry.get("version", 1))


def now() -> str:
    """The present time, as it is recorded."""
    return datetime.now(UTC).isoformat(timespec="seconds")
