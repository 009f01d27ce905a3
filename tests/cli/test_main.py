"""The command line as a user meets it: what it prints where, its exit codes, and one sentence for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ["--tasks", "2", "--updates", "4", "--network", "mlp-8", "--set", "outputs=12"]
KEYS = {
    *("method", "scenario", "stream", "tasks", "seed", "accuracy", "task_accuracy", "forgetting"),
    *("masks", "stored_bytes", "train_seconds", "eval_seconds", "path"),
}


def test_json_is_one_object_for_each_run_and_ask_and_nothing_else(clbench) -> None:
    code, out, _ = clbench("run", "--method", "supsup", "--seeds", "0,1", "--ask", "objective=H,G", "--json", *TINY)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(records) == 4
    for record in records:
        assert set(record) >= KEYS
        assert 0 <= record["accuracy"] <= record["task_accuracy"] <= 1
        assert (Path(record["path"]) / "run.json").is_file()
        assert record["masks"] == record["tasks"] == 2
    assert {record["seed"] for record in records} == {0, 1}


def test_what_must_be_known_of_a_run_is_said_once_and_again_when_it_is_read(clbench) -> None:
    unaligned = ["run", "--scenario", "nns", "--seeds", "0,1", "--json", *TINY]
    sentence = (
        "clbench: note: supsup chooses a mask every 100 batches, and a task has 4: a mask may learn from two tasks, because choices"
    )
    for more in (["--dry-run"], [], []):
        code, _, err = clbench(*unaligned, *more)
        assert code == 0
        assert err.count(sentence) == 1
    assert "note" not in clbench("run", "--scenario", "gnu", *TINY)[2]


def test_training_that_diverges_ends_with_exit_code_2_unless_it_is_to_be_marked(clbench) -> None:
    naive = ["run", "--method", "naive", "--scenario", "gg", "--tasks", "2", "--updates", "4", "--network", "mlp-8"]
    request = [*naive, "--set", "learning_rate=1e10"]
    for _ in range(2):
        code, out, err = clbench(*request)
        assert (code, out) == (2, "")
        assert err.strip().startswith("clbench: The training diverged in task 1 at batch 2: the loss is ")
        assert len(err.strip().splitlines()) == 1
    code, out, err = clbench(*request, "--on-divergence", "mark")
    assert code == 0
    assert err.count("clbench: note: The training diverged in task 1") == 1
    assert "naive (diverged)" in out
    assert "(diverged): the training of one of the tasks diverged" in out
    code, out, _ = clbench(*request, "--json")
    assert (code, json.loads(out)["diverged"]) == (0, True)
    code, _, err = clbench(*naive, "--on-divergence", "go-on")
    assert (code, err) == (2, "clbench: Invalid value on_divergence=go-on: input should be 'stop' or 'mark'.\n")


def test_a_run_is_asked_again_plotted_and_tabled(clbench, tmp_path: Path) -> None:
    code, out, _ = clbench("run", "--scenario", "gnu", *TINY)
    assert code == 0
    assert "training step: plain" in out
    path = Path(out.split()[-1])
    learned = (path / "state" / "2" / "learned.safetensors").read_bytes()
    for name in (str(path), path.name, path.name[:6]):
        code, out, _ = clbench("ask", name, "--ask", "objective=G", "--ask", "group=1", "--json")
        assert (code, json.loads(out)["ask"]) == (0, "GNu algorithm=one-shot evidence=1 group=1 objective=G sample=128")
    assert (path / "state" / "2" / "learned.safetensors").read_bytes() == learned
    code, out, _ = clbench("plot", path.name)
    assert code == 0
    assert all((tmp_path / file).stat().st_size > 0 for file in out.split())
    code, out, _ = clbench("table", "--json")
    assert code == 0
    assert len(json.loads(out)) == 2


@pytest.mark.parametrize(
    "more",
    [
        ("--method", "naive", "--scenario", "gg"),
        ("--scenario", "nns"),
        ("--scenario", "gg", "--set", "density=0.2"),
        ("--scenario", "gg", "--set", "start=transfer"),
    ],
)
def test_every_kind_of_method_can_be_estimated(clbench, more) -> None:
    code, out, err = clbench("run", "--dry-run", "--json", "--tasks", "3", "--updates", "5", "--network", "mlp-8", *more)
    assert code == 0, err
    assert json.loads(out)["train_seconds"] > 0


def test_dry_run_trains_nothing(clbench, tmp_path: Path) -> None:
    code, out, _ = clbench("run", "--dry-run", "--json", *TINY)
    assert code == 0
    assert json.loads(out)["stored_bytes"] > 0
    assert not (tmp_path / "results").exists()


def test_a_spec_file_is_the_same_as_its_options(clbench, tmp_path: Path) -> None:
    spec = {"scenario": "nns", "tasks": 2, "updates": 4, "network": "mlp-8", "set": {"outputs": 12, "interval": 2}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    _, from_file, _ = clbench("run", "--spec", "spec.json", "--json")
    _, from_line, _ = clbench("run", "--scenario", "nns", "--json", *TINY, "--set", "interval=2")
    assert json.loads(from_file)["path"] == json.loads(from_line)["path"]


@pytest.mark.parametrize("what", ["methods", "scenarios", "streams", "networks", "figures"])
def test_lists_have_names_in_words_and_in_json(clbench, what: str) -> None:
    _, out, _ = clbench("list", what, "--json")
    names = [row["name"] for row in json.loads(out)]
    _, text, _ = clbench("list", what)
    assert names
    assert all(name in text for name in names)
    for name in names:
        if ":" not in name:
            assert clbench("show", name)[0] == 0


def test_a_network_is_shown_with_what_is_masked(clbench) -> None:
    _, out, _ = clbench("show", "mlp-30", "--json")
    rows = json.loads(out)["parameters with 10 outputs"]
    assert [tuple(row.values()) for row in rows] == [
        ("fc1.weight", "30 x 784", "masked"),
        ("fc1.bias", "30", "not masked"),
        ("fc2.weight", "10 x 30", "masked"),
        ("fc2.bias", "10", "not masked"),
    ]


def test_scenarios_are_the_papers_table(clbench) -> None:
    _, out, _ = clbench("list", "scenarios", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert list(rows) == ["GG", "GNs", "GNu", "NNs"]
    assert {name for name, row in rows.items() if row["task space"] == "Discrete only"} == {"GNu"}


def test_doctor_looks_at_everything(clbench) -> None:
    code, out, _ = clbench("doctor", "--json")
    checks = {row["check"]: row for row in json.loads(out)}
    assert code == 0
    assert checks["torchvision loads"]["ok"]
    assert not checks["data mnist"]["ok"]
    assert checks["data mnist-5k"]["ok"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--scenario", "nnu"], "NNu is not a scenario"),
        (["run", "--method", "supsub"], "Did you mean supsup?"),
        (["run", "--stream", "permuted-mnst"], "Did you mean permuted-mnist?"),
        (["run", "--network", "lenet"], "Did you mean lenet-300-100?"),
        (["run", "--data", "mnist"], "clbench data get mnist"),
        (["run", "--set", "outputs=10", "--ask", "objective=G"], "G needs superfluous outputs"),
        (["run", "--set", "outputs=5"], "below the 10 classes"),
        (["run", "--set", "outputs"], "--set takes key=value"),
        (["run", "--tasks", "0"], "at least 1"),
        (["run", "--updates", "-3"], "at least 1"),
        (["run", "--tasks", "3", "--checkpoints", "4"], "The checkpoint 4 is not between 1 and the last task, 3"),
        (["run", "--seeds", "a"], "--seeds takes whole numbers"),
        (["run", "--results", "/proc/nowhere"], "Nothing can be written"),
        (["run", "--overwrite", "maybe"], "Invalid value overwrite=maybe: input should be 'missing', 'always' or 'never'"),
        (["run", "--spec", "nowhere.json"], "There is no spec file"),
        (["run", "--device", "quantum"], "Unknown device"),
        (["ask", "123abc"], "There is no run '123abc'"),
        (["table"], "There are no complete runs"),
        (["figure", "fig99"], "Unknown figure 'fig99'"),
        (["figure", "fig4", "--from-results"], "fig4"),
        (["show", "supsab"], "Did you mean supsup?"),
        (["list", "method"], "Did you mean methods?"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(clbench, arguments: list[str], sentence: str, tmp_path: Path) -> None:
    code, out, err = clbench(*arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert "Traceback" not in err
    assert not (tmp_path / "results" / "runs").exists() or not list((tmp_path / "results" / "runs").glob("*/*"))


def test_a_spec_file_with_an_unknown_key_names_it(clbench, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"scenario": "gg", "taks": 3}')
    code, _, err = clbench("run", "--spec", "spec.json")
    assert code == 2
    assert "'taks'. Did you mean tasks?" in err


def test_examples_of_the_documentation_run(clbench) -> None:
    method, stream = (ROOT / "docs" / "examples" / name for name in ("nearest_mean.py", "shifted_mnist.py"))
    code, out, _ = clbench(
        "run", "--method", f"{method}:NearestMean", "--scenario", "gnu", "--tasks", "3", "--updates", "1", "--json"
    )
    assert code == 0
    assert json.loads(out)["accuracy"] > 0.7
    code, out, _ = clbench("run", "--stream", f"{stream}:shifted", "--json", *TINY)
    assert (code, json.loads(out)["tasks"]) == (0, 2)
    code, out, _ = clbench("run", "--network", "mlp-6x6", "--json", *TINY[:4])
    assert code == 0
    assert "class NearestMean" in (text := (ROOT / "docs" / "adding.md").read_text())
    source = method.read_text().partition("class NearestMean")[2].strip()
    assert source in text


@pytest.mark.parametrize(
    ("command", "default"), [("run", "permuted-mnist"), ("ask", "if its state allows"), ("figure", "CLBENCH_DATA")]
)
def test_help_says_what_is_taken_by_default(clbench, monkeypatch, command: str, default: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = clbench(command, "--help")
    assert code == 0
    assert f"({default}" in out or f"{default})" in out


def test_help_needs_no_torch() -> None:
    """The command line answers at once: PyTorch takes seconds to import."""
    code = "import sys; sys.argv = ['clbench', '--help']\nfrom clbench.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "False"
