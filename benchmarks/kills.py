"""Runs that are killed, resumed, and compared with runs that nobody disturbed: ``python -m benchmarks.kills [kills] [folder]``.

Each trial starts a run in a process of its own, kills it (SIGKILL), and gives the same command again in another process, which finishes.
The result must be the same bit by bit: all tables but for their seconds, what was learned, what is needed to resume, and the generators.
Trials differ in the moment of the kill:

- instant: at a random moment of the run;
- write: just before a random operation on the run's files (each opening for writing, moving, removing, creating);
- torn: at most two milliseconds after a file was opened for writing.

Half of the trials save after every batch and every answer, the others four times a second at most. The pairs of a method and a scenario
include a network that draws random numbers (dropout) and a stream that augments its images. Writes ``kills.csv`` (every trial) and
``kills.md`` (a summary by pair) into the folder (default: results/kills). Needs a system with ``fork``.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import clbench
from clbench import storage
from clbench.data import load
from clbench.engine import saved_state
from clbench.engine.execution import execute
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.store import Run, run_at
from clbench.errors import Notice
from clbench.results.renderers import markdown
from clbench.scenarios.permuted_mnist import permuted

HERE = Path(__file__)
KINDS = ("instant", "write", "torn")
TIMED = 0.25
"""Seconds between two savings in the trials that save by time."""
TORN_SECONDS = 0.002
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
USUAL: dict[str, Any] = {
    "network": "mlp-32",
    "data": "mnist-5k",
    "tasks": 3,
    "updates": 8,
    "batch_size": 16,
    "checkpoints": (1, 3),
    "ask": {"sample": 20},
}
TIMED_FACTS = ("started", "finished", "timings", "state", "tables", "check")
"""What a record says of times, and of files that hold times."""
UNTIL_ALL_DIFFER = ("learned", "ask", "task", "inferred", "part", "first_batch", "step", "search", "stored")
"""Columns that name a row of any table."""


def dropping(outputs: int) -> nn.Module:
    """A network that draws from the global generator, and has statistics."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, outputs))


def moved(images: Tensor, draws: torch.Generator) -> Tensor:
    """Images shifted by up to two pixels."""
    across, down = torch.randint(-2, 3, (2,), generator=draws).tolist()
    return images.roll((across, down), (2, 3))


def augmented(data: clbench.Dataset, *, tasks: int, seed: int) -> clbench.Stream:
    """Permuted digits that are moved in training."""
    made = permuted("augmented", data, tasks=tasks, seed=seed)
    return replace(made, tasks=[replace(task, train=replace(task.train, augment=moved)) for task in made.tasks])


def _pair(method: str, scenario: str, **settings: Any) -> dict[str, Any]:
    return {**USUAL, "method": method, "scenario": scenario, **settings}


NNS = {"set": {"outputs": 20, "interval": 5, "epsilon": 0.5, "learning_rate": 0.01}}
FEW = {"set": {"samples": 16}}
PAIRS: tuple[dict[str, Any], ...] = (
    _pair("supsup", "gg", set={"outputs": 20}),
    _pair("supsup", "gnu", set={"outputs": 20}, ask={"sample": 20, "objective": ["H", "G"]}),
    _pair("supsup", "gns", set={"outputs": 20, "density": 0.3, "start": "transfer", "schedule": "cosine"}),
    _pair("supsup", "nns", **NNS),
    _pair("supsup", "gg", network="benchmarks.kills:dropping"),
    _pair("naive", "gg", stream=f"{HERE}:augmented"),
    _pair("naive", "nns", network="benchmarks.kills:dropping"),
    _pair("psp", "gg"),
    _pair("batche", "gnu", set={"outputs": 50}),
    _pair("ewc", "gns", **FEW),
    _pair("online-ewc", "gnu", **FEW),
    _pair("si", "gg", stream=f"{HERE}:augmented"),
    _pair("replay", "nns", set={"memory": 50}),
    _pair("replay", "gnu", set={"memory": 50}),
    _pair("a-gem", "gg", set={"memory_per_task": 20, "sample": 20}),
    _pair("bgd", "nns", set={"samples": 2}),
    _pair("lwf", "gnu"),
    _pair("packnet", "gg"),
    _pair("wsn", "gg"),
    _pair("hopsupsup", "gnu", network="swish-64x64", stream="split-mnist", set={"outputs": 10}),
)


def name_of(pair: dict[str, Any]) -> str:
    """A pair in words."""
    more = [str(pair[key]).rpartition(":")[2] for key in ("network", "stream") if ":" in str(pair.get(key, ""))]
    return " ".join([pair["method"], pair["scenario"], *more])


@dataclass(frozen=True)
class Undisturbed:
    """A whole run, its seconds, and the number of its operations on files."""

    run: Run
    seconds: float
    operations: int


@dataclass
class Watch:
    """Counts the operations below a folder, and may kill the process at one of them."""

    folder: str
    at: int = 0
    torn: bool = False
    seen: int = field(default=0, init=False)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+"))
        if not (opened or event in OPERATIONS) or not str(arguments[0]).startswith(self.folder):
            return
        self.seen += 1
        if not self.at or self.seen < self.at:
            return
        if not self.torn:
            os.kill(os.getpid(), signal.SIGKILL)
        if opened:
            threading.Timer(random.uniform(0, TORN_SECONDS), os.kill, (os.getpid(), signal.SIGKILL)).start()


