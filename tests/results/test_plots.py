import doctest
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.results import plots, style

ASK = "GNu evidence=1 group=128 objective=H"


Fading = Callable[..., pd.DataFrame]
WriteRun = Callable[..., Run]


@pytest.fixture
def fading(scores: Callable[..., pd.DataFrame]) -> Fading:
    """The scores of one run and ask: 0.9 on the last task, and ``loss`` less for each task learned since, and for each seed."""

    def rows(learned: list[int], *, ask: str = ASK, seed: int = 0, loss: float = 0.01, **columns: Any) -> pd.DataFrame:
        accuracies = [[0.9 - loss * (after - 1 - task) - 0.01 * seed for task in range(after)] for after in learned]
        return scores(accuracies, learned=learned, ask=ask, seed=seed, **columns)

    return rows


@pytest.fixture
def confused(tmp_path: Path, write_run: WriteRun) -> WriteRun:
    """A run of two tasks on disk, asked with and without the task, and its rows (learned, task, inferred, images) of task inference."""

    def write(confusion: list[tuple[int, int, int, int]], scenario: str = "GNu", name: str = "run") -> Run:
        parameters = {"evidence": 1, "group": 128, "objective": "H"}
        asks = [
            {"scenario": scenario, "parameters": parameters, "images": None},
            {"scenario": "GG", "parameters": {}, "images": None},
        ]
        learn: dict[str, Any] = {"method": "supsup", "scenario": scenario, "parameters": {"outputs": 500}}
        run = write_run(tmp_path / name, [[0.9], [0.9, 0.9]], asks, task_accuracy=1.0, **learn)
        inferred = pd.DataFrame(confusion, columns=["learned", "task", "inferred", "images"])
        inferred.insert(1, "ask", run.asks[0].label)
        inferred.to_csv(run.path / "confusion.csv", index=False)
        return run

    return write


def text_of(figure: Figure) -> str:
    """All that is written in a figure."""
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text)).replace("\n", " ")


def line_named(figure: Figure, name: str) -> Line2D:
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == name]
    return line


def test_doctests() -> None:
    assert doctest.testmod(plots).failed == 0


def test_lines_are_the_average_accuracies(fading: Fading) -> None:
    frame = pd.concat([fading([1, 2, 4]), fading([1, 2, 4], scenario="GG", ask="GG", loss=0)])
    figure = plots.accuracy_by_tasks(frame)
    line = line_named(figure, "GNu")
    assert line.get_xdata().tolist() == [1, 2, 4]
    assert line.get_ydata().tolist() == pytest.approx([0.9, 0.895, 0.885])
    assert line_named(figure, "GG").get_ydata().tolist() == pytest.approx([0.9] * 3)
    written = text_of(figure)
    for words in (
        "mnist-5k",
        "lenet-300-100",
        "group=128, evidence=1",
        "1 seed",
        "GNu",
        "GG",
        "average accuracy (%)",
        "axis starts at 87",
    ):
        assert words in written


def test_seeds_give_a_band_of_the_t_interval(fading: Fading) -> None:
    figure = plots.accuracy_by_tasks(pd.concat([fading([1, 2], seed=seed) for seed in (0, 1)]))
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    # The mean at one task is 0.895; the standard error is 0.005, and t is 12.7062.
    assert heights.min() == pytest.approx(0.89 - 12.7062 * 0.005, rel=1e-4)
    assert heights.max() == pytest.approx(0.895 + 12.7062 * 0.005, rel=1e-4)
    assert "2 seeds" in text_of(figure)


def test_a_single_point_has_an_error_bar(fading: Fading) -> None:
    figure = plots.accuracy_by_tasks(pd.concat([fading([2], seed=seed) for seed in (0, 1)]))
    assert len(figure.axes[0].containers) == 1


def test_chance_depends_on_whether_labels_are_shared(fading: Fading) -> None:
    frame = pd.concat([fading([1, 2, 4], scenario=name, ask=name) for name in ("GG", "GNu", "NNs")])
    figure = plots.accuracy_by_tasks(frame, classes=10)
    assert line_named(figure, "chance GG, NNs: 10 %").get_ydata().tolist() == pytest.approx([0.1] * 3)
    assert line_named(figure, "chance GNu: 10 % / tasks").get_ydata().tolist() == pytest.approx([0.1, 0.05, 0.025])
    assert figure.axes[0].get_ylim() == (0, 1)


def test_many_lines_get_a_legend_and_few_get_names_at_their_ends(fading: Fading) -> None:
    few = plots.accuracy_by_tasks(fading([1, 2]))
    assert not few.legends
    many = plots.accuracy_by_tasks(pd.concat([fading([1, 2], ask=f"GNu number={i}", run=f"r{i}") for i in range(9)]))
    (legend,) = many.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"GNu number={i}" for i in range(9)]


