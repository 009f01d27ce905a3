"""What the root package offers: every name, each from one place, and the command as a module."""

import subprocess
import sys
from inspect import signature

import pytest

import clbench
from clbench import scenarios
from clbench.data import Dataset
from clbench.engine.settings import Execution, Request, default_in_words
from clbench.seeding import generator


def test_every_public_name_is_found_when_it_is_first_used() -> None:
    assert sorted(clbench.__all__) == sorted(name for names in clbench._PUBLIC.values() for name in names)
    for name in clbench.__all__:
        assert getattr(clbench, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = clbench.nothing


def test_what_a_method_or_a_stream_needs_is_at_the_root() -> None:
    assert (clbench.GG, clbench.GNS, clbench.GNU, clbench.NNS) == scenarios.SCENARIOS
    assert clbench.Dataset is Dataset
    assert clbench.generator is generator


def test_run_and_ask_are_functions_and_no_modules() -> None:
    """A package of that name would hide the function once it is imported."""
    assert callable(clbench.run)
    assert callable(clbench.ask)


def test_importing_the_package_needs_no_torch() -> None:
    code = "import sys, clbench; print('torch' in sys.modules); clbench.GG; print(clbench.GG.name)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "GG"]


def test_the_signature_and_the_docstring_of_run_are_made_from_the_settings() -> None:
    known = signature(clbench.run).parameters
    assert list(known) == [*Request.model_fields, *Execution.model_fields, "watch"]
    assert (known["method"].default, known["seeds"].default, known["device"].default) == ("supsup", (0,), "auto")
    assert known["tasks"].annotation == int | None
    for model in (Request, Execution):
        for name, field in model.model_fields.items():
            assert f"- {name}: {field.description}" in str(clbench.run.__doc__)
            assert default_in_words(field) in str(clbench.run.__doc__)


def test_the_package_is_the_command() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "clbench", "list", "scenarios", "--json"], capture_output=True, text=True, check=True
    )
    assert '"name": "GNu"' in process.stdout
    bad = subprocess.run([sys.executable, "-m", "clbench", "show", "supsab"], capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr.startswith("clbench: Unknown name 'supsab'. Did you mean supsup?")
