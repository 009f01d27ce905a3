"""The settings of an ask that infers the task: the same defaults in every method that has them, and the same checks."""

from collections.abc import Callable
from dataclasses import asdict

import pytest

from clbench import registry
from clbench.errors import UserError
from clbench.method import Brief, parameters
from clbench.methods._inference import Inference
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
    ],
)
def test_what_cannot_be_asked_is_refused(how: Inference, says: str, make_brief: Callable[..., Brief]) -> None:
    with pytest.raises(UserError, match=says):
        how.check(make_brief(GNU), outputs=4)
