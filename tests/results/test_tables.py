import doctest
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from clbench import terminal
from clbench.errors import UserError
from clbench.results import formats, renderers, tables
from clbench.results import frames as results
from clbench.results import lines as lines_module
from clbench.results.lines import lines_of

ASK = "GNu algorithm=one-shot evidence=1 group=128 objective={}"


Scores = Callable[..., pd.DataFrame]


@pytest.fixture
def averages(scores: Scores) -> pd.DataFrame:
    """Two seeds of GG, GNu with H and with G."""
    parts = []
    for seed, last in enumerate((0.8, 0.9)):
        rows = [[0.9], [last, 1.0]]
        parts += [scores(rows, seed=seed), scores(rows, seed=seed, ask=ASK.format("G"))]
        parts.append(scores(rows, seed=seed, scenario="GG", ask="GG"))
    return results.over_seeds(results.summarise(pd.concat(parts)))


def test_doctests() -> None:
    assert [doctest.testmod(module).failed for module in (lines_module, formats)] == [0, 0]


def test_points_are_means_over_seeds_of_the_average_over_tasks(scores: Scores) -> None:
    frame = pd.concat([scores([[0.9], [0.7, 0.9]], seed=0), scores([[0.7], [0.5, 0.7]], seed=1)])
    points = tables.by_tasks(frame)
    assert points["learned"].tolist() == [1, 2]
    assert points["n"].tolist() == [2, 2]
    assert points["accuracy"].tolist() == pytest.approx([0.8, 0.7])
    # The 97.5 % point of t with one degree of freedom is 12.7062; both standard errors are 0.1.
    assert points["accuracy_interval"].tolist() == pytest.approx([1.27062, 1.27062], rel=1e-5)
    assert points["runs"].str.split().map(len).tolist() == [2, 2]


def test_table_has_its_columns_and_formats(averages: pd.DataFrame) -> None:
    table = tables.table(averages)
    assert list(table.columns) == list(tables.COLUMNS)
    first = table.iloc[0]
    # Means 0.9 and 0.95 of two seeds: 0.925, and 12.7062 * 0.025 = 0.3177.
    assert first["accuracy %"] == "92.50 ± 31.77"
    assert first[["tasks", "n", "masks", "bytes to predict", "bytes to resume"]].tolist() == ["2", "2", "2", "2.0 kB", "16 B"]
    assert table["task accuracy %"].tolist() == ["100.00 ± 0.00", "100.00 ± 0.00", tables.NONE]
    assert table["ask"].iloc[2] == ""


def test_table_shows_settings_only_where_rows_differ_in_them(scores: Scores) -> None:
    parts = [scores([[0.9]], settings=f"outputs=500 offset={offset}") for offset in (0, 50)]
    table = tables.table(results.over_seeds(results.summarise(pd.concat(parts))))
    assert table["settings"].tolist() == ["offset=0", "offset=50"]
    assert table["n"].tolist() == ["1", "1"]
    assert table["accuracy %"].tolist() == ["90.00", "90.00"]


def test_table_says_how_much_of_a_stream_was_learned(scores: Scores) -> None:
    table = tables.table(results.over_seeds(results.summarise(scores([[0.9]], tasks=5))))
    assert table["tasks"].tolist() == ["1 of 5"]


def test_markdown_is_a_table_with_all_cells(averages: pd.DataFrame) -> None:
    table = tables.table(averages)
    lines = renderers.markdown(table).splitlines()
    assert len(lines) == 2 + len(table)
    assert {len(line) for line in lines} == {len(lines[0])}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == list(table.columns)
    assert cells[2:] == table.to_numpy().tolist()


def test_markdown_escapes_bars(averages: pd.DataFrame) -> None:
    table = tables.table(averages.assign(method="a|b"))
    assert "a\\|b" in renderers.markdown(table)


def test_rich_table_fits_a_terminal_and_names_what_rows_share(averages: pd.DataFrame) -> None:
    from rich.console import Console

    console = Console(width=100, file=io.StringIO())
    console.print(tables.rich_table(tables.table(averages), [line.ask for line in lines_of(averages)]))
    text = console.file.getvalue()
    for words in ("supsup", "permuted-mnist", "mnist-5k", "lenet-300-100", "2 tasks", "n = 2", "92.50 ± 31.77", "GNu", "GG"):
        assert words in text
    assert text.count("permuted-mnist") == 1


def test_csv_holds_the_numbers_unrounded(averages: pd.DataFrame, tmp_path: Path) -> None:
    file = tables.write(averages.assign(accuracy=1 / 3), tmp_path / "new" / "table.csv")
    assert pd.read_csv(file, dtype=str)["accuracy"].map(float).tolist() == [1 / 3] * 3
    path = tables.write(averages, tmp_path / "table.md")
    assert path.read_text() == renderers.markdown(tables.table(averages)) + f"\n{tables.few_decisions(averages)}\n"


