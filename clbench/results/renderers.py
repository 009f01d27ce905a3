"""Tables as CSV and, formatted, with text in every cell, as Markdown and as LaTeX.

Cells may hold text from outside, such as the name of a file or a setting in another person's run: here it is escaped, for each format, so
that it is shown and does nothing. (In HTML, jinja escapes it, see ``clbench.report``; for the terminal see ``clbench.terminal``.)
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pandas as pd

from clbench.terminal import printable

NUMBER = re.compile(r"–|[+-]?[\d.,]+( ± [\d.]+)?( (of \d+|B|kB|MB|GB|s|min|h|%))?")
"""A cell of a column of numbers."""
ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "×": r"$\times$",
}
ESCAPED |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
"""Signs that mean something else to LaTeX."""
FORMULA = re.compile(r"[=+\-@\t\r](?![\d.]+$)")
"""How a text begins that spreadsheets compute, and that is no number."""


def is_number(cells: Iterable[object]) -> bool:
    """Whether the cells of a column are all numbers, with units or intervals perhaps."""
    return all(NUMBER.fullmatch(str(cell)) for cell in cells)


def csv(table: pd.DataFrame) -> str:
    """A table as CSV. A text that spreadsheets would compute begins with an apostrophe."""

    def plain(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell

    texts = [place for place, kind in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    columns = {
        place: table.iloc[:, place].map(plain) if place in texts else table.iloc[:, place] for place in range(table.shape[1])
    }
    return pd.DataFrame(columns).set_axis([plain(name) for name in table.columns], axis=1).to_csv(index=False)


def markdown(shown: pd.DataFrame, written: Collection[str] = ()) -> str:
    """A formatted table as Markdown, its columns aligned in plain text too. The columns ``written`` hold Markdown already."""
    texts = {name: [str(cell) if name in written else in_markdown(str(cell)) for cell in shown[name]] for name in shown.columns}
    cells = [[in_markdown(str(name)) for name in shown.columns], *(list(row) for row in zip(*texts.values(), strict=True))]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(cells[0]))]
    right = [is_number(shown[name]) for name in shown.columns]

    def line(row: Sequence[str]) -> str:
        padded = [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{':' if r else '-'}" for width, r in zip(widths, right, strict=True)]
    return "\n".join(line(row) for row in [cells[0], rule, *cells[1:]]) + "\n"


def latex(shown: pd.DataFrame) -> str:
    """A formatted table as a LaTeX ``tabular`` with the rules of the package booktabs."""

    def line(cells: Iterable[object]) -> str:
        return " & ".join(escaped(str(cell)) for cell in cells) + r" \\"

    columns = "".join("r" if is_number(shown[name]) else "l" for name in shown.columns)
    rows = [line(row) for row in shown.to_numpy()]
    begin = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(shown.columns), r"\midrule"]
    return "\n".join([*begin, *rows, r"\bottomrule", r"\end{tabular}"]) + "\n"


def in_markdown(text: str) -> str:
    """A text as it is, in a cell of a Markdown table: without HTML, links, pictures and new lines."""
    shown = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return shown.replace("|", "\\|").replace("](", "]\\(")


def escaped(text: str) -> str:
    """A text for LaTeX."""
    return "".join(ESCAPED.get(sign, sign) for sign in one_line(text))


def one_line(text: str) -> str:
    """A text in one line, its control characters shown as escapes."""
    return printable(" ".join(text.split("\n")))


def with_line_below(text: str, below: str, suffix: str) -> str:
    """A rendered table with lines of text below it, if there is something to say."""
    escape = {".md": in_markdown, ".tex": escaped}[suffix]
    return "\n".join([text, *map(escape, below.splitlines())]) + "\n" if below else text


RENDERERS: dict[str, Callable[[pd.DataFrame], str]] = {".md": markdown, ".tex": latex}
"""By the suffix of the file that the text is for."""
