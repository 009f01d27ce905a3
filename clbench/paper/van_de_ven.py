"""The regularising methods beside the numbers of van de Ven & Tolias 2019: ``python -m clbench.paper.van_de_ven RESULTS OUT``.

Reads the runs on their two streams in RESULTS and writes OUT.csv and OUT.md: for each method and scenario clbench's accuracy, the published
one, and the difference in points.
"""

import sys
from pathlib import Path

import pandas as pd

from clbench import renderers, tables
from clbench.errors import UserError
from clbench.results import frame, over_seeds, summarise
from clbench.runs import Run

SCENARIOS = {"GG": "task", "GNs": "domain", "GNu": "class"}
"""What they call the scenarios."""
PUBLISHED: dict[str, dict[str, tuple[float, float, float]]] = {
    "permuted-mnist-32": {
        "naive": (81.79, 78.51, 17.26),
        "ewc": (94.74, 94.31, 25.04),
        "online-ewc": (95.96, 94.42, 33.88),
        "si": (94.75, 95.33, 29.31),
    },
    "split-mnist-raw": {
        "naive": (87.19, 59.21, 19.90),
        "ewc": (98.64, 63.95, 20.01),
        "online-ewc": (99.12, 64.32, 19.96),
        "si": (99.09, 65.36, 19.99),
    },
}
"""Per cent in the task, domain and class scenario (arXiv 1904.07734, means over 20 seeds). Those of online EWC and SI in the class scenario
of permuted MNIST stand in the SupSup paper too; the others are quoted from memory."""


def beside(averages: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``clbench.results.over_seeds`` on their streams, with what was published and the difference; accuracies in per cent."""
    rows = []
    for row in averages.to_dict("records"):
        known = PUBLISHED.get(row["stream"], {}).get(row["method"])
        if known is None or row["scenario"] not in SCENARIOS or row["learned"] != row["tasks"]:
            continue
        published, ours = known[list(SCENARIOS).index(row["scenario"])], 100 * row["accuracy"]
        rows.append(
            {
                "stream": row["stream"],
                "data": row["data"],
                "network": row["network"],
                "scenario": f"{row['scenario']} ({SCENARIOS[row['scenario']]})",
                "method": row["method"],
                "settings": row["settings"],
                "n": row["n"],
                "accuracy": ours,
                "interval": 100 * row["accuracy_interval"],
                "published": published,
                "difference": ours - published,
            }
        )
    if not rows:
        raise UserError(
            "There are no complete runs on permuted-mnist-32 or split-mnist-raw: do some, and name their results folder."
        )
    places = {name: number for number, name in enumerate([f"{name} ({theirs})" for name, theirs in SCENARIOS.items()])}
    found = pd.DataFrame(rows)
    return found.sort_values(
        ["stream", "scenario", "method"], key=lambda column: column.map(places) if column.name == "scenario" else column
    )


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """The same, formatted."""
    given = found.drop(columns=["interval"]).assign(
        accuracy=[tables.percent(a / 100, i / 100) for a, i in zip(found["accuracy"], found["interval"], strict=True)],
        published=[f"{value:.2f}" for value in found["published"]],
        difference=[f"{value:+.2f}" for value in found["difference"]],
        n=found["n"].astype(str),
    )
    given["settings"], _ = tables.without_shared(given["settings"])
    return given.rename(columns={"accuracy": "accuracy %", "published": "published %", "difference": "difference, points"})


def main(results: Path, out: Path) -> None:
    """Write the table of the complete runs in ``results`` to ``out``.csv and ``out``.md."""
    runs = [Run(path.parent) for path in sorted(results.glob("runs/*/run.json"))]
    wanted = [
        run for run in runs if run.complete and run.learn.stream in PUBLISHED and run.learn.method in PUBLISHED[run.learn.stream]
    ]
    found = beside(over_seeds(summarise(frame(wanted)))) if wanted else beside(pd.DataFrame())
    for suffix, text in {".csv": found.to_csv(index=False), ".md": renderers.markdown(shown(found))}.items():
        with renderers.writing(out.with_suffix(suffix)):
            out.with_suffix(suffix).write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Give a results folder and the file to write, without its suffix.")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as problem:
        sys.exit(str(problem))
