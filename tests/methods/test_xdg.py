"""XdG: which units a task uses, the gated forward pass against matrices, and its effect."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clbench import networks
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.naive import Naive
from clbench.methods.xdg import XdG, XdGEWC
from clbench.scenarios import GG
from tests.methods.learning import accuracies

Make = Callable[..., Any]
GATES = "fc2.gates"


def test_each_task_has_its_own_gates_and_the_stated_fraction_is_closed(make_brief: Make) -> None:
    method = XdG(make_brief(GG), gated=0.75)
    first, second = method.gates(0)[GATES], method.gates(1)[GATES]
    assert method.gates(0).keys() == {GATES}  # the inputs of the first layer are not gated
    assert (int(first.sum()), int(second.sum())) == (16, 16)
    assert not torch.equal(first, second)
    assert torch.equal(method.gates(0)[GATES], first)


@pytest.mark.parametrize("kind", [XdG, XdGEWC], ids=lambda kind: kind.name)
def test_answers_are_those_of_the_task_s_units_alone(kind: Any, make_brief: Make, make_stream: Make) -> None:
    method, stream = kind(make_brief(GG), gated=0.5, learning_rate=0.01), make_stream(3)
    for index, task in enumerate(stream):
        teach(method, task, index, Schedule(20, 16))
    for index, task in enumerate(stream):
        inputs, _ = task.test.whole()
        head = method.heads[index]["fc2.weight"] if index < 2 else method.trained["fc2.weight"]
        used = method.gates(index)[GATES].nonzero().squeeze(1)
        hidden = (inputs.flatten(1) @ method.trained["fc1.weight"][used].T).relu()
        torch.testing.assert_close(method.logits(inputs, index), hidden @ head[:, used].T, rtol=1e-4, atol=1e-5)


def test_a_task_changes_only_the_weights_of_its_units(make_brief: Make, make_stream: Make) -> None:
    method, stream = XdG(make_brief(GG), gated=0.5, learning_rate=0.01, restart=True), make_stream(2)
    teach(method, stream[0], 0, Schedule(20, 16))
    before = method.trained["fc1.weight"].clone()
    teach(method, stream[1], 1, Schedule(20, 16))
    changed = (method.trained["fc1.weight"] != before).any(1)
    assert not changed[method.gates(1)[GATES] == 0].any()
    assert changed[method.gates(1)[GATES] == 1].all()


@pytest.mark.parametrize(("kind", "more"), [(XdG, {}), (XdG, {"c": 0.1}), (XdGEWC, {"strength": 10.0})], ids=["alone", "SI", "EWC"])
def test_it_forgets_less_than_naive_and_learns_as_much(
    kind: Any, more: dict[str, float], make_brief: Make, make_stream: Make
) -> None:
    def narrow(outputs: int) -> Any:
        return networks.mlp((1, 8, 8), (48,), outputs, bias=False)

    shared: dict[str, Any] = {"learning_rate": 0.1, "restart": True}
    naive = accuracies(Naive(make_brief(GG, narrow), **shared), make_stream(6))
    scores = accuracies(kind(make_brief(GG, narrow), gated=0.8, **shared, **more), make_stream(6))
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in (naive, scores)]
    assert forgetting[0] > 0.05
    assert forgetting[1] < 0.7 * forgetting[0]
    assert scores.diag().mean() > naive.diag().mean() - 0.1


def test_a_fraction_of_1_is_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match="gated must be at least 0 and below 1"):
        XdG(make_brief(GG), gated=1.0)
