"""Random command lines, most of them wrong: ``python -m benchmarks.fuzz [LINES] [SEED]``.

Each is run in this process, as a person's would be, in a folder of its own with a few small runs and broken files. Options and their values
are drawn from what the commands really take, and from what they should refuse. Only short actions are done: nothing is downloaded, no
method is put through the conformance suite, and only networks of a few units are trained, for one update.

Counted as a fault: a traceback, an exit code other than 0, 1 and 2, an exit code of 2 without a sentence, more than five seconds of
processor time, and more than 4 GB of memory. Exits with code 1 if there is any.
"""

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from clbench import data
from clbench.cli.main import app, main
from clbench.data import catalogue, mnist_5k
from clbench.engine import execution
from clbench.errors import UserError
from clbench.paper import sizes

SECONDS, LONGEST_WAIT = 5, 60
"""The limits for a command line: processor time, and time on the clock."""
MEMORY = 4 * 10**9
MOST_TASKS = 5
"""Jobs with more tasks or parameters than these are checked and not carried out."""

RARE = {"show": 0.3, "plot": 0.1, "report": 0.2, "figure": 0.5, "doctor": 0.1, "bytes": 0.1, "claims": 0.3}
"""How often, against the others, a command is drawn that takes a second and has few options."""

TINY = ("--tasks", "1", "--updates", "1", "--batch-size", "8", "--network", "mlp-4", "--data", "mnist-5k", "--ask", "images=4")

HOSTILE = (
    *("", " ", "-", "--", "0", "-1", "1e999", "nan", "inf", "-0", "0x10", "٣", "1_000", "1.5", "true", "null", "None", "[]", "{}"),
    *(str(2**63), str(2**64), str(-(2**63) - 1), "9" * 5000, "1," * 2000, "[" * 3000, ",", ",,", "0,0", "a,b", "0,1,2"),
    *("=", "a=", "=b", "a=b=c", "a=b,c", "[/red]", "[bold]", "[red", ":smile:", "=cmd|'/C calc'!A0", "<script>", "$x$"),
    *("$\\frac$", "\\", "%s", "{0}", "{x}", "'", '"', "`", "\x1b[2J", "\r\n", "a\nb", "\t", "\u202e", "\udcff", "é", "数", "🙂"),
    *("a" * 300, "a" * 5000, "/" * 5000, "é" * 2000, "..", "../..", "/dev/null", "/dev/full", "/dev/zero", "/proc/self/mem"),
    *("/proc/nowhere/x", "~", "~nobody-of-this-name", "./", "results", "/dev/full.csv", "x.md", "x.tex", "x.csv", "x.png", "x.gif"),
    *("folder", "folder/x.md", "empty", "binary", "deep.json", "m.py", "m.py:", "m.py:X", ":X", "fails.py:X", "exits.py:X"),
    *("syntax.py:X", "binary.py:X", "own.py:Mine", "own.py:nothing", "./own.py:Mine", "os:system", "os.system"),
    *("json:JSONDecoder", "no.such:thing", "a.b.c", "a..b", ".", ":", "builtins:print", "torch.nn:Linear", "math.pi"),
    *("mlp-", "mlp-0", "mlp-99999999", "mlp-4x", "mlp-4x4x4", f"mlp-{'9' * 400}", f"mlp-{'4x' * 900}4", "swish-4"),
    *("resnet-18-999999999", "avalanche:", "avalanche:Nothing", "avalanche:Naive", "nnu", "ggs", "meta", "cuda", "cuda:9"),
    *("cpu:5", "mps", "xla"),
)

