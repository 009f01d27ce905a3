"""The learn half of a spec: all that decides what is learned, and budgets. Its hash names the run."""

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from clbench.engine.evaluator import Ask
from clbench.engine.settings import BudgetName, Strict
from clbench.scenario import Scenario


class Budget(BaseModel, frozen=True):
    """How much a run may cost: tasks (where the stream leaves the number open), updates a task, and whether it uses the full data."""

    tasks: int
    updates: int
    full_data: bool


# Updates are multiples of SupSup's check interval of 100, so that checks without task information stay aligned as in the paper.
BUDGETS: dict[BudgetName, Budget] = {
    "smoke": Budget(tasks=5, updates=300, full_data=False),
    "laptop": Budget(tasks=20, updates=1000, full_data=False),
    "paper": Budget(tasks=250, updates=1000, full_data=True),
}

MOST_UPDATES = 10**9
"""Of all tasks together: so many take 12 days at a thousand a second, and their losses 4 GB."""


class Seeds(Strict):
    """One seed for the tasks of the stream, one for the method's random draws, one for the order of the batches."""

    stream: int
    initialisation: int
    training: int


class Learn(Strict):
    """The learn half of a spec: all that decides what is learned. Its hash names the run's folder."""

    method: str
    version: int
    source: str | None = None
    """Digest of the file that the method lies in, where it is given by path, and of the modules that it imports."""
    parameters: dict[str, Any]
    scenario: dict[str, bool]
    """The scenario's questions that the method's learning depends on, with their answers."""
    stream: str
    stream_source: str | None = None
    data: str
    data_version: int = 1
    data_source: str | None = None
    """Digest of the names, sizes and times of a tree of image files."""
    tasks: int
    network: str
    network_source: str | None = None
    """Digest of the module of a dotted name and of those that it imports, or the release of the package that it is in."""
    seeds: Seeds
    updates: int
    batch_size: int
    precision: Literal["float32", "bfloat16"]
    code: dict[str, str] = Field(default_factory=dict)
    """The digests that the three sources are made of, by file or module: they say which one changed. Not in the hash."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits: equal for equal learn halves, and for no others."""
        # Fields that came later are left out while they say nothing, so that earlier runs keep their names.
        later = {"data_version": 1, "data_source": None, "network_source": None}
        silent = {name for name, default in later.items() if getattr(self, name) == default}
        text = json.dumps(self.model_dump(mode="json", exclude={"code", *silent}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def agrees_with(self, scenario: Scenario) -> bool:
        """Whether what was learned can be asked under ``scenario``: the answers that learning depended on are the same."""
        return all(getattr(scenario, question) == answer for question, answer in self.scenario.items())


class Job(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """One run to be done: what to learn, the scenario it is learned in, and what to ask at which numbers of tasks learned."""

    learn: Learn
    scenario: Scenario
    asks: tuple[Ask, ...]
    checkpoints: tuple[int, ...]
    notes: tuple[str, ...] = ()
    """What the request did not say and whoever reads the results must know: one sentence each."""
