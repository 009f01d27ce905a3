"""Parts for Avalanche's strategies: networks, experiences, a limit of updates, and the tensors that a strategy holds."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from clbench.errors import UserError
from clbench.interop import _avalanche as avalanche
from clbench.networks import head_names


class SingleHeadNetwork(nn.Module, avalanche.BaseModel):
    """A trunk and a last layer, with Avalanche's names."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def get_features(self, inputs: Tensor) -> Tensor:
        """The inputs of the last layer."""
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
        """The outputs of each input's own head; without ``task_labels``, a dictionary with the outputs of all heads."""
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


class Rows(Dataset[tuple[Tensor, int]]):
    """Inputs and labels as a data set whose labels are plain numbers, as in Avalanche's own."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs = inputs
        self.labels = labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.inputs[row], self.labels[row]


def experience(rows: Rows, classes: list[list[int]], task_label: int, outputs: int) -> Any:
    """The last of the experiences with these ``classes``, with the attributes that strategies read.

    Nothing is known of later classes, except that there are at most ``outputs`` in total.
    """
    labels = avalanche.ConstantSequence(task_label, len(rows))
    attributes = [
        avalanche.DataAttribute(rows.labels, "targets"),
        avalanche.DataAttribute(labels, "targets_task_labels", use_in_getitem=True),
    ]
    dataset = avalanche.TaskAwareSupervisedClassificationDataset([rows], data_attributes=attributes)
    experience = avalanche.DatasetExperience(dataset=dataset, current_experience=len(classes) - 1)
    experience.task_label, experience.task_labels = task_label, [task_label]
    experience.classes_in_this_experience = classes[-1]
    experience.previous_classes = sorted(set().union(*classes[:-1]))
    experience.classes_seen_so_far = sorted(set().union(*classes))
    experience.origin_stream = SimpleNamespace(name="train")
    order = [label for task in classes for label in task]
    counts = [*map(len, classes), max(0, outputs - len(order))]
    experience.benchmark = SimpleNamespace(n_classes_per_exp=counts, classes_order=order)
    return experience


def without_last_layer(network: nn.Module, outputs: int, input_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Linear]:
    """``network`` with an identity instead of its last layer, and that layer."""
    name = head_names(network, outputs, input_shape)[0].rpartition(".")[0]
    layer = network.get_submodule(name)
    if not name or not isinstance(layer, nn.Linear):
        raise UserError(f"Avalanche's strategies need a network whose last layer is linear, not a {type(layer).__name__}.")
    network.set_submodule(name, nn.Identity())
    return network, layer


def held(strategy: Any) -> dict[str, Tensor]:
    """The tensors that a strategy holds in addition to its model, by their place in it, and the exemplars of its memories, each once."""
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
            for tensor in (element for row in value for element in row if isinstance(element, Tensor)):
                exemplars.setdefault((tensor.dtype, tensor.shape), {})[tensor.data_ptr()] = tensor
        elif isinstance(value, nn.Module | torch.optim.Optimizer):
            visit(value.state_dict(), name)
        elif isinstance(value, dict):
            for key, item in value.items():
                visit(item, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                visit(item, f"{name}.{number}")
        elif type(value).__module__.startswith("avalanche.") and id(value) not in visited:
            visited.add(id(value))
            visit(
                {key: item for key, item in vars(value).items() if key not in ("model", "evaluator")},
                f"{name}.{type(value).__name__}",
            )

    visit(strategy, "")
    return tensors | {f"exemplars.{i}": torch.stack(list(group.values())) for i, group in enumerate(exemplars.values())}
