"""Learning without a given task: when a mask is allocated, which batches it trains on, and the statistic that decides."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clbench.engine.evaluator import Schedule, Taught, evaluate
from clbench.method import Brief
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.allocation import Allocation, Doubt, uncertainty
from clbench.methods.supsup.bank import MaskBank
from clbench.methods.supsup.layout import random_base
from clbench.scenarios import NNS
from clbench.stream import Stream

# A small network tells tasks apart less sharply than the paper's: a new task has k * max(nu) up to 1.7, a known one at least 1.95.
TINY: dict[str, Any] = {"outputs": 30, "learning_rate": 0.01, "interval": 20, "epsilon": 0.85}
SCHEDULE = Schedule(updates=60, batch_size=32)

Make = Callable[..., Any]


def learn(method: SupSup, stream: Stream) -> list[dict[str, Any]]:
    """Teach all tasks of the stream and return the trace."""
    events = list(evaluate(method, stream, [], [], SCHEDULE))
    assert all(isinstance(event, Taught) for event in events)
    return method.tables()["allocation"]


def again(stream: Stream, *tasks: int) -> Stream:
    """The tasks of a stream in another order, some of them again."""
    return Stream(stream.name, [stream[task] for task in tasks], stream.classes, stream.input_shape)


# The statistic


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(2, 5), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
def test_the_statistic_is_that_of_an_explicit_superposition(masks: int, hidden: int, images: int, norm: bool, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden) if norm else nn.Identity(), nn.ReLU())
    network.append(nn.Linear(hidden, 5, bias=False))
    base = random_base(network, seed, torch.device("cpu"))
    bank, candidates = MaskBank(base.layout.size, base.statistics.size, torch.device("cpu")), []
    for _ in range(masks + 1):
        mask = torch.rand(base.layout.size, generator=draws) < 0.5
        candidates.append((mask, torch.rand(base.statistics.size, generator=draws) + 0.5))
    candidates[-1] = (candidates[-1][0], base.fresh)  # the spare has no statistics yet
    for mask, statistics in candidates[:-1]:
        bank.append(mask, statistics)
    inputs = torch.randn(images, 6, generator=draws)

    alpha = torch.full((masks + 1,), 1 / (masks + 1), dtype=torch.float64, requires_grad=True)
    weights = base.weights.double() * sum(a * mask.double() for a, (mask, _) in zip(alpha, candidates, strict=True))
    first, last = weights[: 6 * hidden].view(hidden, 6), weights[6 * hidden :].view(5, hidden)
    outputs = inputs.double() @ first.T
    if norm:
        mean_statistics = sum(a * statistics.double() for a, (_, statistics) in zip(alpha, candidates, strict=True))
        outputs = (outputs - mean_statistics[:hidden]) / (mean_statistics[hidden:] + 1e-5).sqrt()
    entropy = torch.distributions.Categorical(logits=outputs.relu() @ last.T).entropy().mean()
    nu = (-torch.autograd.grad(entropy, alpha)[0]).softmax(0)

    outcome = uncertainty(base, bank, candidates[-1][0], inputs, classes=3)
    assert outcome.candidates == masks + 1
    assert outcome.statistic == pytest.approx(float((masks + 1) * nu.max()), rel=1e-4)
    assert nu[outcome.winner] == pytest.approx(float(nu.max()), rel=1e-4)


# The rule


@pytest.mark.parametrize(
    ("doubt", "allocated", "chosen"),
    [
        (Doubt(candidates=1, winner=0, statistic=1.0), 0, 0),  # the first batch
        (Doubt(candidates=4, winner=1, statistic=1.5), 3, 1),  # certain of an earlier mask
        (Doubt(candidates=4, winner=1, statistic=1.25), 3, 1),  # just certain enough
        (Doubt(candidates=4, winner=1, statistic=1.249), 3, 3),  # uncertain
        (Doubt(candidates=4, winner=3, statistic=3.9), 3, 3),  # the spare wins
        (Doubt(candidates=6, winner=1, statistic=1.0), 5, None),  # uncertain, over the budget
        (Doubt(candidates=6, winner=5, statistic=3.0), 5, None),  # the spare wins, over the budget
        (Doubt(candidates=6, winner=4, statistic=3.0), 5, 4),  # certain, with the budget spent
    ],
)
def test_the_rule(doubt: Doubt, allocated: int, chosen: int | None) -> None:
    rule = Allocation(interval=100, offset=0, epsilon=0.25, budget=5)
    assert rule.decide(doubt, allocated) == chosen
    assert rule.training == chosen
    (row,) = rule.take_rows()
    assert (row["candidates"], row["statistic"], row["winner"]) == (doubt.candidates, doubt.statistic, doubt.winner)
    assert row["mask"] == chosen
    assert row["spare_won"] == (doubt.winner == allocated)
    assert row["allocated"] == (chosen == allocated)
    assert rule.take_rows() == []


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 11), st.integers(1, 60))
def test_checks_lie_at_the_offset_and_their_rows_cover_every_batch_once(interval: int, offset: int, batches: int) -> None:
    offset %= interval
    rule, checked = Allocation(interval, offset, 0.25, 99), []
    for step in range(batches):
        if rule.due():
            checked.append(step)
            rule.decide(Doubt(2, 0, 2.0), 1)
        rule.step += 1
    assert checked == [step for step in range(batches) if step == 0 or step % interval == offset]
    rows = rule.take_rows()
    assert [row["first_batch"] for row in rows] == checked
    covered = [batch for row in rows for batch in range(row["first_batch"], row["next_choice"])]
    # The last choice holds until the next check, whether or not the stream lasts until then.
    assert covered[:batches] == list(range(batches))
    assert covered == list(range(len(covered)))
    assert len(covered) < batches + interval


# Whole streams


def test_an_aligned_stream_gets_one_mask_a_task(make_brief: Make, make_stream: Make) -> None:
    method, stream = SupSup(make_brief(NNS), **TINY), make_stream(4)
    trace = learn(method, stream)
    assert method.components == 4
    masks = [row["mask"] for row in trace for _ in range(row["first_batch"], row["next_choice"])]
    assert masks == [batch // 60 for batch in range(240)]
    assert [row["first_batch"] for row in trace if row["allocated"]] == [0, 60, 120, 180]
    for index, task in enumerate(stream):
        inputs, labels = task.test.whole()
        prediction = method.predict(inputs, group=10)
        assert (prediction.tasks == index).float().mean() > 0.8
        assert (prediction.labels == labels).float().mean() > 0.9


def test_the_trace_records_what_happened(make_brief: Make, make_stream: Make) -> None:
    """Every batch trains the mask that the trace names for it, and no other; the trace continues after it was read."""
    stream, rows, seen = again(make_stream(3), 0, 1, 0, 2), [], []
    method = SupSup(make_brief(NNS), **TINY, offset=7)
    for task in stream:
        for inputs, labels in task.train.batches(50, 32, torch.Generator().manual_seed(1)):
            before = method.learned()["masks"]
            method.observe(inputs, labels)
            after = method.learned()["masks"]
            seen.append([row for row in range(len(after)) if row >= len(before) or not torch.equal(before[row], after[row])])
        rows += method.tables()["allocation"]
    for row in rows:
        changed = {mask for batch in seen[row["first_batch"] : row["next_choice"]] for mask in batch}
        assert changed == {row["mask"]}
    assert [row["first_batch"] for row in rows] == [0, *range(7, 200, 20)]
    assert [batch for row in rows for batch in range(row["first_batch"], row["next_choice"])][:200] == list(range(200))


def test_the_spare_never_predicts(make_brief: Make, make_stream: Make) -> None:
    """Images of a task that was never learned go to a learned mask all the same."""
    stream = make_stream(3)
    method = SupSup(make_brief(NNS), **TINY)
    learn(method, again(stream, 0, 1))
    assert method.components == len(method.learned()["masks"]) == 2
    inputs = stream[2].test.whole()[0]
    for algorithm in ("one-shot", "binary", "gradient", "exhaustive"):
        assert set(method.predict(inputs, algorithm=algorithm, group=1).tasks.tolist()) <= {0, 1}


def test_over_budget_a_new_task_is_not_learned_and_nothing_changes(make_brief: Make, make_stream: Make) -> None:
    stream = make_stream(3)
    method = SupSup(make_brief(NNS), **TINY, budget=2)
    learn(method, again(stream, 0, 1))
    before = method.learned()
    losses = [method.observe(*batch) for batch in stream[2].train.batches(60, 32, torch.Generator().manual_seed(0))]
    assert losses == [None] * 60
    assert method.components == 2
    after = method.learned()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [row["mask"] for row in method.tables()["allocation"]] == [None] * 3
    # A task that is known is learned on.
    losses = [method.observe(*batch) for batch in stream[0].train.batches(60, 32, torch.Generator().manual_seed(0))]
    assert None not in losses
    assert [row["mask"] for row in method.tables()["allocation"]] == [0] * 3
    assert not torch.equal(method.learned()["masks"][0], before["masks"][0])
    assert torch.equal(method.learned()["masks"][1], before["masks"][1])


@pytest.mark.parametrize("norm", [False, True])
def test_a_resumed_mask_starts_from_its_bits(norm: bool, make_brief: Make, make_stream: Make, convolution: Make) -> None:
    brief = make_brief(NNS, convolution) if norm else make_brief(NNS)
    method, stream = SupSup(brief, **TINY), make_stream(2)
    batches = [list(task.train.batches(20, 32, torch.Generator().manual_seed(0))) for task in stream]

    def train(chosen: int) -> Tensor:
        """Take up a mask, train it for an interval, and return the scores that it started with."""
        assert method.allocation is not None
        method.allocation.decide = lambda doubt, allocated: chosen  # type: ignore[method-assign]
        method.allocation.training = None if method.live is None else 1 - chosen  # the mask in training so far
        method._choose_mask(batches[chosen][0][0])
        method.allocation.training = chosen
        assert method.live is not None
        began = method.live.scores.detach().clone()
        for inputs, labels in batches[chosen]:
            method.live.update(inputs, labels)
        return began

    first = train(0)
    train(1)
    banked, statistics = method.bank.mask(0), method.bank.statistics(0)
    again = train(0)
    assert not torch.equal(banked, first >= 0)  # it had learned something
    assert torch.equal(again >= 0, banked)
    assert torch.equal(again.abs(), first.abs())  # as far from the threshold as when it was new
    trained = method.learned()
    assert not torch.equal(method.bank.mask(0), banked)
    assert len(trained["masks"]) == 2
    if norm:
        assert not torch.equal(statistics, method.base.fresh)
        assert not torch.equal(trained["statistics"][0], statistics)


def test_statistics_and_bits_are_resumed_but_no_optimiser_state(make_brief: Make, make_stream: Make, convolution: Make) -> None:
    method = SupSup(make_brief(NNS, convolution), **TINY)
    learn(method, make_stream(1))
    live = method._resumed(0)
    assert torch.equal(live.mask(), method.bank.mask(0))
    assert torch.equal(live.statistics, method.learned()["statistics"][0])
    assert all(not tensor.any() for tensor in live.optimiser.tensors().values())


def test_a_check_that_confirms_the_mask_in_training_leaves_it_alone(make_brief: Make, make_stream: Make) -> None:
    """It keeps its scores and its optimiser's state: the steps are those of a mask that was never checked."""
    task, draws = make_stream(1)[0], torch.Generator().manual_seed(0)
    batches = list(task.train.batches(60, 32, draws))
    checked, unchecked = (SupSup(make_brief(NNS), **TINY | {"interval": interval}) for interval in (20, 60))
    losses = [[method.observe(*batch) for batch in batches] for method in (checked, unchecked)]
    assert [row["mask"] for row in checked.tables()["allocation"]] == [0, 0, 0]
    assert losses[0] == losses[1]


def test_masks_are_also_chosen_at_an_offset_from_the_tasks(make_brief: Make, make_stream: Make) -> None:
    """Unaligned, foreign batches train the old mask before the first check that could tell: masks and tasks part, as is reported."""
    method = SupSup(make_brief(NNS), **TINY, offset=10)
    trace = learn(method, make_stream(3))
    assert [row["first_batch"] for row in trace] == [0, *range(10, 180, 20)]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"interval": 0}, "interval must be above 0"),
        ({"epsilon": -0.5}, "epsilon must be above 0"),
        ({"budget": 0}, "budget must be above 0"),
        ({"offset": 100}, "offset must be at least 0 and below the interval"),
        ({"offset": -1}, "offset must be at least 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, not nan"),
        ({"start": "transfer"}, "start=transfer needs to know when a task ends"),
        ({"outputs": 3}, "outputs=3 is below the 4 classes"),
    ],
)
def test_invalid_parameters_are_refused(parameters: dict[str, Any], says: str, make_brief: Callable[..., Brief]) -> None:
    with pytest.raises(ValueError, match=says):
        SupSup(make_brief(NNS), **parameters)
