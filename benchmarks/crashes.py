"""A crash at every write of a run, and every table cut at every byte: does the resumed run become what an undisturbed one is?

``python -m benchmarks.crashes``: for each of a few methods, a small run ends before each thing that it does to the file system in its
folder (open a file for writing, replace, remove, make a folder, force to the disk), and in the middle of each file that it writes; then
the same request is made again. Then each table of an interrupted run, and its copy, is cut at each of its last 200 bytes, read, mended
and, every twentieth time, resumed. Results are compared to the last digit: tables without seconds, and the bytes of the saved state.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from clbench import data, storage
from clbench.engine import durable, run_files
from clbench.engine.asking import Score
from clbench.engine.evaluator import Taught
from clbench.engine.execution import Watch, execute, unwatched
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.store import Run, run_at

PAIRS = (("supsup", "nns"), ("supsup", "gnu"), ("ewc", "gns"), ("replay", "gnu"), ("naive", "gg"))
LAST_BYTES = 200

SMALL: dict[str, Any] = {"network": "mlp-8", "tasks": 3, "updates": 20, "batch_size": 16, "checkpoints": (2, 3)}
SETTINGS: dict[str, dict[str, Any]] = {"supsup": {"outputs": 12, "interval": 10, "epsilon": 0.5}, "ewc": {"samples": 8}}

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
"""What Python tells an audit hook of the file system's changes, besides opening a file for writing."""


def small_job(method: str, scenario: str) -> Job:
    """A run of a second."""
    asked = {"images": 20} | ({} if scenario in ("gg", "gns") or method != "supsup" else {"group": 10})
    (job,) = resolve(request({"method": method, "scenario": scenario, "set": SETTINGS.get(method, {}), "ask": asked, **SMALL}))
    return job


@cache
def few_digits() -> data.Dataset:
    """A few of the embedded digits, so that runs spend their time on files."""
    all_digits = data.load("mnist-5k")
    few = {name: getattr(all_digits, name)[:200] for name in ("train_images", "train_labels", "test_images", "test_labels")}
    return replace(all_digits, **few)


def do(job: Job, results: Path, watch: Watch = unwatched) -> Run:
    """Do a run on the few digits."""
    digits = few_digits()
    with mock.patch("clbench.data.load", return_value=digits):
        return execute(job, results, watch=watch)


class Points:
    """Counts the points at which a process could be killed while it writes below a folder, and calls ``act`` at one of them."""

    def __init__(self, folder: Path, act: Callable[[], None], at: int | None) -> None:
        self.folder, self.act, self.at, self.passed = str(folder), act, at, 0

    def point(self) -> None:
        """One of the points."""
        self.passed += 1
        if self.passed == self.at:
            self.act()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For an audit hook."""
        path = str(arguments[0]) if arguments else ""
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in EVENTS) and path.startswith(self.folder):
            self.point()


_watching: list[Points] = []
_hooked = False


@contextmanager
def watching(points: Points) -> Iterator[None]:
    """Count the points of what happens inside; files are written in two halves with a point between them."""
    global _hooked
    if not _hooked:  # a hook stays for ever
        sys.addaudithook(lambda event, arguments: _watching[-1].audit(event, arguments) if _watching else None)
        _hooked = True
    fsync, save_whole = os.fsync, storage.save

    def force(descriptor: int) -> None:
        points.point()
        fsync(descriptor)

    def in_halves(file: Any, content: bytes) -> None:
        file.write(content[: len(content) // 2])
        file.flush()
        points.point()
        file.write(content[len(content) // 2 :])

    def save(tensors: Any, path: Path) -> None:
        save_whole(tensors, path)
        content = path.read_bytes()
        with path.open("wb") as file:
            in_halves(file, content)

    with (
        mock.patch.object(os, "fsync", force),
        mock.patch.object(durable, "_write", in_halves),
        mock.patch.object(storage, "save", save),
        mock.patch("clbench.engine.saving.SavingClock.due", return_value=True),
    ):
        _watching.append(points)
        try:
            yield
        finally:
            _watching.pop()


def points_of(job: Job, results: Path) -> int:
    """The number of points of an undisturbed run."""
    points = Points(results, lambda: None, None)
    with watching(points):
        do(job, results)
    return points.passed


class Killed(BaseException):
    """The end of a process, which nothing in clbench catches."""


def killed_at(point: int, job: Job, results: Path) -> bool:
    """Do a run that ends at a point; whether it got there."""

    def end() -> None:
        raise Killed

    with watching(Points(results, end, point)):
        try:
            do(job, results)
        except Killed:
            return True
    return False


class Stopped(Exception):
    """What stops a run between two tasks."""


def interrupted(job: Job, results: Path) -> Run:
    """A run that was stopped after its second task and its scores were saved."""

    def watch(event: Taught | Score) -> None:
        if isinstance(event, Taught) and event.learned == 3:
            raise Stopped

    with (
        mock.patch("clbench.engine.saving.SavingClock.due", return_value=True),
        mock.patch("clbench.methods.supsup.SupSup.tasks_at_once", 1),
        suppress(Stopped),
    ):
        do(job, results, watch)
    return run_at(results, job.learn)


def contents(run: Run) -> dict[str, Any]:
    """All that a run measured and learned, without what differs between two runs of the same: seconds."""
    tables = {name: run.table(name).drop(columns="seconds", errors="ignore") for name in run.table_names()}
    states = {str(file.relative_to(run.path)): file.read_bytes() for file in (run.path / "state").rglob("*") if file.is_file()}
    return tables | states | {"status": run.record["status"]}


def difference(run: Run, whole: Run) -> str:
    """The first thing in which two runs differ; empty if they are the same."""
    return changed(contents(run), contents(whole))


def changed(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The first thing in which two runs' contents differ; empty if they are the same."""
    if one.keys() != other.keys():
        return str(one.keys() ^ other.keys())
    for name, content in one.items():
        if not (content.equals(other[name]) if isinstance(content, pd.DataFrame) else content == other[name]):
            return name
    return ""


