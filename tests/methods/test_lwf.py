"""Learning without forgetting: its loss against loops over images, tasks and classes, and its effect if tasks show similar images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.lwf import LwF
from clbench.methods.naive import Naive
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU
from clbench.stream import Split, Stream, Task
from tests.methods.learning import accuracies

Make = Callable[..., Any]
SCENARIOS = [GG, GNS, GNU]


def narrow(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, outputs))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_loss_against_loops(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    strength, temperature = 0.7, 3.0
    method = LwF(make_brief(scenario, narrow), strength=strength, temperature=temperature, learning_rate=0.01)
    stream = make_stream(3)
    for index in range(2):
        teach(method, stream[index], index, Schedule(20, 16))
    method.begin_task(2, 2)
    old = {name: tensor.clone() for name, tensor in method.trained.items()}
    for inputs, labels in stream[2].train.batches(2, 16, torch.Generator().manual_seed(0)):
        now, then = (functional_call(method.network, weights, (inputs,)) for weights in (method.trained, old))
        heads = {"GG": [range(4), range(4, 8)], "GNs": [range(4)], "GNu": [range(8)]}[scenario.name]
        present = {"GG": range(8, 12), "GNs": range(4), "GNu": range(12)}[scenario.name]
        losses = []
        for one, other, label in zip(now, then, labels, strict=True):
            loss = -one[list(present)].log_softmax(0)[int(label) + (8 if scenario is GNU else 0)]
            for head in heads:
                old_p = (other[list(head)] / temperature).softmax(0)
                log_p = (one[list(present if scenario is GNU else head)] / temperature).log_softmax(0)
                loss = loss + strength * sum(-old_p[y] * log_p[y] for y in range(len(head)))
            losses.append(loss)
        expected = torch.stack(losses).mean()
        torch.testing.assert_close(method.observe(inputs, labels), expected)


def regrouped(make_data: Make, tasks: int) -> Stream:
    """Tasks that show the same eight kinds of images, and ask for another division of them into four."""
    data = make_data(classes=8)
    train, test = data.inputs(data.train_images), data.inputs(data.test_images)
    draws = torch.Generator().manual_seed(3)
    all_tasks = []
    for i in range(tasks):
        group = torch.randperm(8, generator=draws) % 4
        all_tasks.append(Task(Split(train, group[data.train_labels]), Split(test, group[data.test_labels]), f"division {i}"))
    return Stream("regrouped", all_tasks, 4, (1, 8, 8))


def test_it_forgets_less_than_naive_if_tasks_show_similar_images(make_brief: Make, make_data: Make) -> None:
    naive, lwf = (accuracies(kind(make_brief(GG, narrow), learning_rate=0.01), regrouped(make_data, 5)) for kind in (Naive, LwF))
    forgetting = [(matrix.diag() - matrix[-1])[:-1].mean() for matrix in (naive, lwf)]
    assert forgetting[1] < forgetting[0] / 2
    assert lwf.diag().mean() > naive.diag().mean() - 0.03


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_only_the_network_is_stored(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    method = LwF(make_brief(scenario), restart=True)
    for index, task in enumerate(make_stream(2)):
        teach(method, task, index, Schedule(3, 16))
    assert method.progress() == {}
    heads = 1 if scenario is GNS else 2
    assert sum(tensor.numel() for tensor in method.learned().values()) == 64 * 64 + heads * 64 * 4


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"temperature": 0.0}])
def test_invalid_parameters_are_refused(wrong: dict[str, Any], make_brief: Make) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        LwF(make_brief(GNS), **wrong)
