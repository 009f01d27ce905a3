"""The mask bank against dense float matrices."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clbench.methods._bits import pack, unpack
from clbench.methods.supsup import bank as module
from clbench.methods.supsup.bank import MaskBank, restored_bank, two_bytes

CPU = torch.device("cpu")
quick = settings(max_examples=40, deadline=None)
sizes = st.integers(1, 40)


def random_rows(masks: int, size: int, statistics: int, seed: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(masks, size, generator=draws) < 0.5, torch.randn(masks, statistics, generator=draws)


def filled(masks: Tensor, statistics: Tensor) -> MaskBank:
    bank = MaskBank(masks.shape[1], statistics.shape[1], CPU)
    for mask, row in zip(masks, statistics, strict=True):
        bank.append(mask, row)
    return bank


@st.composite
def banks(draw: st.DrawFn) -> tuple[MaskBank, Tensor, Tensor]:
    """A bank that was appended to and then changed in places, and what it must hold as dense rows."""
    masks, statistics = random_rows(draw(st.integers(1, 9)), draw(sizes), draw(st.integers(0, 4)), draw(st.integers(0, 10**6)))
    bank = filled(masks, statistics)
    for row in draw(st.lists(st.integers(0, len(masks) - 1), max_size=5)):
        (mask,), (row_statistics,) = random_rows(1, masks.shape[1], statistics.shape[1], draw(st.integers(0, 10**6)))
        bank.replace(row, mask, row_statistics)
        masks[row], statistics[row] = mask, row_statistics
    return bank, masks, statistics


def tensors(value: Any) -> list[Tensor]:
    """All tensors that a bank holds, wherever it keeps them."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, module.RowBlocks):
        return value.blocks
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors(item)]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, list | tuple) else []


@quick
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_packing_puts_the_first_boolean_into_the_highest_bit(mask: list[bool]) -> None:
    bits = pack(torch.tensor(mask))
    padded = mask + [False] * (-len(mask) % 8)
    expected = [sum(2 ** (7 - i) for i in range(8) if padded[first + i]) for first in range(0, len(padded), 8)]
    assert bits.dtype == torch.uint8
    assert bits.tolist() == expected
    assert unpack(bits, len(mask)).tolist() == mask


@quick
@given(banks())
def test_rows_come_back_unchanged(held: tuple[MaskBank, Tensor, Tensor]) -> None:
    bank, masks, statistics = held
    assert len(bank) == len(masks)
    for row in range(len(masks)):
        assert torch.equal(bank.mask(row), masks[row])
        assert torch.equal(bank.statistics(row), statistics[row])
    assert torch.equal(unpack(bank.packed(), bank.size).bool(), masks)
    assert torch.equal(bank.all_statistics(), statistics)


@quick
@given(banks(), st.integers(1, 3), st.integers(0, 99))
def test_inner_and_superpose_are_matrix_products(held: tuple[MaskBank, Tensor, Tensor], queries: int, seed: int) -> None:
    bank, masks, statistics = held
    draws = torch.Generator().manual_seed(seed)
    of_masks = torch.randn(queries, masks.shape[1], generator=draws)
    of_statistics = torch.randn(queries, statistics.shape[1], generator=draws)
    expected = of_masks @ masks.float().T + of_statistics @ statistics.T
    assert torch.allclose(bank.inner(of_masks, of_statistics), expected, atol=1e-4)
    alpha = torch.rand(queries, len(masks), generator=draws)
    superposed, superposed_statistics = bank.superpose(alpha)
    assert torch.allclose(superposed, alpha @ masks.float(), atol=1e-5)
    assert torch.allclose(superposed_statistics, alpha @ statistics, atol=1e-5)


@quick
@given(banks())
def test_the_mean_is_correct_after_rows_are_added_and_replaced(held: tuple[MaskBank, Tensor, Tensor]) -> None:
    bank, masks, statistics = held
    mean, mean_statistics = bank.mean()
    assert torch.allclose(mean, masks.float().mean(0), atol=1e-6)
    assert torch.allclose(mean_statistics, statistics.mean(0), atol=1e-5)


@quick
@given(banks())
def test_a_restored_bank_computes_exactly_the_same(held: tuple[MaskBank, Tensor, Tensor]) -> None:
    """To the last bit: otherwise a resumed run would differ from one that was never interrupted."""
    bank, _, statistics = held
    stored_masks = unpack(bank.packed(), bank.size)
    twin = restored_bank(MaskBank(bank.size, bank.width, CPU), stored_masks, bank.all_statistics())
    for mine, its in zip(bank.mean(), twin.mean(), strict=True):
        assert torch.equal(mine, its)
    ones = torch.ones(1, bank.size), torch.ones(1, statistics.shape[1])
    assert torch.equal(bank.inner(*ones), twin.inner(*ones))
    assert len(restored_bank(MaskBank(bank.size, bank.width, CPU), stored_masks[:0], bank.all_statistics()[:0])) == 0


def test_a_deep_copy_and_its_original_are_independent() -> None:
    masks, statistics = random_rows(4, 11, 2, seed=0)
    bank = filled(masks[:3], statistics[:3])
    twin = copy.deepcopy(bank)
    twin.append(masks[3], statistics[3])
    twin.replace(0, ~masks[0], statistics[0] + 1)
    assert len(bank) == 3
    assert torch.equal(bank.mask(0), masks[0])
    assert torch.equal(bank.statistics(0), statistics[0])
    assert torch.allclose(bank.mean()[0], masks[:3].float().mean(0))
    assert torch.allclose(bank.mean()[1], statistics[:3].mean(0))
    bank.replace(1, ~masks[1], statistics[1] + 1)
    assert torch.equal(twin.mask(1), masks[1])
    assert torch.equal(twin.statistics(1), statistics[1])


