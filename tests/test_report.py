"""The report: one page that holds what the run folders and the figures' tables hold, and works in a browser."""

import base64
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from clbench import api, paper, report
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.results import tables
from clbench.results.frames import frame, over_seeds, summarise

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    small = {"network": "mlp-8", "tasks": 2, "updates": 5, "data": "mnist-5k", "results": folder}
    api.run(method="naive", scenario="gns", seeds=(0, 1), **small)
    api.run(method="supsup", scenario="gnu", set={"outputs": 20}, **small)
    paper.figure("splits", "smoke", folder)
    report.write(folder, folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return (results / "report.html").read_text()


def test_every_line_s_cells_stand_in_the_page(page: str, results: Path) -> None:
    runs = [Run(path.parent) for path in sorted(results.glob("runs/*/run.json"))]
    table = tables.table(over_seeds(summarise(frame(runs))))
    rows = [
        [unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", row)] for row in re.findall(r"<tr>(.*?)</tr>", page, re.S)
    ]
    for _, line in table.iterrows():
        cells = {cell for cell in line.astype(str) if cell not in ("", tables.NONE)}
        assert any(cells <= set(row) for row in rows)


def test_the_overview_leaves_samples_out_and_says_of_how_many_lines_it_shows_the_best(results: Path) -> None:
    runs = [Run(path.parent) for path in sorted(results.glob("runs/*/run.json"))]
    averages = over_seeds(summarise(frame(runs)))
    (place,) = [place for place in report._overview(averages) if "mlp-8" in place["name"]]
    assert place["name"].endswith("2 tasks · 5 updates")
    assert set(place["rows"]) == {"naive", "supsup"}
    cell = place["rows"]["naive"]["GNs"]
    rows = averages[(averages["method"] == "naive") & (averages["learned"] == 2)]
    assert (cell["share"], cell["lines"]) == (rows["accuracy"].item(), 1)
    better = rows.assign(accuracy=1.0, ask="GNs images=9", ask_settings=[{"images": "9"}])
    assert report._overview(pd.concat([rows, better]))[0]["rows"]["naive"]["GNs"] == cell
    other = report._overview(pd.concat([rows, rows.assign(accuracy=1.0, transductive=True)]))[0]["rows"]
    assert other["naive"]["GNs"] == cell
    assert other["naive (transductive)"]["GNs"]["share"] == 1.0
    two = report._overview(pd.concat([rows, rows.assign(accuracy=1.0, ask="GNs objective=G", ask_settings=[{"objective": "G"}])]))[
        0
    ]["rows"]
    assert (two["naive"]["GNs"]["share"], two["naive"]["GNs"]["lines"]) == (1.0, 2)


def test_a_figure_of_another_version_is_named(tmp_path: Path, results: Path) -> None:
    copied = shutil.copytree(results, tmp_path / "results")
    table = pd.read_csv(copied / "figures" / "splits.csv")
    table.drop(columns="accuracy").to_csv(copied / "figures" / "splits.csv", index=False)
    with pytest.raises(UserError, match=r"splits\.csv is not a figure's table of this version, because it lacks accuracy"):
        report.write(copied, copied / "report.html")


def test_pictures_and_runs_are_inside(page: str, results: Path) -> None:
    picture = base64.b64encode((results / "figures" / "splits.png").read_bytes()).decode()
    assert picture in page
    for path in results.glob("runs/*"):
        assert f'id="run-{path.name}"' in page
    assert Run(next(results.glob("runs/*"))).record["environment"]["packages"]["torch"] in page
    assert "Where tasks are not alike, inferring them fails" in page


def test_nothing_comes_from_elsewhere(page: str) -> None:
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", page)


def test_what_is_written_is_escaped(tmp_path: Path, results: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    for file in (tmp_path / "copy" / "runs").glob("*/run.json"):
        record = json.loads(file.read_text().replace('"mlp-8"', '"<script>alert(1)</script>"'))
        # Schema 1: a record with its digest cannot be edited.
        file.write_text(json.dumps({key: value for key, value in record.items() if key not in ("schema", "tables", "check")}))
        shutil.rmtree(file.parent / "copies")
    text = report.write(tmp_path / "copy", tmp_path / "page.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is nothing in .* to report"):
        report.write(tmp_path, tmp_path / "report.html")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_click_on_a_heading_sorts_in_a_browser(page: str, tmp_path: Path) -> None:
    click = """<script>
    const heading = [...document.querySelectorAll("#lines ~ .wide th")].find(each => each.textContent === "accuracy %");
    heading.click(); heading.click();
    </script></body>"""
    file = tmp_path / "clicked.html"
    file.write_text(page.replace("</body>", click))
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{file}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    after = shown[shown.index('id="lines"') :]
    names = re.findall(r"<th[^>]*>([^<]*)</th>", after[: after.index("</thead>")])
    assert 'aria-sort="descending">accuracy %' in after
    body = after[after.index("<tbody>") : after.index("</tbody>")]
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]
    accuracies = [float(row[names.index("accuracy %")].split()[0]) for row in cells]
    assert len(accuracies) > 2
    assert accuracies == sorted(accuracies, reverse=True)
