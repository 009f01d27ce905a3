"""Random command lines end with a sentence: a few of those of ``benchmarks/fuzz.py``, and any text in the places of names and numbers."""

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from clbench.cli import look


@pytest.fixture(scope="module", autouse=True)
def place() -> Iterator[None]:
    with fuzz.short_actions(), fuzz.workplace():
        yield


def test_lines_follow_from_the_seed_and_hold_every_command() -> None:
    lines = [fuzz.line(random.Random(f"0 {number}")) for number in range(300)]
    assert lines == [fuzz.line(random.Random(f"0 {number}")) for number in range(300)]
    assert {"run", "ask", "table", "compare", "show", "list", "check", "data", "figure"} <= {words[0] for words in lines if words}


def test_random_command_lines_have_no_fault() -> None:
    outcomes, faults = fuzz.fuzz(40, seed=1)
    assert not faults
    assert outcomes["2"] > 10


def test_a_traceback_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(look.LISTS, "streams", partial({}.pop, "absent"))  # fails in a line of clbench
    outcome, fault = fuzz.fault_of(["list", "streams"])
    assert outcome == "traceback"
    assert "KeyError: 'absent'" in fault


def test_an_error_in_a_job_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "CARRY_OUT", partial({}.pop, "absent"))
    _, fault = fuzz.fault_of(["run", "--method", "naive", "--scenario", "gg", *fuzz.TINY])
    assert fault


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(
        ["--method", "--stream", "--network", "--scenario", "--seeds", "--tasks", "--set", "--ask", "--data", "--device"]
    ),
    st.text(st.characters(exclude_characters="\x00"), max_size=30),
)
def test_any_text_is_a_value_or_a_sentence(option: str, text: str) -> None:
    outcome, fault = fuzz.fault_of(["run", "--method", "naive", "--scenario", "gg", *fuzz.TINY, option, text])
    assert not fault, json.dumps([option, text])
    assert outcome in ("0", "2")


def test_the_workplace_is_left(tmp_path: Path) -> None:
    before = Path.cwd()
    with fuzz.workplace():
        assert (Path.cwd() / "own.py").exists()
    assert Path.cwd() == before
