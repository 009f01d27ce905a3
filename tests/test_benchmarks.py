"""The benchmarks run, on a scale that says nothing about speed; docs/performance.md has the committed measurements."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.func import functional_call

from benchmarks import __main__ as command
from benchmarks import images, inference, overhead, search, searches, sparse, summary, surprise, surprise_constants, training
from clbench.methods.batche import BatchE
from clbench.paper import fig7
from clbench.stream import Split

ROOT = Path(__file__).parents[1]


def test_inference_is_measured() -> None:
    rows = {name: value for name, value, _ in inference.rows(counts=(2, 3))}
    assert rows["bytes_per_task"] == pytest.approx(39400, rel=0.01)
    assert rows["oneshot_3_vs_stacked"] > 0
    rounds = [rows[f"oneshot_3_round_{number}"] for number in range(inference.ROUNDS)]
    assert rows["oneshot_3_milliseconds_per_image"] == min(rounds)
    assert all(value > 0 for value in rows.values())


def test_stacked_masks_answer_as_the_bank_does() -> None:
    """What the bank is compared with computes the same."""
    from clbench import networks
    from clbench.methods.supsup.bank import MaskBank
    from clbench.methods.supsup.inference import one_shot
    from clbench.methods.supsup.layout import random_base

    base = random_base(networks.seeded(networks.resolve("mlp-16", (1, 28, 28)), 20, 0), 0, torch.device("cpu"))
    draws = torch.Generator().manual_seed(0)
    bank = MaskBank(base.layout.size, 0, torch.device("cpu"))
    for _ in range(6):
        bank.append(torch.rand(base.layout.size, generator=draws) < 0.5, torch.empty(0))
    masks = torch.stack([bank.mask(row).float() for row in range(6)])
    groups = torch.randn(9, 1, 1, 28, 28, generator=draws)
    tasks = one_shot(base, bank, groups, "H", inference.CLASSES).tolist()
    for superpose in (inference.plainly, inference.as_a_product):
        assert [inference.stacked_one_shot(base, masks, image, superpose) for image in groups] == tasks


def test_sparse_products_are_those_of_the_largest_gradients() -> None:
    bank, by_weight = sparse.random_masks(5, 1000)
    gradients = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)) ** 3
    expected = bank.inner(sparse.largest_alone(gradients, sparse.SPEED_FRACTION), torch.empty(3, 0))
    assert torch.allclose(sparse.sparse_inner(by_weight, gradients).float(), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("network", "shape"), [("resnet-18-4", (3, 16, 16)), ("mlp-16x16", (1, 8, 8))])
def test_vectors_on_inputs_and_outputs_are_those_on_the_weights(network: str, shape: tuple[int, ...]) -> None:
    """Both forms of BatchE answer the same, biases included."""
    method = images.learner("batche", network, shape, 10, torch.float32, False, {})
    assert isinstance(method, BatchE)
    method.begin_task(0, 1)
    method.observe(torch.randn(4, *shape), torch.arange(4))
    method.end_task(Split(torch.empty(0, *shape), torch.empty(0, dtype=torch.int64)))
    inputs = torch.randn(5, *shape)
    scaled = overhead.vectorised(method.network, method.own_of(0))
    statistics = {name: method.rows[0][name] for name in method.statistics}
    outputs = functional_call(scaled, method.shared | method.fresh_buffers | statistics, (inputs,))
    assert torch.allclose(outputs, method.logits(inputs, 0), atol=1e-4)
    assert not torch.allclose(outputs, functional_call(method.network, method.shared | statistics, (inputs,)), atol=0.1)


def test_overheads_are_measured_and_take_the_place_of_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["resnet50_mask_overhead", "resnet50_batche_weights_overhead", "resnet50_batche_vectors_overhead"]
    monkeypatch.setattr(overhead, "SHAPE", (3, 32, 32))
    monkeypatch.setattr(overhead, "NETWORK", "resnet-18-4")
    monkeypatch.setattr(overhead, "ROUNDS", 2)
    monkeypatch.setattr(command, "FILE", tmp_path / "bench.csv")
    command.FILE.write_text(f"name,value,unit\n{names[0]},7.0,ratio\npeak_float32,1.0,GFLOP/s\n")
    command.main("overhead")
    values = pd.read_csv(command.FILE).set_index("name")["value"]
    assert values.index.is_unique
    assert values["peak_float32"] == 1
    assert all(values[name] < 1 for name in names)
    with pytest.raises(SystemExit, match="There is no benchmark overheads: name some of training, inference"):
        command.main("overheads")


def test_flops_of_a_step() -> None:
    # 128 images, 3 -> 2 -> 1: forward and weight gradients of both layers, input gradients of the second.
    assert training.step_flops([3, 2, 1]) == 128 * 2 * (2 * 6 + 3 * 2)


def test_the_readme_shows_what_was_measured() -> None:
    measured = pd.read_csv(ROOT / "results" / "reference" / "bench.csv")
    assert summary.summary(measured) in (ROOT / "docs" / "performance.md").read_text()


def test_what_a_descent_finds_is_counted() -> None:
    rows = list(search.rows("mnist-5k", "output", 0, network="swish-100x100", updates=5, groups=2))
    assert [row["task"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert row["exact"] <= row["nearest"]
        assert all(row[share] in (0, 0.5, 1) for share in ("entropy_lowest", "first_step", "nearest", "exact"))
    assert sum(row["entropy_lowest"] for row in rows) > 2  # by guessing 1


def test_searches_are_compared_on_the_same_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"network": "swish-64x64", "updates": 3, "data": "mnist-5k"}
    monkeypatch.setattr(fig7, "SPLIT", {"laptop": small})
    rows = searches.compared("mnist-5k", (3,), tmp_path)
    lines = rows.groupby(searches.LINE)
    assert set(lines.groups) == {
        *((masked, "joint", search) for masked in ("output", "normalised") for search in fig7.SEARCHES.values()),
        *(("normalised", "layers", search) for search in ("authors' search", "recalled")),
    }
    assert all(part["task"].tolist() == [1, 2, 3, 4, 5] for _, part in lines)
    assert rows["seed"].eq(3).all()
    assert rows.groupby(["masked", "memory"])["run"].nunique().eq(1).all()


def test_searches_are_summed_up_seed_by_seed() -> None:
    """Two seeds of two tasks, by hand: 50 and 70 % with groups, 60 and 100 % with the authors' search, which is 20 ± 127 above."""
    values = {("groups of 64", 0): (0.4, 0.6), ("groups of 64", 1): (0.7, 0.7), ("authors' search", 0): (0.6, 0.6)}
    values["authors' search", 1] = (1.0, 1.0)
    rows = pd.DataFrame(
        {
            "masked": "output",
            "memory": "joint",
            "search": search,
            "seed": seed,
            "task": task,
            "accuracy": right,
            "task_accuracy": 1.0,
        }
        for (search, seed), rights in values.items()
        for task, right in enumerate(rights, 1)
    )
    groups, authors = searches.summary(rows).to_dict("records")
    assert (groups["lowest"], groups["highest"], groups["above groups, paired"]) == ("50.00", "70.00", "0.00 ± 0.00")
    assert authors["accuracy (%)"] == "80.00 ± 254.12"  # t of one degree of freedom: 12.706
    assert authors["above groups, paired"] == "20.00 ± 127.06"
    assert authors["seeds at 98 or more"] == 1


