"""Masks as bytes: nothing is lost at any density, and sparse ones take little more than their entropy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clbench.methods.supsup.coding import decode, decoded, encode, encoded, joined, parted


@given(arrays.arrays(bool, st.integers(0, 500)))
def test_a_mask_comes_back(mask: np.ndarray) -> None:
    assert (decode(encode(mask), len(mask)) == mask).all()


@given(st.integers(1, 5000), st.floats(0, 0.1), st.integers(0, 10))
def test_a_sparse_mask_comes_back(size: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(size) < density
    assert (decode(encode(mask), size) == mask).all()


def test_gaps_of_any_length_come_back() -> None:
    mask = np.zeros(3_000_000, bool)
    mask[[0, 1, 2_999_999]] = True
    code = encode(mask)
    assert (decode(code, len(mask)) == mask).all()
    assert len(code) < 30


@pytest.mark.parametrize("density", [0.003, 0.01, 0.05, 0.2])
def test_a_sparse_mask_takes_little_more_than_its_entropy_and_less_than_half_of_16_bit_indices(density: float) -> None:
    mask = np.random.default_rng(0).random(200_000) < density
    share = mask.mean()
    entropy = -len(mask) * (share * np.log2(share) + (1 - share) * np.log2(1 - share)) / 8
    assert entropy <= len(encode(mask)) < 1.05 * entropy + 12
    assert len(encode(mask)) < 2 * mask.sum() * (0.75 if density < 0.01 else 0.55)


def test_a_mask_of_half_its_weights_takes_a_bit_each() -> None:
    mask = np.random.default_rng(0).random(80_000) < 0.5
    assert len(encode(mask)) == 10_001


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 5))
def test_masks_of_layers_and_tasks_come_back(sizes: list[int], tasks: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    masks = [torch.rand(sum(sizes), generator=draws) < 0.1 for _ in range(tasks)]
    stored = joined(encoded(mask, sizes) for mask in masks)
    back = [decoded(code, sizes) for code in parted(stored)]
    assert all(torch.equal(mask, again) for mask, again in zip(masks, back, strict=True))
    assert len(back) == tasks


def test_no_masks_give_no_codes() -> None:
    assert list(parted(joined([]))) == []
