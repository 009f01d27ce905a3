"""What saving costs: ``python -m benchmarks.saving``, seconds to save a state, and their share of a run with the usual ``--save-every``.

Between tasks with k masks of LeNet 300-100 with 500 outputs, as in Figure 4, and inside one of its tasks and of ResNet-18's (20 channels,
edge-popup, Figure 2). Masks are random: what they are does not change the time. Writes results/bench/saving.md.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from clbench.engine import saved_state
from clbench.engine.batches import Draws
from clbench.engine.boundaries import Switches
from clbench.engine.divergence import Losses
from clbench.engine.lesson import Lesson, midway
from clbench.engine.request import request, resolve
from clbench.engine.run_files import Tables, save_state
from clbench.engine.saving import SAVING_SHARE
from clbench.engine.settings import USUAL
from clbench.engine.store import Run, create
from clbench.methods.supsup import SupSup
from clbench.results.renderers import markdown

from . import images

COUNTS = (10, 250, 2500)
FILE = Path("results/bench/saving.md")


def learner(network: str, shape: tuple[int, ...], settings: dict[str, object]) -> SupSup:
    """SupSup before its first task."""
    made = images.learner("supsup", network, shape, 5, torch.float32, False, settings)
    assert isinstance(made, SupSup)
    return made


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call, as a run makes it: with all its waiting for the disk."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def between_tasks(masks: int, folder: Path) -> tuple[float, int]:
    """Seconds to save a state with so many masks, and its bytes."""
    method = learner("lenet-300-100", (1, 28, 28), {"outputs": 500})
    for number in range(masks):
        method.bank.append(torch.rand(method.base.layout.size) < 0.5, method.base.fresh)
        assert len(method.bank) == number + 1
    run = Run(folder / str(masks))
    (job,) = resolve(request({"scenario": "gnu", "tasks": masks, "data": "mnist-5k"}))
    record: dict[str, object] = {"learn": job.learn.model_dump(mode="json"), "scenario": "GNu", "asks": [], "checkpoints": []}
    create(run, record | {"status": "incomplete", "transductive": False, "started": "", "environment": {}})
    took = seconds(lambda: save_state(method, masks, Tables(run)))
    return took, sum(file.stat().st_size for file in (run.path / "state" / str(masks)).iterdir())


def inside_a_task(network: str, shape: tuple[int, ...], settings: dict[str, object], folder: Path) -> tuple[float, int]:
    """Seconds to save the state inside a task, and its bytes."""
    method = learner(network, shape, settings)
    method.begin_task(0, 1000)
    method.observe(torch.randn(16, *shape), torch.arange(16) % 5)
    lesson = Lesson(range(1), Losses((0,), 5, stop=True), Draws(), Switches(None))

    def save() -> None:
        state = midway(method, lesson, {})
        assert state is not None
        saved_state.write_inside(state, folder / network, "run")

    save()
    took = seconds(save)
    (file,) = (folder / network).iterdir()
    return took, file.stat().st_size


def main() -> None:
    rows = []
    edge_popup = {"edges": 16.0, "optimiser": "adam", "learning_rate": 1e-3}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = {f"LeNet, between tasks, {k} masks": between_tasks(k, folder) for k in COUNTS}
        measured["LeNet, inside a task"] = inside_a_task("lenet-300-100", (1, 28, 28), {"outputs": 500}, folder)
        measured["ResNet-18, inside a task"] = inside_a_task("resnet-18-20", (3, 32, 32), edge_popup, folder)
        for state, (took, size) in measured.items():
            share = took / (took + max(USUAL.save_every, took / SAVING_SHARE))
            rows.append({"state": state, "size": f"{size / 1e6:.1f} MB", "seconds": f"{took:.3f}", "share": f"{100 * share:.2f} %"})
    FILE.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(pd.DataFrame(rows))
    FILE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
