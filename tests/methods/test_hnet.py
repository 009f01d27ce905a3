"""HNET: the written weights against chunks put together by hand, the regulariser against a finite difference, and its effect."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from clbench.engine.evaluator import Schedule, teach
from clbench.methods.hnet import HNet
from clbench.scenarios import GG, GNU
from tests.methods.learning import accuracies

Make = Callable[..., Any]
SMALL: dict[str, Any] = {"width": 12, "task_embedding": 5, "chunk_embedding": 4, "chunk": 100}


def narrow(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, outputs))


def mlp(tensors: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """h with plain matrices."""
    for layer in (0, 2, 4):
        inputs = tensors[f"{layer}.weight"] @ inputs + tensors[f"{layer}.bias"]
        inputs = inputs.relu() if layer < 4 else inputs
    return inputs


def test_weights_are_written_chunk_by_chunk(make_brief: Make) -> None:
    """64 x 5 + 5 + 5 x 4 + 4 = 349 parameters: four chunks of 100, the last cut to 49."""
    method = HNet(make_brief(GG, narrow), **SMALL)
    embedding = method.fresh_own(0)["embedding"]
    assert method.shared["chunks"].shape == (4, 4)
    by_hand = torch.cat([mlp(method.shared, torch.cat([embedding, chunk])) for chunk in method.shared["chunks"]])[:349]
    parameters = method.effective(method.shared | {"embedding": embedding})
    torch.testing.assert_close(parameters["1.weight"], method.initial["1.weight"].std() * by_hand[:320].view(5, 64))
    torch.testing.assert_close(parameters["3.bias"], method.initial["3.bias"].std() * by_hand[345:])


def written_for(method: HNet, tensors: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
    """The 349 weights for a task with its ``own`` embedding."""
    outputs = torch.cat([mlp(tensors, torch.cat([own["embedding"], chunk])) for chunk in tensors["chunks"]])[:349]
    return outputs * torch.cat([torch.full((like.numel(),), float(like.std())) for like in method.initial.values()])


def test_the_loss_and_its_gradient_against_loops_and_finite_differences(make_brief: Make, make_stream: Make) -> None:
    method, stream = HNet(make_brief(GG, narrow), beta=0.3, learning_rate=0.01, **SMALL), make_stream(3)
    for index in range(2):
        teach(method, stream[index], index, Schedule(10, 16))
    before = [written_for(method, method.shared, row) for row in method.rows]
    method.begin_task(2, 1)
    inputs, labels = stream[2].train.whole(16)
    moved = {name: (tensor + 0.05 * torch.ones_like(tensor)).double() for name, tensor in method.trained.items()}

    def by_hand(tensors: dict[str, Tensor]) -> float:
        rows = [{"embedding": row["embedding"].to(tensors["chunks"])} for row in method.rows]
        changes = [float((written_for(method, tensors, row) - then).square().sum()) for row, then in zip(rows, before, strict=True)]
        own = written_for(method, tensors, tensors)
        parameters, start = {}, 0
        for name, like in method.initial.items():
            part = own[start : start + like.numel()].view(like.shape)
            parameters[name] = part
            start += like.numel()
        return (
            float(cross_entropy(functional_call(method.network, parameters, (inputs.double(),)), labels)) + 0.3 * sum(changes) / 2
        )

    leaves = {name: tensor.float().requires_grad_() for name, tensor in moved.items()}
    loss, _ = method.loss(leaves, method.given, inputs, labels)
    assert float(loss) == pytest.approx(by_hand(moved), rel=1e-4)
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    for name in ("2.weight", "chunks", "embedding", "4.bias"):
        place = (0,) * moved[name].ndim
        ends = []
        for step in (1e-4, -1e-4):
            nudged = {n: t.clone() for n, t in moved.items()}
            nudged[name][place] += step
            ends.append(by_hand(nudged))
        assert float(gradients[name][place]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-2, abs=1e-4)


def test_without_the_task_the_least_entropy_decides_for_each_image(make_brief: Make, make_stream: Make) -> None:
    method, stream = HNet(make_brief(GNU, narrow), learning_rate=0.01, **SMALL), make_stream(2)
    for index, task in enumerate(stream):
        teach(method, task, index, Schedule(30, 16))
    inputs, _ = stream[0].test.whole()
    prediction = method.predict(inputs)
    assert prediction.tasks is not None
    for image, label, task in zip(inputs, prediction.labels.tolist(), prediction.tasks.tolist(), strict=True):
        chances = [method.logits(image[None], t)[0].softmax(0) for t in range(2)]
        entropies = [float(-(p * p.log()).sum()) for p in chances]
        assert (task, label) == (entropies.index(min(entropies)), int(chances[task].argmax()))


def test_with_the_regulariser_it_keeps_earlier_tasks_and_without_it_forgets(make_brief: Make, make_stream: Make) -> None:
    shared: dict[str, Any] = {"width": 20, "task_embedding": 8, "chunk_embedding": 8, "chunk": 600, "learning_rate": 0.01}
    ours, without = (accuracies(HNet(make_brief(GG), beta=beta, **shared), make_stream(4), updates=100) for beta in (0.3, 0.0))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (ours, without)]
    assert forgetting[1] > 0.1
    assert forgetting[0] < 0.05
    assert ours.diag().mean() > 0.9