def test_names_at_line_ends_do_not_overlap(fading: Fading) -> None:
    figure = plots.accuracy_by_tasks(pd.concat([fading([1, 2], ask=f"GNu number={i}", run=f"r{i}") for i in range(4)]))
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))
    assert boxes[-1].x1 <= figure.bbox.x1


def test_matrix_shows_R_and_leaves_out_what_was_not_asked(fading: Fading) -> None:
    figure = plots.accuracy_matrix(fading([1, 3]))
    matrix = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(matrix.filled(np.nan), [[0.9, np.nan, np.nan], [0.88, 0.89, 0.9]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["90.0", "88.0", "89.0", "90.0"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "3"]
    assert "accuracy (%)" in text_of(figure)
    assert "GNu (objective=H)" in text_of(figure)


def test_large_matrices_are_not_annotated(fading: Fading) -> None:
    figure = plots.accuracy_matrix(fading([5, 20, 40]))
    assert not figure.axes[0].texts
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "8", "16", "24", "32", "40"]


def test_matrix_of_several_asks_is_refused(fading: Fading) -> None:
    with pytest.raises(UserError, match="one run and one ask"):
        plots.accuracy_matrix(pd.concat([fading([1]), fading([1], ask="GG")]))


def test_confusion_rows_are_shares_at_the_last_checkpoint(confused: WriteRun) -> None:
    run = confused([(1, 0, 0, 100), (2, 0, 0, 75), (2, 0, 1, 25), (2, 1, 1, 100)])
    figure = plots.task_confusion(run, run.asks[0])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75.0", "25.0", "100"]
    assert "After 2 of 2 tasks" in text_of(figure)
    np.testing.assert_allclose(plots.task_confusion(run, run.asks[0], learned=1).axes[0].images[0].get_array(), [[1]])


def test_confusion_names_components_where_no_task_is_told(confused: WriteRun) -> None:
    run = confused([(2, 0, 4, 100), (2, 1, 4, 100)], scenario="NNs")
    figure = plots.task_confusion(run, run.asks[0])
    assert figure.axes[0].get_xlabel().startswith("component")
    assert figure.axes[0].images[0].get_array().shape == (2, 5)


def test_confusion_without_inference_is_refused(confused: WriteRun) -> None:
    run = confused([(2, 0, 0, 100), (2, 1, 1, 100)])
    with pytest.raises(UserError, match="no inferred tasks for 'GG'"):
        plots.task_confusion(run, run.asks[1])


def test_plot_runs_draws_everything_there_is(tmp_path: Path, confused: WriteRun) -> None:
    run = confused([(2, 0, 0, 100), (2, 1, 1, 100)], name="abc")
    files = plots.plot_runs([run], tmp_path / "plots")
    stems = {"accuracy-by-tasks", "abc-GNu-matrix", "abc-GNu-tasks", "abc-GG-matrix"}
    assert {file.name for file in files} == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf")} | {
        "accuracy-by-tasks.csv"
    }
    assert all(file.stat().st_size > 0 for file in files)


def test_files_are_reproducible_and_of_print_size(tmp_path: Path, fading: Fading) -> None:
    first, second = (style.save(plots.accuracy_by_tasks(fading([1, 2])), tmp_path / name) for name in ("first.a", "second.a"))
    assert [file.name for file in first] == ["first.a.png", "first.a.pdf"]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert matplotlib.image.imread(first[0]).shape[1] == round(300 * style.COLUMN)


def test_saving_where_nothing_can_be_written_is_refused_in_a_sentence(tmp_path: Path, fading: Fading) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        style.save(plots.accuracy_by_tasks(fading([1])), tmp_path / "file" / "plot")


def test_drawing_leaves_no_global_state(fading: Fading) -> None:
    before = dict(matplotlib.rcParams)
    plots.accuracy_by_tasks(fading([1, 2]))
    assert dict(matplotlib.rcParams) == before
    code = "import sys, clbench.results.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_line_looks_differ() -> None:
    looks = [style.line(number) for number in range(100)]
    assert len({(look["color"], look["marker"], str(look["linestyle"])) for look in looks}) == 100


def test_wrapped_text_is_no_wider_than_told() -> None:
    lines = style.wrapped("one image decides the task of each of 128 images in the paper's protocol " * 3, 2.0)
    assert len(lines) > 2
    assert all(style.text_width(line, style.SMALL) <= 2.0 for line in lines)
