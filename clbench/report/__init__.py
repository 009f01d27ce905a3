"""``clbench report``: everything in a results folder as one HTML file that needs no network.

What it shows is read from the run folders and the figures' tables; ``page.html`` lays it out, with its style and script inside.
"""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from clbench import registry
from clbench.engine.store import Run
from clbench.errors import UserError
from clbench.files import write_text
from clbench.paper import FIGURES
from clbench.paper.base import read_of
from clbench.paper.claims import judged
from clbench.results import tables
from clbench.results.frames import complete, frame, over_seeds, summarise
from clbench.results.lines import asked_about_all, lines_of
from clbench.results.renderers import is_number

PLACE = ["stream", "data", "network", "tasks", "updates"]
"""What lines must agree on to be compared."""


def write(results: Path, out: Path) -> Path:
    """Write the report of the complete runs and the figures in ``results`` to ``out``; a ``UserError`` if there is nothing to show."""
    runs = complete(results)
    figures = _figures(results / "figures")
    if not runs and not figures:
        raise UserError(
            f"There is nothing in {results} to report: start some with clbench run, or name another folder with --results."
        )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clbench.report", "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    averages = over_seeds(summarise(frame(runs))) if runs else pd.DataFrame()
    text = environment.get_template("page.html").render(
        version=version("clbench"),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        streams=_overview(averages),
        scenarios=list(registry.scenarios()),
        table=_cells(_results_first(tables.table(averages))) if runs else None,
        below=tables.below(averages) if runs else "",
        figures=figures,
        claims=judged(results / "figures") if figures else [],
        runs=[_provenance(run) for run in runs],
    )
    write_text(out, text)
    return out


def _overview(averages: pd.DataFrame) -> list[dict[str, Any]]:
    """For each stream, network, number of tasks and of updates: methods against scenarios, the best of their lines in each.

    Lines about some of the test images are left out if there is another about all.
    """
    overview = []
    if len(averages):
        averages = averages[averages["learned"] == averages["tasks"]]
        lines = lines_of(averages)
        averages = averages.assign(
            updates=[line.learning.get("updates", tables.NONE) for line in lines],
            method=[line.place["method"] for line in lines],
        )
        averages = asked_about_all(averages, [*PLACE, "method", "scenario"], lines)
    places = averages.groupby(PLACE, sort=False) if len(averages) else ()
    for place, at_place in places:
        rows = {}
        for method, of_method in at_place.groupby("method", sort=False):
            best = of_method.sort_values("accuracy").drop_duplicates("scenario", keep="last").set_index("scenario")
            rows[method] = {
                name: {
                    "text": tables.percent(row["accuracy"], row["accuracy_interval"]),
                    "share": row["accuracy"],
                    "n": row["n"],
                    "lines": int((of_method["scenario"] == name).sum()),
                }
                for name, row in best.iterrows()
            }
        best_first = dict(sorted(rows.items(), key=lambda row: -max(cell["share"] for cell in row[1].values())))
        overview.append({"name": " · ".join(map(str, place[:3])) + f" · {place[3]} tasks · {place[4]} updates", "rows": best_first})
    return overview


def _figures(folder: Path) -> list[dict[str, Any]]:
    """The figures that were made, with their tables and what the paper says."""
    figures = []
    for figure in FIGURES.values():
        table, picture = folder / f"{figure.name}.csv", folder / f"{figure.name}.png"
        if table.exists() and picture.exists():
            points = read_of(figure, table)
            table_shown = tables.figure_table(points, figure.measured)
            if points["paper"].notna().any():
                gaps = 100 * (points["accuracy"] - points["paper"])
                table_shown["difference"] = [tables.NONE if pd.isna(gap) else f"{gap:+.2f}" for gap in gaps]
            figures.append(
                {
                    "name": figure.name,
                    "title": figure.title,
                    "budget": points["budget"].iloc[0],
                    "pictures": [
                        base64.b64encode(file.read_bytes()).decode()
                        for file in (picture, folder / f"{figure.name}-beside.png")
                        if file.exists()
                    ],
                    "table": _cells(table_shown),
                    "runs": list(dict.fromkeys(" ".join(points["runs"]).split())),
                }
            )
    return figures


def _results_first(shown: pd.DataFrame) -> pd.DataFrame:
    """A table of runs: results first, then what was run, without columns that hold nothing."""
    full = [name for name in shown.columns if not shown[name].isin(["", tables.NONE]).all()]
    first = ["method", "scenario", *(name for name in full if is_number(shown[name]) and name != "tasks")]
    return shown[[*first, *(name for name in full if name not in first)]]


def _cells(shown: pd.DataFrame) -> dict[str, Any]:
    """A formatted table for the page: names, whether a column is numbers, and rows of texts."""
    return {
        "names": list(shown.columns),
        "numbers": [is_number(shown[name]) for name in shown.columns],
        "rows": [[str(cell) for cell in row] for row in shown.to_numpy()],
    }


def _provenance(run: Run) -> dict[str, Any]:
    """What a run was, when it was done, and in which environment."""
    record = run.record
    learn: dict[str, Any] = record["learn"]
    environment: dict[str, Any] = record.get("environment", {})
    return {
        "hash": run.path.name,
        "title": f"{learn['method']} {record['scenario']} · {learn['stream']} ({learn['data']}) · {learn['network']} · "
        f"{learn['tasks']} tasks · seed {learn['seeds']['stream']}",
        "spec": _flat(learn),
        "asks": [ask.label for ask in run.asks],
        "environment": _flat(environment)
        | {"started": record.get("started", ""), "finished": record.get("finished", "")}
        | ({"notes": " ".join(run.notes)} if run.notes else {}),
    }


def _flat(record: dict[str, Any], before: str = "") -> dict[str, str]:
    """Nested settings as one level of ``a.b`` keys and texts."""
    flat: dict[str, str] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": _text(value)}
    return flat


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
