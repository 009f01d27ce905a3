"""Which parameters are weights, and what the methods that mask or scale weights do with the others."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from clbench import networks, registry
from clbench._torchvision import import_torchvision
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.method import Brief, parameters
from clbench.methods.batche import BatchE
from clbench.methods.psp import PSP
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.layout import random_base
from clbench.scenarios import GG
from clbench.stream import Stream

CPU = torch.device("cpu")


class Words(nn.Module):
    """The rows of an image [1, 8, 8] as words, with a class token, embeddings of positions and of words, attention and recurrence."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Embedding(8, 16)
        self.embed = parametrizations.weight_norm(nn.Linear(8, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.norm = nn.LayerNorm([9, 16])
        self.head = nn.Linear(16, outputs)

    def forward(self, images: Tensor) -> Tensor:
        words = self.embed(images.squeeze(1)) + self.positions.weight
        words = torch.cat([self.token.expand(len(words), -1, -1), words], 1)
        words = words + self.attention(words, words, words, need_weights=False)[0]
        return self.head(self.recurrent(self.norm(words))[0].mean(1))


WEIGHTS = [
    "embed.parametrizations.weight.original1",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "recurrent.weight_ih_l0",
    "recurrent.weight_hh_l0",
    "head.weight",
]
NO_WEIGHTS = ["token", "positions.weight", "embed.parametrizations.weight.original0", "norm.weight", "norm.bias"]
"""Of two dimensions or more."""


def test_what_layers_multiply_by_are_weights_and_tables_tokens_and_gains_are_not() -> None:
    network = Words(4)
    assert list(networks.weights(network)) == WEIGHTS
    many = {name for name, parameter in network.named_parameters() if parameter.ndim >= 2}
    assert many - set(WEIGHTS) == set(NO_WEIGHTS)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet-300-100", (1, 28, 28)),
        ("mlp-30x20", (1, 28, 28)),
        ("swish-30x20", (1, 28, 28)),
        ("resnet-18-2", (3, 32, 32)),
        ("resnet-50", (3, 224, 224)),
    ],
)
def test_of_clbench_s_own_networks_every_parameter_of_two_dimensions_or_more_is_a_weight(name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = networks.resolve(name, shape)(10)
    assert list(networks.weights(network)) == [name for name, p in network.named_parameters() if p.ndim >= 2]


def test_a_layer_of_one_s_own_has_weights_by_name_and_a_shared_one_is_named_once() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 1))
            self.table = nn.Embedding(3, 3)
            self.table.weight = self.weight  # also a table: but the layer multiplies by it

    assert networks.weights(Own()) == ("weight",)


def test_of_torchvision_s_vision_transformer_the_token_and_the_positions_are_left_alone() -> None:
    with torch.device("meta"):
        network = import_torchvision().models.vit_b_16(num_classes=10)
    many = {name for name, parameter in network.named_parameters() if parameter.ndim >= 2}
    assert many - set(networks.weights(network)) == {"class_token", "encoder.pos_embedding"}


def test_supsup_masks_the_weights_and_leaves_the_other_parameters_as_initialised() -> None:
    network = Words(4)
    base = random_base(network, 0, CPU)
    assert list(base.layout.shapes) == WEIGHTS
    for name in NO_WEIGHTS:
        assert torch.equal(base.fixed[name], network.get_parameter(name))
    assert not base.fixed["head.bias"].any()


def test_supsup_says_what_it_leaves_alone(make_brief: Callable[..., Brief]) -> None:
    (sentence,) = SupSup(make_brief(GG, Words)).notes(1, 100)
    assert re.search(r"no layer multiplies by.*: token, positions\.weight, .*original0, norm\.weight, norm\.bias\.$", sentence)
    assert not SupSup(make_brief(GG)).notes(1, 100)


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(UserError, match="no weights to mask: `clbench show NETWORK`"):
        random_base(nn.Sequential(nn.Flatten(), nn.LayerNorm([4, 16])), 0, CPU)


@pytest.mark.parametrize("name", ["supsup", "batche", "psp", "packnet", "piggyback", "wsn"])
def test_a_network_with_tokens_tables_and_gains_is_learned(
    name: str, make_brief: Callable[..., Brief], make_stream: Callable[..., Stream]
) -> None:
    """The second of two tasks too. SupSup with constants and masks on the tables and gains learns half of both."""
    kind, stream = registry.method(name), make_stream(2)
    rates = {"learning_rate": 0.01, "vector_learning_rate": 0.03, "mask_learning_rate": 0.01}
    method = kind(make_brief(GG, Words), **{key: rate for key, rate in rates.items() if key in parameters(kind.__init__)})
    for task in range(2):
        teach(method, stream[task], task, Schedule(80, 32))
        inputs, labels = stream[task].test.whole()
        assert (method.predict(inputs, task).labels == labels).float().mean() > 0.7


def test_batche_has_vectors_for_the_weights_alone_and_starts_with_the_network_s_other_parameters(
    make_brief: Callable[..., Brief],
) -> None:
    method = BatchE(make_brief(GG, Words))
    assert set(method.fresh_own(0)) == {f"{name}.{which}" for name in WEIGHTS for which in "st"}
    for name in ("token", "positions.weight", "norm.weight"):
        assert torch.equal(method.shared[name], method.initial[name])
    assert not torch.equal(method.shared["head.weight"], method.initial["head.weight"])


@pytest.mark.parametrize("contexts", ["rotation", "binary"])
def test_psp_turns_the_weight_where_attention_and_recurrence_hide_the_input(
    contexts: str, make_brief: Callable[..., Brief]
) -> None:
    method = PSP(make_brief(GG, Words), contexts=contexts)
    method.begin_task(0, 1)
    tensors = method.shared | method.fixed(0)
    hidden = [name for name in WEIGHTS if name.startswith(("attention", "recurrent"))]
    assert {name for name in tensors if name.endswith(".context")} == {
        *(f"{name}.context" for name in hidden),
        "embed.context",
        "head.context",
    }
    effective = method.effective(tensors)
    for name in hidden:
        context = tensors[f"{name}.context"]
        matrix = torch.diag(context) if contexts == "binary" else context
        assert torch.allclose(effective[name], tensors[name] @ matrix, atol=1e-6)
        assert f"{name}.context" not in effective
    assert torch.equal(effective["embed.context"], tensors["embed.context"])
    assert torch.equal(effective["token"], tensors["token"])
