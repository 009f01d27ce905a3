"""Tables for people, and what else is told of runs in words: labels that tell lines apart, bytes, means with their intervals.

This is the one place where numbers are formatted. The numbers themselves come from ``clbench.results.frames``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from clbench.engine.evaluator import ABOUT
from clbench.errors import UserError
from clbench.results.frames import PROTOCOL, over_seeds, summarise
from clbench.results.renderers import RENDERERS, is_number, with_line_below, writing

if TYPE_CHECKING:
    from rich.table import Table

LINE = [*PROTOCOL, "settings"]
"""The columns that name a line: runs that agree on them differ in their seeds alone."""

MARKS = {
    "transductive": "all images asked about at once decide about each of them",
    "diverged": "the training of one of the tasks diverged, and the numbers are what was left of it",
}
"""Columns of truths that stand in brackets behind a method's name, and what they mean."""

NONE = "–"
"""What stands where there is no number."""

ABSENT = {*ABOUT, "version"}
"""Settings whose absence says something (all images, the first version of an answer): they are common to all lines or to none."""

COLUMNS = (
    *("method", "scenario", "ask", "stream", "data", "network", "tasks", "n"),
    *(
        "accuracy %",
        "task accuracy %",
        "decisions",
        "forgetting %",
        "masks",
        "bytes to predict",
        "bytes to go on",
        "train s",
        "eval s",
    ),
)
"""The columns of a table; ``settings`` follows the network where rows differ in them."""


HEADINGS = {
    "accuracy %": "acc. %",
    "task accuracy %": "task\nacc. %",
    "decisions": "deci-\nsions",
    "forgetting %": "forget-\nting %",
    "bytes to predict": "bytes to\npredict",
    "bytes to go on": "bytes to\ngo on",
    "train s": "train\ns",
    "eval s": "eval\ns",
}
"""Columns whose names take several lines in a terminal."""

DISPENSABLE = (
    "eval s",
    "bytes to go on",
    "train s",
    "masks",
    "forgetting %",
    "decisions",
    "data",
    "settings",
    "bytes to predict",
    "network",
)
"""Columns that a narrow terminal does without, the first first."""

FEW = 20
"""With fewer decisions about a task the accuracy on it says little."""

WIDE = 250
"""The width of a table that is not printed to a terminal."""


# Frames


def by_tasks(scores: pd.DataFrame) -> pd.DataFrame:
    """The curves of accuracy against tasks learned: a row for each line (``LINE``) and number of tasks learned.

    ``scores`` is a frame (``clbench.frame``). accuracy and task_accuracy are means over runs (seeds) of the average over the
    tasks learned so far, with the half widths of their t intervals (accuracy_interval, task_accuracy_interval) and n runs; ``runs``
    names the runs by their hashes.
    """
    summary = pd.concat([summarise(part) for _, part in scores.groupby("learned")], ignore_index=True)
    points = over_seeds(summary, ["accuracy", "task_accuracy"])
    runs = summary.groupby([*LINE, "learned"])["run"].agg(" ".join).rename("runs").reset_index()
    points = points.merge(runs, on=[*LINE, "learned"])
    return points.assign(diverged=points.groupby(LINE)["diverged"].transform("any"))


def table(averages: pd.DataFrame) -> pd.DataFrame:
    """A table of runs, formatted: ``averages`` is a frame of ``clbench.results.frames.over_seeds``, and the columns are ``COLUMNS``.

    Accuracies are in percent, with the half width of the 95 % t interval where there are two runs (n) or more. The settings of a row are
    shown where rows differ in them; ``decisions`` about a task are what the accuracy on it rests on. Bytes are decimal, as in the paper:
    1 MB is 1,000,000 bytes.
    """
    rows = [
        {
            "method": row["method"] + marks(row),
            "scenario": row["scenario"],
            "ask": ask_text(row["ask"]),
            "stream": row["stream"],
            "data": row["data"],
            "network": row["network"],
            "settings": row["settings"],
            "tasks": str(row["tasks"]) if row["learned"] == row["tasks"] else f"{row['learned']} of {row['tasks']}",
            "n": str(row["n"]),
            "accuracy %": percent(row["accuracy"], row["accuracy_interval"]),
            "task accuracy %": percent(row["task_accuracy"], row["task_accuracy_interval"]),
            "decisions": number(row["decisions"]),
            "forgetting %": percent(row["forgetting"], row["forgetting_interval"]),
            "masks": number(row["components"]),
            "bytes to predict": bytes_(row["stored_bytes"]),
            "bytes to go on": bytes_(row["progress_bytes"]),
            "train s": seconds(row["train_seconds"]),
            "eval s": seconds(row["eval_seconds"]),
        }
        for row in averages.to_dict("records")
    ]
    made = pd.DataFrame(rows, columns=[*COLUMNS[:6], "settings", *COLUMNS[6:]])
    made["settings"], _ = without_shared(made["settings"])
    return made if made["settings"].any() else made.drop(columns="settings")


