"""clbench's methods as strategies in Avalanche's own loop: ``SupSupStrategy``, and ``MethodStrategy`` for any other.

    strategy = SupSupStrategy(network="lenet-300-100", input_shape=(1, 28, 28), classes=2)
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)

An experience is a task. In evaluation the task is inferred (GNu, GNs), or is the one that was learned with the task label of the image
(GG). The model gives 1 to the class that is answered and 0 to all others, so that Avalanche's accuracies are right; the loss is the
method's own in training and the share of wrong answers in evaluation. Of a training batch only the loss is known: a metric of the outputs
in training sees NaN. Plugins that change the loss, the gradients or the model have no effect.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clbench import networks, registry
from clbench.errors import UserError
from clbench.interop import _avalanche as avalanche
from clbench.method import Brief, Prediction
from clbench.scenario import Scenario
from clbench.scenarios import GNU
from clbench.spec import check_serves, typed
from clbench.stream import Split


class MethodStrategy(avalanche.SupervisedTemplate):
    """A method of clbench's as a strategy of Avalanche's."""

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
        """``method`` by its name in clbench, on a ``network`` (a name, or a function of the number of outputs) for inputs of
        ``input_shape`` and at most ``classes`` classes a task; ``learn`` and ``ask``: the parameters of the method and of its ``predict``
        (``clbench show``). The minibatches of an evaluation are asked one by one. ``evaluator`` is by default one that prints the
        training loss and the accuracies of each experience and of the stream; the others are Avalanche's.
        """
        chosen = registry.method(method)
        check_serves(chosen, scenario)
        if not scenario.task_given_in_training:
            raise UserError(f"Avalanche tells a strategy where its experiences end, which {scenario.name} does not.")
        factory = networks.resolve(network, input_shape) if isinstance(network, str) else network
        brief = Brief(scenario, lambda outputs: networks.seeded(factory, outputs, seed), input_shape, classes, seed, torch.device(device))
        make: Callable[..., Any] = chosen
        self.method = make(brief, **typed(chosen.__init__, learn or {}, f"{method}'s learning parameters"))
        asked = typed(chosen.predict, ask or {}, f"{method}'s asking parameters")
        model = AnsweringModel(self.method, {} if scenario.task_given_in_inference else asked)
        super().__init__(
            model=model,
            optimizer=None,
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=plugins,
            evaluator=printing_evaluator if evaluator is None else evaluator,
            eval_every=eval_every,
        )
