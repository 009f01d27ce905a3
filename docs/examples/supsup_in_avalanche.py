"""SupSup in Avalanche's own loop: five permutations of the pixels of digits, without task labels at test time, compared with fine-tuning.

Run it with ``python docs/examples/supsup_in_avalanche.py``: it takes about half a minute.
"""

import warnings

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from clbench import networks, registry
from clbench.data import load
from clbench.interop.avalanche_strategy import SupSupStrategy

# isort: split
# Import clbench first: it imports torchvision, which Avalanche needs, in a way that works with any build of PyTorch.
from avalanche.benchmarks import NCScenario, nc_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

TASKS = 5
SHAPE = (1, 28, 28)


def permuted_digits() -> NCScenario:
    """An Avalanche benchmark from tensors: permutations of the MNIST images that come with clbench."""
    data = load("mnist-5k")
    permutations = [torch.randperm(28 * 28, generator=torch.Generator().manual_seed(task)) for task in range(TASKS)]

    def experiences(images: Tensor, labels: Tensor) -> list[TensorDataset]:
        flat = data.inputs(images).flatten(1)
        return [TensorDataset(flat[:, pixels].view(-1, *SHAPE), labels) for pixels in permutations]

    return nc_benchmark(
        experiences(data.train_images, data.train_labels),
        experiences(data.test_images, data.test_labels),
        n_experiences=TASKS,
        task_labels=False,
        shuffle=False,
        class_ids_from_zero_in_each_exp=True,
        one_dataset_per_exp=True,
    )


def accuracies() -> EvaluationPlugin:
    """The metrics that ``eval`` returns: the accuracy on each experience and on the stream."""
    return EvaluationPlugin(accuracy_metrics(experience=True, stream=True))


def main() -> None:
    """Train both strategies on every experience and print their accuracies on all of them."""
    warnings.filterwarnings("ignore", "No loggers specified")
    torch.manual_seed(0)
    benchmark = permuted_digits()
    network = networks.resolve("lenet-300-100", SHAPE)(10)
    common = {"train_mb_size": 64, "train_epochs": 3, "eval_mb_size": 128}
    strategies = {
        "supsup": SupSupStrategy(
            network="lenet-300-100",
            input_shape=SHAPE,
            classes=10,
            scenario=registry.scenario("gns"),
            evaluator=accuracies(),
            **common,
        ),
        "naive": Naive(
            model=network, optimizer=torch.optim.RMSprop(network.parameters(), lr=1e-4), evaluator=accuracies(), **common
        ),
    }
    for name, strategy in strategies.items():
        for experience in benchmark.train_stream:
            strategy.train(experience)
        results = strategy.eval(benchmark.test_stream)
        percents = [f"{100 * value:.1f}" for key, value in sorted(results.items()) if key.startswith("Top1_Acc")]
        print(f"{name}: accuracy {percents[-1]} %; on each experience {', '.join(percents[:-1])}")


if __name__ == "__main__":
    main()
