"""The terminal: text from outside is shown as it is written, and letters that the terminal lacks are replaced.

Names of files, and all that a run's record says, may hold markup of rich (``[/red]``), control characters that clear a terminal or change
its title, and any letter of Unicode.
"""

import codecs
import io
import re
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that act on a terminal, or turn the direction of the text after them. Tabs and newlines are none of them."""

LONGEST = 200
"""Number of letters of a text from outside that a message shows."""

ALIKE = {"–": "-", "—": "-", "−": "-", "±": "~", "×": "x", "·": "-", "…": ".", "→": ">", "‘": "'", "’": "'", "“": '"', "”": '"'}
"""What stands for a sign where it does not exist: one letter each, so that columns stay aligned."""


def shortened(text: str) -> str:
    """The beginning of a long text, with the number of its letters."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} letters)"


def sentence(text: str) -> str:
    """A sentence to print: its control characters as escapes, and no more than the beginning of a name of thousands of letters."""
    return re.sub(r"\S+", lambda word: shortened(word[0]), printable(text))


def printable(text: str) -> str:
    """A text whose control characters are shown as escapes (``\\x1b``)."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Literal(Console):
    """A console that shows texts as they are written."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)


def console(stderr: bool = False, width: int | None = None) -> Console:
    """A console that shows texts, also those in the cells of tables, as they are written: without markup, emoji and control characters."""
    return _Literal(stderr=stderr, width=width, markup=False, emoji=False)


def replace_missing_letters() -> None:
    """Make standard output and standard error replace letters that their encoding lacks; usually they raise an error."""
    codecs.register_error("clbench", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="clbench")


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ALIKE.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
