"""Lines of results: what was run and asked, setting by setting, and how a line is named in labels and captions.

Runs of a line differ only in their seeds. A row of a frame says what its line is by the columns ``LINE``. Frames that come from runs
also hold the settings as dictionaries (``FACTS``), made from the run's record; a table read from a CSV file has only their text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clbench.engine.asking import ABOUT

Facts = Mapping[str, str]
"""Settings by name; all values are texts."""

PROTOCOL = ["method", "scenario", "ask", "stream", "data", "network", "tasks"]
"""The columns that say what a score is a score of; runs that agree on them and on ``settings`` differ in their seeds alone."""

LINE = [*PROTOCOL, "settings"]
"""The columns that name a line."""

FACTS = ["ask_settings", "learn_settings"]
"""The columns that hold the settings of a line's ask, and of what was learned, as dictionaries (``Facts``)."""

MARKS = {
    "transductive": "all images of an ask together decide about each of them",
    "diverged": "the training of one of the tasks diverged, and the numbers are what was left of it",
    "unfinished": "a run has not learned all of its tasks yet, and the numbers are those so far",
}
"""Columns of truths that stand in brackets behind a method's name, and what they mean."""

ABSENT = {*ABOUT, "version"}
"""Settings whose absence says something (all images, the first version of an answer): they are common to all lines or to none."""

_BARE = {"method", "scenario", "stream", "data", "network", "algorithm", "objective"}
"""Facts that speak for themselves: a label shows them without their names."""


@dataclass(frozen=True)
class Line:
    """A line of results.

    ``place``: the method (with its marks), scenario, stream, data, network and tasks. ``ask`` and ``learning``: the settings of the ask and
    of what was learned.
    """

    place: Facts
    ask: Facts
    learning: Facts

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> "Line":
        """The line of a row of a frame, or of a table that was read from a CSV file."""
        place = {"method": row["method"] + marks(row)}
        place |= {name: str(row[name]) for name in PROTOCOL if name not in ("method", "ask")}
        ask, learning = (
            row[facts] if facts in row else read_settings(row[text]) for facts, text in zip(FACTS, ("ask", "settings"), strict=True)
        )
        return cls(place, ask, learning)

    @property
    def facts(self) -> dict[str, str]:
        """All that the line is, setting by setting."""
        return {**self.place, **self.settings}

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the ask and of what was learned."""
        return {**self.ask, **self.learning}

    @property
    def about_all(self) -> bool:
        """Whether the ask is about all test images."""
        return self.ask.keys().isdisjoint(ABOUT)

    @property
    def label(self) -> str:
        """All facts of the line, in one line of text. ``labels`` gives those that tell several lines apart."""
        return label(self.facts)

    @property
    def caption(self) -> str:
        """The line in sentences, for below a picture of it alone. The scenario and the ask stand first; group and evidence are words."""
        settings = [f"{key}={value}" for key, value in self.ask.items() if key not in ("group", "evidence")]
        title = self.place["scenario"] + (f" ({', '.join(settings)})" if settings else "")
        return f"{title}: {describe(self.facts)}"


def lines_of(frame: pd.DataFrame) -> list[Line]:
    """The line of each row."""
    return [Line.of(row) for row in frame.to_dict("records")]


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame without its columns of dictionaries, for CSV and JSON: the texts in ``ask`` and ``settings`` say the same."""
    return frame.drop(columns=FACTS, errors="ignore")


def text(facts: Facts) -> str:
    """Settings in one line of text.

    >>> text({"group": "128", "objective": "H"})
    'group=128 objective=H'
    """
    return " ".join(f"{key}={value}" for key, value in facts.items())


def read_settings(line: str) -> dict[str, str]:
    """The inverse of ``text``, for tables that come from CSV files. A scenario in front, as in the label of an ask, is left out.

    >>> read_settings("GNu algorithm=one-shot hidden=[400, 400] evidence=1")
    {'algorithm': 'one-shot', 'hidden': '[400, 400]', 'evidence': '1'}
    """
    pairs = re.split(r"(?:^|\s)(?=[^\W\d]\w*=)", line)
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def marks(row: Mapping[Any, Any]) -> str:
    """The words behind the name of a row's method.

    >>> marks({"transductive": False, "diverged": True}), marks({})
    (' (diverged)', '')
    """
    return "".join(f" ({name})" for name in MARKS if row.get(name, False))


