"""The learn half of a run: everything that decides what is learned. Its hash names the run."""

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from clbench.engine.asking import Ask
from clbench.engine.flow import USUAL_FLOW, Flow
from clbench.engine.schedule import Schedule
from clbench.engine.settings import USUAL, OnDivergence, Strict
from clbench.scenario import Scenario

MOST_UPDATES = 10**9
"""The limit for all tasks together: at 1000 updates a second they take 12 days, and their losses 4 GB."""


class Seeds(Strict):
    """The seeds of the tasks of the stream, of the method's random numbers, and of the order of the batches."""

    stream: int
    initialisation: int
    training: int


class Learn(Strict):
    """The learn half of a run: everything that decides what is learned. Its hash names the run's folder."""

    method: str
    version: int
    source: str | None = None
    """Digest of the method's file, if it is given by path, and of the modules that it imports."""
    parameters: dict[str, Any]
    scenario: dict[str, bool]
    """The questions of the taxonomy on which the method's learning depends, with the scenario's answers."""
    stream: str
    stream_source: str | None = None
    data: str
    data_version: int = 1
    data_source: str | None = None
    """Digest of the names, sizes and times of a tree of image files."""
    tasks: int
    network: str
    network_source: str | None = None
    """Digest of the module of a dotted name and of the modules that it imports, or the release of its package."""
    seeds: Seeds
    updates: int
    batch_size: int
    precision: Literal["float32", "bfloat16"]
    flow: Flow = USUAL_FLOW
    """How the tasks of the stream follow each other; ``tasks`` counts every visit of a task that recurs."""
    code: dict[str, str] = Field(default_factory=dict)
    """The digests of the three sources, by file or module, which tell what changed. Not in the hash."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits, equal for equal learn halves only."""
        # Later fields are left out at their default, so that earlier runs keep their names; those of the flow too.
        later_fields = {"data_version": 1, "data_source": None, "network_source": None}
        at_default = {name for name, default in later_fields.items() if getattr(self, name) == default}
        named = self.model_dump(mode="json", exclude={"code", "flow", *at_default})
        flow = self.flow.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(named | ({"flow": flow} if flow else {}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def agrees_with(self, scenario: Scenario) -> bool:
        """Whether the method would have learned the same in ``scenario``, so that it can be asked under it."""
        return all(getattr(scenario, question) == answer for question, answer in self.scenario.items())

    def schedule(self, on_divergence: OnDivergence = USUAL.on_divergence, every: int = 0) -> Schedule:
        """How its tasks are taught."""
        return Schedule(self.updates, self.batch_size, self.seeds.training, on_divergence, self.flow, self.seeds.stream, every)

    @property
    def different_tasks(self) -> int:
        """The number of its tasks, without those that come again."""
        return len(set(self.flow.tasks_of(self.tasks, self.seeds.stream)))


class Job(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """One run to do: what to learn, in which scenario, and what to ask at which numbers of tasks learned."""

    learn: Learn
    scenario: Scenario
    asks: tuple[Ask, ...]
    checkpoints: tuple[int, ...]
    every: int = 0
    """After how many updates to ask inside tasks too (0: never)."""
    notes: tuple[str, ...] = ()
    """Sentences that readers of the results must know."""
