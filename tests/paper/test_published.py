"""Published numbers: each has a source, and all that is shown as published comes from the one place."""

from pathlib import Path

import pytest

from clbench import paper
from clbench.paper import published, sizes

ROOT = Path(__file__).parents[2]


def test_every_number_has_a_source_and_a_setting() -> None:
    assert all(each.source.startswith("arXiv ") and "," in each.source for each in published.ALL)
    assert all(each.setting for each in published.ALL)
    assert len({each.quantity for each in published.ALL}) == len(published.ALL)
    assert "memory" not in Path(published.__file__).read_text()


@pytest.mark.parametrize(
    ("place", "value", "cited"),
    [
        (("permuted-mnist-32", "online-ewc", "GNu"), 33.88, "arXiv 1809.10635, Table 4"),
        (("permuted-mnist-32", "si", "GNu"), 29.31, "arXiv 1809.10635, Table 4"),
        (("permuted-mnist-32", "ewc", "GG"), 94.74, "arXiv 1809.10635, Table 4"),
        (("split-mnist-raw", "ewc", "GG"), 98.64, "arXiv 1904.07734, Table 4 (second-hand)"),
        (("split-mnist-raw", "naive", "GG"), 87.2, "arXiv 1904.07734, Table 4 (second-hand)"),
    ],
)
def test_permuted_numbers_were_seen_and_split_ones_are_second_hand(place: tuple[str, str, str], value: float, cited: str) -> None:
    assert published.VAN_DE_VEN[place].value == value
    assert published.VAN_DE_VEN[place].cited == cited


def test_what_figures_show_is_among_them() -> None:
    numbers = [reference.number for figure in paper.FIGURES.values() for reference in figure.reference]
    assert {number.value for number in numbers} >= {94.91, 24.5, 89.58}
    assert set(numbers) <= set(published.ALL)


def test_the_withdrawn_numbers_are_gone() -> None:
    """97.6 and 61.8 of PSP could not be traced."""
    assert not {97.6, 61.8} & {each.value for each in published.ALL}


def test_sizes_name_the_curves_of_figure_2() -> None:
    names = {f"SupSup; edges {edges:g}" for edges in sizes.EDGES} | {"upper bound", "BatchE", "single model"}
    assert names == set(published.IMAGENET_SIZE)
    curves = {curve.name for curve in paper.FIGURES["fig2-left"].curves("paper")}
    assert set(published.IMAGENET_ACCURACY) <= curves


def test_the_page_of_the_docs_names_value_source_and_standing() -> None:
    lines = (ROOT / "docs" / "published.md").read_text().splitlines()
    for each in published.ALL:
        (line,) = [line for line in lines if line.startswith(f"| {each.quantity} |")]
        assert f"| {each.shown} | {each.source} | {each.standing} |" in line
