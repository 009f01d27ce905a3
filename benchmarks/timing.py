"""How time is measured: the best of several repetitions, because the rest is noise of the machine; or the processor's own time."""

import time
from collections.abc import Callable

import torch


def best_seconds(call: Callable[[], object], *, times: int = 1, repeats: int = 5, warm: int = 1) -> float:
    """Seconds of one call: the fastest of ``repeats`` measurements of ``times`` calls each."""
    for _ in range(warm):
        call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(times):
            call()
        seconds.append((time.perf_counter() - began) / times)
    return min(seconds)


def processor_seconds(call: Callable[[], object]) -> float:
    """Seconds that this process's threads work in one call: other processes on the machine do not lengthen them.

    With ``OMP_WAIT_POLICY=PASSIVE``; otherwise threads that wait count as working.
    """
    began = time.process_time()
    call()
    return time.process_time() - began


def peak_flops(dtype: torch.dtype = torch.bfloat16, size: int = 2048) -> float:
    """Floating-point operations per second of a large square matrix product: what this machine can do at best."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / best_seconds(lambda: a @ b, times=3, repeats=7)


def bandwidth(floats: int) -> float:
    """Bytes per second of adding two float32 vectors of this length into a third: of memory, or of a cache if they fit into it."""
    a, b, c = torch.randn(floats), torch.randn(floats), torch.empty(floats)
    return 12 * floats / best_seconds(lambda: torch.add(a, b, out=c), times=20, repeats=7)