def test_few_decisions_are_said_below_a_table(averages: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 8 decisions about each task in the lines of GNu; where the task is given there are none to make.
    assert tables.table(averages).set_index("scenario")["decisions"].to_dict() == {"GNu": "8", "GG": "–"}
    line = tables.few_decisions(averages)
    assert line.startswith("Fewer than 20 decisions about each task: supsup GNu (8). ")
    tables.print_table(averages)
    assert line in " ".join(capsys.readouterr().out.split())
    assert "protocol=image" in tables.write(averages, tmp_path / "table.tex").read_text()
    enough = averages.assign(decisions=averages["decisions"].replace(8, 20))
    assert tables.few_decisions(enough) == ""
    assert tables.write(enough, tmp_path / "table.md").read_text() == renderers.markdown(tables.table(enough))


def test_decisions_are_the_fewest_of_any_task_and_run(averages: pd.DataFrame, scores: Scores) -> None:
    uneven = scores([[0.9], [0.9, 0.8]]).assign(decisions=[100, 30, 40])  # of the first task after it alone, of both after both
    assert results.summarise(uneven)["decisions"].tolist() == [30]
    other = scores([[0.9], [0.9, 0.8]], seed=1).assign(decisions=[100, 50, 20])
    assert results.over_seeds(results.summarise(pd.concat([uneven, other])))["decisions"].tolist() == [20]


def test_writing_elsewhere_is_refused_in_a_sentence(averages: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.csv, \.md or \.tex"):
        tables.write(averages, tmp_path / "table.xlsx")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        tables.write(averages, tmp_path / "file" / "table.csv")


def lines(*parts: pd.DataFrame) -> pd.DataFrame:
    return tables.by_tasks(pd.concat(parts)).drop_duplicates(tables.LINE)


def test_labels_name_what_lines_differ_in(scores: Scores) -> None:
    asks = [scores([[0.9]], ask=ASK.format(objective)) for objective in "HG"]
    labels, common = tables.labels(lines(*asks, scores([[0.9]], scenario="GG", ask="GG")))
    assert labels == ["GNu H", "GNu G", "GG"]
    assert (common["data"], common["updates"], common["group"]) == ("mnist-5k", "300", "128")
    assert "objective" not in common


def test_labels_name_the_unusual_setting_only(scores: Scores) -> None:
    parts = [scores([[0.9]], scenario=name, settings=f"offset={offset}") for name, offset in (("GNu", 0), ("NNs", 0), ("NNs", 50))]
    labels, common = tables.labels(lines(*parts))
    assert labels == ["GNu", "NNs", "NNs offset=50"]
    assert common["offset"] == "0"


def test_labels_are_never_equal(scores: Scores) -> None:
    parts = [scores([[0.9]], ask="GNs"), scores([[0.9]], ask="GNs images=100")]
    labels, _ = tables.labels(lines(*parts))
    assert sorted(labels) == ["GNu", "GNu images=100"]


def test_a_sample_of_images_is_common_to_all_lines_or_named_by_those_that_have_it(scores: Scores) -> None:
    sampled = [scores([[0.9]], ask=f"{ASK.format(objective)} images=100") for objective in "HG"]
    assert tables.labels(lines(*sampled))[1]["images"] == "100"
    assert "100 test images of each task, 1 seed" in tables.describe(tables.labels(lines(*sampled))[1], [1])
    labels, common = tables.labels(lines(*sampled, scores([[0.9]], scenario="GG", ask="GG")))
    assert sorted(labels) == ["GG", "GNu G images=100", "GNu H images=100"]
    assert "images" not in common


def test_transductive_methods_are_marked(scores: Scores) -> None:
    line = lines(scores([[0.9]], method="hop", transductive=True), scores([[0.9]], method="supsup"))
    assert tables.labels(line)[0] == ["hop (transductive) GNu", "supsup GNu"]


def test_describe_names_data_network_and_protocol(scores: Scores) -> None:
    _, common = tables.labels(lines(scores([[0.9]])))
    assert tables.describe(common, [3, 3]) == (
        "supsup, permuted-mnist (data mnist-5k), lenet-300-100, 300 updates a task, 3 seeds (with 95 % t intervals). "
        "One image decides the task of each 128 (group=128, evidence=1: the paper's protocol)."
    )


@pytest.mark.parametrize("width", [44, 60, 80, 100, 200])
def test_a_narrow_terminal_leaves_columns_out_and_cuts_no_number(
    averages: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setattr(
        terminal,
        "console",
        lambda **how: Console(**({"width": width, "force_terminal": True, "no_color": True, "highlight": False} | how)),
    )
    tables.print_table(averages)
    output = capsys.readouterr().out
    for accuracy in tables.table(averages)["accuracy %"]:
        assert accuracy in output
    assert "…" not in output
    assert ("The terminal is too narrow for: " in output) == (width < 100)


def test_latex_is_a_tabular_of_the_same_cells() -> None:
    rows = pd.DataFrame({"method_name": ["a&b", "c"], "accuracy %": ["90.52 ± 0.21", "–"], "bytes": ["1.1 MB", "16 B"]})
    lines = renderers.latex(rows).splitlines()
    assert lines == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"method\_name & accuracy \% & bytes \\",
        r"\midrule",
        r"a\&b & 90.52 $\pm$ 0.21 & 1.1 MB \\",
        r"c & -- & 16 B \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_several_precisions_side_by_side_are_said_below_a_table(scores: Scores) -> None:
    def table(*precisions: str, network: str = "lenet-300-100") -> pd.DataFrame:
        parts = [
            scores([[0.9]], method=f"m{i}", settings=f"rate={i} precision={precision}", network=network if i else "lenet-300-100")
            for i, precision in enumerate(precisions)
        ]
        return results.over_seeds(results.summarise(pd.concat(parts)))

    assert tables.mixed_precision(table("float32", "float32")) == ""
    assert tables.mixed_precision(table("float32", "bfloat16", network="mlp-16")) == ""  # they are not compared
    line = tables.mixed_precision(table("float32", "bfloat16", "float32"))
    assert line.startswith("Trained in several precisions: bfloat16 (1 lines), float32 (2 lines). ")
    assert line in tables.below(table("float32", "bfloat16", "float32"))