def crash(job: Job, folder: Path, points: Iterable[int], whole: Run) -> tuple[int, list[str]]:
    """Kill a run at each of ``points`` and resume it: the number that were killed, and what went wrong."""
    kills, wrong = 0, []
    for point in points:
        results = folder / f"killed-{point}"
        kills += killed_at(point, job, results)
        try:
            if what := difference(do(job, results), whole):
                wrong.append(f"point {point}: {what} differs")
        except Exception as error:
            wrong.append(f"point {point}: {type(error).__name__}: {error}")
        shutil.rmtree(results)
    return kills, wrong


def cut(job: Job, folder: Path, whole: Run, resumed: int = 20) -> tuple[int, list[str]]:
    """Cut each table of an interrupted run, and its copy, at each of its last bytes: the number of cuts, and what went wrong.

    Nothing else must be read than without the cut, and mending must bring back the same bytes; every ``resumed``-th run is resumed too.
    """
    stopped = interrupted(job, folder / "interrupted")
    files = sorted([*stopped.path.glob("*.csv"), *stopped.path.glob("copies/*.csv")])
    before, cuts, wrong = contents(stopped), 0, []
    for file, content in [(file, file.read_bytes()) for file in files]:
        for length in range(max(0, len(content) - LAST_BYTES), len(content)):
            os.truncate(file, length)
            cuts += 1
            try:
                if what := changed(contents(stopped), before):
                    wrong.append(f"{file.name} at {length}: {what} is read otherwise")
                if cuts % resumed == 0:
                    shutil.copytree(folder / "interrupted", folder / "resumed")
                    if what := difference(do(job, folder / "resumed"), whole):
                        wrong.append(f"{file.name} at {length}: {what} differs")
                    shutil.rmtree(folder / "resumed")
                run_files.Tables(stopped)
                if file.read_bytes() != content:
                    wrong.append(f"{file.name} at {length}: not mended")
            except Exception as error:
                wrong.append(f"{file.name} at {length}: {type(error).__name__}: {error}")
                file.write_bytes(content)
    return cuts, wrong


def main() -> None:
    """All pairs: a line for each, then what went wrong."""
    problems = []
    for method, scenario in PAIRS:
        with tempfile.TemporaryDirectory() as place:
            folder, job = Path(place), small_job(method, scenario)
            whole = run_at(folder / "whole", job.learn)
            points = points_of(job, folder / "whole")
            kills, wrong = crash(job, folder, range(1, points + 1), whole)
            cuts, torn = cut(job, folder, whole)
            print(f"{method} {scenario}: {kills} kills, {len(wrong)} wrong; {cuts} cuts, {len(torn)} wrong", flush=True)
            problems += [f"{method} {scenario}: {each}" for each in (*wrong, *torn)]
    print("\n".join(problems))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
