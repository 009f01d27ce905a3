"""The learn half of a run: what its hash depends on."""

import hashlib
import json
from typing import Any

import pytest

from clbench.engine.flow import Flow
from clbench.engine.learn import Learn
from clbench.methods.supsup import SupSup
from tests.engine.runs import job

CHANGES: dict[str, Any] = {
    "method": "other",
    "version": 99,
    "source": "abc",
    "parameters": {"outputs": 21},
    "scenario": {"task_given_in_training": False},
    "stream": "rotated-mnist",
    "stream_source": "abc",
    "data": "mnist",
    "data_version": 99,
    "data_source": "abc",
    "tasks": 4,
    "network": "mlp-33",
    "network_source": "abc",
    "seeds": {"stream": 0, "initialisation": 0, "training": 1},
    "updates": 16,
    "batch_size": 17,
    "precision": "bfloat16",
    "flow": {"lengths": (3, 6)},
}


def test_every_part_of_the_learn_half_changes_the_hash() -> None:
    learn = job(precision="float32").learn
    assert set(CHANGES) | {"code"} == set(Learn.model_fields)
    assert Learn(**learn.model_dump() | {"code": {"file.py": "abc"}}).hash == learn.hash  # the sources say it
    changed = [Learn(**learn.model_dump() | {field: value}).hash for field, value in CHANGES.items()]
    changed += [Learn(**learn.model_dump() | {"seeds": learn.seeds.model_dump() | {which: 7}}).hash for which in CHANGES["seeds"]]
    hashes = {*changed, learn.hash}
    assert len(hashes) == len(CHANGES) + 3 + 1
    assert all(len(each) == 12 and set(each) <= set("0123456789abcdef") for each in hashes)


def test_asks_checkpoints_and_equal_ways_to_write_a_setting_do_not_change_the_hash() -> None:
    same = [
        job(),
        job("gg"),
        job("gns", ask={"objective": ["G", "H"], "images": 5}),
        job(checkpoints=(2,)),
        job(set={"learning_rate": "0.01", "outputs": "20"}),
        job(set={"budget": 2500}),
        job(data="mnist-5k"),
        job(seeds=(5,), stream_seed=0, initialisation_seed=0, training_seed=0),
    ]
    assert len({each.learn.hash for each in same}) == 1
    learn = job().learn
    turned = dict(reversed(learn.model_dump().items()))
    turned["parameters"] = dict(reversed(learn.parameters.items()))
    assert Learn(**turned).hash == learn.hash


def test_runs_keep_the_names_that_they_had_before_later_fields() -> None:
    learn = job(data="mnist").learn
    values = learn.model_dump(mode="json")
    assert [values.pop(later) for later in ("data_version", "data_source", "network_source", "code")] == [1, None, None, {}]
    assert values.pop("flow") == Flow().model_dump(mode="json")
    assert learn.hash == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def test_runs_keep_the_names_that_they_had_before_later_parameters() -> None:
    """A parameter that a method did not always have counts only if it is not at its default."""
    assert {"allocation", "when_full"} <= SupSup.added
    before, default, other = (
        job("nns", set=values).learn for values in ({}, {"allocation": "uncertainty"}, {"allocation": "surprise"})
    )
    assert not SupSup.added & before.parameters.keys()
    assert default.hash == before.hash
    assert other.parameters == before.parameters | {"allocation": "surprise"}
    assert other.hash != before.hash


def test_a_learn_half_is_restored_from_json() -> None:
    learn = job("nns", set={"interval": 10, "epsilon": "0.1"}).learn
    assert Learn.model_validate_json(learn.model_dump_json()) == learn
    with pytest.raises(ValueError, match="extra"):
        Learn(**learn.model_dump(), more=1)