PARTS = [[(0, 4)], [(0, 4)], [(0, 1), (1, 3)], [(1, 4)], [(1, 4)], [(2, 4)], [(2, 4)]]
"""(visit, images) of seven batches; the third visit is to the first task again."""


def choices(*rows: tuple[int, int, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["first_batch", "mask", "trained"])


def test_what_masks_learned_is_traced_batch_by_batch() -> None:
    found = surprise.traced(choices((0, 0, True), (2, 0, False), (3, 1, True), (5, 0, False)), PARTS, [0, 1, 0])
    assert found == surprise.Traced(masks=2, foreign=0, missed=0, twice=0, delay=1, longest=1, checks=4 / 7)


def test_a_mask_that_learns_everything_is_traced_as_such() -> None:
    found = surprise.traced(choices((0, 0, True)), PARTS, [0, 1, 0])
    assert (found.masks, found.missed, found.twice, found.checks) == (1, 2, 0, 1 / 7)
    assert found.foreign == pytest.approx(11 / 28)


def test_two_masks_for_a_task_are_traced() -> None:
    found = surprise.traced(choices((0, 0, True), (2, 1, True), (5, 2, True)), PARTS, [0, 1, 0])
    assert (found.masks, found.missed, found.twice, found.longest) == (3, 0, 1, 0)
    assert found.foreign == pytest.approx(1 / 28)


def test_the_accuracy_by_surprise_is_compared_seed_by_seed() -> None:
    rows = [
        {
            "stream": "s",
            "line": line,
            "seed": seed,
            "lengths": "2..3",
            "visits": 3,
            "tasks": 2,
            "accuracy": accuracy,
            "checks": 0.01,
        }
        | {"masks": 2, "foreign": 0.001, "missed": 0, "twice": 0, "delay": 1.5, "longest": 2}
        for line, accuracies in ((surprise.SURPRISE, (0.9, 0.8)), (surprise.TOLD, (0.92, 0.82)))
        for seed, accuracy in enumerate(accuracies)
    ]
    first, told = surprise.summary(pd.DataFrame(rows)).to_dict("records")
    assert (first["accuracy (%)"].split(" ")[0], first["above being told"].split(" ")[0]) == ("85.00", "-2.00")
    assert (first["masks"], first["foreign images (%)"], first["checks (% of batches)"]) == ("2, 2", "0.10", "1.00")
    assert told["above being told"] == ""


def test_a_batch_of_two_tasks_has_its_part_of_each() -> None:
    own, other = ((torch.full((128, 1), value), torch.full((128,), int(value))) for value in (0.0, 1.0))
    for part, images_of_other in ((0.1, 13), (0.5, 64), (1.0, 128)):
        inputs, labels = surprise_constants.mixed(own, other, part)
        assert int(inputs.sum()) == int(labels.sum()) == images_of_other
