"""Foreign results, hostile names and broken surroundings: no code of others runs, and every error is one sentence with exit code 2."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clbench.engine import record
from clbench.engine.store import Run

Call = Callable[..., tuple[int, str, str]]

TINY = ["--scenario", "gg", "--tasks", "2", "--updates", "2", "--network", "mlp-4"]
EVIL = "from pathlib import Path\nPath({marker!r}).touch()\n"
METHOD = """
from clbench.methods.naive import Naive


class Mine(Naive):
    name = "mine"


class Failing(Naive):
    name = "failing"

    def observe(self, inputs, labels):
        helper(labels)


def helper(labels):
    raise KeyError("not found")
"""
LONG = "a" * 5000


def one_sentence(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 2, err
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("clbench: ")
    assert len(line) < 1500
    return line


def made(clbench: Call, *more: str) -> Path:
    code, out, err = clbench("run", *TINY, "--json", *more)
    assert code == 0, err
    return Path(json.loads(out)["path"])


def rewrite(run: Path, **changes: Any) -> None:
    """Put other values into the learn half of a run's record, with its check and its copy, as another person could."""
    contents = record.read(run)
    record.write(run, contents | {"learn": contents["learn"] | changes})


# Foreign results run no code


@pytest.fixture
def poisoned(clbench: Call, tmp_path: Path) -> tuple[Path, Path]:
    """A results folder whose record names code that leaves a mark when it is imported; the run, and the mark."""
    run, marker = made(clbench, "--method", "naive"), tmp_path / "executed"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)) + METHOD)
    rewrite(run, method="evil.py:Mine", stream="evil.py:stream", network="evil:net")
    return run, marker


@pytest.mark.parametrize(
    "command",
    [
        ["table"],
        ["table", "--json"],
        ["table", "--rows", "method"],
        ["table", "--out", "t.md"],
        ["plot"],
        ["report"],
        ["compare", "evil.py:Mine/GG", "naive/GG"],
        ["claims"],
        ["figure", "fig4", "--from-results"],
    ],
)
def test_what_reads_results_imports_nothing_that_they_name(
    command: list[str], clbench: Call, poisoned: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code, _, err = clbench(*command)
    assert code in (0, 2), err
    assert "Traceback" not in err
    assert not poisoned[1].exists()


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ({"method": "evil.py:Mine"}, "evil.py"),
        ({"stream": "./evil.py:stream"}, "./evil.py"),
        ({"network": "evil:net"}, "evil"),
        ({"network": "some.evil.net"}, "some.evil"),
        ({"network": "os:system"}, "os"),
    ],
)
def test_an_ask_runs_no_code_that_only_a_record_names(
    names: dict[str, str], code: str, clbench: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, marker = made(clbench, "--method", "naive"), tmp_path / "executed"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(tmp_path))
    rewrite(run, **names)
    sentence = one_sentence(clbench("ask", str(run), "--ask", "images=5"))
    assert f"code from outside clbench, {code}, which is not run only because a record names it" in sentence
    assert sentence.endswith(f"add --trust {code}.")
    assert not marker.exists()


def test_a_trusted_file_runs_if_it_is_the_one_that_the_run_was_made_with(clbench: Call, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METHOD)
    run = made(clbench, "--method", "own.py:Mine")
    asking = ["ask", str(run), "--ask", "images=5"]
    assert "--trust own.py" in one_sentence(clbench(*asking))
    assert "--trust own.py" in one_sentence(clbench(*asking, "--trust", "other.py"))
    for trusted in ("own.py", "./own.py", str(tmp_path / "own.py"), "own.py:Mine"):
        code, _, err = clbench(*asking, "--trust", trusted)
        assert code == 0, err
    (tmp_path / "own.py").write_text(METHOD + f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    assert "The code of own.py changed" in one_sentence(clbench(*asking, "--trust", "own.py"))
    assert not (tmp_path / "executed").exists()


def test_a_run_folder_with_another_run_in_it_is_not_asked(clbench: Call, tmp_path: Path) -> None:
    """`clbench run` finds a folder by the hash of what is wanted: its record must be of that."""
    run, marker = made(clbench, "--method", "naive"), tmp_path / "executed"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)) + METHOD)
    rewrite(run, method="evil.py:Mine")
    foreign = Run(run).learn.hash
    sentence = one_sentence(clbench("run", *TINY, "--json", "--method", "naive", "--ask", "images=5"))
    assert f"The record in the run folder {run.name} is that of another run, {foreign}" in sentence
    assert not marker.exists()


