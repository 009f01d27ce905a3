"""``clbench runs verify``: whether a run's folder holds what its run wrote, and how to mend it where it does not."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from clbench import registry
from clbench.engine import provenance, record, saved_state, table_files
from clbench.engine.execution import answer, rewinds, stream_of
from clbench.engine.run_files import Tables
from clbench.engine.store import Run, alone, update
from clbench.errors import UserError

Cure = Literal["copy", "ask", "repeat"]
CURES: dict[Cure, str] = {
    "copy": "--repair mends it from what is whole",
    "ask": "--repair asks the saved state again",
    "repeat": "only repeating the run with --overwrite always brings it back",
}
"""What to do about a problem."""

ANSWERS = ("scores", "confusion")
"""The tables that can be computed again from the saved state."""


class Problem(NamedTuple):
    """What is wrong with a file of a run, and its cure."""

    file: str
    what: str
    cure: Cure

    @property
    def sentence(self) -> str:
        """The problem in one line."""
        return f"{self.file} {self.what}: {CURES[self.cure]}."


def problems(run: Run) -> list[Problem]:
    """All that is wrong with a run; nothing if it is as it was written. An unfinished run is no problem."""
    found = list(_of_record(run))
    if any(problem.cure == "repeat" for problem in found):
        return found  # nothing else says what belongs to the run
    extents = run.extents
    found += _of_old_tables(run) if extents is None else _of_tables(run, extents)
    return found + list(_of_state(run))


def standing(run: Run) -> str:
    """What a run without problems is, in one line."""
    saved = run.saved()
    old = " Made before tables had digests: a change that leaves them readable is not seen." if run.extents is None else ""
    if run.complete:
        return f"complete and as it was written.{old}"
    return f"as it was written, with {0 if saved is None else saved[0]} of {run.learn.tasks} tasks learned: run it again to finish it.{old}"


def repair(run: Run, data_root: str | None = None) -> list[Problem]:
    """Mend what can be mended, and return what remains. Answers that are lost are asked for again, nothing else is computed."""
    with alone(run):
        found = problems(run)
        if any(problem.file.startswith("run.json") and problem.cure == "repeat" for problem in found):
            return found
        if any(problem.file.endswith(record.RECORD) for problem in found):
            record.write(run.path, run.record)
        lost = [problem for problem in found if problem.cure == "ask"]
        if lost and run.extents is not None:
            left = {name: extent.model_dump() for name, extent in run.extents.items() if name not in ANSWERS}
            update(run, tables=left)
        try:
            Tables(run)
            if lost:
                _ask_again(run, data_root)
        except UserError as error:
            return [*problems(run), Problem("The repair", f"stopped ({str(error).rstrip('.')})", "repeat")]
    return problems(run)


def _of_record(run: Run) -> Iterator[Problem]:
    damage = {}
    places = {record.RECORD: run.path / record.RECORD}
    if (run.path / record.COPIES).exists():
        places[f"{record.COPIES}/{record.RECORD}"] = run.path / record.COPIES / record.RECORD
    for name, file in places.items():
        try:
            record.check(file)
        except record.Damaged as error:
            damage[name] = str(error)
    for name in damage:
        what = "is damaged" if places[name].exists() else "is gone"
        yield Problem(name, what, "repeat" if damage.keys() == places.keys() else "copy")
    if damage.keys() != places.keys() and run.learn.hash != run.path.name:
        yield Problem("run.json", f"is of the run {run.learn.hash}, which is not the name of its folder", "repeat")


def _of_tables(run: Run, extents: dict[str, record.Extent]) -> Iterator[Problem]:
    for name, extent in extents.items():
        files = dict(zip((f"{name}.csv", f"{record.COPIES}/{name}.csv"), table_files.places(run.path, name), strict=True))
        bad = [file for file, path in files.items() if table_files.intact(path, extent) is None]
        for file in bad:
            what = "is not what the run wrote" if files[file].exists() else "is gone"
            lost: Cure = "ask" if name in ANSWERS and run.complete else "repeat"
            yield Problem(file, what, lost if len(bad) == len(files) else "copy")


def _of_old_tables(run: Run) -> Iterator[Problem]:
    """Tables of schema 1: only what cannot be read is seen."""
    for name in run.table_names():
        try:
            run.table(name)
        except record.Damaged as error:
            reason = str(error).removesuffix(f": {record.REMEDY}.").rpartition(f"{name}.csv ")[2]
            yield Problem(f"{name}.csv", reason, "ask" if name in ANSWERS and run.complete else "copy")
    if run.complete:
        for name in {"scores", "tasks"} - set(run.table_names()):
            yield Problem(f"{name}.csv", "is gone", "ask" if name in ANSWERS else "repeat")


def _of_state(run: Run) -> Iterator[Problem]:
    try:
        saved = run.saved()
    except record.Damaged:
        yield Problem("The saved state", "is gone", "repeat")
        return
    if saved is None:
        if run.complete:
            yield Problem("The saved state", "is gone", "repeat")
        return
    for name in saved_state.FILES:
        try:
            run.state(name)
        except UserError:
            yield Problem(f"state/{saved[1].name}/{name}.safetensors", "is not what the run saved", "repeat")


def _ask_again(run: Run, data_root: str | None) -> None:
    """Put every ask of a complete run to its saved state again, where it can be put."""
    provenance.check_code(run.learn)
    method = registry.method(run.learn.method)
    asks = tuple(ask for ask in run.asks if ask.version == method.ask_version(**ask.parameters))
    stream = stream_of(run, run.learn, data_root, torch.device("cpu"))
    answer(run, asks, run.checkpoints if rewinds(run) else (run.learn.tasks,), stream, torch.device("cpu"))
