"""Figure 4 at the paper's budget from measured slopes: seconds and memory of a learner with 500 and with 2,500 masks.

The masks are random bits: what they cost does not depend on what they are. Runs in a process of its own, whose peak of resident memory
is that of the figure.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from benchmarks.training import BATCH, learner
from clbench.evaluator import Schedule, teach
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.allocation import uncertainty

Row = tuple[str, float, str]
CHECKPOINTS = (10, 500, 1000, 1500, 2000, 2500)
ASKED = 6
"""Tasks that are asked about at each number of masks."""
ASKS = [{"objective": "H"}, {"objective": "G"}]


def rows(data: str, root: str | None) -> Iterator[Row]:
    """Seconds to evaluate a task and to check for a new one by number of masks, and the hours that the whole figure takes."""
    here = [sys.executable, "-m", "benchmarks.figure4", data, *([root] if root else [])]
    found = json.loads(subprocess.run(here, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for name in found:
        yield f"figure4_{name}", found[name], "MB" if name.endswith("megabytes") else "s"
    yield "figure4_updates_per_second", 1 / found["update_seconds"], "1/s"

    def at(name: str, count: int) -> float:
        """A cost at ``count`` masks, on the line through those at 500 and 2,500."""
        few, many = found[f"{name}_500_seconds"], found[f"{name}_2500_seconds"]
        return max(0.0, few + (many - few) * (count - 500) / 2000)

    training = 2 * 2500 * 1000 * found["update_seconds"]
    asking = sum(count * (at("task_asked_h_and_g", count) + at("task_asked_h", count)) for count in CHECKPOINTS)
    checking = sum(10 * at("check", count) for count in range(2500))
    for name, seconds in {"training": training, "asking": asking, "checking": checking}.items():
        yield f"figure4_{name}_hours_from_slopes", seconds / 3600, "h"
    yield "figure4_hours_from_slopes", (training + asking + checking) / 3600, "h"


def measured(data: str, root: str | None) -> dict[str, float]:
    """Seconds with 500 and 2,500 masks, and the process's peak of resident memory."""
    made, stream = learner("supsup", "gnu", "lenet-300-100", {"outputs": 500}, data, root, tasks=2500)
    assert isinstance(made, SupSup)
    draws = torch.Generator().manual_seed(0)
    found: dict[str, float] = {}
    size = made.base.layout.size
    teach(made, stream[0], 0, Schedule(100, BATCH, 0))  # compiles
    found["update_seconds"] = teach(made, stream[1], 1, Schedule(1000, BATCH, 0)).seconds / 1000
    for count in (500, 2500):
        while len(made.bank) < count:
            made.bank.append(torch.rand(size, generator=draws) < 0.5, torch.empty(0))
        inputs = [stream[task].test.whole()[0] for task in range(ASKED)]
        for name, asks in {"h": ASKS[:1], "h_and_g": ASKS}.items():
            made.predict_together(inputs[0], [(len(inputs[0]), ask) for ask in asks])  # makes the working copy
            began = time.perf_counter()
            for some in inputs:
                made.predict_together(some, [(len(some), ask) for ask in asks])
            found[f"task_asked_{name}_{count}_seconds"] = (time.perf_counter() - began) / ASKED
        spare = torch.rand(size, generator=draws) < 0.5
        began = time.perf_counter()
        for _ in range(ASKED):
            uncertainty(made.base, made.bank, spare, inputs[0][:128], 10)
        found[f"check_{count}_seconds"] = (time.perf_counter() - began) / ASKED
    made.learned()  # as for saving
    found["peak_resident_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return found


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)))