def in_a_process(job: Job, results: Path, save_every: float, watch: Watch, seconds: float | None = None) -> int:
    """Do a run in a forked process, which is killed after ``seconds``. Returns the signal that ended it, 0 if it finished."""
    process = os.fork()
    if not process:
        code = 1
        try:
            sys.addaudithook(watch)
            execute(job, results, save_every=save_every)
            (results / "operations").write_text(str(watch.seen))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"The run {job.learn.hash} in {results} failed: its own error is above.")
    return os.WTERMSIG(status)


def undisturbed(job: Job, results: Path, save_every: float) -> Undisturbed:
    """A run to compare with."""
    began = time.perf_counter()
    in_a_process(job, results, save_every, Watch(str(results)))
    return Undisturbed(run_at(results, job.learn), time.perf_counter() - began, int((results / "operations").read_text()))


def trial(job: Job, whole: Undisturbed, results: Path, kind: str, save_every: float, draws: random.Random) -> dict[str, Any]:
    """Kill a run, look at what is left, finish it, and compare."""
    at = draws.randint(1, whole.operations)
    watch = Watch(str(results)) if kind == "instant" else Watch(str(results), at, kind == "torn")
    killed = in_a_process(job, results, save_every, watch, draws.uniform(0, whole.seconds) if kind == "instant" else None)
    left = what_is_left(run_at(results, job.learn))
    try:
        in_a_process(job, results, save_every, Watch(str(results)))
        different = ", ".join(differences(run_at(results, job.learn), whole.run))
    except RuntimeError as error:
        different = str(error)
    return {"killed": killed == signal.SIGKILL, "left": left, "different": different}


def what_is_left(run: Run) -> str:
    """From where a killed run resumes."""
    if not run.exists:
        return "nothing"
    saved, inside = run.saved(), saved_state.newest_inside(run.inside)
    tasks = 0 if saved is None else saved[0]
    if run.complete:
        return "a complete run"
    if run.answers_file.exists():
        return "inside an ask"
    if inside is not None and inside[0] == tasks:
        return "inside a task"
    return "between tasks" if tasks else "nothing"


def differences(mine: Run, whole: Run) -> list[str]:
    """What differs between two runs, bit by bit, but for times."""
    found = [] if mine.complete else ["it is not complete"]
    names = {name for run in (mine, whole) for name in run.table_names()}
    found += [name for name in sorted(names) if not _rows(mine, name).equals(_rows(whole, name))]
    (learned, folder), (its_learned, its_folder) = (run.saved() or (0, run.path) for run in (mine, whole))
    if learned != its_learned:
        return [*found, "the tasks learned"]
    for name in ("learned", "progress", "generator"):
        one, other = (storage.load(path / f"{name}.safetensors") for path in (folder, its_folder))
        same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
        found += [] if same else [name]
    records = [{k: v for k, v in run.record.items() if k not in TIMED_FACTS} for run in (mine, whole)]
    return [*found, *([] if json.dumps(records[0]) == json.dumps(records[1]) else ["run.json"])]


def _rows(run: Run, name: str) -> pd.DataFrame:
    """A table in a fixed order and without seconds; empty if it is not there."""
    table = run.table(name).drop(columns="seconds", errors="ignore")
    return table.sort_values([column for column in UNTIL_ALL_DIFFER if column in table], kind="stable").reset_index(drop=True)


def trials(kills: int, folder: Path, pairs: Sequence[dict[str, Any]] = PAIRS, seed: int = 0) -> pd.DataFrame:
    """So many kills, in turn on all pairs, as rows."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", Notice)
    load("mnist-5k")  # once, for all processes
    jobs = [resolve(request(pair))[0] for pair in pairs]
    draws, whole, rows = random.Random(seed), dict[tuple[int, float], Undisturbed](), list[dict[str, Any]]()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    while sum(row["killed"] for row in rows) < kills:
        number = len(rows)
        which, save_every, kind = number % len(pairs), (0.0, TIMED)[number // len(pairs) % 2], KINDS[number % len(KINDS)]
        job = jobs[which]
        if (which, save_every) not in whole:
            whole[which, save_every] = undisturbed(job, folder / f"whole-{which}-{save_every}", save_every)
            if different := differences(whole[which, save_every].run, whole.get((which, 0.0), whole[which, save_every]).run):
                raise RuntimeError(f"Saving at other moments changes {', '.join(different)} of {name_of(pairs[which])}.")
        results = folder / str(number)
        row = {"pair": name_of(pairs[which]), "moment": kind, "saved": "always" if save_every == 0 else "by time"}
        rows.append(row | trial(job, whole[which, save_every], results, kind, save_every, draws))
        if not rows[-1]["different"]:
            shutil.rmtree(results)
        print(json.dumps(rows[-1]), flush=True)
    return pd.DataFrame(rows)


LEFT = {
    "inside a task": "resumed inside a task",
    "inside an ask": "inside an ask",
    "between tasks": "between tasks",
    "nothing": "restarted",
    "a complete run": "was complete",
}
"""What may be left of a run, and the column that counts it."""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """By pair: the number of kills, of identical results, and of what the runs resumed from."""
    killed = rows[rows["killed"]]
    parts = [*killed.groupby("pair", sort=False), ("all", killed)]
    return pd.DataFrame(
        {"pair": pair, "kills": len(part), "identical": int((part["different"] == "").sum())}
        | {LEFT[left]: int((part["left"] == left).sum()) for left in LEFT}
        for pair, part in parts
    )


def main(kills: str = "200", folder: str = "results/kills") -> None:
    rows = trials(int(kills), Path(folder).absolute())
    rows.to_csv(Path(folder) / "kills.csv", index=False)
    text = markdown(summary(rows))
    (Path(folder) / "kills.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