@pytest.mark.parametrize("data", ["..", "../..", "a/../../b", "/etc"])
def test_data_lie_below_the_data_root(data: str, clbench: Call) -> None:
    sentence = one_sentence(clbench("run", "--stream", "split-imagenet", "--network", "resnet-18-2", "--data", data))
    assert f"--data names a folder below the data root, not {data}" in sentence


# Text from outside


def test_hostile_names_are_shown_as_they_are(clbench: Call, tmp_path: Path) -> None:
    folder = tmp_path / "=[" / "red]<b>$a$"
    folder.mkdir(parents=True)
    (folder / "m.py").write_text(METHOD)
    name = "=[/red]<b>$a$/m.py:Mine"
    made(clbench, "--method", name)
    assert name in clbench("table")[1]
    shown = {}
    for suffix in ("csv", "md", "tex"):
        assert clbench("table", "--out", f"t.{suffix}")[0] == 0
        shown[suffix] = (tmp_path / f"t.{suffix}").read_text()
    assert f",{name}," not in shown["csv"]
    assert f"'{name}" in shown["csv"]
    assert "=[/red]&lt;b>$a$/m.py:Mine" in shown["md"]
    assert r"=[/red]<b>\$a\$/m.py:Mine" in shown["tex"]
    assert clbench("plot")[0] == 0
    assert clbench("report")[0] == 0
    page = (tmp_path / "results" / "report.html").read_text()
    assert "<b>" not in page
    assert "=[/red]&lt;b&gt;$a$/m.py:Mine" in page


def test_an_error_shows_no_control_characters(clbench: Call) -> None:
    assert r"Unknown method" in (line := one_sentence(clbench("run", "--method", "x\x1b[2J\n\x07")))
    assert "\x1b" not in line


