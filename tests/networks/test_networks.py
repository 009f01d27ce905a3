"""Networks: parameters counted by hand, names of every kind, and refusals in one sentence."""

import functools
import math
import random
import sys
import types
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from clbench import networks, registry
from clbench._torchvision import import_torchvision
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.method import Brief
from clbench.networks import catalogue, mlp, resolve, seeded
from clbench.scenarios import GG
from clbench.stream import Split, Task

MNIST = (1, 28, 28)
LENET = 784 * 300 + 300 * 100
FC = 784 * 1024 + 1024 * 1024


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "outputs", "expected"),
    [
        ("lenet-300-100", 10, LENET + 100 * 10),
        ("lenet-300-100", 500, LENET + 100 * 500),
        ("fc-1024-1024", 200, FC + 1024 * 200),
        ("mlp-400x400", 10, 784 * 400 + 400 + 400 * 400 + 400 + 400 * 10 + 10),
        ("mlp-7", 2, 784 * 7 + 7 + 7 * 2 + 2),
        ("mlp-5x4x3", 2, 784 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3 + 3 * 2 + 2),
    ],
)
def test_parameters_and_shapes(name: str, outputs: int, expected: int) -> None:
    network = resolve(name, MNIST)(outputs)
    assert parameters(network) == expected
    assert network(torch.zeros(3, *MNIST)).shape == (3, outputs)
    assert network(torch.zeros(3, 784)).shape == (3, outputs)


def test_the_paper_s_networks_have_no_biases_and_the_others_do() -> None:
    for name in ("lenet-300-100", "fc-1024-1024"):
        network = resolve(name, MNIST)(10)
        assert [p.ndim for p in network.parameters()] == [2, 2, 2]
        assert not list(network.buffers())
        assert not network(torch.zeros(1, *MNIST)).any()
    assert [p.ndim for p in resolve("mlp-4x3", MNIST)(10).parameters()] == [2, 1] * 3


def test_an_mlp_computes_what_it_says() -> None:
    network = mlp((2, 3), (5, 4), 3, bias=True)
    x = torch.randn(7, 2, 3)
    w1, b1, w2, b2, w3, b3 = network.parameters()
    hidden = (x.reshape(7, 6) @ w1.T + b1).clamp(min=0)
    hidden = (hidden @ w2.T + b2).clamp(min=0)
    torch.testing.assert_close(network(x), hidden @ w3.T + b3)
    assert [name for name, _ in network.named_parameters()][::2] == ["fc1.weight", "fc2.weight", "fc3.weight"]


def test_other_input_shapes() -> None:
    network = resolve("lenet-300-100", (3, 32, 32))(10)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert parameters(network) == 3072 * 300 + 300 * 100 + 100 * 10


def test_every_call_builds_a_fresh_module() -> None:
    factory = resolve("mlp-4", MNIST)
    first, second = factory(10), factory(10)
    assert first is not second
    assert not {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in second.parameters()}


@pytest.mark.parametrize(
    "name", ["mlp-0x10", "mlp-", "mlp-10x", "mlp-x10", "mlp--5", "mlp-1.5x3", "mlp-axb", "mlp-07", "mlp-٣", "mlp-4\n"]
)
def test_malformed_widths_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"Malformed network .*mlp-400x400"):
        resolve(name, MNIST)


@pytest.mark.parametrize("name", ["resnet-18-", "resnet-18-0", "resnet-18-2x2"])
def test_malformed_residual_networks_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"Malformed network .*resnet-18-20"):
        resolve(name, (3, 32, 32))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lenet-300-10", "lenet-300-100"),
        ("LeNet-300-100", "lenet-300-100"),
        ("lenet", "lenet-300-100"),
        ("fc-1024", "fc-1024-1024"),
        ("mlp400x400", "mlp-400x400"),
    ],
)
def test_unknown_names_are_answered_with_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"Unknown network .*Did you mean {meant}\?") as refusal:
        resolve(name, MNIST)
    for known in ("lenet-300-100", "fc-1024-1024", "mlp-AxB", "package.module:factory"):
        assert known in str(refusal.value)


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UserError) as refusal:
        resolve("zzz", MNIST)
    assert "Did you mean" not in str(refusal.value)
    assert "Known: lenet-300-100" in str(refusal.value)


