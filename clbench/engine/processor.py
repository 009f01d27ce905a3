"""The processor: which of its cores this process may use, with how many threads, and how threads wait for each other.

PyTorch's OpenMP threads spin while they wait. Beside another busy process they then spin away the time of the thread that they wait for,
which makes a training step ten times as slow or more; threads that sleep lose hardly anything. OpenMP reads the setting once, as it is
loaded: ``wait_passively`` is called before PyTorch is imported.
"""

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""For every OpenMP library, and for Intel's and LLVM's, whose threads else spin for 200 ms all the same."""
NAMES = (*PASSIVE, "GOMP_SPINCOUNT")
"""Any of these, set by the user, is left as it is, and no other is set."""
SMALL_STEP = 5e7
"""A training step of fewer multiplications than this is fastest on one thread: waiting for a second takes longer than its share."""
FAN_IN = 10
"""Each number that a layer puts out takes that many multiplications at least: what counts where weights are used many times."""

_found = {name: os.environ[name] for name in NAMES if name in os.environ}
_late = "torch" in sys.modules


def wait_passively() -> None:
    """Have OpenMP's threads sleep while they wait, unless the user has said how they wait, or PyTorch has been imported."""
    if not _found and not _late:
        os.environ.update(PASSIVE)


def waiting() -> str:
    """How threads wait, and who said so."""
    if _found:
        return f"as set: {', '.join(f'{name}={value}' for name, value in _found.items())}"
    return "active, as PyTorch was imported before clbench" if _late else "passive"


def usable_cores() -> int:
    """The cores that this process may use: those it may run on, and no more than its control groups allow it the time of."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(allowed, cgroup_cores()))


def cgroup_cores(table: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """The time of so many cores is what control groups (version 1 or 2) allow; infinity where they set no limit."""
    limits = [math.inf]
    try:
        lines = [line.split(":", 2) for line in table.read_text().splitlines()]
    except OSError:  # no Linux
        return math.inf
    for _, controllers, place in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one hierarchy, named by no controller; in version 1 it is that of the controller cpu.
        top = root / controllers if controllers else root
        own = top / place.lstrip("/")
        # In a container the place is often that outside of it: its own limit then stands at the top.
        for folder in {top, own, *(parent for parent in own.parents if parent.is_relative_to(top))}:
            limits.append(_limit(folder))
    return min(limits)


def _limit(folder: Path) -> float:
    """The limit of one control group, in cores."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_us, period_us = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return math.inf if quota_us < 0 else quota_us / period_us
    return math.inf


def threads_for(parameters: int, outputs: int, batch_size: int) -> int:
    """How many threads are to train a network of so many parameters whose layers put out so many numbers for one input.

    As many as PyTorch would use, if there are the cores, and one if a step is small. ``OMP_NUM_THREADS``, or ``torch.set_num_threads`` of
    fewer threads, is respected.
    """
    import torch

    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return threads
    multiplications = 3 * batch_size * max(parameters, FAN_IN * outputs)  # forward, and twice as much backward
    return 1 if multiplications < SMALL_STEP else min(threads, usable_cores())


@contextlib.contextmanager
def using(threads: int) -> Iterator[None]:
    """PyTorch with so many threads, and afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def record() -> dict[str, Any]:
    """Cores, threads and how they wait, as they stand in ``run.json``."""
    import torch

    return {"cores": os.cpu_count(), "usable_cores": usable_cores(), "threads": torch.get_num_threads(), "waiting": waiting()}
