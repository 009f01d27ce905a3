"""Text from outside on a terminal, whatever it holds and whatever the terminal can show."""

import io
import sys

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from clbench import terminal

HOSTILE = "[/red][bold]x[/bold] :smile: \x1b[2J\x07\u202ename"
SHOWN = r"[/red][bold]x[/bold] :smile: \x1b[2J\x07\u202ename"


def test_control_characters_are_shown_as_escapes_and_lines_stay() -> None:
    assert terminal.printable("a\tb\nc\x1b[31m\r\x00\x9b") == "a\tb\nc\\x1b[31m\\r\\x00\\x9b"
    assert terminal.printable("± – α × é 数") == "± – α × é 数"


def test_a_console_shows_markup_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(HOSTILE, title=HOSTILE, box=None)
    table.add_row(HOSTILE)
    console = terminal.console(width=200)
    console.print(HOSTILE)
    console.print(table)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 4
    assert "\x1b" not in out


def test_a_progress_bar_shows_markup_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (TextColumn("{task.description}", markup=False),)
    with Progress(*columns, console=terminal.console(width=200)) as progress:
        progress.add_task("[/red]", total=1)
    assert "[/red]" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_an_encoding_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    terminal.replace_missing_letters()
    print("90.2 ± 0.1 – 数 \udcff", end="", flush=True)
    expected = {"ascii": "90.2 ~ 0.1 - ? ?", "latin-1": "90.2 ± 0.1 - ? ?", "utf-8": "90.2 ± 0.1 – 数 ?"}
    assert content.getvalue().decode(encoding) == expected[encoding]
