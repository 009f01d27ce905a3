"""The names of progress bars: what several runs of a method differ in stands in them, whatever the method."""

from typing import Any

from rich.progress import Progress

from clbench.cli.progress import Bars
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve


def job(**settings: Any) -> Job:
    (only_job,) = resolve(request({"network": "mlp-8", "tasks": 2, "updates": 1, "data": "mnist-5k", **settings}))
    return only_job


def test_a_bar_names_what_its_run_sets_otherwise_than_the_first_of_its_method_and_scenario() -> None:
    bars = Bars(Progress(disable=True))
    assert bars.name(job(method="supsup", scenario="NNs")) == "supsup NNs seed 0"
    assert bars.name(job(method="supsup", scenario="NNs", set={"offset": 50})) == "supsup NNs offset=50 seed 0"
    assert bars.name(job(method="supsup", scenario="NNs", seeds=(3,))) == "supsup NNs seed 3"
    assert bars.name(job(method="psp", scenario="GG", set={"restart": True})) == "psp GG seed 0"
