"""clbench: continual learning under one evaluator, in the taxonomy GG, GNs, GNu, NNs of "Supermasks in Superposition"."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from clbench.engine.processor import wait_passively

# Has PyTorch ask Linux for huge pages for large tensors, which halves the time of task inference: its gradients of a hundred megabytes
# are allocated anew each time, and are touched page by page. Read by PyTorch at its first allocation, and ignored elsewhere.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
wait_passively()

if TYPE_CHECKING:
    from clbench.api import run
    from clbench.engine.evaluator import Ask, Schedule, Score, Taught, evaluate
    from clbench.engine.store import Run
    from clbench.errors import Notice, UserError
    from clbench.method import Brief, Method, Prediction, Recipe
    from clbench.results.frames import frame, over_seeds, summarise
    from clbench.scenario import Scenario
    from clbench.stream import Split, Stream, StreamBuilder, Task

# What is public, and where it lies. Looked up when first used: PyTorch takes seconds to import, and `clbench --help` does not need it.
_PUBLIC = {
    "api": ["run"],
    "errors": ["Notice", "UserError"],
    "engine.evaluator": ["Ask", "Schedule", "Score", "Taught", "evaluate"],
    "method": ["Brief", "Method", "Prediction", "Recipe"],
    "results.frames": ["frame", "over_seeds", "summarise"],
    "engine.store": ["Run"],
    "scenario": ["Scenario"],
    "stream": ["Split", "Stream", "StreamBuilder", "Task"],
}

__all__ = [
    "Ask",
    "Brief",
    "Method",
    "Notice",
    "Prediction",
    "Recipe",
    "Run",
    "Scenario",
    "Schedule",
    "Score",
    "Split",
    "Stream",
    "StreamBuilder",
    "Task",
    "Taught",
    "UserError",
    "evaluate",
    "frame",
    "over_seeds",
    "run",
    "summarise",
]


def __getattr__(name: str) -> Any:
    for module, names in _PUBLIC.items():
        if name in names:
            return getattr(importlib.import_module(f"clbench.{module}"), name)
    raise AttributeError(f"module 'clbench' has no attribute {name!r}")
