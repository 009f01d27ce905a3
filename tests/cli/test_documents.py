"""The tables in README.md and docs/results.md are those of the committed results, and the README's first run works."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clbench.errors import UserError
from clbench.report import documents

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_committed_documents_hold_the_committed_results() -> None:
    for path, text in documents.documents(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"write {path.name} anew: python -m clbench.report.documents"


def test_the_readme_gives_each_claim_its_verdict() -> None:
    for claim in json.loads((REFERENCE / "claims.json").read_text(encoding="utf-8")):
        (line,) = [line for line in README.splitlines() if line.startswith(f"| {claim['sentence']} ")]
        assert line.split("|")[2].strip() == claim["verdict"]


def test_a_published_number_stands_beside_ours() -> None:
    ours = pd.read_csv(REFERENCE / "van-de-ven.csv")
    si = ours[(ours["stream"] == "split-mnist-raw") & (ours["method"] == "si") & ours["scenario"].str.startswith("GNs")].iloc[0]
    lines = [line for line in documents.reproduced(REFERENCE).splitlines() if "split MNIST, si, domain" in line]
    assert len(lines) == 1
    cells = [cell.strip() for cell in lines[0].split("|")]
    assert cells[3] == f"{si['accuracy']:.2f} ± {si['interval']:.2f}"
    assert cells[5] == f"{si['published']:g} %"


def test_a_number_agrees_within_its_interval_or_a_point() -> None:
    number = documents.HOPSUPSUP  # 97.43

    def verdict(ours: float, interval: float, comparable: bool = True) -> str:
        return documents._row("m", number, ours, interval, 3, "", comparable)["verdict"]

    nan = float("nan")
    assert [verdict(97.0, nan), verdict(96.0, nan), verdict(96.0, 2.0), verdict(94.0, 2.0)] == [
        "agrees",
        "differs",
        "agrees",
        "differs",
    ]
    assert verdict(97.43, nan, comparable=False) == "another setting"


def test_a_document_without_a_place_for_a_table_is_named() -> None:
    assert documents.written("a\n<!-- t -->\nold\n<!-- end of t -->\nb", {"t": lambda: "new"}) == (
        "a\n<!-- t -->\n\nnew\n<!-- end of t -->\nb"
    )
    with pytest.raises(UserError, match="no place for the table t"):
        documents.written("nothing", {"t": lambda: "new"})


def test_the_first_run_of_the_readme_works(clbench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    section = README.split("## First run")[1].split("## ")[0]
    commands = [
        shlex.split(line[2:], comments=True)
        for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    assert [command[0] for command in commands] == ["clbench"] * 3
    for _, *arguments in commands:
        # As in the README, but for its length.
        short = ["--updates", "20", "--tasks", "2"] if arguments[0] == "run" else []
        code, out, err = clbench(*arguments, *short)
        assert (code, out != "") == (0, True), err
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code.replace('budget="smoke"', 'budget="smoke", updates=20, tasks=2'), {})
    assert "supsup" in capsys.readouterr().out


def test_the_links_of_readme_and_docs_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
