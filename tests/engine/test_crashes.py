"""Files of a run that a crash or another program damaged: mended, or refused in one sentence, never taken for results."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import crashes
from clbench import storage
from clbench.engine import durable, record
from clbench.engine.execution import execute
from clbench.engine.run_files import Tables
from clbench.engine.store import Run, runs_in
from clbench.engine.verify import problems, repair
from clbench.errors import Notice, UserError
from clbench.results.frames import complete, frame

SAMPLES = Path(__file__).parent / "samples"
SCHEMAS = sorted(folder.name for folder in SAMPLES.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A whole run of SupSup in NNs, and the same interrupted after its second task."""
    folder, job = tmp_path_factory.mktemp("runs"), crashes.small_job("supsup", "nns")
    return {"whole": crashes.do(job, folder / "whole"), "interrupted": crashes.interrupted(job, folder / "interrupted")}


def copied(run: Run, place: Path) -> Run:
    """A copy of a run in another results folder."""
    shutil.rmtree(place, ignore_errors=True)
    return Run(Path(shutil.copytree(run.path, place / "runs" / run.path.name)))


def sample(schema: str, status: str, place: Path) -> Run:
    """A copy of a run that a version of clbench wrote."""
    (run,) = [run for run in runs_in(SAMPLES / schema) if run.record["status"] == status]
    return copied(run, place)


def cuts(file: Path) -> Iterator[int]:
    """Cut a file at each of its last 200 bytes, the last first."""
    size = file.stat().st_size
    for length in range(size - 1, max(-1, size - 201), -1):
        os.truncate(file, length)
        yield length


# Crashes


def test_a_run_that_ends_at_any_write_is_resumed_with_the_same_result(tmp_path: Path) -> None:
    """Every seventh of the points; ``python -m benchmarks.crashes`` takes all of them, for more methods."""
    job = crashes.small_job("naive", "gg")
    points = crashes.points_of(job, tmp_path / "whole")
    kills, wrong = crashes.crash(job, tmp_path, range(1, points + 1, 7), crashes.run_at(tmp_path / "whole", job.learn))
    assert kills == len(range(1, points + 1, 7)) > 15
    assert wrong == []


def test_what_was_not_committed_does_not_count(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["whole"], tmp_path)
    with run.table_file("scores").open("a") as file:
        file.write("3,2,NNs,0.0")
    assert crashes.difference(run, written["whole"]) == ""


# Tables


def test_a_table_cut_at_any_byte_is_read_and_mended_from_its_copy(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["interrupted"], tmp_path)
    assert {"allocation", "confusion", "losses", "scores", "tasks"} <= {*run.table_names()}
    for name in run.table_names():
        for file in (run.table_file(name), run.path / "copies" / f"{name}.csv"):
            content = file.read_bytes()
            for length in cuts(file):
                assert run.table(name).equals(written["interrupted"].table(name))
                if length % 40 == 0:
                    Tables(run)
                    assert file.read_bytes() == content
            file.unlink()
            Tables(run)
            assert file.read_bytes() == content


def test_a_run_with_all_its_tables_cut_resumes_with_the_same_result(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["interrupted"], tmp_path)
    for name in run.table_names():
        os.truncate(run.table_file(name), 5)
    assert crashes.difference(crashes.do(crashes.small_job("supsup", "nns"), tmp_path), written["whole"]) == ""


def test_a_table_cut_together_with_its_copy_is_refused(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["whole"], tmp_path)
    os.truncate(run.path / "copies" / "scores.csv", 5)
    for _ in cuts(run.table_file("scores")):
        with pytest.raises(UserError, match=r"scores\.csv is not what its run wrote, and so is its copy: look with"):
            frame([run])


def test_a_table_of_schema_1_that_is_cut_gives_no_wrong_value(tmp_path: Path) -> None:
    """A cut between two lines cannot be seen there, but what is left is right."""
    run = sample("schema-1", "complete", tmp_path)
    whole, refused = frame([run]), 0
    for name in ("scores", "tasks"):
        content = run.table_file(name).read_bytes()
        for _ in cuts(run.table_file(name)):
            try:
                read = frame([run])
            except UserError:
                refused += 1
            else:
                columns = ["learned", "task", "accuracy", "images"]
                assert read[columns].equals(whole.loc[: len(read) - 1, columns])
        run.table_file(name).write_bytes(content)
    assert refused > 250


