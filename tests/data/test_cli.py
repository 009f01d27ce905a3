import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clbench.cli.data import app
from clbench.errors import UserError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "400"}, catch_exceptions=False)


def test_the_list_states_names_sizes_licences_places_and_commands(mnist: Any, fashion: Any, tmp_path: Path) -> None:
    mnist.write(tmp_path)
    output = run("--data-root", tmp_path).output
    for words in (
        "mnist-5k",
        "present",
        "4,000 / 1,000",
        "CC BY-SA 3.0",
        "MIT (Zalando SE)",
        str(tmp_path / "MNIST" / "raw"),
        "fashion-mnist is missing",
        "`clbench data get fashion-mnist`",
    ):
        assert words in output
    assert "`clbench data get mnist`" not in output


def test_the_list_as_json(mnist: Any, tmp_path: Path) -> None:
    (mnist.write(tmp_path) / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"")
    records = {record["name"]: record for record in json.loads(run("--data-root", tmp_path, "--json").stdout)}
    assert records["mnist-5k"]["status"] == "present"
    assert records["mnist"]["status"] == "damaged"
    assert "expected" in records["mnist"]["problem"]
    assert (records["mnist"]["train"], records["mnist"]["test"]) == (60_000, 10_000)


@pytest.mark.parametrize("before", [False, True])
def test_add_reports_what_lies_where_now(fashion: Any, tmp_path: Path, before: bool) -> None:
    folder, root = fashion.write(tmp_path / "folder", packed=True, flat=True), tmp_path / "root"
    option = ["--data-root", root]
    output = run(*option, "add", folder).output if before else run("add", folder, *option).output
    for path in fashion.files:
        assert f"fashion-mnist: {root / path} (from {folder / Path(path).name}.gz)" in output
    assert "fashion-mnist is complete" in output
    records = json.loads(run("add", folder, *option, "--json").stdout)
    assert {record["path"] for record in records} == {str(root / path) for path in fashion.files}


def test_add_of_a_part_says_what_is_missing(fashion: Any, tmp_path: Path) -> None:
    folder = fashion.write(tmp_path / "folder", flat=True)
    output = run("add", folder / "t10k-labels-idx1-ubyte", "--data-root", tmp_path / "root").output
    assert "no train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte in" in output


def test_get_prints_the_status_and_lets_errors_through(tmp_path: Path) -> None:
    assert json.loads(run("get", "mnist-5k", "--json").stdout)[0]["status"] == "present"
    with pytest.raises(UserError, match="did you mean mnist-5k"):
        run("get", "mnist5k")