def test_no_outputs_are_refused() -> None:
    with pytest.raises(UserError, match="784-300-100-0"):
        resolve("lenet-300-100", MNIST)(0)


class Net(nn.Module):
    """Keeps what it was called with."""

    def __init__(self, **given: object) -> None:
        super().__init__()
        self.given = given


class WithClasses(nn.Linear):
    def __init__(self, width: int = 4, num_classes: int = 3) -> None:
        super().__init__(width, num_classes)


def refuse(outputs: int) -> nn.Module:
    raise RuntimeError(f"no luck\nwith {outputs}")


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module `zoo` of factories with all sorts of signatures."""
    module = types.ModuleType("zoo")
    factories: dict[str, object] = {
        "outputs": lambda outputs: Net(outputs=outputs),
        "num_classes": lambda width=4, num_classes=2: Net(num_classes=num_classes),
        "num_outputs": lambda *, num_outputs: Net(num_outputs=num_outputs),
        "shaped": lambda input_shape, outputs: Net(outputs=outputs, input_shape=input_shape),
        "first": lambda n, depth=2: Net(n=n, depth=depth),
        "first_but_shape": lambda input_shape, n: Net(n=n, input_shape=input_shape),
        "first_with_default": lambda n=10: Net(n=n),
        "first_of_any": lambda n, **options: Net(n=n, **options),
        "passed_on": lambda pretrained=False, **options: Net(pretrained=pretrained, **options),
        "torchvision_like": lambda *, weights=None, **options: Net(weights=weights, **options),
        "partial": functools.partial(WithClasses, 8),
        "WithClasses": WithClasses,
        "nothing": lambda: Net(),
        "more": lambda outputs, depth: Net(),
        "text": lambda outputs: "a network",
        "refuse": refuse,
        "built": Net(),
        "number": 3,
    }
    for name, factory in factories.items():
        setattr(module, name, factory)
    monkeypatch.setitem(sys.modules, "zoo", module)
    return module


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("separator", [":", "."])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("outputs", {"outputs": 7}),
        ("num_classes", {"num_classes": 7}),
        ("num_outputs", {"num_outputs": 7}),
        ("shaped", {"outputs": 7, "input_shape": MNIST}),
        ("first", {"n": 7, "depth": 2}),
        ("first_but_shape", {"n": 7, "input_shape": MNIST}),
        ("first_with_default", {"n": 7}),
        ("first_of_any", {"n": 7}),
        ("passed_on", {"pretrained": False, "num_classes": 7}),
        ("torchvision_like", {"weights": None, "num_classes": 7}),
    ],
)
def test_a_dotted_name_is_called_as_its_signature_asks(separator: str, name: str, given: dict[str, object]) -> None:
    network = resolve(f"zoo{separator}{name}", MNIST)(7)
    assert isinstance(network, Net)
    assert network.given == given


@pytest.mark.usefixtures("zoo")
def test_classes_and_partials_are_factories() -> None:
    assert resolve("zoo:WithClasses", MNIST)(7)(torch.zeros(2, 4)).shape == (2, 7)
    assert resolve("zoo:partial", MNIST)(7)(torch.zeros(2, 8)).shape == (2, 7)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zoo:absent", "cannot be imported: AttributeError"),
        ("no_such_package.net", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("no_such_package:net", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("./net.py:Net", "cannot be imported"),
        ("zoo:number", "is a int, not a function or class"),
        ("torch.nn", "is a module, not a function or class"),
        ("zoo:built", "is a module already"),
        ("zoo:nothing", "takes no number of outputs"),
        ("zoo:more", "needs more than outputs: missing a required argument: 'depth'"),
        ("torch.nn:Linear", "needs more than in_features: missing a required argument: 'out_features'"),
        ("builtins:dict", "has no signature to read"),
    ],
)
def test_dotted_names_that_are_no_factories_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError) as refusal:
        resolve(name, MNIST)
    assert reason in str(refusal.value)
    assert repr(name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zoo:text", "returned a str, not an nn.Module"),
        ("zoo:refuse", "failed to build with outputs=7: RuntimeError: no luck with 7"),
    ],
)
def test_factories_that_build_no_module_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        resolve(name, MNIST)(7)


def test_a_module_that_fails_to_import_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_zoo.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="cannot be imported: ZeroDivisionError"):
        resolve("broken_zoo:net", MNIST)


def states_equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_seed_decides_the_initialisation_and_the_global_generator_has_no_part() -> None:
    factory = resolve("mlp-20x20", MNIST)
    torch.manual_seed(1)
    first = seeded(factory, 10, seed=5)
    torch.manual_seed(2)
    assert states_equal(first, seeded(factory, 10, seed=5))
    assert not states_equal(first, seeded(factory, 10, seed=6))


@pytest.mark.parametrize(
    "build",
    [
        lambda: resolve("lenet-300-100", MNIST),
        lambda: seeded(resolve("lenet-300-100", MNIST), 10, seed=0),
        catalogue,
    ],
)
def test_the_global_generators_are_untouched(build: Callable[[], object]) -> None:
    before = torch.random.get_rng_state(), random.getstate(), torch.initial_seed()
    build()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (random.getstate(), torch.initial_seed()) == before[1:]


@pytest.mark.usefixtures("zoo")
def test_the_global_generator_is_untouched_after_an_error() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(UserError):
        seeded(resolve("zoo:refuse", MNIST), 10, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seeded_builds_on_the_cpu_whatever_the_default_device() -> None:
    factory = resolve("mlp-20", MNIST)
    expected = seeded(factory, 10, seed=0)
    with torch.device("meta"):
        module = seeded(factory, 10, seed=0)
    assert states_equal(expected, module)


def test_the_catalogue_counts_what_resolve_builds() -> None:
    rows = {row.name: row for row in catalogue()}
    assert rows["lenet-300-100"].parameters == LENET + 1000
    assert rows["fc-1024-1024"].parameters == FC + 10240
    assert rows["mlp-400x400"].parameters == 478_410
    assert rows["package.module:factory"].parameters is None
    assert rows["resnet-50"].parameters == 25_557_032 - 990 * 2049
    assert len(rows) == 7
    assert all(row.description for row in rows.values())


# Residual networks


def test_resnet_18_is_the_paper_s_for_small_images() -> None:
    """20, 40, 80 and 160 channels in two blocks each, counted by hand; no bias, no learned scale."""
    network = networks.resolve("resnet-18-20", (3, 32, 32))(5)
    widths = [20, 40, 80, 160]
    weights = 27 * 20 + 4 * 9 * 20 * 20 + 160 * 5
    for before, width in pairwise(widths):
        weights += 9 * before * width + 3 * 9 * width * width + before * width
    assert sum(p.numel() for p in network.parameters()) == weights
    assert all(name.endswith("weight") and p.ndim in (2, 4) for name, p in network.named_parameters())
    shapes = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, inputs, result: shapes.append(tuple(result.shape[1:])))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert shapes[1::2] == [(20, 32, 32), (40, 16, 16), (80, 8, 8), (160, 4, 4)]


def test_resnet_18_is_torchvision_s_with_the_same_weights() -> None:
    """Its blocks, stage by stage, between another stem and head."""
    theirs = import_torchvision().models.resnet18().eval()  # scales of 1 and shifts of 0 do nothing
    ours = networks.resolve("resnet-18-64", (3, 32, 32))(5).eval()
    for stage in range(4):
        for number, block in enumerate(getattr(theirs, f"layer{stage + 1}")):
            our_block = ours.blocks[2 * stage + number]
            our_block.conv1.load_state_dict(block.conv1.state_dict())
            our_block.conv2.load_state_dict(block.conv2.state_dict())
            if block.downsample is not None:
                our_block.shortcut[0].load_state_dict(block.downsample[0].state_dict())
    images = torch.randn(2, 64, 16, 16)
    expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(images))))
    assert torch.allclose(ours.blocks(images), expected, rtol=1e-4, atol=1e-5)


def test_resnet_50_is_torchvision_s() -> None:
    assert networks.count_parameters(networks.resolve("resnet-50", (3, 224, 224)), 1000) == 25_557_032
    assert networks.resolve("resnet-50", (3, 64, 64))(10)(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_residual_networks_refuse_other_inputs_than_images() -> None:
    with pytest.raises(UserError, match=r"ResNet-50 is for images in three colours, not for inputs of shape \[1, 28, 28\]"):
        networks.resolve("resnet-50", (1, 28, 28))(10)
    with pytest.raises(UserError, match=r"ResNet-18 is for images, not for inputs of shape \[784\]"):
        networks.resolve("resnet-18-20", (784,))(10)


@pytest.mark.parametrize("method", ["supsup", "batche", "ewc"])
def test_residual_networks_serve_methods_that_take_gradients_image_by_image(method: str) -> None:
    from clbench import registry
    from clbench.engine.asking import Ask, Score
    from clbench.engine.evaluator import Schedule, evaluate
    from clbench.method import Brief
    from clbench.stream import Split, Stream, Task

    draws = torch.Generator().manual_seed(0)

    def split(images: int) -> Split:
        return Split(torch.randn(images, 3, 8, 8, generator=draws), torch.arange(images) % 2)

    stream = Stream("noise", [Task(split(20), split(6), str(task)) for task in range(2)], 2, (3, 8, 8))
    scenario = registry.scenario("GNu")
    factory = networks.resolve("resnet-18-2", (3, 8, 8))
    brief = Brief(scenario, lambda outputs: seeded(factory, outputs, 0), (3, 8, 8), 2, 0)
    learner = registry.method(method)(brief, **({"outputs": 4} if method != "ewc" else {"samples": 8}))
    events = list(evaluate(learner, stream, [Ask(scenario)], [2], Schedule(2, 4)))
    assert len([event for event in events if isinstance(event, Score)]) == 2


def test_the_work_of_a_step_is_counted() -> None:
    assert networks.work(networks.resolve("lenet-300-100", (1, 28, 28)), 10, (1, 28, 28)) == (
        266_200,
        3,
        784 + 2 * 300 + 2 * 100 + 10,
    )

    class Branching(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) if inputs.sum() > 0 else inputs

    assert networks.work(lambda outputs: Branching(4, outputs), 3, (4,)) == (15, 2, 0)


class HeadFirst(nn.Module):
    """The head is registered before the trunk, and a trunk layer has as many units as there are classes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head, self.a, self.b = nn.Linear(32, outputs), nn.Linear(64, 10), nn.Linear(10, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.b(self.a(x.flatten(1)).relu()).relu())


