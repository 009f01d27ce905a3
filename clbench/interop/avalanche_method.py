"""Avalanche's supervised strategies as methods (``--method avalanche:GEM --set patterns_per_exp=256``).

A strategy gets a task's data when the task ends, as one experience, and then trains as it likes: in batches of the run's size, for as
many updates as the schedule has, or for ``train_epochs`` epochs where that is given. Its other parameters are those of Avalanche's class.
Where the scenario does not give the task in training nothing ends, and a strategy is refused.

The network's last layer, which must be linear and come last, becomes what Avalanche has for the scenario: in GG a
``MultiHeadClassifier``, told the number of the task as its task label; in GNu an ``IncrementalClassifier`` with an output for every class
of every task so far; in GNs it stays as it is. The first two have biases, whatever the network has.

Stores the strategy's model, whose answers in evaluation mode are the predictions. ``progress`` tells how much else a strategy holds
(exemplars, importances, older models, the optimiser's state), but none of it can be put back into Avalanche's objects: a run that was
interrupted has to begin again.
"""

import inspect
import logging
import math
import re
from collections.abc import Iterator
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
from clbench.interop._avalanche import undisturbed
from clbench.method import Brief, Method, Prediction
from clbench.networks import head_names
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
    "JointTraining": "learns all tasks at once: Cumulative does so task by task",
    "OnlineNaive": "is Naive under an older name",
}
"""Strategies that cannot be methods, with the reason."""

ONLY = {"CWRStar": {GNU}, "ICaRL": {GNU}, "LFL": {GNS}, "GSS_greedy": {GNS, GNU}}
"""The scenarios of strategies that are not made for all three."""

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

    common = inspect.signature(AvalancheMethod.__init__).parameters.values()
    named = [p for p in common if p.kind is not inspect.Parameter.VAR_KEYWORD]
    settable = list(_settable(strategy))
    vars(__init__)["__signature__"] = inspect.Signature([*named, *settable])
    said = dict(re.findall(r":param (\w+):\s*(.*?)\s*(?=\n:|\Z)", inspect.getdoc(strategy.__init__) or "", re.DOTALL))
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
        """``optimiser`` with PyTorch's defaults but for the ``learning_rate``; ``train_epochs``: epochs a task (where none is given, as many
        updates as the run's schedule has). The others are Avalanche's."""
        super().__init__(brief)
        self.title = self.strategy_class.__name__
        if self.title in WARNINGS:
            _warn_once(f"Avalanche's {self.title} {WARNINGS[self.title]}.")
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.train_epochs = train_epochs
        self.given = given
        self.task = 0
        self.classes: list[list[int]] = []  # of each task so far, as they are counted for the strategy
        self.limit = UpdateLimit()
        self.batch_size = 1
        self.strategy = self._make_strategy()

    def _make_strategy(self) -> Any:
        """The strategy with a fresh model."""
        scenario, classes, device = self.brief.scenario, self.brief.classes, self.brief.device
        with undisturbed(self.brief.seed, "avalanche"):
            features, classifier = without_last_layer(self.brief.network(classes), classes)
            if scenario == GG:
                classifier = avalanche.MultiHeadClassifier(classifier.in_features, classes)
            elif scenario == GNU:
                classifier = avalanche.IncrementalClassifier(classifier.in_features, classes)
            model = (MultiHeadNetwork if scenario == GG else SingleHeadNetwork)(features, classifier).to(device)
            provided = {
                "model": model,
                "feature_extractor": features,
                "classifier": classifier,
                "optimizer": OPTIMISERS[self.optimiser](model.parameters(), lr=self.learning_rate),
                "buffer_transform": None,
                "cwr_layer_name": "classifier.classifier",
                "input_size": list(self.brief.input_shape),
                "device": device,
                "plugins": [self.limit],
                "train_mb_size": self.batch_size,
                "eval_mb_size": IMAGES_AT_A_TIME,
                "evaluator": avalanche.EvaluationPlugin(),
            }
            takes = inspect.signature(self.strategy_class).parameters
            if "criterion" in takes and takes["criterion"].default is inspect.Parameter.empty:
                provided["criterion"] = nn.CrossEntropyLoss()
            return self.strategy_class(**{name: value for name, value in provided.items() if name in takes}, **self.given)

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
            try:
                self.strategy.train(experience, eval_streams=[])
            except Exception as error:  # other people's code, which does not fit every scenario
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                where = f"on task {self.task} of {self.brief.scenario.name}"
                raise UserError(f"Avalanche's {self.title} failed {where}: {reason}.") from error

    def _experience(self, data: Split) -> Any:
        """The present task as an experience: its labels counted over all tasks in GNu, its task label told in GG alone."""
        inputs, labels = data.whole()
        scenario, first = self.brief.scenario, self.brief.classes * self.task
        rows = Rows(inputs.cpu(), (labels + first if scenario == GNU else labels).cpu())
        self.classes.append(rows.tensors[1].unique().tolist())
        return experience(rows, self.classes, self.task if scenario == GG else 0)

    # Answering

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        model = self.strategy.model.eval()
        with torch.no_grad():
            parts = inputs.to(self.brief.device).split(IMAGES_AT_A_TIME)
            answers = [avalanche.avalanche_forward(model, x, torch.full((len(x),), task or 0, device=x.device)) for x in parts]
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
            **self.given,
        )
        copied.restore(self.learned())
        return copied

    def learned(self) -> dict[str, Tensor]:
        """The model, with whatever layers it has grown."""
        return dict(self.strategy.model.state_dict())

    def progress(self) -> dict[str, Tensor]:
        return held(self.strategy)

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        if progress is not None:
            raise UserError(f"Avalanche's {self.title} cannot go on where a run stopped: begin again with --overwrite always.")
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


