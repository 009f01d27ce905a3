"""clbench: continual learning under one evaluator, in the taxonomy GG, GNs, GNu, NNs of "Supermasks in Superposition"."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from clbench.engine.processor import wait_passively

# Has PyTorch ask Linux for huge pages for large tensors, which halves the time of task inference: its gradients of a hundred megabytes
# are allocated again each time, and are touched page by page. PyTorch reads it at its first allocation; other systems ignore it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
wait_passively()

if TYPE_CHECKING:
    from clbench.api import ask, run
    from clbench.data.dataset import Dataset
    from clbench.engine.asking import Ask, Score
    from clbench.engine.evaluator import Taught, evaluate
    from clbench.engine.schedule import Schedule
    from clbench.engine.store import Run
    from clbench.errors import Notice, UserError
    from clbench.method import Brief, Method, Prediction, Recipe
    from clbench.results.frames import frame, over_seeds, summarise
    from clbench.scenario import Scenario
    from clbench.scenarios import GG, GNS, GNU, NNS
    from clbench.seeding import generator
    from clbench.stream import Split, Stream, StreamBuilder, Task

# What is public, and the modules that it is in. Imported at its first use: PyTorch takes seconds to import, and `clbench --help` does
# not need it.
_PUBLIC = {
    "api": ["ask", "run"],
    "data.dataset": ["Dataset"],
    "engine.asking": ["Ask", "Score"],
    "engine.evaluator": ["Taught", "evaluate"],
    "engine.schedule": ["Schedule"],
    "engine.store": ["Run"],
    "errors": ["Notice", "UserError"],
    "method": ["Brief", "Method", "Prediction", "Recipe"],
    "results.frames": ["frame", "over_seeds", "summarise"],
    "scenario": ["Scenario"],
    "scenarios": ["GG", "GNS", "GNU", "NNS"],
    "seeding": ["generator"],
    "stream": ["Split", "Stream", "StreamBuilder", "Task"],
}

__all__ = [  # noqa: RUF022 (in groups, not sorted)
    # Run, and read the scores
    "run",
    "ask",
    "Run",
    "frame",
    "summarise",
    "over_seeds",
    # Scenarios
    "Scenario",
    "GG",
    "GNS",
    "GNU",
    "NNS",
    # Write a method
    "Method",
    "Brief",
    "Prediction",
    "Recipe",
    "generator",
    # Write a stream
    "Stream",
    "StreamBuilder",
    "Task",
    "Split",
    "Dataset",
    # Evaluate a method without a run on disk
    "evaluate",
    "Ask",
    "Schedule",
    "Score",
    "Taught",
    # What goes wrong, and what to know
    "UserError",
    "Notice",
]


def __getattr__(name: str) -> Any:
    for module, names in _PUBLIC.items():
        if name in names:
            return getattr(importlib.import_module(f"clbench.{module}"), name)
    raise AttributeError(f"module 'clbench' has no attribute {name!r}")
