"""The processor: which of its cores this process may use, with how many threads, and how threads wait for each other.

PyTorch's OpenMP threads spin while they wait. If another process is busy, they take processor time from the thread that they wait for,
which makes a training step ten times as slow or more. Threads that sleep lose hardly any time. OpenMP reads the setting once, when it is
loaded: ``wait_passively`` is called before PyTorch is imported.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""The first is for every OpenMP library, the second for Intel's and LLVM's, whose threads otherwise still spin for 200 ms."""
NAMES = (*PASSIVE, "GOMP_SPINCOUNT")
"""If the user has set any of these, none is changed."""
SMALL_STEP = 5e7
"""A training step with fewer multiplications is fastest on one thread: waiting for a second one takes longer than its share of work."""
FAN_IN = 10
"""Each output value of a layer takes at least so many multiplications: this dominates if weights are used many times."""

_set_by_user = {name: os.environ[name] for name in NAMES if name in os.environ}
_torch_imported_before = "torch" in sys.modules


def wait_passively() -> None:
    """Make OpenMP's threads sleep while they wait, unless the user has set how they wait, or PyTorch is imported already."""
    if not _set_by_user and not _torch_imported_before:
        os.environ.update(PASSIVE)


def waiting() -> str:
    """How threads wait, and what decided it."""
    if _set_by_user:
        return f"as set: {', '.join(f'{name}={value}' for name, value in _set_by_user.items())}"
    return "active, as PyTorch was imported before clbench" if _torch_imported_before else "passive"


def usable_cores() -> int:
    """The number of cores that this process may use, by its affinity and by the limits of its control groups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(allowed, cgroup_cores()))


def cgroup_cores(table: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """The limit that control groups (version 1 or 2) set, in cores; infinity if they set none."""
    limits = [math.inf]
    try:
        lines = [line.split(":", 2) for line in table.read_text(encoding="utf-8").splitlines()]
    except OSError:  # not Linux
        return math.inf
    for _, controllers, group in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one hierarchy, without a name of a controller; version 1 has one for the controller cpu.
        top = root / controllers if controllers else root
        inner = top / group.lstrip("/")
        # In a container, the path of the group is often the one outside the container, and its limit is at the top.
        for folder in {top, inner, *(parent for parent in inner.parents if parent.is_relative_to(top))}:
            limits.append(_limit(folder))
    return min(limits)


def _limit(folder: Path) -> float:
    """The limit of one control group, in cores."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_us, period_us = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period"))
        return math.inf if quota_us < 0 else quota_us / period_us
    return math.inf


def idle_cores(seconds: float = 0.1, table: Path = Path("/proc/stat")) -> float:
    """The number of usable cores that no process keeps busy, measured while this process sleeps; where that is unknown, all of them."""
    before = _ticks(table)
    time.sleep(seconds)
    after = _ticks(table)
    shares = [(after[core][0] - before[core][0], after[core][1] - before[core][1]) for core in before.keys() & after.keys()]
    idle = sum(min(idle / total, 1) if total > 0 else 1 for idle, total in shares)
    return min(idle, usable_cores()) if shares else usable_cores()


def _ticks(table: Path) -> dict[int, tuple[int, int]]:
    """For each core that this process may use, how long it was idle and how long it exists, in the kernel's ticks (Linux)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    ticks = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in table.read_text(encoding="utf-8").splitlines():
            name, *counts = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in allowed:
                user, nice, system, idle, waiting, *others = map(int, counts[:8])  # what follows is counted in user and nice too
                ticks[int(name[3:])] = (idle + waiting, user + nice + system + idle + waiting + sum(others))
    return ticks


def threads_for(parameters: int, outputs: int, batch_size: int) -> int:
    """The number of threads to train a network with so many parameters, whose layers have so many output values for one input.

    One if a step is small, else as many as PyTorch would use, and no more than there are idle cores: a thread that shares its core with
    another process makes every other thread wait, and two threads are then three times as slow as one. ``OMP_NUM_THREADS`` and a smaller
    ``torch.set_num_threads`` are respected.
    """
    import torch

    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return threads
    multiplications = 3 * batch_size * max(parameters, FAN_IN * outputs)  # forward, and twice as many backward
    return 1 if threads == 1 or multiplications < SMALL_STEP else max(1, min(threads, round(idle_cores())))


@contextlib.contextmanager
def using(threads: int) -> Iterator[None]:
    """Use so many threads of PyTorch; afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def record() -> dict[str, Any]:
    """Cores, threads and how they wait, for ``run.json``."""
    import torch

    return {"cores": os.cpu_count(), "usable_cores": usable_cores(), "threads": torch.get_num_threads(), "waiting": waiting()}
