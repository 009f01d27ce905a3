"""clbench's methods as strategies in Avalanche's own loop: ``SupSupStrategy``, and ``MethodStrategy`` for any other.

    strategy = SupSupStrategy(network="lenet-300-100", input_shape=(1, 28, 28), classes=2)
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)

An experience is a task. In evaluation the task is inferred (GNu, GNs), or it is the one that was learned with the task label of the image
(GG). The model outputs 1 for the class that is the answer and 0 for the others, so that Avalanche's accuracies are correct. The loss is
the method's own in training and the share of wrong answers in evaluation. Training batches get no answers: their accuracy is 0. Plugins are
called everywhere except in the forward and backward pass; a plugin that changes the loss, a gradient or the model has no effect.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clbench import networks, registry
from clbench.engine.asks import check_serves, typed
from clbench.errors import UserError
from clbench.interop import _avalanche as avalanche
from clbench.method import Brief, Method
from clbench.scenario import Scenario
from clbench.scenarios import GNU
from clbench.stream import Split

NO_ANSWER = -1


class MethodStrategy(avalanche.SupervisedTemplate):
    """A method of clbench as a strategy of Avalanche."""

    def __init__(
        self,
        *,
        method: str,
        network: str | Callable[[int], nn.Module],
        input_shape: tuple[int, ...],
        classes: int,
        scenario: Scenario = GNU,
        seed: int = 0,
        learn: Mapping[str, Any] | None = None,
        ask: Mapping[str, Any] | None = None,
        train_mb_size: int = 128,
        train_epochs: int = 1,
        eval_mb_size: int = 128,
        device: str | torch.device = "cpu",
        plugins: Sequence[Any] | None = None,
        evaluator: Any = None,
        eval_every: int = -1,
    ) -> None:
        """``method``: its name in clbench; ``network``: a name, or a function of the number of outputs, for inputs of ``input_shape``;
        ``classes``: the maximal number of classes of a task; ``learn`` and ``ask``: the parameters of the method and of its ``predict``
        (``clbench show``). Each minibatch of an evaluation is asked separately. The default ``evaluator`` prints the training loss and the
        accuracies of each experience and of the stream. The other parameters are Avalanche's.
        """
        method_class = registry.method(method)
        check_serves(method_class, scenario)
        if not scenario.task_given_in_training:
            raise UserError(f"Avalanche gives the task in training, and {scenario.name} does not: choose another scenario.")
        factory = networks.resolve(network, input_shape) if isinstance(network, str) else network
        brief = Brief(
            scenario, lambda outputs: networks.seeded(factory, outputs, seed), input_shape, classes, seed, torch.device(device)
        )
        make: Callable[..., Method] = method_class
        self.method = make(brief, **typed(method_class.__init__, learn or {}, f"learning parameter of {method}"))
        ask_parameters: dict[str, Any] = {}
        if not scenario.task_given_in_inference:
            values = typed(method_class.predict, ask or {}, f"asking parameter of {method}")
            ask_parameters = {key: value for key, value in values.items() if value is not None}
            self.method.check_ask(**ask_parameters)
        super().__init__(
            model=AnsweringModel(self.method, ask_parameters),
            optimizer=None,
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=plugins,
            evaluator=printing_evaluator if evaluator is None else evaluator,
            eval_every=eval_every,
        )

    # Learning

    def check_model_and_optimizer(self, **others: Any) -> None:
        """Nothing to check: the method trains its own parameters."""

    def model_adaptation(self, model: Any = None) -> Any:
        """The unchanged model."""
        return self.model

    def _before_training_exp(self, **others: Any) -> None:
        super()._before_training_exp(**others)
        self.model.begin(self.experience)
        self.method.begin_task(len(self.model.classes), self.train_epochs * len(self.dataloader))

    def training_epoch(self, **others: Any) -> None:
        for self.mbatch in self.dataloader:  # noqa: B020 (it is where Avalanche's plugins look for it)
            if self._stop_training:
                break
            self._unpack_minibatch()
            self._before_training_iteration(**others)
            loss = self.method.observe(self.mb_x, self.model.within_task(self.mb_y))
            self.loss = torch.full((), torch.nan) if loss is None else loss
            self.mb_output = torch.full_like(self.mb_y, NO_ANSWER)
            self._after_training_iteration(**others)

    def _after_training_exp(self, **others: Any) -> None:
        inputs, labels = (tensor.to(self.device) for tensor in avalanche.gathered(self.experience.dataset))
        self.method.end_task(Split(inputs, self.model.within_task(labels)))
        self.model.end()
        super()._after_training_exp(**others)

    # Answering

    def criterion(self) -> Tensor:
        """The share of wrong answers in a minibatch of an evaluation."""
        return (self.mb_output.argmax(1) != self.mb_y).float().mean()


class SupSupStrategy(MethodStrategy):
    """Supermasks in superposition as a strategy of Avalanche's: its parameters are those of ``MethodStrategy``, without ``method``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(method="supsup", **settings)


