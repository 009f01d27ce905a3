"""The committed pages of the methods are those that the methods themselves give."""

import json
from pathlib import Path

import pytest

from clbench import pages, registry
from clbench.cli import look

FOLDER = Path(__file__).parents[1] / "docs"


def test_the_committed_pages_are_up_to_date() -> None:
    committed = {
        f"{kind}/{file.name}": file.read_text() for kind in ("methods", "scenarios") for file in (FOLDER / kind).glob("*.md")
    }
    committed["published.md"] = (FOLDER / "published.md").read_text()
    assert committed == pages.pages(), "write them anew: python -m clbench.pages docs"


def test_a_page_says_where_a_method_serves_and_what_can_be_set() -> None:
    page = pages.pages()["methods/supsup.md"]
    assert "Scenarios: GG, GNs, GNu, NNs." in page
    assert "| epsilon | float | 0.125 |" in page
    assert "| algorithm | Literal['one-shot', 'binary', 'gradient', 'exhaustive', 'statistics'] | one-shot |" in page
    assert "| steps | int \\| None | None |" in page
    assert "| rotated-* | fc-* | * |  | outputs=200 | algorithm=binary, group=128, evidence=128 |" in page
    assert "Does nothing against forgetting." in pages.pages()["methods/naive.md"]


@pytest.mark.parametrize("name", ["supsup", "naive", "hopsupsup"])
def test_a_page_and_the_command_show_tell_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = pages.pages()[f"methods/{name}.md"]
    look.show(name, as_json=True)
    record = json.loads(capsys.readouterr().out)
    for key in ("summary", "description", "citation", "notes on learning", "notes on asking"):
        assert record[key] in page
    for key in ("learning parameters (--set)", "asking parameters (--ask)", "recipes"):
        for row in record[key]:
            assert "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row.values()) + " |" in page
    assert all(sentence in page for sentence in record["declared"])


def test_the_index_is_the_matrix_of_methods_and_scenarios() -> None:
    lines = pages.pages()["methods/README.md"].splitlines()
    for name, method in registry.methods().items():
        if method.__module__.startswith("clbench.methods."):
            (line,) = [line for line in lines if line.startswith(f"| [{name}]({name}.md) |")]
            cells = [cell.strip() for cell in line.split(" | ")]
            assert [cell == "yes" for cell in cells[1:5]] == [s in method.scenarios for s in registry.scenarios().values()]


def test_a_scenario_s_page_says_what_is_told_and_who_serves_it() -> None:
    page = pages.pages()["scenarios/gnu.md"]
    assert "| the task while it learns | yes |" in page
    assert "| the task when it is asked | no |" in page
    assert "Guessing is correct in 1 / (classes × tasks) of the cases." in page
    for name, method in registry.methods().items():
        assert (f"[{name}](../methods/{name}.md)" in page) == (registry.scenario("gnu") in method.scenarios)


def test_pages_of_what_is_gone_are_deleted(tmp_path: Path) -> None:
    for kind in ("methods", "scenarios"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "gone.md").write_text("")
    pages.write(tmp_path)
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.md")} == pages.pages().keys()


def test_the_glossary_s_table_is_that_of_the_columns() -> None:
    glossary = (FOLDER / pages.GLOSSARY).read_text()
    assert pages.with_metrics(glossary) == glossary, "write it again: python -m clbench.pages docs"
    older = "\n".join(line for line in glossary.splitlines() if "`anytime_accuracy`" not in line) + "\n"
    assert older != glossary
    assert pages.with_metrics(older) == glossary
    with pytest.raises(ValueError, match="around its table of columns"):
        pages.with_metrics("# Glossary")