def test_a_table_gets_new_columns_in_one_step(written: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the record is replaced, the table is what it was: from its copy."""
    run = copied(written["whole"], tmp_path)
    before, tables = run.table("allocation"), Tables(run)
    tables.add("allocation", learned=3, hue="red")
    with monkeypatch.context() as patch:
        patch.setattr("clbench.engine.run_files.update", Mock(side_effect=crashes.Killed))
        with pytest.raises(crashes.Killed):
            tables.commit()
    assert b"hue" in run.table_file("allocation").read_bytes()
    assert run.table("allocation").equals(before)
    tables = Tables(run)
    tables.add("allocation", learned=3, hue="red")
    tables.commit()
    assert run.table("allocation")["hue"].fillna("").tolist() == [""] * len(before) + ["red"]
    assert problems(run) == []


# The file system


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_what_was_saved_is_kept(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, calls = crashes.small_job("naive", "gg"), [0]
    whole = crashes.do(job, tmp_path / "whole")
    original = getattr(os, what)

    def full(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] > 12:
            raise OSError(28, "No space left on device")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, what, full)
        patch.setattr("clbench.engine.saving.SavingClock.due", lambda self, ahead=0.0: True)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): all that was saved before is kept"):
            crashes.do(job, tmp_path / "full")
    assert crashes.difference(crashes.do(job, tmp_path / "full"), whole) == ""


def test_a_file_is_replaced_or_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.replace(tmp_path / "file", b"old")

    def half(file: Any, content: bytes) -> None:
        file.write(content[:1])
        raise crashes.Killed

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_write", half)
        with pytest.raises(crashes.Killed):
            durable.replace(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    durable.append(tmp_path / "file", 2, b"d")
    assert (tmp_path / "file").read_bytes() == b"old"[:2] + b"d"


def test_overwrite_never_writes_nothing(written: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(written["whole"], tmp_path)
    monkeypatch.setattr("clbench.engine.execution.writable", None)
    monkeypatch.setattr("clbench.engine.execution.alone", None)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert execute(crashes.small_job("supsup", "nns"), tmp_path, overwrite="never").complete
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


# Records


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b"[" * 100_000, b'{"learn": {}}', b"\xff\xfe", b"1" * 5000, b'{"schema": 2, "learn": []}'],
    ids=lambda content: repr(content[:12]),
)
def test_a_damaged_record_is_read_from_its_copy_or_refused(content: bytes, written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["whole"], tmp_path)
    (run.path / "run.json").write_bytes(content)
    assert run.record == written["whole"].record
    assert [problem.cure for problem in problems(run)] == ["copy"]
    assert repair(run) == []
    for file in ("run.json", "copies/run.json"):
        (run.path / file).write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json is damaged.*: look with"):
        frame([run])
    assert {problem.cure for problem in problems(run)} == {"repeat"}


def test_a_record_that_is_a_folder_or_was_edited_is_not_read(written: dict[str, Run], tmp_path: Path) -> None:
    run, whole = copied(written["whole"], tmp_path), written["whole"].record
    file = run.path / "run.json"
    file.write_text(json.dumps(whole | {"checkpoints": [1]}))
    assert run.record == whole
    file.unlink()
    file.mkdir()
    assert run.record == whole
    shutil.rmtree(run.path / "copies")
    with pytest.raises(UserError, match=r"run\.json cannot be read \(Is a directory\)"):
        _ = run.record


def test_a_run_of_a_later_version_is_refused(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["whole"], tmp_path)
    (run.path / "run.json").write_text(json.dumps(run.record | {"schema": record.SCHEMA + 1}))
    with pytest.raises(UserError, match="made by a later version of clbench: update clbench"):
        _ = run.record


def test_a_damaged_run_costs_a_folder_only_that_run(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["whole"], tmp_path)
    for number in range(3):
        shutil.copytree(run.path, run.path.with_name(f"other-{number}"))
    for file in ("run.json", "copies/run.json"):
        (run.path.with_name("other-0") / file).write_text("[]")
    for file in ("tasks.csv", "copies/tasks.csv"):
        (run.path.with_name("other-1") / file).unlink()
    (run.path.with_name("other-2") / "notes.csv").write_text("not,a,table")
    with pytest.warns(Notice) as notices:
        left = complete(tmp_path)
    assert sorted(each.path.name for each in left) == sorted([run.path.name, "other-2"])
    assert [str(notice.message).split()[-4:] for notice in notices] == [[f"other-{n}", "is", "left", "out."] for n in range(2)]


# Verify and repair


def test_lost_answers_are_asked_for_again(written: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NNs cannot be asked about an earlier state: its last answers come back."""
    monkeypatch.setattr("clbench.data.load", lambda name, root=None: crashes.few_digits())
    run = copied(written["whole"], tmp_path)
    for file in ("scores.csv", "copies/scores.csv"):
        os.truncate(run.path / file, 100)
    assert [problem.cure for problem in problems(run)] == ["ask", "ask"]
    assert repair(run) == []
    for name in ("scores", "confusion"):
        before, after = (each.table(name).drop(columns="seconds", errors="ignore") for each in (written["whole"], run))
        pd.testing.assert_frame_equal(after, before[before["learned"] == 3].reset_index(drop=True))


def test_a_lost_state_or_table_of_losses_is_named(written: dict[str, Run], tmp_path: Path) -> None:
    run = copied(written["whole"], tmp_path)
    (run.path / "losses.csv").unlink()
    (run.path / "copies" / "losses.csv").unlink()
    state = run.path / "state" / "3" / "generator.safetensors"
    storage.save({"state": torch.zeros(3, dtype=torch.uint8)}, state)
    expected = [("losses.csv", "repeat"), ("copies/losses.csv", "repeat"), ("state/3/generator.safetensors", "repeat")]
    assert [(problem.file, problem.cure) for problem in problems(run)] == expected
    assert {problem.cure for problem in repair(run)} == {"repeat"}
    shutil.rmtree(run.path / "state")
    assert problems(run)[-1].sentence.startswith("The saved state is gone: only repeating the run")


# Samples of every schema


@pytest.mark.parametrize("schema", SCHEMAS)
def test_runs_of_every_schema_are_read_repaired_and_resumed(schema: str, tmp_path: Path) -> None:
    run = sample(schema, "complete", tmp_path / "complete")
    read = frame([run])
    assert (len(read), read["unfinished"].any(), problems(run)) == (6, False, [])
    assert repair(run) == []
    assert run.extents is not None
    assert frame([run]).equals(read)
    stopped = sample(schema, "incomplete", tmp_path / "incomplete")
    assert frame([stopped])["unfinished"].all()
    Tables(stopped)
    assert problems(stopped) == []


# Fuzz


def unless_refused(read: Callable[[], Any]) -> Any:
    """What is read; None if it is refused in one sentence."""
    try:
        return read()
    except UserError as error:
        return None if "\n" not in str(error) else pytest.fail(f"two lines: {error}")


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("name", ["run.json", "scores.csv", "tasks.csv", "confusion.csv", "state/3/learned.safetensors"])
def test_damaged_bytes_are_never_a_traceback(schema: str, name: str, tmp_path: Path) -> None:
    run = sample(schema, "complete", tmp_path)
    whole, content = frame([run]), (run.path / name).read_bytes()

    @given(data=st.data())
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def damaged(data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 50)))
        (run.path / name).write_bytes(content[:start] + data.draw(st.binary(max_size=50)) + content[end:])
        found = problems(run)
        assert all("\n" not in problem.sentence for problem in found)
        if (read := unless_refused(lambda: frame([run]))) is not None:
            assert read["accuracy"].between(0, 1).all()
            assert read.equals(whole) or schema == "schema-1"
        unless_refused(lambda: run.state("learned"))

    damaged()


Anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_a_record_of_wrong_types_is_never_a_traceback(
    tmp_path: Path, written: dict[str, Run], as_schema_1: Callable[[Run], None]
) -> None:
    run = copied(written["whole"], tmp_path)
    as_schema_1(run)
    whole = run.record

    @given(key=st.sampled_from(sorted(whole)), value=Anything, inner=st.sampled_from([None, *sorted(whole["learn"])]))
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def damaged(key: str, value: Any, inner: str | None) -> None:
        changed = whole | ({key: value} if inner is None else {"learn": whole["learn"] | {inner: value}})
        (run.path / "run.json").write_text(json.dumps(changed))
        for read in (lambda: frame([run]), lambda: problems(run), lambda: run.state("learned"), lambda: run.scenario):
            unless_refused(read)

    damaged()
