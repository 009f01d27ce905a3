"""iCaRL: herding against a double loop, the loss against loops over images and outputs, exemplars, and its effect."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.icarl import ICaRL, herded
from clbench.methods.naive import Naive
from clbench.scenarios import GNU
from tests.methods.learning import accuracies

Make = Callable[..., Any]


def narrow(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, outputs))


def test_herding_against_a_double_loop() -> None:
    features = torch.randn(15, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = features.mean(0)
    chosen: list[int] = []
    for k in range(1, 7):
        errors = {}
        for row in range(15):
            if row not in chosen:
                errors[row] = float((mean - sum(features[other] for other in [*chosen, row]) / k).norm())
        chosen.append(min(errors, key=lambda row: errors[row]))
    assert herded(features, 6).tolist() == chosen
    assert sorted(herded(features, 99).tolist()) == list(range(15))


def test_the_loss_against_loops(make_brief: Make, make_stream: Make) -> None:
    """Binary cross-entropies: labels for the task's classes, and what the old network said for those of earlier tasks."""
    method, stream = ICaRL(make_brief(GNU, narrow), memory=40, replay_batch=6, learning_rate=0.01), make_stream(2)
    teach(method, stream[0], 0, Schedule(20, 16))
    method.begin_task(1, 3)
    old = {name: tensor.clone() for name, tensor in method.trained.items()}
    for inputs, labels in stream[1].train.batches(3, 8, torch.Generator().manual_seed(0)):
        shown: list[tuple[Tensor, Tensor]] = []
        plain = method.step

        def recording(*arguments: Any, plain: Any = plain, shown: Any = shown) -> Any:
            shown.append((arguments[3], arguments[4]))
            return plain(*arguments)

        method.step = recording  # type: ignore[assignment]
        now = {name: tensor.clone() for name, tensor in method.trained.items()}
        reported = method.observe(inputs, labels)
        method.step = plain
        (images, numbers) = shown[0]
        assert len(images) == 14
        assert torch.equal(numbers[:8], labels + 4)
        assert (numbers[8:] < 4).all()
        total = 0.0
        for image, number in zip(images, numbers.tolist(), strict=True):
            outputs = functional_call(method.network, now, (image[None],))[0].sigmoid()
            before = functional_call(method.network, old, (image[None],))[0].sigmoid()
            for k in range(8):
                target = float(before[k]) if k < 4 else float(number == k)
                total -= target * float(outputs[k].log()) + (1 - target) * float((1 - outputs[k]).log())
        assert reported is not None
        assert float(reported) == pytest.approx(total / 14, rel=1e-4)


def test_the_nearest_mean_of_exemplars_against_a_loop(make_brief: Make, make_stream: Make) -> None:
    method, stream = ICaRL(make_brief(GNU, narrow), memory=24, learning_rate=0.01), make_stream(2)
    for index, task in enumerate(stream):
        teach(method, task, index, Schedule(20, 16))

    def phi(image: Tensor) -> Tensor:
        hidden = (method.trained["1.weight"] @ image.flatten() + method.trained["1.bias"]).relu()
        return hidden / hidden.norm().clamp(min=1e-12)

    means = [torch.stack([phi(image) for image in images]).mean(0) for images in method.exemplars]
    inputs, _ = stream[1].test.whole()
    expected = [min(range(8), key=lambda k: float((phi(x) - means[k] / means[k].norm()).norm())) for x in inputs]
    prediction = method.predict(inputs)
    assert prediction.tasks is not None
    assert (4 * prediction.tasks + prediction.labels).tolist() == expected


def test_the_memory_is_shared_by_all_classes_and_the_first_exemplars_stay(make_brief: Make, make_stream: Make) -> None:
    method, stream = ICaRL(make_brief(GNU), memory=30), make_stream(2)
    teach(method, stream[0], 0, Schedule(5, 16))
    first = [images.clone() for images in method.exemplars]
    assert [len(images) for images in first] == [7] * 4
    teach(method, stream[1], 1, Schedule(5, 16))
    assert [len(images) for images in method.exemplars] == [3] * 8
    assert all(torch.equal(now, then[:3]) for now, then in zip(method.exemplars[:4], first, strict=True))
    assert method.progress()["exemplars"].shape == (24, 1, 8, 8)


def test_it_forgets_less_than_naive(make_brief: Make, make_stream: Make) -> None:
    naive = accuracies(Naive(make_brief(GNU), learning_rate=0.01, restart=True), make_stream(4))
    ours = accuracies(ICaRL(make_brief(GNU), learning_rate=0.01, memory=200, restart=True), make_stream(4))
    assert ours[-1].mean() > naive[-1].mean() + 0.2
    assert ours.diag().mean() > 0.9


def test_a_memory_without_room_for_every_class_is_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match="memory must be at least 12, an exemplar for each class of 3 tasks, not 10"):
        ICaRL(make_brief(GNU), memory=10).check_tasks(3)
