"""The tutorial's files and commands, one after another, as they stand there."""

import re
import shlex
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()


def test_the_tutorial_runs_as_it_stands(clbench) -> None:
    (name,) = re.findall(r"Save it as `(.+?)`", TEXT)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    Path(name).write_text(code)
    commands = [
        shlex.split(line[2:]) for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) > 7
    for program, *arguments in commands:
        assert program == "clbench"
        code, out, err = clbench(*arguments)
        assert (code, out != "") == (0, True), f"{arguments}: {err}"
    points = pd.read_csv("results/plots/accuracy-by-tasks.csv")
    accuracies = points[points["learned"] == 5].groupby("method")["accuracy"].max()
    assert accuracies["anchored.py:Anchored"] > accuracies["naive"]  # as the tutorial lets the reader see
    assert Path("results/report.html").stat().st_size > 0


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
