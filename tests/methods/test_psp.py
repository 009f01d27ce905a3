"""PSP: contexts that are what they should be and never change, applied to the input as if to the weights, and superposition that acts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from clbench import storage
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, evaluate, teach
from clbench.methods.naive import Naive
from clbench.methods.psp import PSP, haar_rotation, random_signs
from clbench.scenarios import GG, GNS
from clbench.seeding import generator

Make = Callable[..., Any]
SCHEDULE = Schedule(updates=10, batch_size=32)
KINDS = ("rotation", "binary")


@pytest.mark.parametrize("size", [1, 2, 7, 300])
def test_a_rotation_is_orthogonal_and_its_transpose_inverts_it(size: int) -> None:
    rotation = haar_rotation(size, generator(0, "test"))
    unit = torch.eye(size, dtype=torch.float64)
    assert (rotation.double() @ rotation.double().T - unit).abs().max() < 1e-6  # float32 rounds at 6e-8
    x = torch.randn(50, size, generator=generator(1, "test"))
    assert torch.allclose(x @ rotation.T @ rotation, x, atol=1e-5)
    assert torch.allclose((x @ rotation.T).norm(dim=1), x.norm(dim=1), rtol=1e-5)


def test_rotations_follow_the_haar_measure() -> None:
    """First moments 0 and second moments 1/n of every entry, and a uniform angle of the first column in the plane: without the sign
    fix, LAPACK's QR would give a first column whose first entry is never positive."""
    draws = generator(0, "test")
    many = torch.stack([haar_rotation(3, draws) for _ in range(4000)])
    assert many.mean(0).abs().max() < 0.05
    assert (many.square().mean(0) - 1 / 3).abs().max() < 0.03
    plane = torch.stack([haar_rotation(2, draws)[:, 0] for _ in range(4000)])
    counts = torch.histc(torch.atan2(plane[:, 1], plane[:, 0]), bins=8, min=-torch.pi, max=torch.pi)
    assert (counts - 500).abs().max() < 120


def test_random_signs_are_signs_and_invert_themselves() -> None:
    signs = random_signs(1000, generator(0, "test"))
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.15
    x = torch.randn(3, 1000)
    assert torch.equal(x * signs * signs, x)


