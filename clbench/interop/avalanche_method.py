"""Avalanche's supervised strategies as methods (``--method avalanche:GEM --set patterns_per_exp=256``).

A strategy gets a task's data when the task ends, as one experience, and then trains as it likes: in batches of the run's size, for as
many updates as the schedule has, or for ``train_epochs`` epochs where that is given. Its other parameters are those of Avalanche's class.
Where the scenario does not give the task in training nothing ends, and a strategy is refused.

The network's last layer, which must be linear and come last, becomes what Avalanche has for the scenario: in GG a
``MultiHeadClassifier``, told the number of the task as its task label; in GNu an ``IncrementalClassifier`` with an output for every class
of every task so far; in GNs it stays as it is. The first two have biases, whatever the network has.

Stores the strategy's model, whose answers in evaluation mode are the predictions. ``progress`` says how much else a strategy holds
(exemplars, importances, older models, the optimiser's state), but none of it can be put back into Avalanche's objects: a run that was
interrupted has to begin again.
"""

import inspect
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from clbench.errors import UserError, unknown
from clbench.interop import _avalanche as avalanche
from clbench.method import Brief, Method, Prediction
from clbench.networks import head_names
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}

PROVIDED = frozenset(
    {"model", "feature_extractor", "classifier", "optimizer", "criterion", "buffer_transform", "device"}
    | {"train_mb_size", "train_epochs", "eval_mb_size", "plugins", "evaluator", "eval_every", "peval_mode"}
)
"""Parameters of strategies that clbench gives itself, or leaves alone."""

REFUSED: dict[str, str] = {}

WARNINGS: dict[str, str] = {}


@cache
def strategies() -> dict[str, type]:
    """Avalanche's supervised strategies, by name."""
    templates = (avalanche.SupervisedTemplate, avalanche.SupervisedMetaLearningTemplate)
    found = {name: value for name, value in vars(avalanche.supervised).items() if inspect.isclass(value)}
    return {name: value for name, value in found.items() if issubclass(value, templates)}


@cache
def method(name: str) -> type["AvalancheMethod"]:
    """The method ``avalanche:name``: a class whose keyword parameters are the strategy's."""
    if name in REFUSED:
        raise UserError(f"Avalanche's {name} {REFUSED[name]}.")
    if name not in strategies():
        raise unknown("strategy of Avalanche", name, strategies().keys() - REFUSED.keys())
    strategy = strategies()[name]

    def __init__(self: AvalancheMethod, brief: Brief, **given: Any) -> None:
        AvalancheMethod.__init__(self, brief, **given)

    own = inspect.signature(AvalancheMethod.__init__).parameters
    common = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    vars(__init__)["__signature__"] = inspect.Signature([*common, *(p for p in _settable(strategy))])
    __init__.__doc__ = f"{inspect.getdoc(AvalancheMethod.__init__)}\n\nAvalanche says:\n\n{inspect.getdoc(strategy.__init__)}"
    summary = (inspect.getdoc(strategy) or name).partition("\n\n")[0].replace("\n", " ")
    members = {"name": f"avalanche:{name}", "strategy_class": strategy, "__init__": __init__, "__doc__": summary}
    return type(name, (AvalancheMethod,), members | {"__module__": __name__})


def _settable(strategy: type) -> Iterable[inspect.Parameter]:
    """The parameters of a strategy that a person may give: those of simple types that clbench does not give itself."""
    for parameter in inspect.signature(strategy).parameters.values():
        if parameter.name not in PROVIDED and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            try:
                TypeAdapter(parameter.annotation)
            except PydanticSchemaGenerationError:
                continue
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


class AvalancheMethod(Method):
    """A supervised strategy of Avalanche."""

    scenarios = frozenset({GG, GNS, GNU})
    strategy_class: ClassVar[type]

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        train_epochs: int | None = None,
        **given: Any,
    ) -> None:
        """``optimiser`` with PyTorch's defaults but for the ``learning_rate``; ``train_epochs``: epochs a task (None: as many updates as the
        run's schedule has)."""
        super().__init__(brief)
        name = self.name.partition(":")[2]
        if name in WARNINGS:
            _warn_once(WARNINGS[name])
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.train_epochs = train_epochs
        self.given = given
        self.task = 0
        self.batch_size = 1
        self.updates = UpdateLimit()
        self.strategy = self._make_strategy()

    def _make_strategy(self) -> Any:
        """The strategy with a fresh model; it learns what the size of a batch is when there is one."""
        scenario, classes = self.brief.scenario, self.brief.classes
        with avalanche.undisturbed(self.brief.seed, "avalanche"):
            features, classifier = _without_last_layer(self.brief.network(classes), classes)
            width = classifier.in_features
            if scenario == GG:
                classifier = avalanche.MultiHeadClassifier(width, classes)
            elif scenario == GNU:
                classifier = avalanche.IncrementalClassifier(width, classes)
            layers = OrderedDict(features=features, classifier=classifier)
            model = (MultiHeadNetwork(features, classifier) if scenario == GG else nn.Sequential(layers)).to(self.brief.device)
            provided = {
                "model": model,
                "feature_extractor": features,
                "classifier": classifier,
                "optimizer": OPTIMISERS[self.optimiser](model.parameters(), lr=self.learning_rate),
                "buffer_transform": None,
                "device": self.brief.device,
                "train_mb_size": self.batch_size,
                "plugins": [self.updates],
                "evaluator": avalanche.EvaluationPlugin(),
            }
            takes = inspect.signature(self.strategy_class).parameters
            if "criterion" in takes and takes["criterion"].default is inspect.Parameter.empty:
                provided["criterion"] = nn.CrossEntropyLoss()
            return self.strategy_class(**{key: value for key, value in provided.items() if key in takes}, **self.given)

    def begin_task(self, task: int, updates: int) -> None:
        self.task = task
        self.updates.most = updates

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        """Only the size of a batch is taken note of: the strategy trains when the task ends."""
        if self.batch_size != len(labels):
            self.batch_size = len(labels)
            ...

    def end_task(self, data: Split) -> None: ...
