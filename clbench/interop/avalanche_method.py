"""Avalanche's supervised strategies as methods (``--method avalanche:GEM --set patterns_per_exp=256``).

A strategy gets a task's data when the task ends, as one experience, and then trains as it likes: in batches of the run's size, for as
many updates as the schedule has, or for ``train_epochs`` epochs where that is given. Its other parameters are those of Avalanche's class.
Where the scenario does not give the task in training nothing ends, and a strategy is refused.

The network's last layer, which must be linear and come last, becomes what Avalanche has for the scenario: in GG a
``MultiHeadClassifier``, told the number of the task as its task label; in GNu an ``IncrementalClassifier`` with an output for every class
of every task so far, or, for strategies that cannot grow, a layer of a fixed number of ``outputs``; in GNs it stays as it is. Avalanche's
two have biases, whatever the network has.

Stores the strategy's model, whose answers in evaluation mode are the predictions. ``progress`` tells how much else a strategy holds
(exemplars, importances, older models, the optimiser's state), but none of it can be put back into Avalanche's objects: a run that was
interrupted has to begin again.
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
"""So many test images are asked about in one forward pass."""

OURS = frozenset(
    {"model", "feature_extractor", "classifier", "cwr_layer_name", "last_layer_name", "input_size", "optimizer", "criterion"}
    | {"buffer_transform", "device", "plugins", "evaluator", "eval_every", "peval_mode"}
    | {"train_mb_size", "train_epochs", "train_passes", "eval_mb_size"}
)
"""Parameters of strategies that are not a person's to set here."""

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
    "ER_AML": "waits for ever once its memory has fewer images of a class than a batch",
    "JointTraining": "learns all tasks at once: Cumulative does so task by task",
    "OnlineNaive": "is Naive under an older name",
}
"""Strategies that cannot be methods, with the reason."""

SINGLE_HEAD = {name: {GNS, GNU} for name in ("DER", "FeatureReplay", "GenerativeReplay", "GSS_greedy")}
ONLY = SINGLE_HEAD | {"CWRStar": {GNU}, "ICaRL": {GNU}, "LFL": {GNS}}
"""The scenarios of strategies that are not made for all three."""

CANNOT_GROW = frozenset({"DER", "ICaRL"})
"""Strategies that need all outputs from the beginning."""

WARNINGS = {
    "SynapticIntelligence": "is plain fine-tuning on the CPU: its stored weights are the live ones, so that every importance is 0 "
    "(elsewhere they are capped at 0.001). clbench's own is the method si",
    "EWC": "squares the gradients of batch means: its importances depend on the size of a batch (measured: at 128 a tenth of those at 1), "
    "and so does what ewc_lambda means. clbench's own is the method ewc",
}
"""What is known to be wrong with a strategy."""


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

    common = inspect.signature(AvalancheMethod.__init__).parameters.values()
    named = [p for p in common if p.kind is not inspect.Parameter.VAR_KEYWORD]
    settable = list(_settable(strategy))
    vars(__init__)["__signature__"] = inspect.Signature([*named, *settable])
    said = dict(re.findall(r":param (\w+):\s*(.*?)\s*(?=\n:|\Z)", inspect.getdoc(vars(strategy)["__init__"]) or "", re.DOTALL))
    notes = [f"``{p.name}``: {' '.join(said[p.name].split())}" for p in settable if p.name in said]
    __init__.__doc__ = "\n".join([inspect.getdoc(AvalancheMethod.__init__) or "", *notes])
    only = {"scenarios": frozenset(ONLY[name])} if name in ONLY else {}
    members = {"name": f"avalanche:{name}", "strategy_class": strategy, "__init__": __init__, "__doc__": inspect.getdoc(strategy)}
    return type(name, (AvalancheMethod,), members | only | {"__module__": __name__})


