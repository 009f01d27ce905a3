"""Avalanche's supervised strategies as methods (``--method avalanche:GEM --set patterns_per_exp=256``).

A strategy gets the data of a task when the task ends, as one experience, and then trains in its own way: in batches of the run's size, for
the updates of the schedule, or for ``train_epochs`` epochs if that is given. Its other parameters are those of Avalanche's class. Scenarios
that do not give the task in training are refused, because there no task ends.

The network's last layer must be linear. It is replaced by Avalanche's layer for the scenario: in GG a ``MultiHeadClassifier``, which gets
the number of the task as its task label; in GNu an ``IncrementalClassifier`` with an output for every class of every task so far, or, for
strategies that cannot grow, a layer with a fixed number of ``outputs``. In GNs it stays. Avalanche's two layers have biases, whether the
network has biases or not.

Stores the strategy's model, whose answers in evaluation mode are the predictions. ``progress`` reports how much else a strategy holds
(exemplars, importances, older models, the optimiser's state), but these cannot be put back into Avalanche's objects: an interrupted run has
to begin again.
"""

import copy
import inspect
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from torch import Tensor, nn

from clbench.checks import above_zero, positive
from clbench.errors import UserError, unknown
from clbench.interop import _avalanche as avalanche
from clbench.interop import avalanche_parts as parts
from clbench.interop._avalanche import undisturbed
from clbench.method import Brief, Method, Prediction
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split

OPTIMISERS: dict[str, Any] = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

IMAGES_AT_A_TIME = 1000
"""Number of test images in one forward pass."""

OURS = frozenset(
    {"model", "feature_extractor", "classifier", "cwr_layer_name", "last_layer_name", "input_size", "optimizer", "criterion"}
    | {"buffer_transform", "device", "plugins", "evaluator", "eval_every", "peval_mode"}
    | {"train_mb_size", "train_epochs", "train_passes", "eval_mb_size"}
)
"""Parameters of strategies that clbench sets itself."""

REFUSED = {
    "AETraining": "trains an autoencoder, which gives no answers",
    "VAETraining": "trains an autoencoder, which gives no answers",
    "AR1": "brings its own pretrained network",
    "LearningToPrompt": "brings its own pretrained network",
    "ExpertGateStrategy": "brings its own pretrained network",
    "PNNStrategy": "needs a network of its own kind",
    "PackNet": "needs a network of its own kind",
    "SCR": "needs a network of its own kind",
    "BiC": "answers with more than its model",
    "CoPE": "answers with more than its model",
    "StreamingLDA": "answers with more than its model",
    "ER_AML": "never ends if its memory has fewer images of a class than a batch",
    "JointTraining": "learns all tasks at once: Cumulative does so task by task",
    "OnlineNaive": "is Naive under an older name",
}
"""Strategies that are refused, with the reason."""

SINGLE_HEAD = {name: {GNS, GNU} for name in ("DER", "FeatureReplay", "GenerativeReplay", "GSS_greedy")}
ONLY = SINGLE_HEAD | {"CWRStar": {GNU}, "ICaRL": {GNU}, "LFL": {GNS}}
"""The scenarios of strategies that do not serve all three."""

CANNOT_GROW = frozenset({"DER", "ICaRL"})
"""Strategies that need all outputs at the beginning."""

WARNINGS = {
    "SynapticIntelligence": "is plain fine-tuning on the CPU: its stored weights are the live ones, so that every importance is 0 "
    "(elsewhere they are capped at 0.001). clbench's own is the method si",
    "EWC": "squares the gradients of batch means: its importances depend on the size of a batch (measured: at 128 a tenth of those at 1), "
    "and so does what ewc_lambda means. clbench's own is the method ewc",
}
"""Known defects of strategies."""