def spatial(outputs: int) -> nn.Module:
    """Layers whose inputs have features in different places: images, sequences of features, plain features."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),  # [n, 4, 3, 3]
        nn.ReLU(),
        nn.Conv2d(4, 6, 2),  # [n, 6, 2, 2]
        nn.Flatten(2),
        nn.Linear(4, 5),  # [n, 6, 5]: features last
        nn.Flatten(),
        nn.Linear(30, outputs),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_on_the_input_is_the_same_as_one_on_the_weights(kind: str, make_brief: Make) -> None:
    """y = (W C) x, with C contracted with the second dimension of every weight."""
    method = PSP(make_brief(GG, spatial), contexts=kind)
    explicit = {}
    contexts = method.fixed(3)
    for name, weight in method.shared.items():
        context = contexts.get(name.replace("weight", "context"))
        if name.endswith("weight"):
            matrix = torch.diag(context) if context.ndim == 1 else context
            explicit[name] = torch.einsum("oi...,ij->oj...", weight, matrix)
        else:
            explicit[name] = torch.randn(weight.shape, generator=generator(0, name))
            method.shared[name] = explicit[name]
    inputs = torch.randn(9, 1, 8, 8, generator=generator(0, "inputs"))
    by_input = functional_call(method.network, method.shared | contexts, (inputs,))
    by_weights = functional_call(make_brief(GG, spatial).network(4), explicit, (inputs,))
    assert torch.allclose(by_input, by_weights, atol=1e-5)
    assert not torch.allclose(by_input, functional_call(method.network, method.shared | method.fixed(4), (inputs,)), atol=1e-2)


def test_every_task_and_layer_has_a_context_of_its_own(make_brief: Make) -> None:
    method = PSP(make_brief(GG), contexts="binary")
    first, second = method.fixed(0), method.fixed(1)
    assert first.keys() == {"fc1.context", "fc2.context"}
    assert all(len(context) == 64 for context in first.values())
    different = [first["fc1.context"], first["fc2.context"], second["fc1.context"], second["fc2.context"]]
    assert all((a != b).any() for i, a in enumerate(different) for b in different[:i])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored", [False, True])
def test_contexts_are_never_trained_and_weights_always_are(kind: str, stored: bool, make_brief: Make, make_stream: Make) -> None:
    method = PSP(make_brief(GG), contexts=kind, store_contexts=stored, learning_rate=0.01)
    fixed = [method.fixed(task) for task in range(3)]
    for index, task in enumerate(make_stream(3)):
        before = method.shared
        teach(method, task, index, SCHEDULE)
        assert all((method.shared[name] != before[name]).any() for name in before)
        assert not method.trained  # and no optimiser outlives its task
    for task in range(3):
        contexts = method.own_of(task)
        assert all(torch.equal(contexts[name], context) for name, context in fixed[task].items())


@pytest.mark.parametrize("restart", [True, False])
def test_without_restart_the_optimiser_is_kept_between_tasks_and_on_disk(
    restart: bool, make_brief: Make, make_stream: Make
) -> None:
    stream = make_stream(3)

    def fresh() -> PSP:
        return PSP(make_brief(GG), restart=restart, learning_rate=0.01)

    whole, again = fresh(), fresh()
    for index, task in enumerate(stream):
        teach(whole, task, index, SCHEDULE)
        teach(again, task, index, SCHEDULE)
        state = again.learned(), again.progress()
        again = fresh()
        again.restore(*({name: tensor.clone() for name, tensor in part.items()} for part in state))
    assert all(torch.equal(whole.shared[name], again.shared[name]) for name in whole.shared)
    counts = [int(tensor) for name, tensor in whole.progress().items() if name.endswith("count")]
    assert counts == ([] if restart else [3 * SCHEDULE.updates])


def test_the_optimiser_sees_no_context(make_brief: Make) -> None:
    method = PSP(make_brief(GG))
    method.begin_task(0, 1)
    assert method.trained.keys() == method.state.slots.keys() == {"fc1.weight", "fc2.weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_stored_contexts_change_the_bytes_and_nothing_else(kind: str, make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(3)
    by_seed, by_tensor = (PSP(make_brief(GG), contexts=kind, store_contexts=stored, learning_rate=0.01) for stored in (False, True))
    for index, task in enumerate(stream):
        teach(by_seed, task, index, SCHEDULE)
        teach(by_tensor, task, index, SCHEDULE)
    inputs, _ = stream[0].test.whole()
    assert all(torch.equal(by_seed.logits(inputs, task), by_tensor.logits(inputs, task)) for task in range(3))
    sizes = [sum(tensor.nbytes for tensor in method.learned().values()) for method in (by_seed, by_tensor)]
    weights = 4 * (64 * 64 + 64 * 4)
    of_a_layer = 4 * 64 * 64 if kind == "rotation" else 64 // 8
    assert sizes == [weights + 2 * 8, weights + 2 * 8 + 3 * 2 * of_a_layer]  # and the seed and the number of tasks


@pytest.mark.parametrize("kind", KINDS)
def test_superposition_forgets_less_than_the_same_network_without_it(kind: str, make_brief: Make, make_stream: Make) -> None:
    """The control is one network with one head: PSP has no head per task."""
    stream = make_stream(8)
    scenario_of = {PSP: GG, Naive: GNS}
    extra: dict[Any, dict[str, Any]] = {PSP: {"contexts": kind}, Naive: {}}
    accuracy: dict[Any, list[float]] = {}
    for kind_of_method, scenario in scenario_of.items():
        method = kind_of_method(make_brief(scenario), learning_rate=0.001, **extra[kind_of_method])
        events = evaluate(method, stream, [Ask(scenario)], [8], Schedule(updates=60, batch_size=32))
        accuracy[kind_of_method] = [event.accuracy for event in events if isinstance(event, Score)]
    earlier = {name: sum(values[:4]) / 4 for name, values in accuracy.items()}
    assert earlier[PSP] > earlier[Naive] + 0.05
    assert accuracy[PSP][-1] > accuracy[Naive][-1] - 0.03


def test_an_earlier_state_does_not_follow_from_a_later_one() -> None:
    assert PSP.rewind({"fc1.weight": torch.zeros(1)}, 1) is None


def test_the_file_holds_only_what_predictions_need(make_brief: Make, make_stream: Make, convolution: Make) -> None:
    method = PSP(make_brief(GG, convolution), restart=True)
    for index, task in enumerate(make_stream(2)):
        teach(method, task, index, SCHEDULE)
    assert method.learned().keys() == {
        *method.initial,
        "seed",
        "tasks",
        "own/1.running_mean",
        "own/1.running_var",
    }
    assert method.components == 2
    assert method.progress() == {}
    assert storage.file_bytes(method.learned()) < 4 * (6 * 9 + 3 * 6 + 54 * 4 + 2 * 2 * 6) + 16 + 800  # a header beside the data
