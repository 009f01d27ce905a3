"""A weight that two layers share is one parameter in every method: it is trained, and by the gradients of both places."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from clbench import registry
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.method import Brief, parameters
from clbench.networks import bare_twin, head_names
from clbench.stream import Stream

METHODS = sorted(set(registry.methods()) - {"hopsupsup"})  # which masks the layers of an nn.Sequential alone
RATES = {"learning_rate": 0.01, "vector_learning_rate": 0.03, "mask_learning_rate": 0.01}


class Tied(nn.Module):
    """Two layers share one weight."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.b.weight = self.a.weight
        self.head = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(self.first(x.flatten(1)).relu()).relu()).relu())


class Untied(Tied):
    """The same without sharing."""

    def __init__(self, outputs: int) -> None:
        super().__init__(outputs)
        self.b = nn.Linear(32, 32)


def test_the_twin_of_a_network_shares_what_the_network_shares() -> None:
    network, twin = Tied(4), bare_twin(Tied(4))
    assert twin.b.weight is twin.a.weight
    assert all(parameter.is_meta for parameter in twin.parameters())
    inputs, tensors = torch.randn(5, 1, 8, 8), {name: p.detach() for name, p in network.named_parameters()}
    assert "b.weight" not in tensors
    gradients = grad(lambda given: functional_call(twin, given, (inputs,)).square().mean())(tensors)
    network(inputs).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6)


def test_twins_keep_buffers_and_registered_order() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    twin = bare_twin(network)
    assert twin.training
    assert not network.training
    assert [(name, t.shape, t.is_meta) for name, t in twin.state_dict().items()] == [
        (name, t.shape, True) for name, t in network.state_dict().items()
    ]


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(nn.Linear(3, 3))
    with pytest.raises(UserError, match=r"cannot be copied .*parametrizations"):
        bare_twin(old)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_a_network_with_a_shared_weight_as_well_as_without(
    name: str, make_brief: Callable[..., Brief], make_stream: Callable[..., Stream]
) -> None:
    kind, stream = registry.method(name), make_stream(1)
    scenario = next(s for s in registry.scenarios().values() if s in kind.scenarios)
    known = parameters(kind.__init__)
    rates = {key: max(rate, known[key].default) for key, rate in RATES.items() if key in known}
    accuracy = {}
    for network in (Tied, Untied):
        method = kind(make_brief(scenario, network), **rates)
        teach(method, stream[0], 0, Schedule(80, 32))
        inputs, labels = stream[0].test.whole()
        prediction = method.predict(inputs, 0 if scenario.task_given_in_inference else None)
        accuracy[network] = float((prediction.labels == labels).float().mean())
    assert accuracy[Tied] > max(0.6, accuracy[Untied] - 0.2)


def test_a_last_layer_that_shares_its_weight_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    with pytest.raises(UserError, match="last layer of the network, 2, shares a parameter"):
        head_names(network, 4, (4,))
