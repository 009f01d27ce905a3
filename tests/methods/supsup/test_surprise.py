"""Learning without a given task, by surprise: which losses are unusual, what then happens, and whole streams made by hand."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clbench import storage
from clbench.errors import UserError
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.inference import one_shot
from clbench.methods.supsup.surprise import DEVIATIONS, SHARE, SHORTLIST, SPAN, Surprise, Usual, shortlist
from clbench.scenarios import GNU, NNS
from clbench.stream import Stream

Make = Callable[..., Any]
Batch = tuple[Tensor, Tensor]
GUESSING = math.log(4)
TINY: dict[str, Any] = {"outputs": 30, "learning_rate": 0.001, "allocation": "surprise"}
SIZE = 32

# The usual loss


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_the_first_losses_count_equally_and_later_ones_fade(losses: list[float]) -> None:
    usual = Usual()
    for loss in losses:
        usual = usual.after(loss)
    assert usual.batches == len(losses)
    mean = math.fsum(losses[:SPAN]) / len(losses[:SPAN])
    for loss in losses[SPAN:]:
        mean += (loss - mean) / SPAN
    assert usual.mean == pytest.approx(mean, abs=1e-9)


def test_the_variance_is_that_of_scattered_losses() -> None:
    losses = 0.5 + 0.1 * torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual, variances = Usual(), []
    for loss in losses.tolist():
        usual = usual.after(loss)
        variances.append(usual.variance)
    assert sum(variances[SPAN:]) / len(variances[SPAN:]) == pytest.approx(0.1**2, rel=0.15)


def test_a_new_mask_is_surprised_by_nothing_and_a_falling_loss_surprises_nobody() -> None:
    usual = Usual()
    for batch in range(200):
        loss = 5 * 0.97**batch + 0.1
        assert loss <= usual.limit(GUESSING)
        if batch < SPAN:
            assert usual.limit(GUESSING) == math.inf
        else:
            assert usual.limit(GUESSING) == pytest.approx(usual.mean + SHARE * GUESSING)  # and the fall is no scatter
        usual = usual.after(loss)


@pytest.mark.parametrize(
    ("deviation", "limit"),
    [(0.0, 0.2 + SHARE * GUESSING), (0.01, 0.2 + SHARE * GUESSING), (0.5, 0.2 + DEVIATIONS * 0.5)],
)
def test_a_loss_is_surprising_beyond_chance_and_beyond_a_share_of_guesses(deviation: float, limit: float) -> None:
    usual = Usual(100, 0.3, deviation**2, lowest=0.2)
    assert usual.limit(GUESSING) == pytest.approx(limit)
    assert usual.known(GUESSING) == pytest.approx(min(limit, (1 - SHARE) * GUESSING))


def test_what_is_usual_does_not_rise_bit_by_bit() -> None:
    """As in a gradual transition: no batch is far above the mean, and yet the loss becomes surprising."""
    usual, loss = Usual(), 0.1
    for _ in range(100):
        usual = usual.after(loss)
    while loss <= usual.limit(GUESSING):
        usual = usual.after(loss)
        loss += 0.003
        assert loss < 1
    assert loss - usual.mean < 0.1
    assert usual.lowest == pytest.approx(0.1)


def test_a_mask_that_learned_little_does_not_know_a_batch_that_it_would_guess() -> None:
    assert Usual(3, 4.0, 1.0).known(GUESSING) == pytest.approx((1 - SHARE) * GUESSING)


# The rule


def rule(**more: Any) -> Surprise:
    """With three masks that know their tasks, the last one in training."""
    made = Surprise(classes=4, **{"budget": 5, "when_full": "refuse"} | more)
    made.usual, made.training = [Usual(100, 0.2, 0.01**2, 0.2)] * 3, 2
    return made


@pytest.mark.parametrize(
    ("losses", "unknown", "settings", "learns", "training", "decision"),
    [
        ({0: 0.3, 1: 2.5}, 0, {}, False, 0, "again"),  # an earlier mask knows it
        ({0: 0.3, 1: 0.25}, 3, {}, False, 1, "again"),  # the lowest loss
        ({0: 1.3, 1: 2.5}, 0, {}, False, 2, "skipped"),  # nobody knows it: perhaps it is of two tasks
        ({0: 1.3, 1: 2.5}, 1, {}, True, 3, "new"),  # nor the next one
        ({0: 1.3, 1: 2.5}, 1, {"budget": 3}, False, 2, "refused"),
        ({0: 1.3, 1: 2.5}, 9, {"budget": 3}, False, 2, "refused"),
        ({0: 1.3, 1: 2.5}, 1, {"budget": 3, "when_full": "reuse"}, True, 0, "reused"),
        ({0: 2.3, 1: 2.5}, 1, {"budget": 3, "when_full": "reuse"}, True, 2, "reused"),  # by the mask in training
        ({0: 0.3, 1: 2.5}, 1, {"budget": 3}, False, 0, "again"),
        ({0: math.nan, 1: math.nan}, 0, {}, False, 2, "skipped"),
    ],
)
def test_the_rule(
    losses: dict[int, float], unknown: int, settings: dict[str, Any], learns: bool, training: int, decision: str
) -> None:
    made = rule(**settings)
    made.unknown = unknown
    assert made.surprising(2.0)
    assert made.decide(2.0, losses) == learns
    assert made.training == training
    (row,) = made.take_rows()
    assert (row["decision"], row["trained"], row["mask"]) == (decision, learns, training)
    assert row["allocated"] == (decision == "new") == (len(made.usual) == 4)
    assert (row["loss"], row["candidates"]) == (2.0, 2)
    assert row["limit"] == pytest.approx(0.2 + SHARE * GUESSING)
    assert made.take_rows() == []
    if decision == "reused":
        assert made.usual[training] == Usual()  # it starts on another task


def test_a_batch_that_fits_ends_a_row_of_unknown_ones() -> None:
    made = rule()
    assert not made.decide(2.0, {0: 2.0, 1: 2.0})
    assert not made.surprising(0.21)
    made.learned(0.21)
    assert not made.decide(2.0, {0: 2.0, 1: 2.0})
    assert made.decide(2.0, {0: 2.0, 1: 2.0})
    assert made.training == 3


def test_a_loss_that_is_no_number_is_surprising() -> None:
    assert rule().surprising(math.nan)


# Streams made by hand


def visits(stream: Stream, order: Sequence[int], lengths: Sequence[int], seed: int = 0) -> tuple[list[Batch], list[dict[int, int]]]:
    """Batches of SIZE images that run through tasks in this order, ``lengths`` images each, and the images of each task in each batch.

    Boundaries fall inside batches wherever the lengths say. The last batch is left out if it is not full.
    """
    draws = torch.Generator().manual_seed(seed)
    images, labels, tasks = [], [], []
    for task, length in zip(order, lengths, strict=True):
        inputs, right = stream[task].train.whole()
        rows = torch.randint(len(right), (length,), generator=draws)
        images.append(inputs[rows])
        labels.append(right[rows])
        tasks.append(torch.full((length,), task))
    everything = zip(torch.cat(images).split(SIZE), torch.cat(labels).split(SIZE), torch.cat(tasks).split(SIZE), strict=True)
    full = [batch for batch in everything if len(batch[0]) == SIZE]
    counts = [{int(task): int((t == task).sum()) for task in t.unique()} for _, _, t in full]
    return [(inputs, right) for inputs, right, _ in full], counts


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[int]:
    """The rows of the masks that are new or differ."""
    old, new = before["masks"], after["masks"]
    return {row for row in range(len(new)) if row >= len(old) or not torch.equal(old[row], new[row])}


def owners(method: SupSup, batches: Sequence[Batch]) -> list[int | None]:
    """Teach the batches one by one; the mask that each changed, or None. Every change must be of one mask."""
    found: list[int | None] = []
    for inputs, labels in batches:
        before = method.learned()
        method.observe(inputs, labels)
        rows = changed(before, method.learned())
        assert len(rows) <= 1
        found.append(rows.pop() if rows else None)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_there_is_a_mask_for_each_task_and_no_batch_of_another_is_learned(seed: int, make_brief: Make, make_stream: Make) -> None:
    """Random lengths, every boundary inside a batch, recurring tasks."""
    order = [0, 1, 0, 2, 1, 3, 0, 3]
    lengths = torch.randint(70 * SIZE, 140 * SIZE, (len(order),), generator=torch.Generator().manual_seed(seed)).tolist()
    method = SupSup(make_brief(NNS, seed=seed), **TINY)
    batches, counts = visits(make_stream(4), order, lengths, seed)
    found = owners(method, batches)
    assert method.components == 4
    # Tasks are numbered as they come, so that each mask has the number of its task.
    foreign = [
        sum(n for task, n in count.items() if task != mask) for mask, count in zip(found, counts, strict=True) if mask is not None
    ]
    assert max(foreign) < SIZE / 3  # a few images of a batch at a boundary
    mixed = [number for number, count in enumerate(counts) if len(count) > 1]
    assert len(mixed) >= len(order) - 2
    rows = method.tables()["allocation"]
    # From the second batch after each boundary on, the task's own mask learns.
    for number, count in enumerate(counts):
        if len(count) == 1 and not {number - 1, number - 2} & set(mixed):
            assert found[number] in (None, *count)
    assert {row["first_batch"] for row in rows} <= {0} | {number + later for number in mixed for later in range(3)}
    assert [row["mask"] for row in rows if row["decision"] != "skipped"] == [0, 1, 0, 2, 1, 3, 0, 3]


def test_a_batch_that_belongs_to_nobody_is_not_learned(make_brief: Make, make_stream: Make) -> None:
    """A single batch of noise: nothing changes, and the mask in training goes on as if it had not been there."""
    stream = make_stream(2)
    batches, _ = visits(stream, [0], [100 * SIZE])
    noise = torch.randn_like(batches[0][0]), batches[0][1].flip(0)
    plain, disturbed = (SupSup(make_brief(NNS), **TINY) for _ in range(2))
    for number, batch in enumerate(batches):
        if number == 60:
            before = disturbed.learned()
            disturbed.observe(*noise)
            after = disturbed.learned()
            assert all(torch.equal(before[name], after[name]) for name in before)
        assert torch.equal(plain.observe(*batch), disturbed.observe(*batch))  # type: ignore[arg-type]
    assert [row["decision"] for row in disturbed.tables()["allocation"]] == ["new", "skipped"]
    assert torch.equal(plain.learned()["masks"], disturbed.learned()["masks"])


def test_looking_before_learning_gives_the_masks_of_a_learner_that_is_told(make_brief: Make, make_stream: Make) -> None:
    """On one task, the rule changes nothing: not the losses, not the mask."""
    stream = make_stream(1)
    batches, _ = visits(stream, [0], [80 * SIZE])
    told, untold = SupSup(make_brief(GNU), outputs=30, learning_rate=0.001), SupSup(make_brief(NNS), **TINY)
    told.begin_task(0, len(batches))
    losses = [[method.observe(*batch) for batch in batches] for method in (told, untold)]
    told.end_task(stream[0].train)
    assert losses[0] == losses[1]
    assert torch.equal(told.learned()["masks"], untold.learned()["masks"])


def test_the_loss_of_a_stored_mask_is_that_of_the_mask_in_training(make_brief: Make, make_stream: Make, convolution: Make) -> None:
    """In training mode, with batch normalisation: what is compared with the usual loss is measured in the same way."""
    for network in ((), (convolution,)):
        batches, _ = visits(make_stream(2), [0, 1], [40 * SIZE, 2 * SIZE])
        method = SupSup(make_brief(NNS, *network), **TINY)
        for batch in batches[:40]:
            method.observe(*batch)
        assert method.live is not None
        for batch in batches[38:]:
            stored = method.training.loss_of(method.live.mask(), method.live.statistics, *batch)
            assert stored == pytest.approx(float(method.live.look(*batch).loss), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 11), st.integers(0, 10**6))
def test_the_shortlist_is_one_shot_s_order_without_the_mask_in_training(masks: int, training: int, seed: int) -> None:
    from clbench.methods.supsup.bank import MaskBank
    from clbench.methods.supsup.layout import random_base

    draws, training = torch.Generator().manual_seed(seed), training % masks
    base = random_base(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5, bias=False)), seed, torch.device("cpu"))
    rows = [torch.rand(base.layout.size, generator=draws) < 0.5 for _ in range(masks)]
    bank = MaskBank(base.layout.size, 0, torch.device("cpu"))
    for row in rows:
        bank.append(row, base.fresh)
    inputs = torch.randn(7, 6, generator=draws)
    found = shortlist(base, bank, training, inputs, classes=3)
    assert len(found) == len(set(found)) == min(SHORTLIST, masks - 1)
    assert training not in found
    best = int(one_shot(base, bank, inputs[None], "H", 3))
    if masks > SHORTLIST + 1 and best != training:
        assert found[0] == best


@pytest.mark.parametrize("when_full", ["refuse", "reuse"])
def test_without_a_spare_mask_a_new_task_is_refused_or_reuses_one(when_full: str, make_brief: Make, make_stream: Make) -> None:
    batches, _ = visits(make_stream(3), [0, 1, 2, 0], [100 * SIZE] * 4)
    method = SupSup(make_brief(NNS), **TINY, budget=2, when_full=when_full)
    found = owners(method, batches[:300])
    assert method.components == 2
    if when_full == "refuse":
        assert found[200:] == [None] * 100
        assert owners(method, batches[300:]) == [None] + [0] * 99  # a known task is learned on
    else:
        (reused,) = {mask for mask in found[201:] if mask is not None}
        assert next(row["mask"] for row in method.tables()["allocation"] if row["decision"] == "reused") == reused
        assert method.training.loss_of(method.bank.mask(reused), method.base.fresh, *batches[299]) < GUESSING / 2


def cumulative(outputs: int) -> nn.Module:
    """Batch norm whose statistics are means over all batches so far: it needs to know how many."""
    norm = nn.BatchNorm1d(32, momentum=None)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm, nn.ReLU(), nn.Linear(32, outputs, bias=False))


@pytest.mark.parametrize("norm", [False, True])
def test_learning_resumes_at_any_batch_as_if_it_had_not_stopped(
    norm: bool, make_brief: Make, make_stream: Make, tmp_path: Path
) -> None:
    """From files, at every batch around the boundaries and at others."""
    brief = make_brief(NNS, cumulative) if norm else make_brief(NNS)
    batches, counts = visits(make_stream(3), [0, 1, 0, 2], [1500, 2000, 1800, 1900])
    mixed = [number for number, count in enumerate(counts) if len(count) > 1]
    cuts = {1, SPAN, *(number + later for number in mixed for later in (0, 1, 2, 3))}
    whole, other = SupSup(brief, **TINY), SupSup(brief, **TINY)
    for number, batch in enumerate(batches):
        if number in cuts:
            for part, state in {"learned": other.learned(), "progress": other.progress()}.items():
                storage.save(state, tmp_path / part)
            rows = other.tables()["allocation"]
            other = SupSup(brief, **TINY)
            other.restore(storage.load(tmp_path / "learned"), storage.load(tmp_path / "progress"))
            other.allocation.rows = rows  # type: ignore[union-attr]
        assert torch.equal(whole.observe(*batch), other.observe(*batch))  # type: ignore[arg-type]
    for mine, its in ((whole.learned(), other.learned()), (whole.progress(), other.progress())):
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[name], its[name]) for name in mine)
    assert str(whole.tables()) == str(other.tables())  # as text, because the first row has no loss before it
    assert whole.components == 3


def test_reuse_needs_surprise(make_brief: Make) -> None:
    with pytest.raises(UserError, match="when_full=reuse needs allocation=surprise"):
        SupSup(make_brief(NNS), when_full="reuse")