# One sentence, exit code 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--seeds", "99999999999999999999"],
            "Invalid value seeds.0=99999999999999999999: input should be less than 18446744073709551616",
        ),
        (["--stream-seed", "-9999999999999999999"], "Invalid value stream_seed=-9999999999999999999"),
        (["--network", "mlp-99999999"], "a network of 79,399,999,206 parameters is too large"),
        (["--network", "mlp-9999999999"], "Malformed network 'mlp-9999999999'"),
        (["--network", f"mlp-{'9' * 5000}"], "Malformed network 'mlp-9999"),
        (["--network", "swish-99999x99999"], "parameters is too large"),
        (["--set", "outputs=999999999999"], "parameters is too large"),
        (["--method", LONG], "Unknown method 'aaa"),
        (["--method", f"./{LONG}.py:X"], "There is no file ./aaa"),
        (["--stream", f"{LONG}.py:X"], "There is no file aaa"),
        (["--stream", LONG], "Unknown stream 'aaa"),
        (["--network", LONG], "Unknown network 'aaa"),
        (["--network", f"{LONG}.net"], "cannot be imported"),
        (["--scenario", LONG], "Unknown scenario 'aaa"),
        (["--data", LONG], "Unknown data set"),
        (["--set", f"{LONG}=1"], "Unknown learning parameter"),
        (["--results", f"/{LONG}"], "File name too long"),
        (["--spec", LONG], "File name too long"),
        (["--device", "meta"], "clbench cannot use the device 'meta'"),
        (["--device", "cuda:9999999"], "--device"),
        (["--device", LONG], "Unknown device 'aaa"),
    ],
)
def test_values_beyond_all_limits(arguments: list[str], sentence: str, clbench: Call) -> None:
    assert sentence in one_sentence(clbench("run", *arguments))


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["table", "--results", LONG], "File name too long"),
        (["ask", LONG], "aaa"),
        (["show", LONG], "Unknown name 'aaa"),
        (["list", LONG], "Unknown list 'aaa"),
        (["figure", LONG], "Unknown figure 'aaa"),
        (["data", "get", LONG], "Unknown data set 'aaa"),
        (["data", "add", LONG], "File name too long"),
        (["data", "--data-root", "~no-such-person/x"], "There is no home folder for ~no-such-person/x"),
    ],
)
def test_names_of_thousands_of_letters_and_places_that_do_not_exist(command: list[str], sentence: str, clbench: Call) -> None:
    assert sentence in one_sentence(clbench(*command))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"set": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "Unknown learning parameter"),
        (b'{"tasks": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"null", "must hold one JSON object"),
        (b'{"seeds": 1e400}', "Invalid value"),
    ],
)
def test_spec_files_that_are_none(content: bytes, sentence: str, clbench: Call, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    assert sentence in one_sentence(clbench("run", "--spec", "spec.json"))


def test_no_home_folder(clbench: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLBENCH_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as if nothing said which folder it is
    assert "There is no home folder for ~/.cache: name another with --data-root or CLBENCH_DATA." in one_sentence(clbench("data"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("import sys\nsys.exit(0)\n", "cannot be imported: it ends the program, SystemExit: 0 in line 2 of "),
        ("def f():\n    raise ValueError('boom')\n\nf()\n", "cannot be imported: ValueError: boom in line 2 of "),
        ("f(\n", "cannot be imported: SyntaxError: '(' was never closed (file.py, line 1)"),
        ("x = [0] * 10**15\n", "MemoryError"),
        ("f = lambda: f()\nf()\n", "RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('x' * 10**6)\n", "(1,000,000 letters)"),
    ],
)
def test_files_that_fail_when_they_are_imported(content: str, sentence: str, clbench: Call, tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(content)
    for option in ("--method", "--stream"):
        line = one_sentence(clbench("run", option, "file.py:X")).replace(f"{tmp_path}/", "")
        assert sentence in line


def test_a_method_that_fails_says_where_in_its_own_file(clbench: Call, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METHOD)
    line = one_sentence(clbench("run", *TINY, "--method", "own.py:Failing", "--json"))
    file = tmp_path / "own.py"
    raised, called = (METHOD.splitlines().index(text) + 1 for text in ('    raise KeyError("not found")', "        helper(labels)"))
    assert f"Code from outside clbench failed in line {raised} of {file}, called from line {called} of {file}" in line
    assert "(KeyError: 'not found')" in line


def process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LANG", "LC_ALL", "PYTHONUTF8")} | variables
    shell = f"{sys.executable} -m clbench {' '.join(arguments)}"
    return subprocess.run(["/bin/sh", "-c", shell], capture_output=True, env=environment, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_takes_nothing() -> None:
    done = process("list", "scenarios", "--json", "> /dev/full")
    assert done.returncode == 2
    assert re.fullmatch(rb"clbench: The output cannot be written \(No space left on device\): [^\n]*\n", done.stderr)
    assert process("list", "scenarios", "> /dev/full", "2>&1").returncode == 2


def test_a_reader_that_has_seen_enough_and_an_output_that_is_closed() -> None:
    assert process("list", "methods", "| head -c 1").stderr == b""
    assert process("list", "scenarios", ">&-").stderr == b""


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_a_terminal_without_utf_8(variables: dict[str, str], clbench: Call, tmp_path: Path) -> None:
    made(clbench, "--method", "naive", "--seeds", "0")
    made(clbench, "--method", "naive", "--seeds", "1")
    results = str(tmp_path / "results")
    done = process("table", "--results", results, **variables)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"naive" in done.stdout
    done = process("table", "--results", results, "--out", str(tmp_path / "t.md"), **variables)
    assert (done.returncode, done.stderr) == (0, b"")
    assert " ± " in (tmp_path / "t.md").read_text(encoding="utf-8")
