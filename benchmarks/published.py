"""Methods on their published settings, beside the published numbers: ``python -m benchmarks.published RESULTS OUT``.

Reads the complete runs of recipes by name (``clbench run --method METHOD --recipe NAME --scenario SCENARIO``) in RESULTS and writes OUT.csv
and OUT.md, a row for each published number. Settings that nobody ran yet have a row too. Nothing is trained here.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from clbench.engine.learn import Learn
from clbench.engine.request import request, resolve
from clbench.engine.store import Run, runs_in
from clbench.paper.published import ZOO, Published
from clbench.results import renderers
from clbench.results.frames import frame, over_seeds, summarise

CLOSE = 2.0
"""A difference of so many points, or one that the interval covers, agrees with the published number."""
SETTING = {"method", "parameters", "scenario", "stream", "data", "tasks", "network", "updates", "batch_size"}
"""What a recipe fixes: runs of it differ in seeds and precision only."""


def of_recipe(runs: list[Run], learn: Learn) -> list[Run]:
    """The complete runs with the setting of ``learn``."""
    wanted = learn.model_dump(include=SETTING)
    return [run for run in runs if run.complete and run.learn.model_dump(include=SETTING) == wanted]


def verdict(difference: float, interval: float, n: int) -> str:
    """What a difference in points says, with the half width of our 95 % interval (nan for one seed)."""
    if abs(difference) <= max(CLOSE, interval if interval == interval else 0.0):
        return "agrees" if n > 1 else "agrees, one seed"
    return f"{'above' if difference > 0 else 'below'} the published number" + ("" if n > 1 else ", one seed")


def row(place: tuple[str, str, str], number: Published, runs: list[Run]) -> dict[str, Any]:
    """A row of the table."""
    method, recipe, scenario = place
    learn = resolve(request({"method": method, "recipe": recipe, "scenario": scenario}))[0].learn
    facts: dict[str, Any] = {"method": method, "recipe": recipe, "scenario": scenario, "setting": number.setting}
    facts |= {"published": number.value, "source": number.cited}
    found = of_recipe(runs, learn)
    if not found:
        return facts | {"n": 0, "verdict": "not measured"}
    averages = over_seeds(summarise(frame(found)))
    (ours,) = averages[(averages["scenario"] == scenario) & (averages["learned"] == learn.tasks)].to_dict("records")
    accuracy, interval = 100 * ours["accuracy"], 100 * ours["accuracy_interval"]
    difference = accuracy - number.value
    return facts | {
        "accuracy": accuracy,
        "interval": interval,
        "n": ours["n"],
        "difference": difference,
        "verdict": verdict(difference, interval, int(ours["n"])),
    }


def table(runs: list[Run]) -> pd.DataFrame:
    """A row for each published number, those with runs first; accuracies in per cent."""
    rows = pd.DataFrame([row(place, number, runs) for place, number in ZOO.items()])
    return rows.sort_values("n", key=lambda n: n == 0, kind="stable")


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The same, formatted."""

    def ours(each: Mapping[Any, Any]) -> str:
        if not each["n"]:
            return ""
        interval = each["interval"]
        return f"{each['accuracy']:.2f}" + (f" ± {interval:.2f}" if interval == interval else "")

    records = rows.to_dict("records")
    return pd.DataFrame(
        {
            "method": rows["method"],
            "setting": [f"{r['recipe']}, {r['scenario']}: {r['setting']}" for r in records],
            "published %": [f"{r['published']:.10g}, {r['source']}" for r in records],
            "ours %": [ours(r) for r in records],
            "n": rows["n"],
            "difference, points": [f"{r['difference']:+.2f}" if r["n"] else "" for r in records],
            "verdict": rows["verdict"],
        }
    )


def main(results: Path, out: Path) -> None:
    """Write the table of the runs in ``results`` to ``out``.csv and ``out``.md."""
    found = table(list(runs_in(results)))
    for suffix, text in {".csv": found.to_csv(index=False), ".md": renderers.markdown(shown(found))}.items():
        out.with_suffix(suffix).write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Give a results folder and the file to write, without its suffix.")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
