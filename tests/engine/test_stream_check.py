"""Checks of a stream when it is built: errors, notes and corrections."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import networks, registry
from clbench.data import Dataset
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Schedule, evaluate
from clbench.engine.stream_check import checked, small_tasks
from clbench.errors import UserError
from clbench.method import Brief
from clbench.stream import Split, Stream, Task, unchanged

IMAGES = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 3


def stream_of(*tasks: tuple[Split, Split], classes: int = 3, shape: tuple[int, ...] = (1, 4, 4)) -> Stream:
    return Stream("mine", [Task(train, test, f"kind {i}") for i, (train, test) in enumerate(tasks)], classes, shape)


GOOD = Split(IMAGES, LABELS)


def with_test(images: Any = IMAGES, labels: Any = LABELS, view: Callable[[Tensor], Tensor] = unchanged) -> Stream:
    """A stream of two tasks, of which the second has these test images."""
    return stream_of((GOOD, GOOD), (GOOD, Split(images, labels, view)))


def test_a_good_stream_stays_as_it_is() -> None:
    stream = stream_of((GOOD, GOOD), (replace(GOOD, view=lambda x: x.flip(-1)), GOOD))
    result = checked(stream)
    assert result.notes == ()
    for task, before in zip(result, stream, strict=True):
        assert task.name == before.name
        for split, original in ((task.train, before.train), (task.test, before.test)):
            assert split.images is original.images
            assert split.labels is original.labels
            assert split.view is original.view


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_labels_of_other_whole_numbers_become_int64(kind: torch.dtype) -> None:
    result = checked(with_test(labels=LABELS.to(kind)))
    assert result[1].test.labels.dtype == torch.int64
    assert torch.equal(result[1].test.labels, LABELS)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_other_floats_become_float32_and_stay_shared(kind: torch.dtype) -> None:
    images = IMAGES.to(kind)
    split = Split(images, LABELS)
    result = checked(stream_of((split, split), (split, split)))
    assert result[0].train.images.dtype == torch.float32
    assert torch.equal(result[0].train.images, images.float())
    assert result[0].train.images is result[1].test.images


def test_bytes_are_images_if_the_view_makes_float32_of_them() -> None:
    pixels = torch.arange(20 * 16, dtype=torch.int64).to(torch.uint8).view(20, 1, 4, 4)
    result = checked(with_test(pixels, view=lambda x: x.float() / 255))
    assert result[1].test.images is pixels
    with pytest.raises(UserError, match=r"^The test inputs of task 1 \(kind 1\) are uint8 of shape .*: make them float32, in"):
        checked(with_test(pixels))


def spoilt(value: float) -> Tensor:
    images = IMAGES.clone()
    images[13, 0, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (lambda: stream_of(), "The stream mine has no tasks: give it at least one."),
        (
            lambda: with_test(labels=LABELS + 1),
            "The test labels of task 1 (kind 1) run from 1 to 3, and the stream has 3 classes: count labels from 0 to 2.",
        ),
        (
            lambda: with_test(labels=LABELS - 1),
            "The test labels of task 1 (kind 1) run from -1 to 1, and the stream has 3 classes: count labels from 0 to 2.",
        ),
        (
            lambda: with_test(labels=LABELS.float()),
            "The test labels of task 1 (kind 1) are float32 of shape (20,): make them whole numbers, one for each image, as "
            "labels.long() does.",
        ),
        (
            lambda: with_test(labels=torch.eye(3, dtype=torch.int64)[LABELS]),
            "The test labels of task 1 (kind 1) are int64 of shape (20, 3): make them whole numbers, one for each image, as "
            "labels.long() does.",
        ),
        (
            lambda: with_test(labels=LABELS.numpy()),
            "The test labels of task 1 (kind 1) are of type ndarray: make a tensor of them.",
        ),
        (
            lambda: with_test(IMAGES.numpy()),
            "The test images of task 1 (kind 1) are of type ndarray: make a tensor of them.",
        ),
        (
            lambda: with_test(IMAGES[:0], LABELS[:0]),
            "There are no test images of task 1 (kind 1): add images, or remove the task.",
        ),
        (
            lambda: stream_of((Split(IMAGES[:0], LABELS[:0]), GOOD)),
            "There are no training images of task 0 (kind 0): add images, or remove the task.",
        ),
        (
            lambda: with_test(IMAGES[:7]),
            "There are 7 test images and 20 test labels of task 1 (kind 1): give each image one label.",
        ),
        (
            lambda: with_test(IMAGES.view(20, 16)),
            "The test inputs of task 1 (kind 1) have the shape (16,), and the stream's input_shape is (1, 4, 4): make them equal.",
        ),
        (
            lambda: with_test(view=lambda x: x.flatten(1)),
            "The test inputs of task 1 (kind 1) have the shape (16,), and the stream's input_shape is (1, 4, 4): make them equal.",
        ),
        (
            lambda: with_test(view=lambda x: x.double()),
            "The test inputs of task 1 (kind 1) are float64 of shape (4, 1, 4, 4): make them float32, in the images or in the view.",
        ),
        (
            lambda: with_test(view=lambda x: x[:, 2:]),
            "The test inputs of task 1 (kind 1) have the shape (0, 4, 4), and the stream's input_shape is (1, 4, 4): make them equal.",
        ),
        *(
            (
                lambda value=value: with_test(spoilt(value)),
                "Image 13 of the test images of task 1 (kind 1) has a value that is NaN or infinite: correct or remove it.",
            )
            for value in (float("nan"), float("inf"), -float("inf"))
        ),
        (
            lambda: with_test(IMAGES.double() * 1e300),
            "Image 0 of the test images of task 1 (kind 1) has a value that is NaN or infinite: correct or remove it.",
        ),
        (
            lambda: with_test(view=lambda x: x / 0),
            "Image 0 of the test images of task 1 (kind 1) has a value that is NaN or infinite: correct or remove it.",
        ),
    ],
)
def test_an_invalid_stream_is_refused_in_one_sentence(stream: Callable[[], Stream], says: str) -> None:
    with pytest.raises(UserError) as refused:
        checked(stream())
    assert str(refused.value) == says


def test_an_error_of_a_view_names_its_line() -> None:
    says = (
        r"^The view of the test images of task 1 \(kind 1\) failed in line \d+ of .*test_stream_check.py "
        r"\(IndexError: index 5 is out of bounds .*\): correct it there\.$"
    )
    with pytest.raises(UserError, match=says):
        checked(with_test(view=lambda x: x[:, 5]))


def test_a_view_may_mend_what_is_not_finite() -> None:
    assert checked(with_test(spoilt(float("nan")), view=lambda x: x.nan_to_num())).notes == ()


def test_classes_and_sizes_may_differ_from_task_to_task() -> None:
    sizes = [(20, 3), (7, 1), (1, 2)]
    tasks = [(Split(IMAGES[:n], LABELS[:n] % classes), GOOD) for n, classes in sizes]
    assert checked(stream_of(*tasks)).notes == ()


def test_tensors_that_tasks_share_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of tasks share their images."""
    looked: list[int] = []
    before = Tensor.aminmax

    def counted(tensor: Tensor) -> Any:
        looked.append(tensor.numel())
        return before(tensor)

    monkeypatch.setattr(Tensor, "aminmax", counted)
    checked(stream_of(*[(replace(GOOD, view=lambda x, i=i: x + i), GOOD) for i in range(50)]))  # type: ignore[misc]
    assert sorted(looked) == [LABELS.numel(), IMAGES.numel()]


