"""The house style of figures: print sizes, colours and marks that are distinguishable in greyscale, percent axes, captions, files.

Figures are made with matplotlib's objects and without pyplot, so that drawing changes no global state.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator, PercentFormatter

from clbench.files import replacing

COLUMN, DOUBLE = 3.25, 5.5
"""Widths in inches: of a column, and of a page of text."""

FONT = "STIXGeneral"
"""A font that matplotlib brings along, so that figures look alike everywhere; it is as narrow as a paper's text."""

SMALL = 6.5
"""The size in points of captions and annotations; all else has 8."""

RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "0.35",
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 3,
    "axes.titlesize": 8,
    "font.family": FONT,
    "font.size": 8,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "hatch.color": "0.85",
    "hatch.linewidth": 0.4,
    "image.cmap": "Blues",
    "image.interpolation": "nearest",
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.2,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.5,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.2,
    "lines.markeredgewidth": 0.9,
    "lines.markersize": 4,
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,
    "xtick.color": "0.35",
    "xtick.labelcolor": "black",
    "xtick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.color": "0.35",
    "ytick.labelcolor": "black",
    "ytick.labelsize": 7.5,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}

house = matplotlib.rc_context(RC)
"""Decorates a function that draws: the house style holds inside it only."""

# Okabe and Ito's palette, without its yellow, which is too light for lines; neighbours differ in greyscale too.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222"
COLOURS = (BLUE, ORANGE, BLACK, VERMILLION, SKY, PURPLE, GREEN)
MARKERS = ("o", "s", "^", "D", "v", "x", "P", "<", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

GREY = "0.45"
"""Chance lines and other references."""


CHANCE: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": (0, (1, 1.5)), "zorder": 1}
"""How the accuracy of guessing is drawn."""
LEGEND_ROW = 0.155
"""The height of a legend's row in inches."""


def line(number: int) -> dict[str, Any]:
    """How the line of that number is drawn: no two of the first hundreds agree in colour, marker and dashes together.

    Markers are open and the later ones smaller, so that lines that coincide are seen through each other.
    """
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
        "markerfacecolor": "none",
        "markersize": (6.5, 5.2, 3.9, 2.6)[number % 4],
        "clip_on": False,  # a marker at 100 % is a whole one
    }


def new(width: float = COLUMN, height: float = 2.2) -> Figure:
    """An empty figure of that size in inches, laid out by constraints. Call inside a function that ``house`` decorates."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def caption(figure: Figure, text: str) -> None:
    """Write ``text``, wrapped, in small letters under what is drawn; the figure grows by as much. Call once, after the rest."""
    width, height = figure.get_size_inches()
    margin = 0.04
    lines = wrapped(text, 0.97 * (width - 2 * margin))  # letters as drawn are a little wider than as measured
    below = (len(lines) * SMALL * 1.3 + 3) / 72
    figure.set_size_inches(width, height + below)
    share = below / (height + below)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, share, 1, 1 - share))
    place = (margin / width, 3 / 72 / (height + below))
    shown = literal("\n".join(lines))
    figure.text(*place, shown, size=SMALL, color="0.25", va="bottom", linespacing=1.2, in_layout=False, gid="caption")


def literal(text: str) -> str:
    """A text for matplotlib, which takes what stands between two dollar signs for a formula."""
    return text.replace("$", r"\$")


def wrapped(text: str, inches: float, size: float = SMALL) -> list[str]:
    """``text`` in lines that are no wider than ``inches`` when set in the house font."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def text_width(text: str, size: float) -> float:
    """The width of a line of text in inches."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(family=FONT, size=size), False)
    return float(width) / 72


def percent(axis: Any, decimals: int | None = 0) -> None:
    """Label an axis from 0 to 1 in percent; the sign is in the axis' label."""
    axis.set_major_formatter(PercentFormatter(1, decimals=decimals, symbol=""))


def accuracy_axis(axes: Axes, low: float, high: float, label: str = "average accuracy (%)") -> None:
    """Let the y axis run over these accuracies, in percent. One that does not start at 0 says where it does."""
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))  # no 92.5, which would be shown as 92
    percent(axes.yaxis, decimals=0 if high - low > 0.05 else 1)
    axes.set_ylabel(label if low <= 0 else f"{label}\naxis starts at {100 * low:.4g}")


def broken(figure: Figure, chance: float) -> tuple[Axes, Axes]:
    """Axes for accuracies far above ``chance``, and a strip below them from 0 to a little above it, with a break between the two."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    below.set_ylim(0, 1.6 * chance)
    below.set_yticks([0, chance])
    percent(below.yaxis)
    above.spines["bottom"].set_visible(False)
    above.tick_params(axis="x", length=0)
    for axes, height in ((above, 0), (below, 1)):
        mark: dict[str, Any] = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 6, "color": BLACK, "markeredgewidth": 0.8}
        axes.plot([0], [height], transform=axes.transAxes, linestyle="none", clip_on=False, label="_", **mark)
    return above, below


def tasks_axis(axes: Axes, learned: Sequence[int]) -> None:
    """Let the x axis count tasks learned: a tick at each checkpoint if they are few."""
    checkpoints = sorted(set(learned))
    axes.set_xlabel("tasks learned")
    if len(checkpoints) <= 8:
        axes.set_xticks(checkpoints)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def sizes_axis(axes: Axes, sizes: Iterable[float], label: str = "") -> None:
    """Let the x axis show these sizes, each with its number, in the ratios that they have; without a label it has no numbers either."""
    ticks = sorted(set(sizes))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{size:.0f}" for size in ticks])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.tick_params(axis="x", labelbottom=bool(label))
    axes.set_xlabel(label)


@house
def save(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write ``figure`` to ``path`` (without suffix) as .png (300 dpi) and .pdf. Equal figures give equal files."""
    base = Path(path)
    png, pdf = base.with_name(f"{base.name}.png"), base.with_name(f"{base.name}.pdf")
    with replacing(png) as partial:
        figure.savefig(partial, dpi=300, metadata={"Software": "clbench"})
    with replacing(pdf) as partial:
        figure.savefig(partial, metadata={"Creator": "clbench", "Producer": "matplotlib", "CreationDate": None})
    return png, pdf
