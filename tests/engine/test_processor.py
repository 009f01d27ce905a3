"""The cores that a process may use, its threads, and how they wait."""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clbench.data import Dataset
from clbench.engine import processor
from clbench.engine.asking import Score
from clbench.engine.evaluator import Taught
from clbench.engine.execution import execute
from clbench.engine.request import request, resolve

HOW = "import json, os; from clbench.engine import processor; print(json.dumps([processor.waiting(), os.environ.get('OMP_WAIT_POLICY')]))"


def told(program: str, **settings: str) -> list[str | None]:
    """What a fresh process prints with these settings of OpenMP and no others."""
    environment = {name: value for name, value in os.environ.items() if name not in processor.NAMES}
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment | settings, capture_output=True, text=True, check=True
    )
    return list(json.loads(process.stdout))


def test_threads_wait_passively_unless_the_user_says_how_or_it_is_too_late() -> None:
    assert told(HOW) == ["passive", "PASSIVE"]
    assert told(HOW, OMP_WAIT_POLICY="ACTIVE") == ["as set: OMP_WAIT_POLICY=ACTIVE", "ACTIVE"]
    assert told(HOW, GOMP_SPINCOUNT="7") == ["as set: GOMP_SPINCOUNT=7", None]
    assert told(f"import torch; {HOW}") == ["active, as PyTorch was imported before clbench", None]


def test_openmp_reads_it_as_pytorch_loads_it() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in processor.NAMES}
    program = "import clbench, torch; torch.ones(2)"
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment | {"OMP_DISPLAY_ENV": "TRUE"}, capture_output=True, text=True, check=True
    ).stderr
    if "OMP_WAIT_POLICY" not in process:
        pytest.skip("PyTorch has no OpenMP here")
    assert re.search(r"OMP_WAIT_POLICY\s*=\s*'PASSIVE'", process)


@pytest.mark.parametrize(
    ("table", "files", "cores"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "150000 100000"}, 0.5),
        ("0::/elsewhere/of/a/container", {"cpu.max": "300000 100000"}, 3.0),
        ("0::/a", {"a/cpu.max": "max 100000"}, math.inf),
        ("0::/a", {}, math.inf),
        ("3:cpu,cpuacct:/x", {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 2.5),
        ("3:cpu,cpuacct:/x", {"cpu,cpuacct/x/cpu.cfs_quota_us": "-1", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, math.inf),
        ("4:memory:/x", {"memory/x/cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_a_control_group_limits_the_cores(table: str, files: dict[str, str], cores: float, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(f"{table}\n")
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(f"{text}\n")
    assert processor.cgroup_cores(tmp_path / "table", tmp_path / "root") == cores
    assert processor.cgroup_cores(tmp_path / "none", tmp_path / "root") == math.inf


@pytest.mark.parametrize(("allowed", "limit", "usable"), [(4, math.inf, 4), (4, 2.5, 3), (4, 0.5, 1), (2, 8.0, 2)])
def test_usable_cores(allowed: int, limit: float, usable: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    monkeypatch.setattr(processor, "cgroup_cores", lambda: limit)
    assert processor.usable_cores() == usable


def test_threads_follow_the_work_the_cores_and_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(processor, "idle_cores", lambda: 2.9)
    assert processor.threads_for(266_200, 410, 128) == 3  # LeNet
    assert processor.threads_for(1000, 42, 16) == 1
    assert processor.threads_for(1000, 200_000, 64) == 3  # few weights, used many times
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert processor.threads_for(1000, 42, 16) == 4


def test_threads_leave_cores_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for idle, threads in ((3.9, 4), (2.6, 3), (1.1, 1), (0.0, 1)):
        monkeypatch.setattr(processor, "idle_cores", lambda idle=idle: idle)
        assert processor.threads_for(266_200, 410, 128) == threads


@pytest.mark.parametrize(
    ("before", "after", "idle"),
    [  # user, nice, system, idle, waiting for a disk
        (["0 0 0 0 0", "0 0 0 0 0", "9 9 9 9 9"], ["10 0 0 0 0", "1 0 1 6 2", "9 9 9 9 9"], 0.8),  # busy; idle for 8 of 10
        (
            ["5 0 0 5 0", "5 0 0 5 0", "0 0 0 0 0"],
            ["5 0 0 15 0", "5 0 0 15 0", "99 0 0 0 0"],
            2.0,
        ),  # the third core is not ours
        (["0 0 0 0 0", "0 0 0 0 0", "0 0 0 0 0"], ["0 9 1 0 0", "0 0 9 1 0", "0 0 0 9 9"], 0.1),
    ],
)
def test_idle_cores(before: list[str], after: list[str], idle: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "stat"

    def write(cores: list[str]) -> None:
        table.write_text(
            "\n".join(["cpu 1 2 3 4 5 6 7 8", *(f"cpu{core} {counts} 0 0 0" for core, counts in enumerate(cores)), "intr 1"])
        )

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(processor, "cgroup_cores", lambda: math.inf)
    monkeypatch.setattr(time, "sleep", lambda seconds: write(after))
    write(before)
    assert processor.idle_cores(table=table) == pytest.approx(idle)
    assert processor.idle_cores(table=tmp_path / "none") == 2


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with processor.using(before + 1):
        assert processor.record()["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_a_run_resumes_with_the_threads_with_which_it_began(
    make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: make_data(name))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processor, "usable_cores", lambda: 4)
    monkeypatch.setattr(processor, "threads_for", lambda parameters, outputs, batch_size: 2)
    threads: list[int] = []

    def watch(event: Taught | Score) -> None:
        threads.append(torch.get_num_threads())
        if isinstance(event, Taught) and len(threads) == 1:
            raise KeyboardInterrupt

    (job,) = resolve(
        request({"method": "naive", "scenario": "gns", "network": "mlp-8", "tasks": 2, "updates": 3, "data": "mnist-5k"})
    )
    with pytest.raises(KeyboardInterrupt):
        execute(job, tmp_path, watch=watch)
    monkeypatch.setattr(processor, "threads_for", lambda parameters, outputs, batch_size: 1)
    execute(job, tmp_path, watch=watch)
    assert set(threads) == {2}
    execute(job, tmp_path, overwrite="always", watch=watch)
    assert threads[-1] == 1
