"""Figure 4 at the paper's budget from measured slopes: seconds and memory of a learner with 500 and with 2,500 masks.

The masks are random bits: what they cost does not depend on what they are. Runs in a process of its own, whose peak of resident memory
is that of the figure.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from benchmarks.training import BATCH, learner
from clbench.engine.evaluator import teach_together
from clbench.engine.schedule import Schedule
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.allocation import uncertainty
from clbench.stream import Stream

Row = tuple[str, float, str]
CHECKPOINTS = (10, 500, 1000, 1500, 2000, 2500)
ASKED = 6
"""Tasks that are asked about at each number of masks."""
ASKS = [{"objective": "H"}, {"objective": "G"}]


def rows(data: str, root: str | None) -> Iterator[Row]:
    """Seconds to evaluate a task and to check for a new one by number of masks, and the hours that the whole figure takes."""
    here = [sys.executable, "-m", "benchmarks.figure4", data, *([root] if root else [])]
    measurements = json.loads(subprocess.run(here, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for name in measurements:
        yield f"figure4_{name}", measurements[name], "MB" if name.endswith("megabytes") else "s"
    yield "figure4_updates_per_second", 1 / measurements["update_seconds"], "1/s"

    def at(name: str, count: int) -> float:
        """A cost at ``count`` masks, on the line through those at 500 and 2,500."""
        few, many = measurements[f"{name}_500_seconds"], measurements[f"{name}_2500_seconds"]
        return max(0.0, few + (many - few) * (count - 500) / 2000)

    asking = {
        "gnu": sum(count * at("task_asked_h_and_g", count) for count in CHECKPOINTS),
        # In NNs the first 1,024 training images of each task are asked about too, to match masks with tasks.
        "nns": sum(count * at("task_asked_h", count) * (1 + 1024 / 10_000) for count in CHECKPOINTS),
    }
    training = {"gnu": 2500 * 1000 * measurements["update_seconds"], "nns": 2500 * 1000 * measurements["nns_update_seconds"]}
    checking = sum(10 * at("check", count) for count in range(2500))
    parts = {f"{what}_{which}": part[which] for what, part in (("training", training), ("asking", asking)) for which in part}
    for name, seconds in (parts | {"checking_nns": checking}).items():
        yield f"figure4_{name}_hours_from_slopes", seconds / 3600, "h"
    hours = (sum(parts.values()) + checking) / 3600
    yield "figure4_hours_from_slopes", hours, "h"
    yield "figure4_and_unaligned_nns_at_most_hours_from_slopes", hours + (training["nns"] + asking["nns"] + checking) / 3600, "h"


def measured(data: str, root: str | None) -> dict[str, float]:
    """Seconds with 500 and 2,500 masks, and the process's peak of resident memory."""
    nns_seconds = trained("nns", data, root)[2]
    method, stream, seconds = trained("gnu", data, root)
    measurements = {"nns_update_seconds": nns_seconds, "update_seconds": seconds}
    draws = torch.Generator().manual_seed(0)
    size = method.base.layout.size
    for count in (500, 2500):
        while len(method.bank) < count:
            method.bank.append(torch.rand(size, generator=draws) < 0.5, torch.empty(0))
        inputs = [stream[task].test.whole()[0] for task in range(ASKED)]
        for name, asks in {"h": ASKS[:1], "h_and_g": ASKS}.items():
            method.predict_together(inputs[0], [(len(inputs[0]), ask) for ask in asks])  # makes the working copy
            began = time.perf_counter()
            for some in inputs:
                method.predict_together(some, [(len(some), ask) for ask in asks])
            measurements[f"task_asked_{name}_{count}_seconds"] = (time.perf_counter() - began) / ASKED
        spare = torch.rand(size, generator=draws) < 0.5
        began = time.perf_counter()
        for _ in range(ASKED):
            uncertainty(method.base, method.bank, spare, inputs[0][:128], 10)
        measurements[f"check_{count}_seconds"] = (time.perf_counter() - began) / ASKED
    method.learned()  # as for saving
    measurements["peak_resident_megabytes"] = peak_resident_bytes() / 1e6
    return measurements


def peak_resident_bytes() -> float:
    """The peak of this process's own resident memory: getrusage's would be that of the process that started it, if that was larger."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")]
        return 1024.0 * int(line.split()[1])
    return float(psutil.Process().memory_info().rss)


def trained(scenario: str, data: str, root: str | None) -> tuple[SupSup, Stream, float]:
    """A learner of a few tasks, its stream of 2,500, and the seconds of an update of one of them."""
    method, stream = learner("supsup", scenario, "lenet-300-100", {"outputs": 500}, data, root, tasks=2500)
    assert isinstance(method, SupSup)
    many = method.tasks_at_once
    list(teach_together(method, stream, range(many), Schedule(100, BATCH, 0)))  # compiles
    taught = list(teach_together(method, stream, range(many, 2 * many), Schedule(1000, BATCH, 0)))
    return method, stream, sum(task.seconds for task in taught) / many / 1000


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)))
