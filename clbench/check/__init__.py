"""A conformance suite: does a method, yours or ours, keep the contract? One plain function for each requirement.

Every requirement is checked in every scenario that the method serves, on a stream of a few permutations of 14 x 14 digits (the embedded
data): a long one, on which naive fine-tuning forgets, to see whether the method acts; and for the rest a short one, on a network with batch
normalisation and biases. ``clbench check METHOD`` prints the results.
"""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from clbench.check.requirements import REQUIREMENTS, Requirement
from clbench.check.trial import Result, Trial, name_of, trials
from clbench.method import Method

__all__ = ["REQUIREMENTS", "Requirement", "Result", "Trial", "check", "name_of", "trials"]


def check(method: type[Method], settings: Mapping[str, Any] | None = None) -> Iterator[Result]:
    """Check every requirement of ``method`` in every scenario that it serves; ``settings`` are learning parameters.

    Raises a ``UserError`` for settings that it does not have or refuses.
    """
    for trial in trials(method, settings or {}):
        with _one_thread():
            trial.fresh()
            for requirement in REQUIREMENTS:
                yield _result(requirement, trial)


def _result(requirement: Requirement, trial: Trial) -> Result:
    """The requirement's result; an exception is a failure."""
    try:
        return requirement(trial)
    except Exception as error:  # a method under test may raise anything
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return Result(name_of(requirement), trial.scenario.name, False, f"raised {what}")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, which is fastest for such small networks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