def figure_table(points: pd.DataFrame, measured: Sequence[str] = ()) -> pd.DataFrame:
    """A figure's table (``clbench.paper.files.COLUMNS``), formatted: a row for each point, without columns that hold nothing.

    ``measured`` are columns of the figure's own, some with another of half widths (``_interval``).
    """
    rows = [
        {
            "curve": row["curve"],
            "tasks": str(row["learned"]),
            "at": NONE if pd.isna(row["at"]) else f"{row['at']:.4g}",
            "n": str(row["n"]),
            "accuracy %": percent(row["accuracy"], row["accuracy_interval"]),
            "task accuracy %": percent(row["task_accuracy"], row["task_accuracy_interval"]),
            "bytes to predict": bytes_(row["stored_bytes"]),
            "the paper %" if row["budget"] == "paper" else "the paper %, at its budget": percent(row["paper"]),
            "source": row["source"] if isinstance(row.get("source"), str) else NONE,
        }
        | {name: measure(row[name], row.get(f"{name}_interval", float("nan"))) for name in measured}
        for row in points.to_dict("records")
    ]
    made = pd.DataFrame(rows)
    return made.drop(columns=[name for name in made.columns if (made[name] == NONE).all()])


# Renderers


def write(averages: pd.DataFrame, path: str | Path) -> Path:
    """Write a table of runs: to .csv as numbers, not rounded (accuracies from 0 to 1, bytes), to .md or .tex as it is shown."""
    path = Path(path)
    if path.suffix not in (".csv", *RENDERERS):
        raise UserError(f"A table is written to a .csv, .md or .tex file, not to {path.name}.")
    if path.suffix == ".csv":
        text = averages.to_csv(index=False)
    else:
        text = with_line_below(RENDERERS[path.suffix](table(averages)), below(averages), path.suffix)
    with writing(path):
        path.write_text(text)
    return path


def print_table(averages: pd.DataFrame) -> None:
    """Show a table of runs on standard output. In a narrow terminal columns are left out, and named, rather than numbers cut."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    shown, left_out = table(averages), []
    unlimited = Console(width=10 * WIDE)  # a console finds nothing wider than itself
    for name in DISPENSABLE:
        if unlimited.measure(rich_table(shown)).minimum <= console.width:
            break
        if name in shown:
            shown = shown.drop(columns=name)
            left_out.append(name)
    console.print(rich_table(shown))
    if words := below(averages):
        console.print(words, highlight=False)
    if left_out:
        console.print(f"Not shown for want of room: {', '.join(left_out)} (clbench table --out FILE.md has all).", style="dim")


def below(averages: pd.DataFrame) -> str:
    """What is said below a table: training that diverged, lines that rest on few decisions, and precisions that differ."""
    diverged = "diverged" in averages and averages["diverged"].any()
    words = f"(diverged): {MARKS['diverged']}." if diverged else ""
    return "\n".join(filter(None, [words, few_decisions(averages), mixed_precision(averages)]))


def mixed_precision(averages: pd.DataFrame) -> str:
    """A line for below a table in which runs on the same stream and network were trained in several precisions; empty if in none."""
    precision = averages["settings"].map(lambda settings: read_settings(settings).get("precision", ""))
    if (precision.groupby([averages[name] for name in ("stream", "data", "network", "tasks")]).nunique() < 2).all():
        return ""
    counts = ", ".join(f"{name} ({count} lines)" for name, count in precision.value_counts().sort_index().items())
    return f"Trained in several precisions: {counts}. Give --precision to compare within one."


def few_decisions(averages: pd.DataFrame) -> str:
    """A line for below a table: which of its lines rest on fewer than ``FEW`` decisions about a task; empty if none does."""
    few = averages[averages["decisions"] < FEW]
    if few.empty:
        return ""
    fewest = few.groupby(["method", "scenario"], sort=False)["decisions"].min().reset_index()
    named = ", ".join(f"{row['method']} {row['scenario']} ({row['decisions']:.0f})" for row in fewest.to_dict("records"))
    return (
        f"Fewer than {FEW} decisions about each task: {named}. Such an accuracy is largely luck: ask about more images, or let each "
        "decide about its own task (--ask protocol=image)."
    )


def rich_table(shown: pd.DataFrame) -> "Table":
    """A formatted table for the terminal. What all rows share of their protocol stands in its title, so that the rest finds room."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    asks, common = without_shared(shown["ask"])
    shown = shown.assign(ask=[_label(read_settings(ask)) for ask in asks])
    shared = [
        name for name in ("method", "stream", "data", "network", "tasks", "n") if name in shown and shown[name].nunique() == 1
    ]
    wording = {"tasks": "{} tasks", "n": "n = {}"}
    title = [wording.get(name, "{}").format(shown[name].iloc[0]) for name in shared] + ([common] if common else [])
    heading = Text(" · ".join(title)) if title else None
    made = Table(
        title=heading, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0
    )
    rest = [name for name in shown.columns.drop(shared) if shown[name].ne("").any()]
    last = "settings" if "settings" in rest else None
    rest = [name for name in rest if name != last] + ([last] if last else [])
    for name in rest:
        whole = is_number(shown[name]) or name not in ("ask", "settings")
        longest = max(len(cell) for cell in shown[name])
        width = longest if whole else min(16, longest)
        justify: Literal["left", "right"] = "right" if is_number(shown[name]) else "left"
        made.add_column(HEADINGS.get(name, name), justify=justify, no_wrap=whole, min_width=width, overflow="fold")
    for row in shown[rest].to_numpy():
        made.add_row(*map(Text, row))
    return made


