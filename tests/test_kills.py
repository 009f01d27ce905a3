"""Runs that are killed become what they would have been: a few of the trials of ``benchmarks/kills.py``."""

import os
from pathlib import Path

import pytest

from benchmarks import kills


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
def test_killed_runs_become_what_they_would_have_been(tmp_path: Path) -> None:
    """At a random moment, before a write and while a file is written, with random draws in the network and in the augmentation."""
    chosen = [pair for pair in kills.PAIRS if kills.name_of(pair) in ("supsup nns", "supsup gg dropping", "naive gg augmented")]
    assert len(chosen) == 3
    rows = kills.trials(6, tmp_path / "kills", chosen)
    assert rows["killed"].sum() == 6
    assert set(rows["moment"]) == set(kills.KINDS)
    assert set(rows["saved"]) == {"always", "by time"}
    assert rows["different"].tolist() == [""] * len(rows)
    summary = kills.summary(rows).set_index("pair")
    assert summary.loc["all", ["kills", "identical"]].tolist() == [6, 6]
    assert summary.loc["all", list(kills.LEFT.values())].sum() == 6


def test_every_difference_is_found(tmp_path: Path) -> None:
    """A run of another seed differs in everything."""
    pair = {**kills.PAIRS[0], "tasks": 1, "checkpoints": (1,)}
    jobs = [kills.resolve(kills.request({**pair, "seeds": (seed,)}))[0] for seed in (0, 1)]
    first, second = (kills.execute(job, tmp_path) for job in jobs)
    assert kills.differences(first, first) == []
    assert set(kills.differences(first, second)) == {"losses", "scores", "learned", "generator", "run.json"}
