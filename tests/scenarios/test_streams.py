"""Streams: what their tasks show, and how batches are drawn from them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clbench import registry
from clbench._torchvision import import_torchvision
from clbench.data import Dataset
from clbench.errors import UserError
from clbench.scenarios._classes import photographs
from clbench.scenarios._mnist import pixel_map
from clbench.scenarios.split_cifar import TINTS, tinted
from clbench.scenarios.split_mnist import in_order
from clbench.stream import MOST_TASKS, Split, Stream, StreamBuilder, unchanged

Make = Callable[..., Any]
FAMILIES = (
    "permuted-mnist",
    "rotated-mnist",
    "split-mnist",
    "permuted-fashion-mnist",
    "rotated-fashion-mnist",
    "split-fashion-mnist",
)


def build(name: str, *data: Dataset, tasks: int, seed: int = 0) -> Stream:
    return registry.stream(name).build(*data, tasks=tasks, seed=seed)


def random_images(classes: int = 10, height: int = 28, width: int = 28, channels: int = 1, name: str = "random") -> Dataset:
    """Images of which every pixel is another, so that a pixel in the wrong place shows."""
    draws = torch.Generator().manual_seed(len(name))

    def part(images: int) -> tuple[Tensor, Tensor]:
        pixels = torch.randint(0, 256, (images, channels, height, width), generator=draws, dtype=torch.uint8)
        return pixels, torch.randperm(images, generator=draws) % classes

    return Dataset(name, *part(40), *part(20), classes, mean=(0.3,) * channels, std=(0.2,) * channels)


def source_of(stream: Stream, task: int) -> Tensor:
    """The pixel that each pixel is filled from: where a permutation puts the numbers 0, 1, 2, …"""
    _, height, width = stream.input_shape
    numbers = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    return stream[task].train.view(numbers).flatten().long()


# Streams


@pytest.mark.parametrize("name", [*FAMILIES, "mixed", "mixed-digits"])
def test_a_stream_is_what_it_says(name: str) -> None:
    data = [random_images()] if name != "mixed" else [random_images(), random_images(name="clothes")]
    stream = build(name, *data, tasks=5)
    assert (stream.name, len(stream)) == (name, 5)
    assert stream.input_shape == (1, 28, 28)
    assert stream.classes == (2 if name.startswith("split") else 10)
    assert len({task.name for task in stream}) == 5
    for task in stream:
        for split in (task.train, task.test):
            inputs, labels = split.whole()
            assert (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)
            assert inputs.shape == (len(split), 1, 28, 28)
            assert 0 <= labels.min() <= labels.max() < stream.classes
            assert split.augment is None


@pytest.mark.parametrize("name", [*FAMILIES, "mixed", "mixed-digits"])
def test_equal_seeds_give_equal_streams(name: str) -> None:
    data = [random_images()] if name != "mixed" else [random_images(), random_images(name="clothes")]
    for one, other in zip(build(name, *data, tasks=4, seed=3), build(name, *data, tasks=4, seed=3), strict=True):
        assert torch.equal(one.train.whole()[0], other.train.whole()[0])


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_a_permutation_moves_all_pixels_of_all_images_alike(seed: int, height: int, width: int) -> None:
    data = random_images(height=height, width=width, channels=3)
    stream = build("permuted-mnist", data, tasks=3, seed=seed)
    for task in range(3):
        source = source_of(replace(stream, input_shape=(1, height, width)), task)
        assert sorted(source.tolist()) == list(range(height * width))
        for split, images, labels in (
            (stream[task].train, data.train_images, data.train_labels),
            (stream[task].test, data.test_images, data.test_labels),
        ):
            inputs, labels_seen = split.whole()
            expected = (images.flatten(2)[:, :, source].view_as(images).float() / 255 - 0.3) / 0.2
            assert torch.allclose(inputs, expected, atol=1e-6)
            assert torch.equal(labels_seen, labels)


def test_all_permutations_of_all_seeds_differ() -> None:
    data = random_images()
    sources = [source_of(build("permuted-mnist", data, tasks=30, seed=seed), task) for seed in (0, 1, 2) for task in range(30)]
    assert len({tuple(source.tolist()) for source in sources}) == 90
    assert list(range(28 * 28)) not in [source.tolist() for source in sources]  # the first task is permuted too


def test_more_tasks_leave_the_first_ones_as_they_were() -> None:
    data = random_images()
    few, many = (build("permuted-mnist", data, tasks=tasks, seed=5) for tasks in (2, 4))
    assert all(torch.equal(source_of(few, task), source_of(many, task)) for task in range(2))


def test_rotations_are_torchvision_s_nearest_neighbour_ones() -> None:
    functional = import_torchvision().transforms.functional
    data = random_images()
    stream = build("rotated-mnist", data, tasks=36)
    black = (0 - 0.3) / 0.2
    for i, task in enumerate(stream):
        assert task.name == f"{10 * i}°"
        for split, images in ((task.train, data.train_images), (task.test, data.test_images)):
            inputs = data.inputs(images)
            expected = functional.rotate(inputs, 10.0 * i, functional.InterpolationMode.NEAREST, fill=[black])
            assert torch.allclose(split.whole()[0], expected, atol=1e-6)
    assert torch.equal(stream[0].train.whole()[0], data.inputs(data.train_images))
    assert torch.allclose(stream[9].test.whole()[0], data.inputs(data.test_images).rot90(1, (2, 3)))


def test_corners_that_a_rotation_leaves_empty_are_black() -> None:
    data = random_images()
    white = replace(data, test_images=torch.full_like(data.test_images, 255))
    corner = build("rotated-mnist", white, tasks=5)[4].test.whole()[0][:, 0, 0, 0]
    assert torch.equal(corner, data.inputs(torch.zeros_like(data.test_images))[:, 0, 0, 0])


def test_split_tasks_have_pairs_of_classes_labelled_0_and_1() -> None:
    data = random_images()
    stream = build("split-mnist", data, tasks=5)
    for i, task in enumerate(stream):
        for split, images, labels in (
            (task.train, data.train_images, data.train_labels),
            (task.test, data.test_images, data.test_labels),
        ):
            rows = [row for row, label in enumerate(labels.tolist()) if label in (2 * i, 2 * i + 1)]
            inputs, labels_seen = split.whole()
            assert labels_seen.tolist() == [int(labels[row]) - 2 * i for row in rows]
            assert torch.equal(inputs, data.inputs(images[rows]))
    assert sum(len(task.train) for task in stream) == 40


def test_the_order_of_classes_can_be_drawn_or_given() -> None:
    data = random_images()
    class_order = [7, 0, 3, 9, 1, 2, 8, 4, 6, 5]
    shuffled = build("split-mnist-shuffled", data, tasks=5, seed=1)
    names = [task.name.removeprefix("classes ").split(" and ") for task in shuffled]
    orders = [
        (shuffled, [int(name) for pair in names for name in pair]),
        (in_order("mine", data, class_order, tasks=5), class_order),
    ]
    for stream, order in orders:
        assert sorted(order) == list(range(10))
        for i, task in enumerate(stream):
            classes_of_task = order[2 * i : 2 * i + 2]
            for half, images, labels in (
                (task.train, data.train_images, data.train_labels),
                (task.test, data.test_images, data.test_labels),
            ):
                rows = [row for row, label in enumerate(labels.tolist()) if label in classes_of_task]
                inputs, truths = half.whole()
                assert truths.tolist() == [classes_of_task.index(int(labels[row])) for row in rows]
                assert torch.equal(inputs, data.inputs(images[rows]))
    all_names = {tuple(task.name for task in build("split-mnist-shuffled", data, tasks=5, seed=seed)) for seed in range(5)}
    assert len(all_names) == 5
    assert [task.name for task in build("split-mnist-shuffled", data, tasks=2, seed=1)] == [task.name for task in shuffled][:2]
    clothes = build("split-fashion-mnist-shuffled", data, tasks=5, seed=1)
    assert [task.name for task in clothes] == [task.name for task in shuffled]


@pytest.mark.parametrize("order", [range(9), [0, 0, *range(2, 10)], range(1, 11)])
def test_an_order_that_is_none_is_refused(order: list[int]) -> None:
    with pytest.raises(UserError, match=r"^The order of classes \[.*\] must name each of 0 to 9 once\.$"):
        in_order("mine", random_images(), order, tasks=2)


def test_mixed_tasks_take_turns() -> None:
    digits, clothes = random_images(), random_images(name="clothes")
    clothes = replace(clothes, mean=(0.1,), std=(0.5,))
    stream = build("mixed", digits, clothes, tasks=8, seed=4)
    permuted, rotated = build("permuted-mnist", digits, tasks=8, seed=4), build("rotated-mnist", digits, tasks=4)
    permuted_clothes = build("permuted-fashion-mnist", clothes, tasks=8, seed=4)
    expected = [
        permuted[0].test.whole()[0],
        rotated[1].test.whole()[0],
        clothes.inputs(clothes.test_images),
        permuted[3].test.whole()[0],
        rotated[2].test.whole()[0],
        permuted_clothes[5].test.whole()[0],
        permuted[6].test.whole()[0],
        rotated[3].test.whole()[0],
    ]
    for i, task in enumerate(stream):
        assert torch.allclose(task.test.whole()[0], expected[i]), i
        assert torch.equal(task.test.whole()[1], clothes.test_labels if i % 3 == 2 else digits.test_labels)
    assert stream.classes == 10


def test_mixed_digits_have_two_classes_in_every_third_task() -> None:
    digits = random_images()
    stream, pairs = build("mixed-digits", digits, tasks=6, seed=4), build("split-mnist", digits, tasks=2)
    like = build("mixed", digits, digits, tasks=6, seed=4)
    assert [task.name for task in stream] == ["permutation 0", "10°", "classes 0 and 1", "permutation 1", "20°", "classes 2 and 3"]
    for index in (0, 1, 3, 4):
        assert torch.equal(stream[index].test.whole()[0], like[index].test.whole()[0])
    for index, pair in ((2, 0), (5, 1)):
        for half in ("train", "test"):
            (images, labels), (same, alike) = getattr(stream[index], half).whole(), getattr(pairs[pair], half).whole()
            assert torch.equal(images, same)
            assert torch.equal(labels, alike)
    assert stream.classes == 10


def test_mixed_data_must_have_one_size_and_may_have_fewer_classes() -> None:
    digits = random_images()
    with pytest.raises(UserError, match="needs images of one size, but random and clothes have different sizes"):
        build("mixed", digits, random_images(height=32, name="clothes"), tasks=3)
    assert build("mixed", random_images(classes=4), random_images(classes=7, name="clothes"), tasks=3).classes == 7


def test_tasks_that_share_images_share_their_memory() -> None:
    """2500 permutations of MNIST fit in memory because only the permutation is a task's own."""
    for name in ("permuted-mnist", "rotated-mnist"):
        stream = build(name, random_images(), tasks=4)
        assert len({task.train.images.data_ptr() for task in stream}) == 1
    moved = stream.to(torch.device("cpu"))
    assert len({task.train.images.data_ptr() for task in moved}) == 1