# Numbers and words


def marks(row: Mapping[Any, Any]) -> str:
    """What stands behind the name of a row's method.

    >>> marks({"transductive": False, "diverged": True}), marks({})
    (' (diverged)', '')
    """
    return "".join(f" ({name})" for name in MARKS if row.get(name, False))


def percent(share: float, interval: float = float("nan")) -> str:
    """A share in percent with the half width of its interval, where there is one.

    >>> percent(0.9052, 0.0021), percent(0.9052), percent(float("nan"))
    ('90.52 ± 0.21', '90.52', '–')
    """
    if pd.isna(share):
        return NONE
    text = f"{100 * share:.2f}".replace("-0.00", "0.00")
    return text if pd.isna(interval) else f"{text} ± {100 * interval:.2f}"


def measure(value: float, interval: float) -> str:
    """A real number with the half width of its interval, where there is one.

    >>> measure(0.123456, 0.05), measure(2048.0, float("nan"))
    ('0.1235 ± 0.05', '2048')
    """
    if pd.isna(value):
        return NONE
    return f"{value:.4g}" if pd.isna(interval) else f"{value:.4g} ± {interval:.4g}"


def number(value: float) -> str:
    """A count, or a mean of counts.

    >>> number(20.0), number(19.5), number(2500)
    ('20', '19.5', '2,500')
    """
    return NONE if pd.isna(value) else f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def bytes_(count: float) -> str:
    """Bytes in decimal units.

    >>> bytes_(16), bytes_(197144), bytes_(195.18e6)
    ('16 B', '197.1 kB', '195.2 MB')
    """
    if pd.isna(count):
        return NONE
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """Seconds, with a decimal where they are few.

    >>> seconds(0.304), seconds(8.39), seconds(3600)
    ('0.3', '8.4', '3,600')
    """
    return NONE if pd.isna(value) else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def ask_text(label: str) -> str:
    """The parameters of an ask, from its label: the scenario, which stands first, has a column of its own.

    >>> ask_text("GNu algorithm=one-shot evidence=1"), ask_text("GG")
    ('algorithm=one-shot evidence=1', '')
    """
    return label.partition(" ")[2]


def protocol(settings: dict[str, str]) -> str:
    """How tasks are inferred, in words, from the parameters of an ask; empty where it does not say.

    >>> protocol({"group": "128", "evidence": "1"})
    "One image decides the task of each 128 (group=128, evidence=1: the paper's protocol)"
    >>> protocol({"group": "1", "evidence": "1"})
    'Each image decides its own task (group=1, evidence=1)'
    """
    group, evidence = settings.get("group"), settings.get("evidence")
    if group is None or evidence is None:
        return ""
    if group == "1":
        who = "Each image decides its own task"
    else:
        who = f"{'One image decides' if evidence == '1' else f'{evidence} images decide'} the task of each {group}"
    paper = ": the paper's protocol" if (group, evidence) == ("128", "1") else ""
    return f"{who} (group={group}, evidence={evidence}{paper})"


def read_settings(text: str) -> dict[str, str]:
    """The pairs of ``key=value`` in a line of settings or the label of an ask.

    >>> read_settings("GNu algorithm=one-shot evidence=1")
    {'algorithm': 'one-shot', 'evidence': '1'}
    """
    return dict(part.split("=", 1) for part in text.split() if "=" in part)


