"""Beside another process: how much slower 1,000 float32 updates of LeNet are with one core busy, with threads that wait passively and not.

``python -m benchmarks.neighbour`` prints the ratios. Every measurement is a process of its own, for OpenMP reads its settings once.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

UPDATES, ACTIVE_UPDATES, REPEATS = 1000, 100, 3
"""Threads that wait actively beside a neighbour are so slow that fewer updates are measured."""
ACTIVE = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
"""What OpenMP does by default; it is set here so that clbench sets nothing itself."""
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def measure(updates: int) -> float:
    """Seconds of so many updates in this process, with the threads that a run of them would have."""
    import torch

    from clbench.engine import processor
    from clbench.method import Brief
    from clbench.methods.naive import Naive
    from clbench.networks import mlp
    from clbench.scenarios import GNS

    draws = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(128, 1, 28, 28, generator=draws), torch.randint(0, 10, (128,), generator=draws)
    method = Naive(Brief(GNS, lambda outputs: mlp((1, 28, 28), (300, 100), outputs, bias=False), (1, 28, 28), 10, 0))
    parameters = sum(weights.numel() for weights in method.network.parameters())
    with processor.using(processor.threads_for(parameters, 410, len(inputs))):
        for _ in range(20):
            method.observe(inputs, labels)
        began = time.perf_counter()
        for _ in range(updates):
            method.observe(inputs, labels)
        return time.perf_counter() - began


def seconds(updates: int, settings: dict[str, str]) -> float:
    """Seconds of ``UPDATES`` updates in a fresh process with those settings: the median of some measurements of ``updates`` of them."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | settings
    command = [sys.executable, "-m", "benchmarks.neighbour", str(updates)]
    outputs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(REPEATS)]
    return statistics.median(map(float, outputs)) * UPDATES / updates


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps a core busy."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def rows() -> Iterator[tuple[str, float, str]]:
    """Seconds alone and beside a neighbour, and their ratios: name, value, unit."""
    alone, active_alone = seconds(UPDATES, {}), seconds(UPDATES, ACTIVE)
    with neighbour():
        beside, active_beside = seconds(UPDATES, {}), seconds(ACTIVE_UPDATES, ACTIVE)
    yield "neighbour_alone_seconds", alone, "s"
    yield "neighbour_alone_passive_over_active", alone / active_alone, "times"
    yield "neighbour_beside_over_alone", beside / alone, "times"
    yield "neighbour_beside_over_alone_active", active_beside / active_alone, "times"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(int(sys.argv[1])))
    else:
        print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())} (1, 5, 15 minutes), {os.cpu_count()} cores")
        for name, value, unit in rows():
            print(f"{name} = {value:.4g} {unit}")