def test_it_keeps_no_view_of_its_inputs() -> None:
    masks, statistics = random_rows(2, 9, 3, seed=0)
    bank = filled(masks, statistics)
    expected = masks.clone(), statistics.clone()
    masks.logical_not_()
    statistics.add_(1)
    assert torch.equal(bank.mask(0), expected[0][0])
    assert torch.equal(bank.all_statistics(), expected[1])


@pytest.mark.parametrize(("masks", "size", "statistics"), [(1, 8, 0), (7, 1001, 0), (50, 1001, 12)])
def test_it_keeps_a_bit_for_each_weight_and_no_float_masks(
    monkeypatch: pytest.MonkeyPatch, masks: int, size: int, statistics: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * size)  # four rows a block
    bank = filled(*random_rows(masks, size, statistics, seed=0))
    bank.replace(0, bank.mask(0), bank.statistics(0))
    bank.inner(torch.ones(1, size), torch.ones(1, statistics))
    bank.superpose(torch.ones(1, masks))
    bank.mean()
    for each in (bank, copy.deepcopy(bank)):
        memory = sum(tensor.untyped_storage().nbytes() for tensor in tensors(vars(each)))
        rows = -(-masks // 4) * 4 * (-(-size // 8) + 4 * statistics)
        assert memory == rows + 4 * size  # the rows, and their running sum


def test_masks_are_unpacked_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, statistics = random_rows(10, 30, 2, seed=0)
    bank, unpacked = filled(masks, statistics), []

    def watched(bits: Tensor, size: int) -> Tensor:
        unpacked.append(len(bits))
        return unpack(bits, size)

    monkeypatch.setattr(module, "unpack", watched)
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 30)
    bank = filled(masks, statistics)
    gradients = torch.eye(30)[:3], torch.zeros(3, 2)
    assert torch.allclose(bank.inner(*gradients), masks[:, :3].float().T)
    assert torch.allclose(bank.superpose(torch.eye(10)[4:6])[0], masks[4:6].float())
    assert unpacked == [4, 4, 2] * 2


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("kept", [0, 2, 9])
def test_a_working_copy_changes_nothing_but_the_time(monkeypatch: pytest.MonkeyPatch, integers: bool, kept: int) -> None:
    """Through appended and replaced rows and copies that go their own way; some rows beyond the cap, some within it."""
    size, rows = 30, 4
    monkeypatch.setattr(module, "CHUNK_BYTES", rows * size)
    masks, statistics = random_rows(14, size, 2, seed=0)
    bank = MaskBank(size, 2, CPU, integers=integers, working_bytes=kept * module.CHUNK_BYTES)
    signs = torch.randint(-1, 2, (3, size), generator=torch.Generator().manual_seed(1)).float()  # exact in every type
    none = torch.zeros(3, 2)

    def agrees(bank: MaskBank, masks: Tensor) -> bool:
        alpha = torch.eye(len(masks))[:2]
        superposed, _ = bank.superpose(alpha)
        inner = torch.allclose(bank.inner(signs, none), signs @ masks.float().T, atol=1e-5)
        return inner and torch.equal(superposed, masks[:2].float())

    for mask, row in zip(masks[:10], statistics, strict=False):
        bank.append(mask, row)
        assert agrees(bank, masks[: len(bank)])
    twin = copy.deepcopy(bank)
    bank.replace(1, ~masks[1], statistics[1])
    bank.append(masks[10], statistics[10])
    twin.replace(9, ~masks[9], statistics[9])
    twin.append(masks[11], statistics[11])
    assert agrees(bank, torch.cat([masks[:1], ~masks[1:2], masks[2:11]]))
    assert agrees(twin, torch.cat([masks[:9], ~masks[9:10], masks[11:12]]))
    assert len(bank._working.blocks) == min(kept, 3)


@given(st.integers(1, 4), st.integers(1, 40), st.integers(-30, 30), st.integers(0, 99))
def test_two_bytes_are_sixteen_bits_of_a_gradient(rows: int, size: int, magnitude: int, seed: int) -> None:
    gradients = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 10.0**magnitude
    parts, units = two_bytes(gradients)
    assert parts.dtype == torch.int8
    assert parts.shape == (2 * rows, size)
    high, low = parts.double().chunk(2)
    error = ((256 * high + low) * units - gradients).abs()
    assert (error <= gradients.abs().amax(1, keepdim=True).double() / 65278 * 1.01).all()


def test_two_bytes_of_zeros_are_zeros() -> None:
    parts, units = two_bytes(torch.zeros(2, 5))
    assert not parts.any()
    assert torch.isfinite(units).all()


@pytest.mark.parametrize("columns", [7, 2**24])
def test_integer_products_are_those_of_sixteen_bit_gradients(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """The rounding of the gradients is all the error there is: sums are exact, however the columns are cut."""
    monkeypatch.setattr(module, "COLUMNS", columns)
    masks, statistics = random_rows(9, 400, 2, seed=0)
    bank = MaskBank(400, 2, CPU, integers=True)
    for mask, row in zip(masks, statistics, strict=True):
        bank.append(mask, row)
    gradients = torch.randn(5, 400, generator=torch.Generator().manual_seed(1)) ** 3
    parts, units = two_bytes(gradients)
    high, low = parts.double().chunk(2)
    expected = ((256 * high + low) * units) @ masks.double().T
    products = bank.inner(gradients, torch.zeros(5, 2))
    assert torch.allclose(products.double(), expected, rtol=1e-6, atol=0)
    assert torch.allclose(products, gradients @ masks.float().T, atol=400 * gradients.abs().max().item() / 65278)
