"""Learners on streams without tidy boundaries: each learns from every kind of stream, whether it is told the tasks or not."""

from collections.abc import Callable
from typing import Any

import pytest

from clbench import registry
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import evaluate
from clbench.engine.flow import Flow
from clbench.engine.schedule import Schedule
from clbench.scenarios import GNS, NNS

Make = Callable[..., Any]
FLOWS = {
    "random lengths": Flow(lengths=(30, 60), boundaries="inside"),
    "recurring": Flow(visits=(0, 1, 0), boundaries="inside"),
    "linear": Flow(linear=20),
    "continuous": Flow(beta=4),
    "fuzzy": Flow(fuzzy=10),
    "blurry": Flow(blurry=0.2),
    "online": Flow(online=True),
}
LEARNERS: dict[str, dict[str, Any]] = {
    "naive": {},
    "replay": {},
    "bgd": {},
    "online-ewc": {},
    "supsup": {"allocation": "surprise", "learning_rate": 0.01},
}


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize("name", LEARNERS)
def test_learners_learn_from_every_kind_of_stream(name: str, kind: str, make_brief: Make, make_stream: Make) -> None:
    """Four classes in noise: after 40 updates with a task, or one pass of 50 with small batches, its accuracy is above chance (0.25)."""
    scenario = NNS if NNS in registry.method(name).scenarios else GNS
    follows = FLOWS[kind]
    visits = 3 if follows.fuzzy is None else 3 + 1
    stream = follows.expanded(make_stream(3), visits, 0)
    learner = registry.method(name)(make_brief(scenario), **LEARNERS[name])
    schedule = Schedule(40, 4 if follows.online else 32, flow=follows)
    events = list(evaluate(learner, stream, [Ask(scenario)], [visits], schedule))
    scores = {event.task: event.accuracy for event in events if isinstance(event, Score)}
    assert list(scores) == stream.seen(visits)
    assert scores[stream.identity(visits - 1)] > 0.4