@given(st.integers(1, 4), st.data())
@settings(max_examples=30, deadline=None)
def test_a_pixel_map_fills_every_channel_and_the_outside(channels: int, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    source = torch.tensor(
        data.draw(st.lists(st.integers(-1, height * width - 1), min_size=height * width, max_size=height * width))
    )
    images = torch.arange(2 * channels * height * width, dtype=torch.float32).view(2, channels, height, width)
    before = images.clone()
    mapped = pixel_map(source, background=-7.0)(images)
    for n in range(2):
        for c in range(channels):
            for p in range(height * width):
                expected = -7.0 if source[p] < 0 else float(images[n, c].flatten()[source[p]])
                assert float(mapped[n, c].flatten()[p]) == expected
    assert mapped.shape == images.shape
    mapped.zero_()
    assert torch.equal(images, before)


def test_rotations_have_all_angles_between_theirs() -> None:
    stream = build("rotated-mnist", random_images(), tasks=3)
    assert stream.between is not None
    images = stream[0].test.images[:5]
    for place in range(3):
        assert torch.equal(stream.between(place)(images), stream[place].test.whole(5)[0])
    assert not torch.equal(stream.between(0.5)(images), images)


# Batches


@given(st.integers(1, 12), st.integers(1, 7), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_batches_are_shuffled_passes_laid_end_to_end(images: int, updates: int, batch_size: int, seed: int) -> None:
    split = Split(torch.arange(images).float().view(images, 1), torch.arange(images))
    batches = list(split.batches(updates, batch_size, torch.Generator().manual_seed(seed)))
    assert [(len(inputs), len(labels)) for inputs, labels in batches] == [(batch_size, batch_size)] * updates
    labels_seen = [int(label) for _, labels in batches for label in labels]
    assert labels_seen == [int(value) for inputs, _ in batches for value in inputs]
    for first in range(0, len(labels_seen) - images + 1, images):
        assert sorted(labels_seen[first : first + images]) == list(range(images))
    assert (
        len(set(labels_seen[len(labels_seen) // images * images :])) == len(labels_seen) % images
    )  # nor does the last, cut pass repeat an image
    again = list(split.batches(updates, batch_size, torch.Generator().manual_seed(seed)))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(batches, again, strict=True))


@given(
    images=st.integers(1, 30),
    updates=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    ahead=st.integers(1, 100),
    augment=st.booleans(),
)
@settings(deadline=None)
def test_batches_drawn_in_parts_are_those_of_all_drawn_at_once(
    images: int, updates: int, batch_size: int, ahead: int, augment: bool
) -> None:
    """All at once is how runs were done from the first: with the rows, what augmentation draws after them has to stay the same."""

    def moved(images: Tensor, draws: torch.Generator) -> Tensor:
        return images + torch.rand(len(images), 1, generator=draws)

    split = Split(torch.arange(images).float().view(-1, 1), torch.arange(images), augment=moved if augment else None)
    draws = torch.Generator().manual_seed(images)
    passes = -(-updates * batch_size // images)
    rows = torch.cat([torch.randperm(images, generator=draws) for _ in range(passes)])[: updates * batch_size]
    right = [split.images[some] for some in rows.view(updates, batch_size)]
    right = [moved(some, draws) for some in right] if augment else right
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.stream.ROWS_AHEAD", ahead)
        batches = list(split.batches(updates, batch_size, torch.Generator().manual_seed(images)))
    assert len(batches) == updates
    for (inputs, labels), some, numbers in zip(batches, right, rows.view(updates, batch_size), strict=True):
        assert torch.equal(inputs, some)
        assert torch.equal(labels, numbers)


def test_rows_are_drawn_as_they_are_needed() -> None:
    split = Split(torch.zeros(10, 1), torch.zeros(10, dtype=torch.int64))
    assert len(next(split.order(10**12, 128, torch.Generator()))) == 128


def test_each_pass_is_shuffled_differently() -> None:
    split = Split(torch.zeros(50, 1), torch.arange(50))
    first, second = (labels.tolist() for _, labels in split.batches(2, 50, torch.Generator().manual_seed(0)))
    assert len({tuple(first), tuple(second), tuple(range(50))}) == 3


@pytest.mark.parametrize("view", [unchanged, pixel_map(torch.arange(4), 0.0)])
def test_what_is_given_out_is_a_fresh_copy(view: Callable[[Tensor], Tensor]) -> None:
    images, labels = torch.randn(6, 1, 2, 2), torch.arange(6)
    split = Split(images.clone(), labels.clone(), view)
    for _ in range(2):
        handed = [
            *split.whole(),
            *split.whole(3),
            *(tensor for batch in split.batches(3, 4, torch.Generator()) for tensor in batch),
        ]
        for tensor in handed:
            tensor.zero_()
        assert torch.equal(split.images, images)
        assert torch.equal(split.labels, labels)
    assert torch.equal(split.whole(4)[0], images[:4])
    assert split.whole(99)[1].tolist() == labels.tolist()


def test_augmentation_changes_what_is_trained_on_and_nothing_else() -> None:
    split = Split(
        torch.ones(6, 1), torch.arange(6), augment=lambda inputs, draws: inputs + torch.rand(inputs.shape, generator=draws)
    )
    first = [inputs for inputs, _ in split.batches(2, 6, torch.Generator().manual_seed(0))]
    again = [inputs for inputs, _ in split.batches(2, 6, torch.Generator().manual_seed(0))]
    assert len(torch.cat(first).unique()) == 12
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(split.whole()[0], torch.ones(6, 1))


# Builders


def test_a_builder_knows_how_many_tasks_it_has() -> None:
    builder = StreamBuilder("some", lambda data, *, tasks, seed: None, "", most_tasks=5)
    assert builder.check_tasks(5) == 5
    for tasks, says in ((6, "The stream some has 5 tasks"), (0, "at least 1, not 0"), (-1, "at least 1, not -1")):
        with pytest.raises(UserError, match=says):
            builder.check_tasks(tasks)
    endless = replace(builder, most_tasks=None)
    assert endless.check_tasks(MOST_TASKS) == MOST_TASKS
    with pytest.raises(UserError, match="100,001 tasks are too many, because a stream is in memory with all its tasks"):
        endless.check_tasks(MOST_TASKS + 1)


def test_the_most_tasks_can_be_built() -> None:
    data, clothes = random_images(), random_images(name="clothes")
    for name in ("rotated-mnist", "split-mnist"):
        most = registry.stream(name).most_tasks
        assert most is not None
        assert len(build(name, data, tasks=most)) == most
    most = registry.stream("mixed").most_tasks
    assert most is not None
    stream = build("mixed", data, clothes, tasks=most)
    first = [tuple(task.test.whole(1)[0].flatten().tolist()) for task in stream]
    assert len(set(first)) == most


# Classes dealt at random, and photographs


@pytest.mark.parametrize(("name", "classes", "per_task", "tasks"), [("split-cifar100", 100, 5, 20), ("split-cifar10", 10, 2, 5)])
def test_classes_are_dealt_to_tasks_at_random(name: str, classes: int, per_task: int, tasks: int) -> None:
    data = random_images(classes, 32, 32, 3)
    stream = build(name, data, tasks=tasks)
    dealt = [[int(number) for number in task.name.removeprefix("classes ").split(", ")] for task in stream]
    assert sorted(number for chosen in dealt for number in chosen) == list(range(classes))
    assert dealt != [
        [int(n) for n in task.name.removeprefix("classes ").split(", ")] for task in build(name, data, tasks=tasks, seed=1)
    ]
    for task, chosen in zip(stream, dealt, strict=True):
        assert len(chosen) == per_task
        for split, images, labels in (
            (task.train, data.train_images, data.train_labels),
            (task.test, data.test_images, data.test_labels),
        ):
            rows = [row for row in range(len(labels)) if int(labels[row]) in chosen]
            inputs, labels_seen = split.whole()
            assert torch.equal(inputs, data.inputs(images[rows]))
            assert [chosen[label] for label in labels_seen.tolist()] == labels[rows].tolist()
        assert task.test.augment is None


def test_fewer_tasks_are_the_first_of_all() -> None:
    data = random_images(100, 32, 32, 3)
    few, all_ = build("split-cifar100", data, tasks=3), build("split-cifar100", data, tasks=20)
    assert [task.name for task in few] == [task.name for task in all_][:3]


def test_photographs_are_moved_and_mirrored_as_one_by_one() -> None:
    """Against a loop over images that reads what was drawn off the result's position in a padded image."""
    data = random_images(10, 8, 8, 3)
    augment = photographs(data)
    inputs = data.inputs(data.train_images[:20]).repeat(8, 1, 1, 1)
    moved = augment(inputs, torch.Generator().manual_seed(0))
    black = data.inputs(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    seen = set()
    for before, after in zip(inputs, moved, strict=True):
        padded = black[0].expand(3, 16, 16).clone()
        padded[:, 4:12, 4:12] = before
        places = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            if torch.allclose(after.flip(-1) if mirrored else after, padded[:, top : top + 8, left : left + 8], atol=1e-6)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 80
    assert {place[2] for place in seen} == {False, True}
    assert {place[0] for place in seen} == {place[1] for place in seen} == set(range(9))
    assert torch.equal(augment(inputs, torch.Generator().manual_seed(0)), moved)


def test_digits_in_ten_colours_are_a_hundred_classes() -> None:
    digits = random_images()
    whole = tinted(digits)
    assert whole.classes == 100
    assert whole.train_images.shape[1:] == (3, 32, 32)
    for row in (0, 7, 13):
        colour = digits.train_labels[:row].tolist().count(int(digits.train_labels[row])) % 10
        assert int(whole.train_labels[row]) == 10 * int(digits.train_labels[row]) + colour
        grey = torch.nn.functional.pad(digits.train_images[row, 0], (2, 2, 2, 2)).double()
        for channel in range(3):
            expected = (grey / 255 * float(TINTS[colour, channel])).round()
            assert (whole.train_images[row, channel].double() - expected).abs().max() <= 1
    assert len({tuple(colour) for colour in TINTS.tolist()}) == 10
