"""Text from outside in tables: it is shown, and does nothing, in each format."""

import csv as reader
import io

import pandas as pd
import pytest

from clbench.results import renderers

HOSTILE = "=cmd|' /C calc'!A0\n<img src=x onerror=alert(1)> [a](javascript:b) ![p](http://c) & $x_1$ \\input{d} \x1b[2J"


def test_a_formula_in_csv_begins_with_an_apostrophe_and_a_number_stays_one() -> None:
    cells = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "-0.5", "+3", "supsup", "–"]
    table = pd.DataFrame({"=head": cells, "number": range(9), "real": [-0.125] * 9})
    rows = list(reader.reader(io.StringIO(renderers.csv(table))))
    assert rows[0] == ["'=head", "number", "real"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "'+1+1", "'-1+1", "'@SUM(A1)", "'\t=1", "-0.5", "+3", "supsup", "–"]
    assert {(row[1], row[2]) for row in rows[1:]} == {(str(number), "-0.125") for number in range(9)}


def test_csv_is_what_pandas_writes_where_there_is_nothing_to_escape() -> None:
    table = pd.DataFrame({"a": [0.1, 1 / 3], "b": [1, 2], "c": ["x", None], "d": [True, False], "e": [float("nan"), 2]})
    assert renderers.csv(table) == table.to_csv(index=False)
    assert renderers.csv(table.head(0)) == table.head(0).to_csv(index=False)
    doubled = pd.DataFrame([[1, "=x"]], columns=["a", "a"])
    assert renderers.csv(doubled) == "a,a\n1,'=x\n"


def test_markdown_has_no_html_no_links_and_one_line_a_row() -> None:
    lines = renderers.markdown(pd.DataFrame({"a|b": [HOSTILE], "n": ["1"]})).splitlines()
    assert len(lines) == 3
    assert "<" not in lines[2]
    assert "](" not in lines[2]
    assert "\x1b" not in lines[2]
    assert "&lt;img src=x onerror=alert(1)>" in lines[2]
    assert "[a]\\(javascript:b)" in lines[2]
    assert lines[0].startswith("| a\\|b")


def test_a_column_of_markdown_is_left_as_it_is() -> None:
    assert "[fig](fig.png)" in renderers.markdown(pd.DataFrame({"figure": ["[fig](fig.png)"]}), written=["figure"])


def test_latex_commands_are_text_in_one_line() -> None:
    text = renderers.latex(pd.DataFrame({"a": [HOSTILE]}))
    (row,) = (line for line in text.splitlines() if "cmd" in line)
    assert r"\textbackslash{}input\{d\}" in row
    assert r"\$x\_1\$" in row
    assert r"\& " in row
    assert row.endswith(r" \\")


@pytest.mark.parametrize(("suffix", "shown"), [(".md", "a &lt;b>\nc"), (".tex", "a <b>\nc")])
def test_what_is_said_below_a_table_is_escaped_too_line_by_line(suffix: str, shown: str) -> None:
    assert renderers.with_line_below("table\n", "a <b>\nc", suffix) == f"table\n\n{shown}\n"
