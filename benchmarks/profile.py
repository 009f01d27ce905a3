"""What takes the time of a supermask step: ``python -m benchmarks.profile [lenet-300-100|fc-1024-1024]``."""

import os
import sys

import torch
from torch.profiler import profile

from benchmarks.training import learner, supermask_step
from clbench.data import status

OUTPUTS = {"lenet-300-100": 100, "fc-1024-1024": 500}
STEPS = 200


def main() -> None:
    network = sys.argv[1] if len(sys.argv) > 1 else "lenet-300-100"
    torch._inductor.config.cpp.enable_kernel_profile = True
    root = os.environ.get("CLBENCH_DATA")
    data = "mnist" if "mnist" in {s.source.name for s in status(root) if s.state == "present"} else "mnist-5k"
    method, stream = learner("supsup", "gnu", network, {"outputs": OUTPUTS[network]}, data, root)
    step = supermask_step(method, stream, method.tasks_at_once)
    for _ in range(20):
        step()
    with profile() as profiler:
        for _ in range(STEPS):
            step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:14]:
        print(f"{event.self_cpu_time_total / STEPS:8.1f} us a step  {event.self_cpu_time_total / total:6.1%}  {event.key[:90]}")
    print(f"{total / STEPS:8.1f} us a step of {method.tasks_at_once} tasks in all")


if __name__ == "__main__":
    main()