def asked_about_all(lines: pd.DataFrame, place: Sequence[str], asks: "pd.Series[str]") -> pd.DataFrame:
    """Lines without those whose ``asks`` are about some test images where another of the same ``place`` is about all."""
    about_all = asks.map(lambda ask: read_settings(ask).keys().isdisjoint(ABOUT))
    return lines[about_all | ~about_all.groupby([lines[name] for name in place]).transform("max").astype(bool)]


def without_shared(texts: Iterable[str]) -> tuple[list[str], str]:
    """Lines of ``key=value`` without the pairs that all lines share that have the key at all, and those pairs.

    >>> without_shared(["", "group=128 objective=H", "group=128 objective=G version=2"])
    (['', 'objective=H', 'objective=G version=2'], 'group=128')
    """
    read = [read_settings(text) for text in texts]
    values: dict[str, set[str]] = {}
    for pairs in read:
        for key, value in pairs.items():
            values.setdefault(key, set()).add(value)
    shared = {
        key for key, known in values.items() if len(known) == 1 and (key not in ABSENT or all(key in pairs for pairs in read))
    }
    own = [" ".join(f"{key}={value}" for key, value in pairs.items() if key not in shared) for pairs in read]
    return own, " ".join(f"{key}={next(iter(values[key]))}" for key in values if key in shared)


def labels(lines: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """A short label for each line (a row with the columns ``LINE``), and what the lines have in common but for what a label says.

    A label names the scenario and whatever lines differ in. Of a learning setting that more than half of the lines agree on, only the
    others name their value. Lines whose labels would be equal are told apart by all that they differ in.
    """
    facts = [_facts(row) for row in lines.to_dict("records")]
    learning = {key for settings in lines["settings"] for key in read_settings(settings)}
    common: dict[str, str] = {}
    for key in dict.fromkeys(key for line in facts for key in line):
        (value, times), *others = Counter(line[key] for line in facts if key in line).most_common()
        if (not others and (key not in ABSENT or times == len(facts))) or (key in learning and 2 * times > len(facts)):
            common[key] = value
    named = [{key for key, value in line.items() if key == "scenario" or common.get(key) != value} for line in facts]
    made = [_label(line, keys) for line, keys in zip(facts, named, strict=True)]
    for alike in [[i for i, other in enumerate(made) if other == label] for label, times in Counter(made).items() if times > 1]:
        apart = {key for i in alike for key in facts[i] if len({facts[j].get(key) for j in alike}) > 1}
        for i in alike:
            made[i] = _label(facts[i], named[i] | apart)
    return made, common


def _facts(row: dict[Any, Any]) -> dict[str, str]:
    """All that names a line, setting by setting."""
    known = {"method": row["method"] + marks(row)}
    known |= {name: str(row[name]) for name in PROTOCOL if name not in ("method", "ask")}
    return known | read_settings(row["ask"]) | read_settings(row["settings"])


def _label(facts: dict[str, str], keys: set[str] | None = None) -> str:
    """The facts that ``keys`` name (None: all), in a line. Those that speak for themselves stand there without their names."""
    bare = {"method", "scenario", "stream", "data", "network", "algorithm", "objective"}
    shown = {key: value for key, value in facts.items() if keys is None or key in keys}
    return " ".join(
        f"{value} tasks" if key == "tasks" else value if key in bare else f"{key}={value}" for key, value in shown.items()
    )


def describe(common: dict[str, str], n: Iterable[int] = (), *, intervals: bool = True) -> str:
    """What lines have in common (``labels``), and over how many runs they are means, in sentences for a caption."""
    data = f"data {common['data']}" if "data" in common else ""
    stream = f"{common['stream']} ({data})" if "stream" in common and data else common.get("stream", data)
    updates = f"{common['updates']} updates a task" if "updates" in common else ""
    images = f"{common['images']} test images of each task" if "images" in common else ""
    images = f"a sample of {common['sample']} test images of each task" if "sample" in common else images
    what = ", ".join(
        filter(None, [common.get("method", ""), stream, common.get("network", ""), updates, images, seeds(n, intervals)])
    )
    how = protocol(common)
    return f"{what}. {how}." if how else f"{what}."


def seeds(n: Iterable[int], intervals: bool = True) -> str:
    """How many seeds points are means over. Where they are several, points are drawn with the ``intervals`` of the means.

    >>> seeds([1, 1]), seeds([3, 5]), seeds([])
    ('1 seed', '3 to 5 seeds (with 95 % t intervals)', '')
    """
    known = sorted(set(n))
    text = "" if not known else "1 seed" if known == [1] else f"{' to '.join(map(str, sorted({known[0], known[-1]})))} seeds"
    return f"{text} (with 95 % t intervals)" if text and intervals and known[-1] > 1 else text
