"""The regularising methods beside the numbers of van de Ven & Tolias: ``python -m clbench.paper.van_de_ven RESULTS OUT``.

Reads the runs on their two streams in RESULTS and writes OUT.csv and OUT.md: for each method and scenario clbench's accuracy, the published
one with its source, and the difference in points.
"""

import sys
from pathlib import Path

import pandas as pd

from clbench.errors import UserError
from clbench.files import write_text
from clbench.paper.published import THEIR_SCENARIOS, VAN_DE_VEN
from clbench.results import renderers, tables
from clbench.results.frames import complete, frame, over_seeds, summarise


def beside(averages: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``over_seeds`` on their streams, with what was published and the difference; accuracies in per cent."""
    rows = []
    for row in averages.to_dict("records"):
        known = VAN_DE_VEN.get((row["stream"], row["method"], row["scenario"]))
        if known is None or row["learned"] != row["tasks"]:
            continue
        ours = 100 * row["accuracy"]
        rows.append(
            {
                "stream": row["stream"],
                "data": row["data"],
                "network": row["network"],
                "scenario": f"{row['scenario']} ({THEIR_SCENARIOS[row['scenario']]})",
                "method": row["method"],
                "settings": row["settings"],
                "n": row["n"],
                "accuracy": ours,
                "interval": 100 * row["accuracy_interval"],
                "published": known.value,
                "difference": ours - known.value,
                "source": known.cited,
            }
        )
    if not rows:
        raise UserError(
            "There are no complete runs on permuted-mnist-32 or split-mnist-raw: start some, and name their results folder."
        )
    places = {name: number for number, name in enumerate([f"{name} ({theirs})" for name, theirs in THEIR_SCENARIOS.items()])}
    table = pd.DataFrame(rows)
    return table.sort_values(
        ["stream", "scenario", "method"], key=lambda column: column.map(places) if column.name == "scenario" else column
    )


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The same, formatted."""
    texts = table.drop(columns=["interval"]).assign(
        accuracy=[tables.percent(a / 100, i / 100) for a, i in zip(table["accuracy"], table["interval"], strict=True)],
        published=[f"{value:g}" for value in table["published"]],
        difference=[f"{value:+.2f}" for value in table["difference"]],
        n=table["n"].astype(str),
    )
    settings, _ = tables.without_shared(map(tables.read_settings, texts["settings"]))
    texts["settings"] = [tables.text(each) for each in settings]
    return texts.rename(columns={"accuracy": "accuracy %", "published": "published %", "difference": "difference, points"})


def main(results: Path, out: Path) -> None:
    """Write the table of the complete runs in ``results`` to ``out``.csv and ``out``.md."""
    lines = {(stream, method) for stream, method, _ in VAN_DE_VEN}
    runs = [run for run in complete(results) if (run.learn.stream, run.learn.method) in lines]
    table = beside(over_seeds(summarise(frame(runs)))) if runs else beside(pd.DataFrame())
    write(table, out)


def write(table: pd.DataFrame, out: Path) -> None:
    """Write what ``beside`` gave to ``out``.csv and ``out``.md."""
    write_text(out.with_suffix(".csv"), renderers.csv(table))
    write_text(out.with_suffix(".md"), renderers.markdown(shown(table)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Give a results folder and the file to write, without its suffix.")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as problem:
        sys.exit(str(problem))
