"""The settings of an ask that infers the task: the same defaults in every method that has them, and the same checks."""

from collections.abc import Callable
from dataclasses import asdict
from typing import get_args

import pytest
import torch

from clbench import registry
from clbench.errors import UserError
from clbench.method import Brief, parameters
from clbench.methods._inference import Inference
from clbench.methods._objectives import OBJECTIVES
from clbench.scenarios import GNU

METHODS = ["supsup", "batche"]


@pytest.mark.parametrize("method", METHODS)
def test_the_signature_that_the_command_line_reads_has_the_same_defaults(method: str) -> None:
    defaults = {name: parameter.default for name, parameter in parameters(registry.method(method).predict).items()}
    assert defaults.items() <= asdict(Inference()).items()
    assert {"algorithm", "objective", "group", "evidence"} <= defaults.keys()


def test_the_defaults_let_each_image_decide_its_own_task_by_one_shot_and_entropy() -> None:
    assert Inference() == Inference("one-shot", objective="H", group=1, evidence=1, steps=None, step_size=None)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            Inference(group=2, evidence=3),
            r"^evidence must be between 1 and the group of 2 images, not 3: give group=3 or more too\.$",
        ),
        (Inference(objective="G"), r"^The objective G needs superfluous outputs, but outputs=4 is the number of classes"),
        (Inference(steps=3), r"^steps and step_size belong to algorithm=gradient, not to one-shot\.$"),
        (Inference("gradient", step_size=0.0), r"^step_size must be above 0"),
        (
            Inference("binary", objective="margin"),
            r"^algorithm=binary follows the gradient of the objective, and that of margin does not say which task fits: use "
            r"algorithm=exhaustive, or another objective\.$",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(how: Inference, says: str, make_brief: Callable[..., Brief]) -> None:
    with pytest.raises(UserError, match=says):
        how.check(make_brief(GNU), outputs=4)


@pytest.mark.parametrize("method", METHODS)
def test_an_objective_is_known_to_every_method_by_its_entry_alone(method: str) -> None:
    assert get_args(parameters(registry.method(method).predict)["objective"].annotation) == tuple(OBJECTIVES)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_an_objective_is_lower_for_outputs_that_are_surer_of_a_class(name: str) -> None:
    sure, unsure = torch.tensor([[6.0, 0, 0, 0], [1.0, 0, 0, 0]])
    values = [float(OBJECTIVES[name].value(logits, 2)) for logits in (sure, unsure)]
    assert values[0] < values[1]
    moved = [float(OBJECTIVES[name].value(logits.flip(0), 2)) for logits in (sure, unsure)]  # sure of a superfluous output
    assert (moved[0] < moved[1]) == (name in ("H", "margin"))