@cache
def strategies() -> dict[str, type]:
    """Avalanche's supervised strategies, by name."""
    templates = (avalanche.SupervisedTemplate, avalanche.SupervisedMetaLearningTemplate)
    classes = {name: value for name, value in vars(avalanche.supervised).items() if inspect.isclass(value)}
    return {name: value for name, value in classes.items() if issubclass(value, templates)}


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

    common = inspect.signature(AvalancheMethod.__init__).parameters.values()
    named = [p for p in common if p.kind is not inspect.Parameter.VAR_KEYWORD]
    settable = list(_settable(strategy))
    vars(__init__)["__signature__"] = inspect.Signature([*named, *settable])
    descriptions = dict(
        re.findall(r":param (\w+):\s*(.*?)\s*(?=\n:|\Z)", inspect.getdoc(vars(strategy)["__init__"]) or "", re.DOTALL)
    )
    notes = [f"``{p.name}``: {' '.join(descriptions[p.name].split())}" for p in settable if p.name in descriptions]
    __init__.__doc__ = "\n".join([inspect.getdoc(AvalancheMethod.__init__) or "", *notes])
    only = {"scenarios": frozenset(ONLY[name])} if name in ONLY else {}
    members = {"name": f"avalanche:{name}", "strategy_class": strategy, "__init__": __init__, "__doc__": inspect.getdoc(strategy)}
    return type(name, (AvalancheMethod,), members | only | {"__module__": __name__})


def _settable(strategy: type) -> Iterator[inspect.Parameter]:
    """The parameters of a strategy that a user can set, because they have plain types, as keyword parameters."""
    for parameter in inspect.signature(strategy).parameters.values():
        if parameter.name in OURS or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        untyped = parameter.annotation is inspect.Parameter.empty
        try:
            TypeAdapter(type(parameter.default) if untyped else parameter.annotation)
        except PydanticSchemaGenerationError:
            continue
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