def test_a_view_is_asked_for_a_sample_only() -> None:
    tasks_asked: list[int] = []

    def view(images: Tensor) -> Tensor:
        tasks_asked.append(len(images))
        return images.clone()

    many = Split(IMAGES.repeat(50, 1, 1, 1), LABELS.repeat(50), view)
    checked(stream_of((many, many)))
    assert tasks_asked == [4, 4]


def test_what_is_drawn_later_does_not_depend_on_the_check() -> None:
    """A view may draw from the global generator; a run that goes on restores that generator."""
    state = torch.get_rng_state()
    checked(with_test(view=lambda x: x + torch.rand(())))
    assert torch.equal(torch.get_rng_state(), state)


# What recurs


def turned(times: int) -> Split:
    return replace(GOOD, view=lambda x: x.rot90(times, (2, 3)).clone())


def test_one_note_names_the_tasks_that_recur() -> None:
    once = checked(stream_of(*[(turned(i % 2), turned(i % 2)) for i in range(3)]))
    assert once.notes == (
        "Task 2 is task 0 again, by all labels and a sample of images: it counts as another task, and no learner can distinguish "
        "the two.",
    )
    (often,) = checked(stream_of(*[(turned(i % 2), turned(i % 2)) for i in range(6)])).notes
    assert often.startswith("Task 2 is task 0 again (and 3 more of the 6 tasks repeat earlier ones), by")


