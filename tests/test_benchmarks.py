"""The benchmarks run, on a scale that says nothing about speed; the README's table is the committed measurements'."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import inference, search, sparse, summary, training

ROOT = Path(__file__).parents[1]


def test_inference_is_measured() -> None:
    rows = {name: value for name, value, _ in inference.rows(counts=(2, 3))}
    assert rows["bytes_per_task"] == pytest.approx(39400, rel=0.01)
    assert rows["oneshot_3_vs_stacked"] > 0
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
    found = one_shot(base, bank, groups, "H", inference.CLASSES).tolist()
    for superpose in (inference.plainly, inference.as_a_product):
        assert [inference.stacked_one_shot(base, masks, image, superpose) for image in groups] == found


def test_sparse_products_are_those_of_the_largest_gradients() -> None:
    bank, by_weight = sparse.random_masks(5, 1000)
    gradients = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)) ** 3
    expected = bank.inner(sparse.largest_alone(gradients, sparse.SPEED_FRACTION), torch.empty(3, 0))
    assert torch.allclose(sparse.sparse_inner(by_weight, gradients).float(), expected, rtol=1e-3, atol=1e-2)


def test_flops_of_a_step() -> None:
    # 128 images, 3 -> 2 -> 1: forward and weight gradients of both layers, input gradients of the second.
    assert training.step_flops([3, 2, 1]) == 128 * 2 * (2 * 6 + 3 * 2)


def test_the_readme_shows_what_was_measured() -> None:
    measured = pd.read_csv(ROOT / "results" / "reference" / "bench.csv")
    assert summary.summary(measured) in (ROOT / "README.md").read_text()


def test_what_a_descent_finds_is_counted() -> None:
    rows = list(search.rows("mnist-5k", "output", 0, network="swish-100x100", updates=5, groups=2))
    assert [row["task"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert row["exact"] <= row["nearest"]
        assert all(row[share] in (0, 0.5, 1) for share in ("entropy_lowest", "first_step", "nearest", "exact"))
    assert sum(row["entropy_lowest"] for row in rows) > 2  # by guessing 1
