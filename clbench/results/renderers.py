"""Formatted tables, with text in every cell, as Markdown and as LaTeX."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from clbench.errors import UserError

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


def is_number(cells: Iterable[object]) -> bool:
    """Whether the cells of a column are all numbers, with units or intervals perhaps."""
    return all(NUMBER.fullmatch(str(cell)) for cell in cells)


def markdown(shown: pd.DataFrame) -> str:
    """A formatted table as Markdown, its columns aligned in plain text too."""
    cells = [[str(name) for name in shown.columns], *([str(cell).replace("|", "\\|") for cell in row] for row in shown.to_numpy())]
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


def escaped(text: str) -> str:
    """A text for LaTeX."""
    return "".join(ESCAPED.get(sign, sign) for sign in text)


def with_line_below(text: str, below: str, suffix: str) -> str:
    """A rendered table with a line of text below it, if there is one to say."""
    return f"{text}\n{escaped(below) if suffix == '.tex' else below}\n" if below else text


RENDERERS: dict[str, Callable[[pd.DataFrame], str]] = {".md": markdown, ".tex": latex}
"""By the suffix of the file that the text is for."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that is written inside; an error of the file system becomes a ``UserError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): name another place.") from None