def test_copies_of_the_images_are_the_same_task() -> None:
    rows = torch.arange(10)
    tasks = [(Split(IMAGES[rows], LABELS[rows]), Split(IMAGES[rows], LABELS[rows])) for _ in range(2)]
    assert len(checked(stream_of(*tasks)).notes) == 1


def test_tasks_that_differ_in_labels_or_views_or_test_images_are_others() -> None:
    other = Split(IMAGES, (LABELS + 1) % 3)
    assert checked(stream_of((GOOD, GOOD), (other, GOOD), (GOOD, other), (turned(1), GOOD), (GOOD, turned(1)))).notes == ()


def test_the_zoo_s_streams_do_not_recur(make_data: Callable[..., Dataset]) -> None:
    data = make_data(classes=10)
    for name, tasks in (("permuted-mnist", 30), ("rotated-mnist", 36), ("split-mnist", 5), ("mixed-digits", 15)):
        assert checked(registry.stream(name).build(data, tasks=tasks, seed=0)).notes == ()


# Tasks smaller than a batch


def test_one_note_names_the_tasks_smaller_than_a_batch() -> None:
    stream = stream_of(*[(Split(IMAGES[:n], LABELS[:n]), GOOD) for n in (20, 5, 1, 6)])
    assert small_tasks(stream, 6) == (
        "Batches of 6 repeat images in 2 of 4 tasks, which have fewer training images: the fewest are the 1 of task 2 (kind 2).",
    )
    assert small_tasks(stream, 1) == ()


def test_a_stream_made_by_hand_is_checked_before_it_is_taught(make_brief: Callable[..., Brief]) -> None:
    naive, gg = registry.method("naive"), registry.scenario("GG")
    brief = make_brief(gg, input_shape=(1, 4, 4), classes=3)
    with pytest.raises(UserError, match="run from 1 to 3"):
        next(iter(evaluate(naive(brief), with_test(labels=LABELS + 1), [Ask(gg)], [1], Schedule(1))))


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_method_learns_a_task_of_one_image(name: str, make_brief: Callable[..., Brief]) -> None:
    method = registry.method(name)
    scenario = next(s for s in registry.scenarios().values() if s in method.scenarios)
    stream = stream_of((GOOD, GOOD), (Split(IMAGES[:1], LABELS[:1]), GOOD))
    make: Callable[..., Any] = method
    outputs = {"outputs": 6} if name == "hopsupsup" else {}
    brief = make_brief(
        scenario, lambda outputs: networks.mlp((1, 4, 4), (8,), outputs, bias=False), input_shape=(1, 4, 4), classes=3
    )
    events = list(evaluate(make(brief, **outputs), stream, [Ask(scenario)], [2], Schedule(10, batch_size=8)))
    assert [0 <= event.accuracy <= 1 for event in events if isinstance(event, Score)] == [True, True]
