"""Whether a method keeps the contract: a conformance suite for anyone's method, one plain function for each requirement.

Every requirement is put to the method in every scenario that it serves, on a stream of a few permutations of 14 x 14 digits (the embedded
data): a long one on which naive fine-tuning forgets, to see whether the method acts, and a short one on a network with batch normalisation
and biases for all else. ``clbench check METHOD`` prints what was found.
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
    """Put every requirement to ``method`` in every scenario that it serves; ``settings`` are learning parameters.

    Raises a ``UserError`` for settings that it does not have or refuses.
    """
    for trial in trials(method, settings or {}):
        with _one_thread():
            trial.fresh()
            for requirement in REQUIREMENTS:
                yield _tried(requirement, trial)


def _tried(requirement: Requirement, trial: Trial) -> Result:
    """The requirement's result; an exception is one too."""
    try:
        return requirement(trial)
    except Exception as error:  # a method under test may raise anything
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return Result(name_of(requirement), trial.scenario.name, False, f"raised {what}")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Networks so small are fastest on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