def asked_about_all(rows: pd.DataFrame, place: Sequence[str], lines: Sequence[Line]) -> pd.DataFrame:
    """The rows without those about some test images, if another row of the same ``place`` is about all. ``lines``: of each row."""
    about_all = pd.Series([line.about_all for line in lines], index=rows.index, dtype=bool)
    return rows[about_all | ~about_all.groupby([rows[name] for name in place]).transform("max").astype(bool)]


def without_shared(facts: Iterable[Facts]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Settings without those that are the same wherever they are given, and these.

    >>> without_shared([{}, {"group": "128", "objective": "H"}, {"group": "128", "objective": "G", "version": "2"}])
    ([{}, {'objective': 'H'}, {'objective': 'G', 'version': '2'}], {'group': '128'})
    """
    facts = list(facts)
    values: dict[str, set[str]] = {}
    for each in facts:
        for key, value in each.items():
            values.setdefault(key, set()).add(value)
    shared = {
        key: next(iter(known))
        for key, known in values.items()
        if len(known) == 1 and (key not in ABSENT or all(key in each for each in facts))
    }
    return [{key: value for key, value in each.items() if key not in shared} for each in facts], shared


def labels(frame: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """A short label for the line of each row, and the facts that the lines share and no label says.

    A label names the scenario and all that lines differ in. Of a learning setting that more than half of the lines agree on, only the
    others name their value. Lines whose labels would be equal name all that they differ in.
    """
    lines = lines_of(frame)
    facts = [line.facts for line in lines]
    learning = {key for line in lines for key in line.learning}
    common: dict[str, str] = {}
    for key in dict.fromkeys(key for each in facts for key in each):
        (value, times), *others = Counter(each[key] for each in facts if key in each).most_common()
        if (not others and (key not in ABSENT or times == len(facts))) or (key in learning and 2 * times > len(facts)):
            common[key] = value
    named = [{key for key, value in each.items() if key == "scenario" or common.get(key) != value} for each in facts]
    texts = [label(each, keys) for each, keys in zip(facts, named, strict=True)]
    for alike in [[i for i, other in enumerate(texts) if other == each] for each, times in Counter(texts).items() if times > 1]:
        apart = {key for i in alike for key in facts[i] if len({facts[j].get(key) for j in alike}) > 1}
        for i in alike:
            texts[i] = label(facts[i], named[i] | apart)
    return texts, common


def label(facts: Facts, keys: set[str] | None = None) -> str:
    """The facts that ``keys`` name (None: all), in one line."""
    facts_shown = {key: value for key, value in facts.items() if keys is None or key in keys}
    return " ".join(
        f"{value} tasks" if key == "tasks" else value if key in _BARE else f"{key}={value}" for key, value in facts_shown.items()
    )


def describe(common: Facts, n: Iterable[int] = (), *, intervals: bool = True) -> str:
    """What lines have in common (``labels``), and how many runs they are means over, in sentences for a caption."""
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


def protocol(settings: Facts) -> str:
    """How tasks are inferred, in words, from the settings of an ask; empty if they do not say.

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


def seeds(n: Iterable[int], intervals: bool = True) -> str:
    """How many seeds points are means over. With several seeds, points are drawn with the ``intervals`` of the means.

    >>> seeds([1, 1]), seeds([3, 5]), seeds([])
    ('1 seed', '3 to 5 seeds (with 95 % t intervals)', '')
    """
    known = sorted(set(n))
    words = "" if not known else "1 seed" if known == [1] else f"{' to '.join(map(str, sorted({known[0], known[-1]})))} seeds"
    return f"{words} (with 95 % t intervals)" if words and intervals and known[-1] > 1 else words