class AnsweringModel(avalanche.MultiTaskModule):
    """A method's answers as the outputs of a model, in Avalanche's numbering of classes and tasks.

    ``classes``: the classes of each task learned, in the order of the method's labels; ``tasks``: the number of each, by its task label.
    """

    def __init__(self, method: Method, ask: Mapping[str, Any]) -> None:
        super().__init__()
        self.method = method
        self.ask = ask
        self.classes: list[list[int]] = []
        self.tasks: dict[int, int] = {}
        self.current: tuple[list[int], int] = ([], 0)

    def begin(self, experience: Any) -> None:
        """An experience begins: a new task."""
        classes = sorted({int(label) for label in experience.dataset.targets})
        if len(classes) > self.method.brief.classes:
            raise UserError(
                f"The experience has {len(classes)} classes, and the strategy was made for {self.method.brief.classes}: "
                "give a larger number of classes."
            )
        label = getattr(experience, "task_label", 0)
        if self.method.brief.scenario.task_given_in_inference and label in self.tasks:
            raise UserError(
                f"In {self.method.brief.scenario.name} each experience needs its own task label, and {label} occurs twice."
            )
        self.current = classes, label

    def within_task(self, labels: Tensor) -> Tensor:
        """Labels of the current experience, counted from 0."""
        return torch.searchsorted(torch.tensor(self.current[0], device=labels.device), labels)

    def end(self) -> None:
        """The current experience is learned."""
        classes, label = self.current
        self.tasks[label] = len(self.classes)
        self.classes.append(classes)

    def adaptation(self, experience: Any) -> None:
        """Does nothing: the method itself adds what a task needs."""

    def forward(self, inputs: Tensor, task_labels: Tensor | None = None) -> Tensor:
        """1 for the class that is the answer, 0 for all others. Inputs of a task that was never learned get 0 for all classes."""
        outputs = torch.zeros(len(inputs), 1 + max((max(classes) for classes in self.classes), default=0), device=inputs.device)
        if not self.classes:
            return outputs
        if not self.method.brief.scenario.task_given_in_inference:
            prediction = self.method.predict(inputs, None, **self.ask)
            tasks = torch.zeros_like(prediction.labels) if prediction.tasks is None else prediction.tasks
            return self._mark(outputs, tasks, prediction.labels)
        if task_labels is None:
            raise UserError(f"{self.method.brief.scenario.name} needs a benchmark with task labels.")
        for label in task_labels.unique().tolist():
            if label in self.tasks:
                rows, task = task_labels == label, self.tasks[label]
                labels = self.method.predict(inputs[rows], task).labels
                outputs[rows] = self._mark(outputs[rows], torch.full_like(labels, task), labels)
        return outputs

    def _mark(self, outputs: Tensor, tasks: Tensor, labels: Tensor) -> Tensor:
        answers = zip(tasks.tolist(), labels.tolist(), strict=True)
        for row, (task, label) in enumerate(answers):
            if label < len(self.classes[task]):  # a task with fewer classes may have none for the label
                outputs[row, self.classes[task][label]] = 1
        return outputs


def printing_evaluator() -> Any:
    """Prints the training loss and the accuracies of a method in Avalanche's loop."""
    metrics = (avalanche.loss_metrics(epoch=True), avalanche.accuracy_metrics(experience=True, stream=True))
    return avalanche.EvaluationPlugin(*metrics, loggers=[avalanche.InteractiveLogger()])