def _settable(strategy: type) -> Iterator[inspect.Parameter]:
    """The parameters of a strategy that a person can set, being of plain types, as keyword parameters."""
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
        """``optimiser`` with PyTorch's defaults but for the ``learning_rate``; ``train_epochs``: epochs a task (unless given, as many
        updates as the run's schedule has); ``outputs``: in GNu, outputs for the classes of all tasks to come (unless given, they grow
        with the tasks). The others are the strategy's own.
        """
        super().__init__(brief)
        self.title = self.strategy_class.__name__
        above_zero(learning_rate=learning_rate)
        positive(train_epochs=train_epochs)
        if outputs is not None and (brief.scenario != GNU or outputs < brief.classes):
            raise UserError(f"outputs={outputs} is no number of outputs for the classes of all tasks, which only GNu has.")
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
        self.classes: list[list[int]] = []  # of each task so far, as they are counted for the strategy
        self.limit = parts.UpdateLimit()
        self.batch_size = 1
        self.strategy = self._make_strategy()

    def _make_strategy(self) -> Any:
        """The strategy with a fresh model."""
        scenario, classes, device = self.brief.scenario, self.brief.classes, self.brief.device
        with undisturbed(self.brief.seed, "avalanche"), self._explained("cannot be made"):
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
            takes = inspect.signature(self.strategy_class).parameters
            if "criterion" in takes:  # a default is one object for all strategies, which may learn
                default = takes["criterion"].default
                provided["criterion"] = nn.CrossEntropyLoss() if default is inspect.Parameter.empty else copy.deepcopy(default)
            return self.strategy_class(**{name: value for name, value in provided.items() if name in takes}, **self.given)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Errors of Avalanche's, with which other parameters or another scenario may help, in one sentence."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # other people's code: anything may come
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"Avalanche's {self.title} {what}: {reason}.") from error

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        self.task, self.limit.updates = task, updates

    def observe(self, inputs: Tensor, labels: Tensor) -> None:
        """The strategy trains when the task ends: here only the size of a batch matters."""
        self.batch_size = len(labels)

    def end_task(self, data: Split) -> None:
        if self.task == 0:
            self.strategy = self._make_strategy()  # made anew, because some take the size of a batch when they are made
        self.limit.on = self.train_epochs is None
        # Enough epochs for all updates: the limit ends the last of them.
        self.strategy.train_epochs = self.train_epochs or math.ceil(self.limit.updates * self.batch_size / len(data))
        with undisturbed(self.brief.seed, "avalanche", self.task):
            experience = self._experience(data)
            with self._explained(f"failed on task {self.task} of {self.brief.scenario.name}"):
                self.strategy.train(experience, eval_streams=[])

    def _experience(self, data: Split) -> Any:
        """The present task as an experience: its labels counted over all tasks in GNu, its task label told in GG alone."""
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
        """A copy to be examined: it answers like one that is restored. Not everything that a strategy holds can be copied."""
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
        """The model, with whatever layers it has grown."""
        return dict(self.strategy.model.state_dict())

    def progress(self) -> dict[str, Tensor]:
        return parts.held(self.strategy)

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        if progress is not None:
            raise UserError(f"Avalanche's {self.title} cannot go on where a run stopped: begin again with --overwrite always.")
        with undisturbed(self.brief.seed, "avalanche", "restored"):
            model = self.strategy.model.train()
            for units, mask in learned.items():
                # A head, or all outputs, of which the mask of active units has the number and the width.
                if found := re.search(r"active_units(?:_T(\d+))?$", units):
                    grown = SimpleNamespace(task_labels=[int(found[1] or 0)], classes_in_this_experience=[len(mask) - 1])
                    avalanche.avalanche_model_adaptation(model, grown)
            if (means := learned.get("eval_classifier.class_means")) is not None:  # iCaRL's, for which there is no place at first
                model.eval_classifier.load_state_dict({"class_means": means})
            model.load_state_dict(learned)
            model.to(self.brief.device)


@cache
def _warn_once(sentence: str) -> None:
    logging.getLogger("clbench").warning(sentence)
