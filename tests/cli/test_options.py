"""The options of ``clbench run`` are the fields of ``Request`` and ``Execution``: their help, defaults, values and completion."""

from typing import Any

import click
import pytest
import typer

from clbench.cli import options
from clbench.cli.main import app
from clbench.engine.settings import Execution, Request, Strict, default_in_words


@pytest.fixture
def run() -> click.Command:
    command: Any = typer.main.get_command(app)
    return command.commands["run"]


def test_each_field_is_an_option_with_its_help_and_default(run: click.Command) -> None:
    by_name = {option.name: option for option in run.params}
    for model in (Request, Execution):
        for name, field in model.model_fields.items():
            option: Any = by_name[name]
            assert option.opts == [f"--{name.replace('_', '-')}"]
            assert option.help == field.description
            assert option.show_default == (default_in_words(field) or True)
            assert option.default is None  # so that an option that is not given leaves a spec file's value
    assert [name for name in by_name if name not in {**Request.model_fields, **Execution.model_fields}] == [
        "spec",
        "dry_run",
        "as_json",
    ]


def test_a_new_field_is_an_option_at_once() -> None:
    class More(Strict):
        warmth: int = 3
        mood: str | None = None

    warmth, mood = options.options_of(More)
    assert (warmth.name, warmth.default, warmth.annotation.__origin__) == ("warmth", None, int | None)
    assert mood.annotation.__origin__ == str | None
    assert options.settings(More, {"warmth": 0, "mood": None}) == {"warmth": 0}


def test_values_are_read_by_their_types() -> None:
    texts = dict.fromkeys(Request.model_fields) | {
        "tasks": 0,
        "seeds": "0,2",
        "checkpoints": "5",
        "set": ["outputs=3", "outputs=4", "start=random"],
        "ask": ["objective=H,G", "objective=H"],
        "budget": "smoke",
    }
    assert options.settings(Request, texts) == {
        "tasks": 0,
        "seeds": (0, 2),
        "checkpoints": (5,),
        "set": {"outputs": "4", "start": "random"},
        "ask": {"objective": ["H", "G", "H"]},
        "budget": "smoke",
    }


@pytest.mark.parametrize(
    ("option", "typed", "offered"),
    [
        ("method", "sup", ["supsup"]),
        ("scenario", "g", ["gg", "gns", "gnu"]),
        ("stream", "permuted-mnist-3", ["permuted-mnist-32"]),
        ("network", "lenet", ["lenet-300-100"]),
        ("budget", "", ["smoke", "laptop", "paper"]),
        ("precision", "f", ["float32"]),
        ("overwrite", "", ["missing", "always", "never"]),
        ("on_divergence", "m", ["mark"]),
    ],
)
def test_the_shell_completes_names_and_choices(run: click.Command, option: str, typed: str, offered: list[str]) -> None:
    (parameter,) = [each for each in run.params if each.name == option]
    assert [item.value for item in parameter.shell_complete(click.Context(run), typed)] == offered
