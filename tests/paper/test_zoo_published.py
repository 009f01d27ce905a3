"""The table of methods on published settings: every row's recipe exists, runs are found by their setting, and verdicts by hand."""

from pathlib import Path

import pytest

import clbench
from benchmarks.published import table, verdict
from clbench import registry
from clbench.engine.request import request, resolve
from clbench.engine.store import runs_in
from clbench.paper.published import ZOO, Published


@pytest.mark.parametrize("place", ZOO, ids="-".join)
def test_every_number_has_a_recipe_with_its_whole_setting(place: tuple[str, str, str]) -> None:
    method, recipe, scenario = place
    named = [r for r in registry.method(method).recipes if r.name == recipe and r.scenario == scenario]
    assert len(named) == 1
    assert named[0].run.keys() >= {"data", "network", "tasks", "updates", "batch_size"}
    learn = resolve(request({"method": method, "recipe": recipe, "scenario": scenario}))[0].learn
    assert (learn.data, learn.stream, learn.tasks) == ("mnist", named[0].stream, named[0].run["tasks"])


def test_recipes_by_name_choose_the_parameters_of_their_name() -> None:
    distill = [resolve(request({"method": "dgr", "recipe": f"van-de-ven{which}-split"}))[0].learn for which in ("", "-distill")]
    assert [learn.parameters["distill"] for learn in distill] == [False, True]


@pytest.mark.parametrize(
    ("difference", "interval", "n", "words"),
    [
        (-0.5, 0.1, 5, "agrees"),
        (-3.0, 3.5, 5, "agrees"),
        (-3.0, 0.5, 5, "below the published number"),
        (4.0, 0.5, 5, "above the published number"),
        (-3.0, float("nan"), 1, "below the published number, one seed"),
        (1.0, float("nan"), 1, "agrees, one seed"),
    ],
)
def test_verdicts(difference: float, interval: float, n: int, words: str) -> None:
    assert verdict(difference, interval, n) == words


def test_a_run_with_the_setting_is_found_and_another_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, number = ("slda", "van-de-ven-split", "GNu"), Published("SLDA", 87.3, "arXiv 1, Table 1", "second-hand", "here")
    small = {"data": "mnist-5k", "network": "mlp-400x400", "tasks": 5, "updates": 5, "batch_size": 64}
    recipe = next(r for r in registry.method("slda").recipes if r.name == "van-de-ven-split")
    monkeypatch.setattr("benchmarks.published.ZOO", {place: number})
    monkeypatch.setattr(registry.method("slda"), "recipes", (recipe.__class__(**{**vars(recipe), "run": small}),))
    asked = {"method": "slda", "recipe": "van-de-ven-split", "checkpoints": (5,), "results": tmp_path, "seeds": (0, 1)}
    (empty,) = table([]).to_dict("records")
    assert (empty["n"], empty["verdict"]) == (0, "not measured")
    clbench.run(**asked, set={"shrinkage": 0.5})
    assert table(list(runs_in(tmp_path)))["n"].tolist() == [0]
    scores = clbench.run(**asked)
    (ours,) = table(list(runs_in(tmp_path))).to_dict("records")
    assert ours["n"] == 2
    assert ours["source"] == "arXiv 1, Table 1 (second-hand)"
    assert ours["accuracy"] == pytest.approx(100 * scores[scores["learned"] == 5]["accuracy"].mean())
    assert ours["difference"] == pytest.approx(ours["accuracy"] - 87.3)
