"""The tables inside README.md and docs/results.md, made from the committed results: ``python -m clbench.report.documents``.

Each stands between two comments, ``<!-- NAME -->`` and ``<!-- end of NAME -->``. Nobody types a number there.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clbench.errors import UserError
from clbench.paper.published import CIFAR_LOWER_BOUND, HOPSUPSUP, PERMUTED_250, VAN_DE_VEN, Published
from clbench.results.metrics import mean_t_interval
from clbench.results.renderers import markdown

CLOSE = 1.0
"""Points by which a mean of one seed may differ from a published number and still agree with it."""
SINGLE_ROWS: Sequence[tuple[str, str, str, Published]] = (
    ("fig3-right", "SupSup GNu H", "supsup", PERMUTED_250),
    ("fig2-right", "lower bound", "lower-bound", CIFAR_LOWER_BOUND),
)
"""Published numbers beside the end of a curve: figure, how the curve's name begins, method, number."""


def claims(reference: Path, link: str) -> str:
    """The paper's claims: verdict, and the figure that decides it. ``link`` leads from the document to ``reference``."""
    rows = [
        {"claim": each["sentence"], "verdict": each["verdict"], "seeds": each["n"] or "", "figure": _figure(each, reference, link)}
        for each in json.loads((reference / "claims.json").read_text(encoding="utf-8"))
    ]
    return markdown(pd.DataFrame(rows).astype(str), written=["figure"])


def _figure(claim: Mapping[str, Any], reference: Path, link: str) -> str:
    picture = f"{claim['figure']}.png"
    return f"[{claim['figure']}]({link}/{picture})" if (reference / picture).exists() else claim["figure"]


def reproduced(reference: Path) -> str:
    """Every published number that clbench measured too: method, setting, ours, published, source, verdict."""
    return markdown(pd.DataFrame([*_curves(reference), *_hopsupsup(reference), *_van_de_ven(reference)]))


def _curves(reference: Path) -> Iterator[dict[str, str]]:
    for figure, curve, method, number in SINGLE_ROWS:
        points = pd.read_csv(reference / f"{figure}.csv")
        points = points[points["curve"].str.startswith(curve) & points["accuracy"].notna()]
        end = points[points["learned"] == points["learned"].max()].iloc[-1]
        comparable = end["budget"] == "paper"
        how = f"{end['learned']} tasks, {end['budget']} budget, {figure}"
        yield _row(method, number, 100 * end["accuracy"], 100 * end["accuracy_interval"], int(end["n"]), how, comparable)


def _hopsupsup(reference: Path) -> Iterator[dict[str, str]]:
    """The searches of HopSupSup, each with its average accuracy over tasks, over seeds."""
    rows = pd.read_csv(reference / "hopsupsup-searches.csv")
    for (masked, memory, search), line in rows.groupby(["masked", "memory", "search"], sort=False):
        mean = mean_t_interval(line.groupby("seed")["accuracy"].mean().to_numpy())
        how = f"{search}, masks {masked}, {memory} memory, hopsupsup-searches"
        yield _row("hopsupsup", HOPSUPSUP, 100 * mean.mean, 100 * mean.half_width, mean.n, how, True)


def _van_de_ven(reference: Path) -> Iterator[dict[str, str]]:
    for row in pd.read_csv(reference / "van-de-ven.csv").to_dict("records"):
        scenario = row["scenario"].partition(" ")[0]
        number = VAN_DE_VEN.get((row["stream"], row["method"], scenario))
        if number is not None:
            yield _row(row["method"], number, row["accuracy"], row["interval"], int(row["n"]), "van-de-ven", True)


def _row(method: str, number: Published, ours: float, interval: float, n: int, how: str, comparable: bool) -> dict[str, str]:
    known = pd.notna(interval)
    room = max(CLOSE, interval) if known else CLOSE
    close = abs(ours - number.value) <= room
    return {
        "method": method,
        "published setting": f"{number.quantity}: {number.setting}",
        "ours %": f"{ours:.2f} ± {interval:.2f}" if known else f"{ours:.2f}",
        "n": str(n),
        "published": number.shown,
        "source": number.cited,
        "where ours stands": how,
        "verdict": ("agrees" if close else "differs") if comparable else "another setting",
    }


def written(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A document with new tables. Raises a ``UserError`` if a table has no place in it."""
    for name, make in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        where = place.search(text)
        if where is None:
            raise UserError(f"The document has no place for the table {name}: add <!-- {name} --> and <!-- end of {name} -->.")
        text = f"{text[: where.start()]}{where[1]}\n{make()}\n{where[2]}{text[where.end() :]}"
    return text


def documents(root: Path) -> dict[Path, str]:
    """The documents of a checkout as they should be."""
    reference = root / "results" / "reference"
    tables: dict[str, dict[str, Callable[[], str]]] = {
        "README.md": {"claims": lambda: claims(reference, "results/reference")},
        "docs/results.md": {"reproduced": lambda: reproduced(reference)},
    }
    return {root / name: written((root / name).read_text(encoding="utf-8"), made) for name, made in tables.items()}


if __name__ == "__main__":
    for path, text in documents(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        path.write_text(text, encoding="utf-8")