VALID = {
    "method": ("supsup", "naive", "psp", "ewc", "replay", "own.py:Mine"),
    "scenario": ("gg", "gns", "gnu", "nns", "GNu"),
    "stream": ("permuted-mnist", "rotated-mnist", "split-mnist", "split-imagenet", "own.py:stream"),
    "network": ("mlp-4", "lenet-300-100", "swish-4", "resnet-18-2"),
    "tasks": ("1", "2", "5"),
    "seeds": ("0", "0,1", "7"),
    "updates": ("1", "2"),
    "batch_size": ("1", "8"),
    "checkpoints": ("1", "1,2"),
    "data": ("mnist-5k", "mnist", "folder", "cifar-100"),
    "set": ("outputs=12", "density=0.5", "learning_rate=0.1", "optimiser=adam", "start=transfer", "budget=3"),
    "ask": ("images=4", "sample=4", "images=all", "objective=G", "group=4", "scenario=gg", "protocol=paper", "algorithm=binary"),
    "results": ("results", "other", "folder"),
    "spec": ("spec.json", "deep.json", "list.json", "binary"),
    "budget": ("smoke", "laptop", "paper"),
    "device": ("cpu", "auto"),
    "overwrite": ("missing", "always", "never"),
    "rows": ("method", "method,seed", "scenario", "outputs"),
    "columns": ("scenario", "network", "learned"),
    "value": ("accuracy", "forgetting", "n", "own.py:metric"),
    "metric": ("backward_transfer", "accuracy", "own.py:metric", "json:dumps"),
    "out": ("x.csv", "x.md", "x.tex", "folder/x.md", "x.png"),
    "from_tables": ("folder", "results/figures"),
    "trust": ("own.py", "torch"),
    "what": ("methods", "scenarios", "streams", "networks", "figures"),
    "name": ("supsup", "naive", "gg", "permuted-mnist", "mlp-4", "fig4", "mnist"),
    "names": ("fig4", "fig3-left", "claims"),
    "lines": ("supsup", "naive/GG", "supsup/GG/outputs=12", "own.py:Mine"),
    "folder": ("folder", "binary", "empty"),
}

FILES = {
    "fails.py": b"def f():\n    raise KeyError('x')\nf()\n",
    "exits.py": b"raise SystemExit(0)\n",
    "syntax.py": b"def (\n",
    "binary.py": bytes(range(256)),
    "binary": bytes(range(256)) * 9,
    "empty": b"",
    "deep.json": b"[" * 100_000,
    "list.json": b"[1, 2]",
    "spec.json": b'{"method": "naive", "scenario": "gg", "tasks": 1, "updates": 1, "network": "mlp-4", "ask": {"images": 4}}',
    "own.py": b"""
from clbench.methods.naive import Naive


class Mine(Naive):
    name = "mine"


def stream(data, *, tasks, seed):
    raise ValueError("no stream")


def metric(R, scores):
    return 1 / 0
""",
}


class TooLong(BaseException):
    """A command line took longer than it may."""


def line(draw: random.Random) -> list[str]:
    """A random command line: a command, some of its arguments and options, and perhaps a slip of the keyboard."""
    command: Any = typer.main.get_command(app)
    words: list[str] = []
    while hasattr(command, "commands"):
        if words and draw.random() < 0.4:
            break
        names = list(command.commands)
        (name,) = draw.choices(names, [RARE.get(each, 1) for each in names])
        if draw.random() < 0.02:
            name = draw.choice(HOSTILE)
        words.append(name)
        command = command.commands.get(name)
    for parameter in getattr(command, "params", ()):
        if parameter.param_type_name == "argument":
            count = draw.choice((0, 1, 1, 1, 2, 3))
            words += [value(parameter.name, draw) for _ in range(count)]
        elif draw.random() < 0.25:
            words.append(draw.choice(parameter.opts))
            if not getattr(parameter, "is_flag", False) and draw.random() < 0.97:
                words.append(value(parameter.name, draw))
    if draw.random() < 0.1 and words:
        place = draw.randrange(len(words))
        words[place] = slipped(words[place], draw)
    if draw.random() < 0.03:
        draw.shuffle(words)
    return words


def value(name: str, draw: random.Random) -> str:
    """A value of that option or argument: one that it takes, or one that it should refuse."""
    taken = VALID.get(name.rstrip("_"), ())
    return draw.choice(taken) if taken and draw.random() < 0.6 else draw.choice(HOSTILE)


def slipped(word: str, draw: random.Random) -> str:
    """The word with a letter left out, doubled or replaced."""
    place = draw.randrange(len(word) + 1)
    return word[:place] + draw.choice(("", word[place : place + 1] * 2, draw.choice("-=,./x0\u00e9"))) + word[place + 1 :]


