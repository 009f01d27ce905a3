"""SupSup in Avalanche's own loop: five tasks of two digits each, and no test image says which task it is of. Fine-tuning stands beside it.

    python docs/examples/supsup_in_avalanche.py
"""

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from clbench import networks
from clbench.data import load
from clbench.interop.avalanche_strategy import SupSupStrategy

# isort: split
# clbench comes first: it imports torchvision, which Avalanche needs, in a way that works with any build of PyTorch.
from avalanche.benchmarks import NCScenario, nc_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

SHAPE = (1, 28, 28)
EPOCHS = 5


def split_digits() -> NCScenario:
    """A benchmark made of tensors: experience i has the digits 2i and 2i + 1 of the MNIST images that come with clbench."""
    data = load("mnist-5k")

    def part(images: Tensor, labels: Tensor) -> TensorDataset:
        return TensorDataset(data.inputs(images), labels)

    train, test = part(data.train_images, data.train_labels), part(data.test_images, data.test_labels)
    return nc_benchmark(train, test, n_experiences=5, task_labels=False, shuffle=False)


def main() -> None:
    """Train both strategies on every experience and print their accuracies on all of them."""
    torch.manual_seed(0)
    network = networks.resolve("lenet-300-100", SHAPE)(10)
    strategies = {
        "supsup": SupSupStrategy(
            network="lenet-300-100",
            input_shape=SHAPE,
            classes=2,
            train_mb_size=32,
            train_epochs=EPOCHS,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True, stream=True)),
        ),
        "naive": Naive(
            model=network,
            optimizer=torch.optim.RMSprop(network.parameters(), lr=1e-4),
            train_mb_size=32,
            train_epochs=EPOCHS,
            eval_mb_size=128,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True, stream=True)),
        ),
    }
    for name, strategy in strategies.items():
        benchmark = split_digits()
        for experience in benchmark.train_stream:
            strategy.train(experience)
        results = strategy.eval(benchmark.test_stream)
        accuracies = [value for key, value in results.items() if key.startswith("Top1_Acc")]
        print(name, *(f"{value:.3f}" for value in accuracies))


if __name__ == "__main__":
    main()
