"""The cost of a run, estimated from a few of its updates."""

import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch

from clbench import storage
from clbench.engine.asking import Ask, examine
from clbench.engine.build import build_method, build_stream
from clbench.engine.evaluator import teach_together
from clbench.engine.execution import check_answerable
from clbench.engine.learn import Job
from clbench.engine.schedule import Schedule
from clbench.errors import tell
from clbench.method import Method
from clbench.stream import Stream

PROBED_TASKS = 2
PROBED_UPDATES = 20
PROBED_IMAGES = 512


@dataclass(frozen=True)
class Estimate:
    """Predicted seconds to train and to answer, peak resident memory, and bytes of the state at the end."""

    run: str
    train_seconds: float
    eval_seconds: float
    memory_bytes: float
    stored_bytes: float
    progress_bytes: float

    def record(self) -> dict[str, Any]:
        """The estimate for JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """The estimate as a part of a sentence."""
        return (
            f"about {_duration(self.train_seconds)} to train and {_duration(self.eval_seconds)} to answer, "
            f"{self.memory_bytes / 1e9:.2f} GB of memory, {self.stored_bytes / 1e6:.2f} MB stored to predict "
            f"and {self.progress_bytes / 1e6:.2f} MB more to resume"
        )


def estimate(job: Job, data_root: str | None, device: torch.device) -> Estimate:
    """Predict a job's cost from a few updates of its first tasks and a few answers.

    Training time, bytes, and the time of an answer are extrapolated linearly from the first two tasks. Asks that will share a pass are
    counted separately.
    """
    learn = job.learn
    stream = build_stream(learn, data_root, device)
    method = build_method(learn, job.scenario, stream, device)
    check_answerable(method, job.asks)
    tell((*job.notes, *stream.notes, *method.notes(learn.tasks, learn.updates)))
    probe = Schedule(min(PROBED_UPDATES, learn.updates), learn.batch_size, learn.seeds.training)
    probed = range(min(PROBED_TASKS, learn.tasks))
    warm_up = replace(probe, updates=1)
    deque(teach_together(method, stream, probed, warm_up), maxlen=0)  # allocation and compilation happen once and are not counted
    method = build_method(learn, job.scenario, stream, device)
    seconds, answers, stored, progress = [], [], [], []
    for taught in teach_together(method, stream, probed, probe):
        seconds.append(taught.seconds)
        answers.append([_answer_seconds(method, stream, ask, taught.learned - 1) for ask in job.asks])
        stored.append(taught.stored_bytes)
        progress.append(storage.file_bytes(method.progress()))
    updates = learn.schedule().timetable(len(stream), stream.shares()).first(learn.tasks)
    stored_at_end = _extrapolated(stored, learn.tasks)
    return Estimate(
        run=learn.hash,
        train_seconds=float(np.mean(seconds)) / probe.updates * updates,
        eval_seconds=float(sum(c * _extrapolated([sum(a) for a in answers], c) for c in job.checkpoints)),
        memory_bytes=psutil.Process().memory_info().rss + stored_at_end,
        stored_bytes=stored_at_end,
        progress_bytes=_extrapolated(progress, learn.tasks),
    )


def _answer_seconds(method: Method, stream: Stream, ask: Ask, index: int) -> float:
    """Seconds to answer ``ask`` about one task, from a sample of its images, after ``index`` + 1 tasks."""
    test = len(stream[index].test)
    images = min(ask.images or ask.sample or test, test)
    sample = replace(ask, images=min(images, PROBED_IMAGES), sample=None)
    began = time.perf_counter()
    examine(method, stream, [sample], index + 1)
    return (time.perf_counter() - began) / (index + 1) * images / min(images, PROBED_IMAGES)


def _extrapolated(values: list[float] | list[int], tasks: int) -> float:
    """The value after ``tasks`` tasks, on the straight line through the values after 1 and 2."""
    slope = max(0.0, float(values[-1] - values[0])) / max(1, len(values) - 1)
    return float(values[0]) + slope * (tasks - 1)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
