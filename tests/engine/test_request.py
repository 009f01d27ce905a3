"""Requests: what they resolve to, and one clear sentence for each invalid one."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from clbench import registry
from clbench.engine.asking import Ask
from clbench.engine.asks import PROTOCOLS, SAMPLE, default_checkpoints, make_asks, typed
from clbench.engine.build import usual_precision
from clbench.engine.flow import USUAL_FLOW
from clbench.engine.learn import Job
from clbench.engine.request import read_spec, request, resolve
from clbench.engine.settings import BUDGETS
from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction, Recipe
from clbench.scenarios import GG, GNS, GNU

CPU = torch.device("cpu")


def job(**settings: Any) -> Job:
    (only_job,) = resolve(request(settings))
    return only_job


def refusal(**settings: Any) -> str:
    """The one sentence with which a request is refused."""
    with pytest.raises(UserError) as caught:
        resolve(request(settings))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


class GivenOnly(Method):
    """A method for GG and GNs, with a recipe of its own."""

    name = "given-only"
    scenarios = frozenset({GG, GNS})
    recipes = (Recipe("permuted-*", "lenet-*", {"rate": 0.5}, {"depth": 7}), Recipe("*", "*", {"rate": 0.25}))

    def __init__(self, brief: Brief, *, rate: float = 1.0, kind: Literal["a", "b"] = "a") -> None:
        super().__init__(brief)

    def observe(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        pass

    def predict(self, inputs: torch.Tensor, task: int | None = None, *, depth: int = 3) -> Prediction:
        return Prediction(torch.zeros(len(inputs), dtype=torch.int64))

    def learned(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, learned: dict[str, torch.Tensor], progress: dict[str, torch.Tensor] | None = None) -> None:
        pass


NAMED = {"method": "ewc", "recipe": "van-de-ven-split"}


def test_a_recipe_by_name_fills_in_the_whole_published_setting() -> None:
    made = job(**NAMED, scenario="gg").learn
    assert (made.stream, made.network, made.data) == ("split-mnist-raw", "mlp-400x400", "mnist")
    assert (made.tasks, made.updates, made.batch_size) == (5, 2000, 128)
    assert (made.parameters["strength"], made.parameters["optimiser"]) == (1e7, "adam")
    assert job(**NAMED, scenario="gnu").learn.parameters["strength"] == 1e8


def test_what_is_stated_replaces_what_the_recipe_says() -> None:
    made = job(**NAMED, scenario="gg", updates=7, data="mnist-5k", set={"strength": 3.0}).learn
    assert (made.updates, made.data, made.parameters["strength"], made.tasks) == (7, "mnist-5k", 3.0, 5)


def test_a_recipe_of_one_scenario_chooses_it() -> None:
    (made,) = resolve(request({"method": "slda", "recipe": "van-de-ven-split"}))
    assert made.scenario is GNU


def test_an_unknown_recipe_is_refused() -> None:
    assert "van-de-ven-split" in refusal(method="ewc", recipe="van-de-ven-splt")


@pytest.fixture
def given_only(monkeypatch: pytest.MonkeyPatch) -> str:
    methods = registry.methods() | {"given-only": GivenOnly}
    monkeypatch.setattr(registry, "methods", lambda: methods)
    return "given-only"


# Refusals


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "supsub"}, "Unknown method 'supsub'. Did you mean supsup?"),
        ({"scenario": "gnus"}, "Unknown scenario 'gnus'. Did you mean GNu?"),
        ({"stream": "permutedmnist"}, "Unknown stream 'permutedmnist'. Did you mean permuted-mnist?"),
        ({"stream": "zzz"}, "Unknown stream 'zzz'. Known: "),
        ({"taks": 3}, "Unknown setting of a run 'taks'. Did you mean tasks?"),
        ({"budget": "laptob"}, "Invalid value budget=laptob: input should be 'smoke', 'laptop' or 'paper'."),
        ({"precision": "float16"}, "Invalid value precision=float16: input should be 'auto', 'float32' or 'bfloat16'."),
        ({"data": "mnst"}, "Unknown data set for the stream permuted-mnist 'mnst'. Did you mean mnist?"),
        ({"data": "fashion-mnist"}, "Unknown data set for the stream permuted-mnist 'fashion-mnist'."),
        ({"data": "mnist+fashion-mnist"}, "Unknown data set for the stream permuted-mnist 'mnist+fashion-mnist'."),
        (
            {"stream": "mixed", "data": "mnist"},
            "Unknown data set for the stream mixed 'mnist'. Known: mnist+fashion-mnist, mnist-5k+",
        ),
        ({"set": {"output": 10}}, "Unknown learning parameter of supsup 'output'. Did you mean outputs?"),
        ({"ask": {"objectiv": "G"}}, "Unknown setting of an ask to supsup 'objectiv'. Did you mean objective?"),
        ({"ask": {"scenario": "gnx"}}, "Unknown scenario 'gnx'."),
    ],
)
def test_unknown_names(settings: dict[str, Any], says: str) -> None:
    assert refusal(**settings).startswith(says)


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        ("nnu", "NNu is not a scenario: labels that are new would reveal the new task"),
        ("NNu", "NNu is not a scenario"),
        ("ggs", "GGs and GGu are the same"),
        ("GGu", "GGs and GGu are the same"),
    ],
)
def test_what_is_no_scenario(scenario: str, says: str) -> None:
    assert refusal(scenario=scenario).startswith(says)
    assert refusal(ask={"scenario": scenario}).startswith(says)


def test_a_method_in_a_scenario_that_it_cannot_serve(given_only: str) -> None:
    message = "The method given-only cannot serve GNu: it serves GG, GNs."
    assert refusal(method=given_only, scenario="gnu") == message
    assert refusal(method=given_only, scenario="gns", ask={"scenario": ["gns", "gnu"]}) == message


def test_an_ask_under_a_scenario_in_which_something_else_is_learned(given_only: str) -> None:
    assert refusal(scenario="nns", ask={"scenario": "gnu"}).startswith(
        "supsup learns something else in GNu than in NNs: ask under GNu"
    )
    assert refusal(scenario="gnu", ask={"scenario": ["gg", "nns"]}).startswith("supsup learns something else in NNs than in GNu")
    # A method whose learning depends on all three questions.
    assert refusal(method=given_only, scenario="gg", ask={"scenario": "gns"}).startswith("given-only learns something else in GNs")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tasks": 0}, "The number of tasks must be at least 1, not 0."),
        ({"tasks": -3}, "The number of tasks must be at least 1, not -3."),
        ({"updates": 0}, "updates must be at least 1, not 0."),
        (
            {"tasks": 10**9},
            "1,000,000,000 tasks are too many, because a stream is in memory with all its tasks: ask for at most 100,000.",
        ),
        (
            {"updates": 10**12, "tasks": 2},
            "1,000,000,000,000 updates in each of 2 tasks are more than the 1,000,000,000 that a run may have, which take days: "
            "ask for fewer.",
        ),
        ({"batch_size": -1}, "batch_size must be at least 1, not -1."),
        ({"ask": {"images": 0}}, "images must be at least 1, not 0."),
        ({"ask": {"images": "few"}}, "images must be a whole number or all, not 'few'."),
        ({"ask": {"images": 2.5}}, "images must be a whole number or all, not 2.5."),
        ({"stream": "split-mnist", "tasks": 6}, "The stream split-mnist has 5 tasks: ask for at most that many, not 6."),
        ({"stream": "rotated-mnist", "tasks": 37}, "The stream rotated-mnist has 36 tasks"),
        ({"tasks": 3, "checkpoints": (4,)}, "The checkpoint 4 is not between 1 and the last task, 3."),
        ({"tasks": 3, "checkpoints": (0, 1)}, "The checkpoint 0 is not between 1 and the last task, 3."),
        ({"checkpoints": ()}, "Give at least one checkpoint."),
        ({"seeds": ()}, "Give at least one seed"),
        ({"ask": {"objective": []}}, "The setting objective of an ask has no value."),
    ],
)
def test_counts_that_make_no_sense(settings: dict[str, Any], says: str) -> None:
    assert refusal(**settings).startswith(says)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tasks": "many"}, "Invalid value tasks=many: input should be a valid integer"),
        ({"tasks": 2.5}, "Invalid value tasks=2.5: input should be a valid integer"),
        ({"seeds": 3}, "Invalid value seeds=3: input should be a valid tuple"),
        ({"seeds": ("x",)}, "Invalid value seeds.0=x: input should be a valid integer"),
        ({"set": "outputs=3"}, "Invalid value set=outputs=3: input should be a valid dictionary"),
        ({"method": None}, "Invalid value method=None: input should be a valid string"),
        ({"set": {"outputs": "many"}}, "Invalid value outputs=many: input should be a valid integer"),
        ({"set": {"learning_rate": "fast"}}, "Invalid value learning_rate=fast: input should be a valid number"),
        ({"set": {"start": "warm"}}, "Invalid value start=warm: input should be 'random' or 'transfer'"),
        ({"ask": {"objective": "F"}}, "Invalid value objective=F: input should be 'H', 'G', 'logit', 'energy' or 'margin'"),
        ({"ask": {"algorithm": ["one-shot", "two-shot"]}}, "Invalid value algorithm=two-shot: input should be 'one-shot'"),
        ({"ask": {"group": "big"}}, "Invalid value group=big: input should be a valid integer"),
    ],
)
def test_values_of_the_wrong_type(settings: dict[str, Any], says: str) -> None:
    assert refusal(**settings).startswith(says)


def test_spec_files(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    with pytest.raises(UserError, match="There is no spec file"):
        read_spec(file)
    for content, says in (("{", "is not valid JSON"), ("[1]", "must hold one JSON object"), (b"\xff\xfe", "is not valid JSON")):
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(UserError, match=says):
            read_spec(file)
    file.write_text('{"scenario": "gg", "tasks": 2, "seeds": [4], "set": {"outputs": 12}, "ask": {"images": 9}}')
    from_file = job(**read_spec(file))
    assert (from_file.scenario, from_file.learn.tasks, from_file.learn.seeds.stream) == (GG, 2, 4)
    assert from_file.learn.parameters["outputs"] == 12
    assert from_file.asks == (Ask(GG, {}, 9),)
    file.write_text('{"scenaro": "gg"}')
    with pytest.raises(UserError, match=r"Unknown setting of a run 'scenaro'\. Did you mean scenario"):
        job(**read_spec(file))


# What requests resolve to


def test_a_bare_request_is_supsup_in_gnu() -> None:
    bare = job()
    assert bare.learn.model_dump() == {
        "method": "supsup",
        "version": registry.method("supsup").version,
        "source": None,
        "parameters": bare.learn.parameters,
        "scenario": {"task_given_in_training": True},
        "stream": "permuted-mnist",
        "stream_source": None,
        "data": "mnist-5k",
        "data_version": 2,
        "data_source": None,
        "tasks": 20,
        "network": "lenet-300-100",
        "network_source": None,
        "seeds": {"stream": 0, "initialisation": 0, "training": 0},
        "updates": 1000,
        "batch_size": 128,
        "precision": usual_precision(registry.method("supsup"), GNU),
        "flow": USUAL_FLOW.model_dump(),
        "code": {},
    }
    assert bare.checkpoints == tuple(range(1, 21))
    assert [ask.label for ask in bare.asks] == [f"GNu algorithm=one-shot evidence=1 group=1 objective=H sample={SAMPLE}"]


@pytest.mark.parametrize(
    ("budget", "stream", "tasks", "updates", "data"),
    [
        ("smoke", "permuted-mnist", 5, 300, "mnist-5k"),
        ("laptop", "permuted-mnist", 20, 1000, "mnist-5k"),
        ("paper", "permuted-mnist", 250, 1000, "mnist"),
        ("smoke", "rotated-mnist", 5, 300, "mnist-5k"),
        ("laptop", "rotated-mnist", 36, 1000, "mnist-5k"),
        ("smoke", "split-mnist", 5, 300, "mnist-5k"),
        ("paper", "split-fashion-mnist", 5, 1000, "fashion-mnist"),
        ("laptop", "permuted-fashion-mnist", 20, 1000, "fashion-mnist"),
        ("paper", "mixed", 108, 1000, "mnist+fashion-mnist"),
    ],
)
def test_budgets(budget: str, stream: str, tasks: int, updates: int, data: str) -> None:
    learn = job(budget=budget, stream=stream).learn
    assert (learn.tasks, learn.updates, learn.data) == (tasks, updates, data)
    said = job(budget=budget, stream=stream, tasks=2, updates=7).learn
    assert (said.tasks, said.updates) == (2, 7)


def test_budgets_keep_updates_a_multiple_of_the_check_interval() -> None:
    interval = job().learn.parameters["interval"]
    assert all(budget.updates % interval == 0 for budget in BUDGETS.values())


def test_recipes_fill_in_what_is_not_said() -> None:
    assert job(network="lenet-300-100").learn.parameters["outputs"] == 100
    assert job(network="fc-1024-1024").learn.parameters["outputs"] == 500
    rotated = job(network="fc-1024-1024", stream="rotated-mnist")
    assert rotated.learn.parameters["outputs"] == 200
    assert rotated.asks[0].parameters == {"algorithm": "binary", "objective": "H", "group": 128, "evidence": 128}
    with_settings = job(network="fc-1024-1024", stream="rotated-mnist", set={"outputs": 30}, ask={"algorithm": "one-shot"})
    assert with_settings.learn.parameters["outputs"] == 30
    assert with_settings.asks[0].parameters["algorithm"] == "one-shot"
    assert with_settings.asks[0].parameters["evidence"] == 128


def test_a_recipe_is_the_first_that_fits(given_only: str) -> None:
    for network, rate, depth in (("lenet-300-100", 0.5, 7), ("fc-1024-1024", 0.25, 3)):
        with_recipe = job(method=given_only, scenario="gns", network=network)
        assert with_recipe.learn.parameters == {"rate": rate, "kind": "a"}
        assert with_recipe.asks[0].parameters == {"depth": depth}


def test_what_the_hash_says_of_the_scenario_is_what_learning_depends_on(given_only: str) -> None:
    assert job(scenario="nns").learn.scenario == {"task_given_in_training": False}
    questions = {"task_given_in_training": True, "task_given_in_inference": False, "labels_shared": True}
    assert job(method=given_only, scenario="gns").learn.scenario == questions


def test_one_number_sets_all_three_seeds_unless_one_is_named() -> None:
    jobs = resolve(request({"seeds": (3, 4), "stream_seed": 9}))
    assert [tuple(each.learn.seeds.model_dump().values()) for each in jobs] == [(9, 3, 3), (9, 4, 4)]


def test_equal_runs_are_one() -> None:
    assert len(resolve(request({"seeds": (1, 1, 2)}))) == 2
    named = {"stream_seed": 1, "initialisation_seed": 2, "training_seed": 3}
    assert len(resolve(request({"seeds": (1, 2), **named}))) == 1


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (1, (1,)),
        (20, tuple(range(1, 21))),
        (21, (2, 4, 6, 8, 10, 12, 14, 16, 18, 21)),
        (250, (25, 50, 75, 100, 125, 150, 175, 200, 225, 250)),
    ],
)
def test_checkpoints_by_default(tasks: int, expected: tuple[int, ...]) -> None:
    assert default_checkpoints(tasks) == expected


def test_checkpoints_are_put_in_order() -> None:
    assert job(tasks=5, checkpoints=(5, 2, 2)).checkpoints == (2, 5)


# Asks


def test_every_combination_is_an_ask() -> None:
    combined = job(ask={"objective": ["H", "G"], "group": [1, "128"], "images": "50"})
    assert [(ask.parameters["objective"], ask.parameters["group"]) for ask in combined.asks] == [
        ("H", 1),
        ("H", 128),
        ("G", 1),
        ("G", 128),
    ]
    assert {ask.images for ask in combined.asks} == {50}
    assert all("steps" not in ask.parameters for ask in combined.asks)
    assert len({ask.label for ask in combined.asks}) == 4
    assert len(job(ask={"group": [1, 1]}).asks) == 1


def test_where_the_task_is_given_there_is_nothing_to_infer() -> None:
    assert job(scenario="gg").asks == (Ask(GG),)
    both = job(scenario="gnu", ask={"scenario": ["gnu", "gg"], "objective": "G"}).asks
    assert [ask.label for ask in both] == [f"GNu algorithm=one-shot evidence=1 group=1 objective=G sample={SAMPLE}", "GG"]


def test_a_protocol_stands_for_how_images_are_grouped() -> None:
    by_name = {name: job(ask={"protocol": name}).asks[0] for name in PROTOCOLS}
    assert by_name["paper"].label == "GNu algorithm=one-shot evidence=1 group=128 objective=H"  # all test images
    assert by_name["image"] == job().asks[0]
    assert [ask.label for ask in job(ask={"protocol": ["image", "paper"]}).asks] == [ask.label for ask in by_name.values()]
    full_batch = job(network="fc-1024-1024", stream="rotated-mnist", ask={"protocol": "paper"}).asks[0]
    assert (full_batch.parameters["algorithm"], full_batch.parameters["evidence"]) == ("binary", 1)  # it comes before the recipe's
    assert job(ask={"protocol": "paper", "evidence": 128}).asks[0].parameters["evidence"] == 128  # and what is said before it
    with pytest.raises(UserError, match=r"Unknown protocol 'papr'\. Did you mean paper"):
        job(ask={"protocol": "papr"})
    with pytest.raises(UserError, match="GG gives it"):
        job(scenario="gg", ask={"protocol": "paper"})
    with pytest.raises(UserError, match="setting of an ask to naive 'protocol'"):
        job(method="naive", ask={"protocol": "paper"})


def test_only_where_each_image_decides_a_sample_is_asked_about() -> None:
    def about(**settings: Any) -> tuple[int | None, int | None]:
        (ask,) = job(**settings).asks
        return ask.images, ask.sample

    assert about() == about(method="batche") == (None, SAMPLE)
    assert about(ask={"images": 10}) == (10, None)
    assert about(ask={"sample": "10"}) == about(scenario="gg", ask={"sample": 10}) == (None, 10)
    everything = [{"ask": {"images": "all"}}, {"ask": {"group": 4}}, {"scenario": "gg"}, {"method": "naive"}]
    assert {about(**settings) for settings in everything} == {(None, None)}
    with pytest.raises(UserError, match="leave out images or sample"):
        about(ask={"images": 10, "sample": 10})


def test_asks_of_a_method_without_parameters() -> None:
    class Plain(GivenOnly):
        def predict(self, inputs: torch.Tensor, task: int | None = None) -> Prediction:  # type: ignore[override]
            return super().predict(inputs, task)

    assert make_asks(Plain, GNS, {}, {}) == (Ask(GNS),)
    with pytest.raises(UserError, match="Unknown setting of an ask to given-only 'depth'"):
        make_asks(Plain, GNS, {"depth": 2}, {})


# Types


def test_values_are_converted_to_the_types_of_the_parameters() -> None:
    def function(
        self: Any, other: int = 0, *, count: int = 1, rate: float = 0.5, flag: bool = False, kind: Literal["a", "b"] = "a",
        maybe: int | None = None, plain=2.5, bare=None,
    ) -> None:  # fmt: skip
        pass

    defaults = {"count": 1, "rate": 0.5, "flag": False, "kind": "a", "maybe": None, "plain": 2.5, "bare": None}
    assert typed(function, {}, "parameter") == defaults
    typed_in = {"count": "3", "rate": "1e-4", "flag": "true", "kind": "b", "maybe": "4", "plain": "1", "bare": "x"}
    converted = {"count": 3, "rate": 1e-4, "flag": True, "kind": "b", "maybe": 4, "plain": 1.0, "bare": "x"}
    assert typed(function, typed_in, "parameter") == converted
    with pytest.raises(UserError, match="Unknown parameter 'other'"):
        typed(function, {"other": 1}, "parameter")


def test_a_parameter_without_a_default_must_be_given() -> None:
    def function(*, count: int) -> None:
        pass

    assert typed(function, {"count": "3"}, "parameter of f") == {"count": 3}
    with pytest.raises(UserError, match="The parameter of f 'count' has no default: give it a value"):
        typed(function, {}, "parameter of f")


def test_a_misspelt_network_is_named_before_anything_is_read() -> None:
    with pytest.raises(UserError, match="Did you mean lenet-300-100"):
        resolve(request({"network": "lenet-300-10"}))


def test_a_whole_number_as_the_default_of_a_float_is_one() -> None:
    def function(*, rate: float = 1, count: int = 2) -> None: ...

    assert [type(value) for value in typed(function, {}, "parameter").values()] == [float, int]


def test_where_no_task_is_given_in_training_the_precision_is_the_paper_s() -> None:
    assert resolve(request({"scenario": "nns"}))[0].learn.precision == "float32"
    assert resolve(request({"scenario": "nns", "precision": "bfloat16"}))[0].learn.precision == "bfloat16"
    halves = {resolve(request({"method": "bgd", "scenario": name}))[0].learn.hash for name in ("gns", "nns")}
    assert len(halves) == 1  # it learns the same in both, once
    assert resolve(request({"scenario": "gnu"}))[0].learn.precision == usual_precision(registry.method("supsup"), GNS)


def test_where_the_task_is_given_nothing_can_be_asked_about_its_inference() -> None:
    with pytest.raises(UserError, match=r"There is no task to infer, because GG gives it: leave out objective, or ask under"):
        resolve(request({"scenario": "gg", "ask": {"objective": "G"}}))
    asks = resolve(request({"scenario": "gnu", "ask": {"scenario": ["gg", "gnu"], "objective": "G"}}))[0].asks
    assert [ask.scenario.name for ask in asks] == ["GG", "GNu"]


def test_a_spec_file_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_spec(tmp_path)
