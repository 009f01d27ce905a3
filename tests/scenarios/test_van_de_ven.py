"""The streams of van de Ven & Tolias 2019, and their recipes: pixels, the classes of tasks, and strengths."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clbench import registry
from clbench.method import parameters
from clbench.scenarios import van_de_ven

Make = Callable[..., Any]


def test_permuted_images_are_padded_with_black_and_not_normalised(make_data: Make) -> None:
    data = make_data()
    stream = van_de_ven.permuted_padded(data, tasks=2, seed=0)
    assert stream.input_shape == (1, 12, 12)
    pixels = []
    for task in stream:
        inputs, labels = task.train.whole()
        assert inputs.shape == (len(data.train_images), 1, 12, 12)
        assert torch.equal(labels, data.train_labels)
        # Each image has the values of the original from 0 to 1, and the border's zeros, in another order.
        sorted_pixels = inputs.flatten(1).sort().values
        expected = torch.nn.functional.pad(data.train_images, (2, 2, 2, 2)).flatten(1).sort().values / 255
        torch.testing.assert_close(sorted_pixels, expected)
        # A border pixel is black in every image, and pixels are permuted out of the border.
        pixels.append(inputs.amax(0)[0] > 0)
        assert int(pixels[-1].sum()) == 64
        assert pixels[-1][:2].any()
    assert not torch.equal(*pixels)


def test_split_deals_all_classes_by_the_stream_seed(make_data: Make) -> None:
    data = make_data(classes=10)
    orders = []
    for seed in range(3):
        stream = van_de_ven.split_dealt(data, tasks=5, seed=seed)
        orders.append([task.name for task in stream])
        rows = torch.cat([task.test.images.flatten(1) for task in stream])
        torch.testing.assert_close(rows.sort(0).values, (data.test_images.flatten(1) / 255).sort(0).values)
        for task in stream:
            a, b = (int(word) for word in task.name.split()[1::2])
            for label, digit in enumerate((a, b)):
                images_of_label = task.test.images[task.test.labels == label]
                torch.testing.assert_close(images_of_label, data.test_images[data.test_labels == digit] / 255)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize(
    ("method", "parameter", "strengths"),
    [
        ("ewc", "strength", (500, 500, 1, 1e7, 1e6, 1e8)),
        ("online-ewc", "strength", (500, 1000, 5, 1e8, 1e8, 1e9)),
        ("online-ewc", "gamma", (0.8, 0.9, 1, 0.8, 0.7, 0.8)),
        ("si", "c", (5, 5, 0.1, 50, 500, 0.5)),
    ],
)
def test_published_strengths_by_stream_and_scenario(method: str, parameter: str, strengths: tuple[float, ...]) -> None:
    kind = registry.method(method)
    values = [
        kind.recipe(stream, network, scenario).learn
        for stream, network in (("permuted-mnist-32", "mlp-1000x1000"), ("split-mnist-raw", "mlp-400x400"))
        for scenario in ("GG", "GNs", "GNu")
    ]
    assert tuple(learn[parameter] for learn in values) == strengths
    assert [learn["learning_rate"] for learn in values] == [1e-4] * 3 + [1e-3] * 3
    assert all(learn["optimiser"] == "adam" for learn in values)
    assert parameter not in kind.recipe("permuted-mnist", "lenet-300-100", "GNs").learn


def test_bgd_has_its_authors_initial_values_on_these_streams() -> None:
    """Their domain scenario; without boundaries (NNs), the deviation of their continuous permutations."""
    kind = registry.method("bgd")
    assert kind.recipe("permuted-mnist-32", "mlp-1000x1000", "GNs").learn == {"deviation": 0.045}
    assert kind.recipe("split-mnist-raw", "mlp-400x400", "GNs").learn == {"deviation": 0.02}
    assert kind.recipe("permuted-mnist-32", "mlp-1000x1000", "NNs").learn == {}
    assert parameters(kind.__init__)["deviation"].default == 0.06