class SingleHeadNetwork(nn.Module, avalanche.BaseModel):
    """A trunk and a last layer, by the names that Avalanche gives them."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def get_features(self, inputs: Tensor) -> Tensor:
        """What the last layer gets."""
        return self.features(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(self.features(inputs))


class MultiHeadNetwork(avalanche.MultiTaskModule):
    """A trunk and a head for each task."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, inputs: Tensor, task_labels: Tensor | None) -> Any:
        """The outputs of each input's own head; without ``task_labels`` a dictionary of those of all heads."""
        return self.classifier(self.features(inputs), task_labels)


class UpdateLimit(avalanche.SupervisedPlugin):
    """Ends the training on a task after ``updates`` updates, while it is ``on``."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = 0
        self.on = True
        self.done = 0

    def before_training_exp(self, strategy: Any, **others: Any) -> None:
        self.done = 0

    def after_training_iteration(self, strategy: Any, **others: Any) -> None:
        self.done += 1
        if self.on and self.done >= self.updates:
            strategy.stop_training()


class Rows(TensorDataset):
    """Inputs and labels, these as plain numbers, in which form Avalanche's own data have them."""

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        inputs, label = super().__getitem__(row)
        return inputs, int(label)


def experience(rows: Rows, classes: list[list[int]], task_label: int) -> Any:
    """The last of the experiences with these ``classes``, with what strategies ask of one beside its data."""
    labels = rows.tensors[1].tolist()
    attributes = [
        avalanche.DataAttribute(labels, "targets"),
        avalanche.DataAttribute([task_label] * len(labels), "targets_task_labels", use_in_getitem=True),
    ]
    dataset = avalanche.TaskAwareSupervisedClassificationDataset([rows], data_attributes=attributes)
    made = avalanche.DatasetExperience(dataset=dataset, current_experience=len(classes) - 1)
    made.task_label, made.task_labels = task_label, [task_label]
    made.classes_in_this_experience = classes[-1]
    made.previous_classes = sorted(set().union(*classes[:-1]))
    made.classes_seen_so_far = sorted(set().union(*classes))
    made.origin_stream = SimpleNamespace(name="train")
    made.benchmark = SimpleNamespace(
        n_classes_per_exp=[len(c) for c in classes], classes_order=[c for task in classes for c in task]
    )
    return made


def without_last_layer(network: nn.Module, outputs: int) -> tuple[nn.Module, nn.Linear]:
    """``network`` with an identity in the place of its last layer, and that layer."""
    name = head_names(network, outputs)[0].rpartition(".")[0]
    layer = network.get_submodule(name)
    if not name or not isinstance(layer, nn.Linear):
        raise UserError(f"Avalanche's strategies need a network whose last layer is linear, not a {type(layer).__name__}.")
    network.set_submodule(name, nn.Identity())
    return network, layer


def held(strategy: Any) -> dict[str, Tensor]:
    """The tensors that a strategy holds beside its model, by where it has them, and the exemplars of its memories, each once."""
    tensors: dict[str, Tensor] = {}
    exemplars: dict[Any, dict[int, Tensor]] = {}
    seen = {tensor.data_ptr() for tensor in strategy.model.state_dict().values()}
    visited: set[int] = set()

    def visit(value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            if value.numel() and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                tensors[name] = value.detach()
        elif isinstance(value, avalanche.AvalancheDataset):
            for part in (part for item in value for part in item if isinstance(part, Tensor)):
                exemplars.setdefault((part.dtype, part.shape), {})[part.data_ptr()] = part
        elif isinstance(value, nn.Module | torch.optim.Optimizer):
            visit(value.state_dict(), name)
        elif isinstance(value, dict):
            for key, part in value.items():
                visit(part, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for number, part in enumerate(value):
                visit(part, f"{name}.{number}")
        elif type(value).__module__.startswith("avalanche.") and id(value) not in visited:
            visited.add(id(value))
            visit(
                {key: part for key, part in vars(value).items() if key not in ("model", "evaluator")},
                f"{name}.{type(value).__name__}",
            )

    visit(strategy, "")
    return tensors | {f"exemplars.{i}": torch.stack(list(alike.values())) for i, alike in enumerate(exemplars.values())}


@cache
def _warn_once(sentence: str) -> None:
    logging.getLogger("clbench").warning(sentence)