class AvalancheMethod(Method):
    """A supervised strategy of Avalanche."""

    scenarios = frozenset({GG, GNS, GNU})
    citation = "Lomonaco et al.: Avalanche: an end-to-end library for continual learning. CLVision workshop at CVPR 2021"
    strategy_class: ClassVar[type]

    def __init__(
        self,
        brief: Brief,
        *,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        train_epochs: int | None = None,
        outputs: int | None = None,
        **given: Any,
    ) -> None:
        """``optimiser``: with PyTorch's defaults and the ``learning_rate``; ``train_epochs``: epochs for each task (if not given, the
        updates of the run's schedule); ``outputs``: in GNu, the number of outputs for the classes of all tasks (if not given, it grows with
        the tasks). The other parameters are those of the strategy.
        """
        super().__init__(brief)
        self.title = self.strategy_class.__name__
        above_zero(learning_rate=learning_rate)
        positive(train_epochs=train_epochs)
        if outputs is not None and (brief.scenario != GNU or outputs < brief.classes):
            raise UserError(f"Invalid value outputs={outputs}: it is for the classes of all tasks, in GNu only.")
        if outputs is None and brief.scenario == GNU and self.title in CANNOT_GROW:
            raise UserError(
                f"Avalanche's {self.title} cannot grow: give outputs={brief.classes} times the number of tasks (--set)."
            )
        if self.title in WARNINGS:
            _warn_once(f"Avalanche's {self.title} {WARNINGS[self.title]}.")
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.train_epochs = train_epochs
        self.outputs = outputs
        self.given = given
        self.task = 0
        self.classes: list[list[int]] = []  # of each task so far, in the strategy's numbering
        self.limit = parts.UpdateLimit()
        self.batch_size = 1
        self.strategy = self._make_strategy()

    def _make_strategy(self) -> Any:
        """The strategy with a fresh model."""
        scenario, classes, device = self.brief.scenario, self.brief.classes, self.brief.device
        with undisturbed(self.brief.seed, "avalanche"), self._errors_named("cannot be made"):
            outputs = self.outputs or classes
            features, classifier = parts.without_last_layer(self.brief.network(outputs), outputs, self.brief.input_shape)
            if scenario == GG:
                classifier = avalanche.MultiHeadClassifier(classifier.in_features, classes)
            elif scenario == GNU and self.outputs is None:
                classifier = avalanche.IncrementalClassifier(classifier.in_features, classes)
            model = (parts.MultiHeadNetwork if scenario == GG else parts.SingleHeadNetwork)(features, classifier).to(device)
            provided = {
                "model": model,
                "feature_extractor": features,
                "classifier": classifier,
                "optimizer": OPTIMISERS[self.optimiser](model.parameters(), lr=self.learning_rate),
                "buffer_transform": None,
                "cwr_layer_name": "classifier.classifier" if self.outputs is None else "classifier",
                "input_size": list(self.brief.input_shape),
                "device": device,
                "plugins": [self.limit],
                "train_mb_size": self.batch_size,
                "eval_mb_size": IMAGES_AT_A_TIME,
                "evaluator": avalanche.EvaluationPlugin(),
            }
            accepted = inspect.signature(self.strategy_class).parameters
            if "criterion" in accepted:  # a copy, because a default is one object for all strategies, and may have learned state
                default = accepted["criterion"].default
                provided["criterion"] = nn.CrossEntropyLoss() if default is inspect.Parameter.empty else copy.deepcopy(default)
            return self.strategy_class(**{name: value for name, value in provided.items() if name in accepted}, **self.given)

    @contextmanager
    def _errors_named(self, what: str) -> Iterator[None]:
        """Turn an error of Avalanche into a ``UserError``: other parameters or another scenario may help."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # other people's code may raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"Avalanche's {self.title} {what}: {reason}.") from error

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        self.task, self.limit.updates = task, updates

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        """Record the size of a batch: the strategy trains when the task ends."""
        self.batch_size = len(labels)

    def end_task(self, data: Split) -> None:
        if self.task == 0:
            self.strategy = self._make_strategy()  # again, because some strategies get the size of a batch when they are made
        self.limit.on = self.train_epochs is None
        # Enough epochs for all updates: the limit ends training during the last one.
        self.strategy.train_epochs = self.train_epochs or math.ceil(self.limit.updates * self.batch_size / len(data))
        with undisturbed(self.brief.seed, "avalanche", self.task):
            experience = self._experience(data)
            with self._errors_named(f"failed on task {self.task} of {self.brief.scenario.name}"):
                self.strategy.train(experience, eval_streams=[])

    def _experience(self, data: Split) -> Any:
        """The current task as an experience. In GNu its labels are counted over all tasks; only in GG it has a task label."""
        inputs, labels = data.whole()
        scenario, first = self.brief.scenario, self.brief.classes * self.task
        rows = parts.Rows(inputs.cpu(), (labels + first if scenario == GNU else labels).cpu())
        self.classes.append(sorted(set(rows.labels)))
        return parts.experience(rows, self.classes, self.task if scenario == GG else 0, self.outputs or 0)

    # Answering

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        model = self.strategy.model.eval()
        with torch.no_grad():
            batches = inputs.to(self.brief.device).split(IMAGES_AT_A_TIME)
            answers = [avalanche.avalanche_forward(model, x, torch.full((len(x),), task or 0, device=x.device)) for x in batches]
        best = torch.cat(answers).argmax(1)
        if self.brief.scenario != GNU:
            return Prediction(best)
        return Prediction(best % self.brief.classes, best // self.brief.classes)

    # State

    def __deepcopy__(self, memo: dict[int, Any]) -> "AvalancheMethod":
        """A copy for questions, which answers like a restored one. Not everything that a strategy holds can be copied."""
        copied = type(self)(
            self.brief,
            optimiser=self.optimiser,
            learning_rate=self.learning_rate,
            train_epochs=self.train_epochs,
            outputs=self.outputs,
            **self.given,
        )
        copied.restore(self.learned())
        return copied

    def learned(self) -> dict[str, Tensor]:
        """The model, with all layers that were added."""
        return dict(self.strategy.model.state_dict())

    def progress(self) -> dict[str, Tensor]:
        return parts.held(self.strategy)

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        if progress is not None:
            raise UserError(f"Avalanche's {self.title} cannot resume an interrupted run: begin again with --overwrite always.")
        with undisturbed(self.brief.seed, "avalanche", "restored"):
            model = self.strategy.model.train()
            for units, mask in learned.items():
                # The mask of active units has the number and the width of a head, or of all outputs.
                if match := re.search(r"active_units(?:_T(\d+))?$", units):
                    experience = SimpleNamespace(task_labels=[int(match[1] or 0)], classes_in_this_experience=[len(mask) - 1])
                    avalanche.avalanche_model_adaptation(model, experience)
            if (means := learned.get("eval_classifier.class_means")) is not None:  # iCaRL's; a fresh model has none
                model.eval_classifier.load_state_dict({"class_means": means})
            model.load_state_dict(learned)
            model.to(self.brief.device)


@cache
def _warn_once(sentence: str) -> None:
    logging.getLogger("clbench").warning(sentence)