def fault_of(words: Sequence[str], seconds: int = SECONDS) -> tuple[str, str]:
    """Run a command line: its outcome, and what is wrong with that (empty if nothing is)."""
    out, err = io.StringIO(), io.StringIO()
    outcome, fault = "0", ""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, LONGEST_WAIT))
    try:
        with mock.patch("sys.argv", ["clbench", *words]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        outcome = str(stop.code or 0)
    except TooLong:
        outcome = "too long"
        fault = f"more than {SECONDS} s of processor time"
    except BaseException:
        outcome = "traceback"
        fault = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    errors = err.getvalue()
    if outcome not in ("0", "1", "2") and not fault:
        fault = f"exit code {outcome}"
    elif "Traceback (most" in errors:
        fault = errors
    elif outcome == "2" and not errors.strip():
        fault = "exit code 2 without a sentence"
    elif f" of {__file__}" in errors:  # an error of clbench in a job: the line of ``carried_out`` makes it look like a person's
        fault = errors
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return outcome, fault or (f"{memory:,} bytes of memory" if memory > MEMORY else "")


def carried_out(job: Any, run_options: Any, *rest: Any) -> Any:
    """A job, if it is a short one."""
    learn = job.learn
    if learn.tasks > MOST_TASKS or learn.updates > 2 or learn.batch_size > 64 or not learn.network.startswith(("mlp-4", "swish-4")):
        raise UserError("Not carried out: too long for this.")
    return CARRY_OUT(job, run_options, *rest)


CARRY_OUT = execution.carry_out


@contextlib.contextmanager
def short_actions() -> Iterator[None]:
    """Nothing long is done inside: no download, no conformance suite, no long training; data are loaded once."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise UserError("Not done: too long for this.")

    with (
        mock.patch("clbench.engine.execution.carry_out", carried_out),
        mock.patch("clbench.paper.base.execution.execute", refuse),
        mock.patch.object(data, "load", cache(data.load)),
        mock.patch("clbench.data.mnist_5k._packaged_rows", cache(mnist_5k._packaged_rows)),
        mock.patch.object(catalogue, "_download", refuse),
        mock.patch("clbench.engine.estimate.estimate", refuse),
        mock.patch("clbench.check.check", refuse),
        mock.patch("clbench.cli.check._of_all", refuse),
        mock.patch("clbench.paper.sizes.sizes", cache(sizes.sizes)),  # ResNet-50's masks, five seconds
    ):
        yield


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """A folder with broken files and small runs, deep enough that ``../..`` stays in it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as top:
        here = Path(top, "a", "b", "c", "d")
        (here / "folder").mkdir(parents=True)
        for name, content in FILES.items():
            (here / name).write_bytes(content)
        os.chdir(here)
        variables = {"CLBENCH_DATA": str(here / "data"), "HOME": top, "COLUMNS": "200"}
        try:
            with mock.patch.dict(os.environ, variables):
                for more in (("--method", "naive", "--scenario", "gg"), ("--scenario", "gnu", "--set", "outputs=12")):
                    outcome, fault = fault_of(["run", *TINY, *more], seconds=600)
                    if outcome != "0":
                        raise RuntimeError(f"the small runs cannot be made: {outcome} {fault}")
                yield
        finally:
            os.chdir(before)


def fuzz(lines: int, seed: int) -> tuple[Counter[str], list[tuple[list[str], str]]]:
    """How often each outcome came, and the command lines with a fault. A line follows from the seed and its number."""
    outcomes: Counter[str] = Counter()
    faults: list[tuple[list[str], str]] = []
    for number in range(lines):
        if number and number % 1000 == 0:
            print(f"{number:,} lines, {len(faults)} faults", flush=True)
        words = line(random.Random(f"{seed} {number}"))
        outcome, fault = fault_of(words)
        outcomes[outcome] += 1
        if fault:
            faults.append((words, fault))
            print(f"{number}: {json.dumps([word[:80] for word in words])}\n{fault[-1500:]}\n", flush=True)
    return outcomes, faults


def too_long(*_: Any) -> None:
    raise TooLong


if __name__ == "__main__":
    count, first_seed = (int(sys.argv[place]) if len(sys.argv) > place else usual for place, usual in ((1, 10_000), (2, 0)))
    signal.signal(signal.SIGPROF, too_long)
    signal.signal(signal.SIGALRM, too_long)
    start = time.perf_counter()
    with short_actions(), workplace():
        for warm_up in (["doctor"], ["report"], ["plot"], ["bytes"], ["show", "resnet-50"]):  # imports take seconds, once
            fault_of(warm_up, seconds=600)
        found, wrong = fuzz(count, first_seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    codes = ", ".join(f"{times:,} with {code}" for code, times in sorted(found.items()))
    print(
        f"{count:,} command lines in {time.perf_counter() - start:.0f} s (seed {first_seed}): exit codes {codes}; at most {peak:.2f} GiB."
    )
    print(f"{len(wrong)} faults.")
    sys.exit(bool(wrong))
