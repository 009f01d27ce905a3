"""A learner that does nothing, and a schedule and scenario for it."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from clbench.engine.asking import Score
from clbench.engine.evaluator import Schedule, Taught
from clbench.method import Method, Prediction
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS

Make = Callable[..., Any]
GGU = Scenario("GGu", task_given_in_training=True, task_given_in_inference=True, labels_shared=False)
ONCE = Schedule(updates=3, batch_size=16)


class Blank(Method):
    """Learns nothing and answers 0; the learners of these tests differ from it in what matters."""

    name = "blank"
    scenarios = frozenset({GG, GNS, GNU, NNS, GGU})

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        return None

    def predict(self, inputs: Tensor, task: int | None = None, *, attempt: int = 0) -> Prediction:
        return Prediction(torch.zeros(len(inputs), dtype=torch.int64), torch.full((len(inputs),), self.guess(inputs, task)))

    def guess(self, inputs: Tensor, task: int | None) -> int:
        return 0

    def learned(self) -> dict[str, Tensor]:
        return {}

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        pass


def scores(events: Iterator[Taught | Score]) -> list[Score]:
    return [event for event in events if isinstance(event, Score)]