class Branching(HeadFirst):
    """Cannot be called without values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if float(x.sum()) > 0 else -x)


def test_the_last_layer_is_the_one_that_is_called_last() -> None:
    assert networks.head_names(HeadFirst(10), 10, (1, 8, 8)) == ("head.weight", "head.bias")
    assert networks.head_names(HeadFirst(7), 7, (1, 8, 8)) == ("head.weight", "head.bias")
    assert networks.head_names(Branching(10), 10, (1, 8, 8)) == ("a.weight", "a.bias")  # registered last
    assert networks.head_names(nn.Linear(3, 2), 2, (3,)) == ("weight", "bias")
    with pytest.raises(UserError, match="no last layer with 5 outputs"):
        networks.head_names(HeadFirst(10), 5, (1, 8, 8))


def test_torchvision_s_networks_come_by_dotted_name() -> None:
    network = resolve("torchvision.models:resnet18", (3, 32, 32))(7)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(("method", "settings"), [("naive", {}), ("supsup", {}), ("ewc", {"samples": 2})])
def test_torchvision_s_resnet_is_learned(method: str, settings: dict[str, int], make_brief: Callable[..., Brief]) -> None:
    """Activations in place, biases and running statistics."""
    shape = (3, 16, 16)
    brief = make_brief(GG, resolve("torchvision.models:resnet18", shape), input_shape=shape)
    split = Split(torch.randn(8, *shape), torch.arange(8) % 4)
    learner = registry.method(method)(brief, **settings)
    losses = teach(learner, Task(split, split, "noise"), 0, Schedule(2, 4)).losses
    assert all(math.isfinite(loss) for loss in losses)
    assert learner.predict(split.images, 0).labels.shape == (8,)
