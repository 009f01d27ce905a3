"""``clbench figure``: several figures, all of them, and drawing from tables alone."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench import paper
from clbench.cli.main import app
from clbench.errors import UserError

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
RUNNER = CliRunner()


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with two of the committed tables and nothing else."""
    for name in ("groups", "matrix"):
        (tmp_path / f"{name}.csv").write_bytes((REFERENCE / f"{name}.csv").read_bytes())
    return tmp_path


def test_all_tables_of_a_folder_are_drawn_beside_them(tables: Path) -> None:
    output = RUNNER.invoke(app, ["figure", "--all", "--from-tables", str(tables)], catch_exceptions=False).stdout.split()
    files = [tables / f"{name}{suffix}" for name in ("groups", "matrix") for suffix in (".csv", ".png", ".pdf", ".md", ".tex")]
    assert [Path(path) for path in output] == files
    assert all(path.stat().st_size > 0 for path in files)


def test_a_figure_that_cannot_be_made_is_named_and_the_others_are_made(tables: Path) -> None:
    with pytest.raises(UserError, match="1 of 2 figures could not be made: fig4; the reasons are above"):
        RUNNER.invoke(app, ["figure", "fig4", "matrix", "--from-tables", str(tables)], catch_exceptions=False)
    assert (tables / "matrix.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name one figure or more, or give --all"),
        (["fig4", "--all"], "Name one figure or more, or give --all"),
        (["fig4", "figure7"], "Unknown figure 'figure7'. Did you mean fig7"),
        (["fig4", "--from-results", "--from-tables", "."], "give one of them"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        RUNNER.invoke(app, ["figure", *arguments], catch_exceptions=False)


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no table of a figure in"):
        RUNNER.invoke(app, ["figure", "--all", "--from-tables", str(tmp_path)], catch_exceptions=False)
    assert set(paper.FIGURES) == set(paper.ALL)
