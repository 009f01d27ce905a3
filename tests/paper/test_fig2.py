"""Figure 2 from real runs of a tiny budget, and the bytes of its left side against sums made by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clbench import paper, storage
from clbench._torchvision import import_torchvision
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.paper import base, sizes

Reproduction = tuple[paper.Drawn, Path]
TINY: dict[str, Any] = {"updates": 2, "batch_size": 16, "network": "resnet-18-2"}


@pytest.fixture(scope="module", params=["fig2-left", "fig2-right"])
def reproduction(
    request: pytest.FixtureRequest, reproduced: Callable[..., paper.Drawn], tmp_path_factory: pytest.TempPathFactory
) -> Reproduction:
    folder = tmp_path_factory.mktemp("results")
    return reproduced(request.param, folder, **TINY), folder


def test_every_point_is_drawn_where_the_table_says(reproduction: Reproduction) -> None:
    drawn, _ = reproduction
    (axes,) = drawn.figure.axes
    lines = {line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.get_lines()}
    for name, points in drawn.frame.groupby("line"):
        assert lines[name] == list(zip(points["stored_bytes"] / 1e6, points["accuracy"], strict=True))


def test_numbers_are_those_of_the_runs_and_bytes_those_of_their_files(reproduction: Reproduction) -> None:
    drawn, folder = reproduction
    for row in drawn.frame.to_dict("records"):
        run = Run(folder / "runs" / row["runs"])
        scores = pd.read_csv(run.path / "scores.csv")
        assert row["accuracy"] == pytest.approx(scores[scores["learned"] == row["learned"]]["accuracy"].mean(), abs=1e-12)
        _, state = run.saved()
        assert row["stored_bytes"] == (state / "learned.safetensors").stat().st_size


def test_chance_is_that_of_the_stream(reproduction: Reproduction) -> None:
    drawn, folder = reproduction
    for row in drawn.frame.to_dict("records"):
        learn = Run(folder / "runs" / row["runs"]).learn
        assert learn.stream == "split-tinted-digits"
        assert row["chance"] == 1 / 5


@pytest.mark.parametrize("name", ["fig2-left", "fig2-right"])
@pytest.mark.parametrize("budget", ["smoke", "laptop", "paper"])
def test_every_budget_asks_for_what_there_is(name: str, budget: str) -> None:
    answers = base.needed(paper.FIGURES[name].curves(budget), (0,))
    names = {answer.curve.name for answer in answers}
    assert len(names) == len(answers)
    known = {reference.curve for reference in paper.FIGURES[name].reference}
    assert known <= names
    for answer in answers:
        parameters = answer.job.learn.parameters
        assert parameters.get("schedule", "cosine") in ("cosine", "warm-up-cosine")


def test_without_cifar_the_laptop_budget_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set cifar-100 is missing.*clbench data get cifar-100"):
        paper.figure("fig2-right", "laptop", tmp_path / "results", data_root=str(tmp_path))


def test_the_bounds_have_exactly_the_paper_s_bytes() -> None:
    sizes_by_name = {size.name: size for size in sizes.sizes()}
    assert round(sizes_by_name["upper bound"].paper_accounting, 2) == 10222.81
    assert round(sizes_by_name["single model"].paper_accounting, 2) == 102.23
    assert sizes_by_name["upper bound"].paper == 10222.81
    resnet = import_torchvision().models.resnet50(num_classes=10)
    weights = sum(p.numel() for p in resnet.parameters())
    statistics = sum(b.numel() for b in resnet.buffers() if b.is_floating_point())
    # A file is the tensors and a header of some kilobytes.
    assert sizes_by_name["upper bound"].file * 1e6 == pytest.approx(400 * (weights + statistics), abs=100_000)
    for edges, given in ((4, 62.17), (8, 101.84), (16, 180.39)):
        size = sizes_by_name[f"SupSup; edges {edges}"]
        selected = sum(min(p.numel() // 2, edges * (p.shape[0] + p.shape[1])) for p in resnet.parameters() if p.ndim > 1)
        assert size.paper_accounting == pytest.approx((200 * selected + 400 * statistics) / 1e6)
        assert round(size.paper_accounting, 2) == given
        assert 400 * statistics / 1e6 < size.file < size.paper_accounting
    vectors = sum(p.shape[0] + p.shape[1] for p in resnet.parameters() if p.ndim > 1)
    assert sizes_by_name["BatchE"].paper_accounting == pytest.approx((4 * 25_557_032 + 400 * vectors) / 1e6)


def test_the_bytes_of_many_tasks_are_those_of_a_file(tmp_path: Path) -> None:
    """Computed from two tasks, written for five."""
    learner, states = None, []
    import torch

    from clbench import networks, registry
    from clbench.method import Brief
    from clbench.stream import Split

    factory = networks.resolve("resnet-18-2", (3, 32, 32))
    brief = Brief(registry.scenario("GG"), lambda outputs: networks.seeded(factory, outputs, 0), (3, 32, 32), 5, 0)
    learner = registry.method("batche")(brief)
    for task in range(5):
        learner.begin_task(task, 1)
        learner.end_task(Split(torch.empty(0, 3, 32, 32), torch.empty(0, dtype=torch.int64)))
        states.append(learner.learned())
    storage.save(states[4], tmp_path / "file")
    assert storage.file_bytes(sizes.grown(states[0], states[1], 5)) == (tmp_path / "file").stat().st_size
