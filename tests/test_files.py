"""Files are written as a whole or not at all."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clbench.errors import UserError
from clbench.files import replacing, write_text

ROOT = Path(__file__).parents[1]


def test_a_text_is_utf_8_and_its_folder_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.md"
    write_text(file, "± \udcff")  # a letter of a file's name that is not UTF-8
    assert file.read_bytes() == "± \\udcff".encode()
    assert os.listdir(file.parent) == ["table.md"]


def cut_off(file: Path, error: Exception) -> None:
    with replacing(file) as new:
        new.write_text("cut off")
        raise error


def test_an_error_leaves_the_earlier_file(tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    write_text(file, "earlier")
    with pytest.raises(UserError, match=r"table.md cannot be written \(No space left on device\): name another place"):
        cut_off(file, OSError(28, "No space left on device"))
    with pytest.raises(ZeroDivisionError):
        cut_off(file, ZeroDivisionError())
    assert file.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["table.md"]


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "table.md", tmp_path / ("a" * 5000), Path("/proc/nowhere/table.md"), tmp_path):
        with pytest.raises(UserError, match="cannot be written"):
            write_text(place, "text")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.md").symlink_to(tmp_path / "table.md")
    write_text(tmp_path / "link.md", "text")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "table.md").read_text() == "text"


def locale_dependent(source: str) -> Iterator[int]:
    """The lines that read or write text in whatever encoding the locale names."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function, keywords = ast.unparse(node.func), {each.arg for each in node.keywords}
        binary = any(isinstance(each, ast.Constant) and "b" in str(each.value) for each in node.args)
        opens = function == "open" or (function.endswith(".open") and not function.startswith(("gzip.", "Image.", "os.")))
        opens_text = function.endswith((".read_text", ".write_text")) or (opens and not binary)
        if (opens_text or keywords & {"text", "universal_newlines"}) and "encoding" not in keywords:
            yield node.lineno


def test_no_text_file_depends_on_the_locale() -> None:
    files = [file for folder in ("clbench", "methods", "scenarios") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = [f"{file.relative_to(ROOT)}:{line}" for file in files for line in locale_dependent(file.read_text(encoding="utf-8"))]
    assert not found
    assert list(locale_dependent("p.read_text()\nopen(p, 'rb')\np.write_text(t, encoding='utf-8')\nrun(c, text=True)")) == [1, 4]
