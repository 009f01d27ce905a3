"""Every measured column, stated once: its name, meaning, formula and format.

Summaries, means over seeds, tables, pivots, comparisons, rankings, JSON and the glossary are all made from ``MEASURED``: to add a column,
add a ``Column`` to it. A person's own metric becomes a column by its name (``find``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from clbench import registry, sources
from clbench.errors import UserError, unknown
from clbench.results import formats, metrics

ALWAYS = 99
"""The importance of columns that even the narrowest terminal shows."""


@dataclass(frozen=True)
class Answers:
    """The answers of one run to one ask: what a column is computed from.

    ``R`` is the accuracy matrix [checkpoints, tasks] (``clbench.results.metrics``), ``T`` the same of the accuracy of task inference, and
    ``learned`` the number of tasks learned at each row. ``scores`` are the rows of ``clbench.frame`` that they are made from.
    """

    R: npt.NDArray[np.float64]
    T: npt.NDArray[np.float64]
    learned: Sequence[int]
    scores: pd.DataFrame

    @cached_property
    def last(self) -> pd.DataFrame:
        """The scores at the last checkpoint."""
        return self.scores[self.scores["learned"] == self.learned[-1]]

    def of_run(self, name: str) -> float:
        """A number of the run at the last checkpoint; NaN if it has none of this name."""
        return float(self.last[name].iloc[0]) if name in self.last else float("nan")


@dataclass(frozen=True)
class Column:
    """A number that is measured for each run and ask.

    ``name`` is its name in frames, CSV files and options, ``heading`` in tables, ``narrow`` in a terminal if the heading takes several
    lines, ``json`` in ``clbench run --json`` if that differs. The glossary shows ``meaning`` and ``formula``. ``measure`` computes it;
    ``format`` shows it. With ``interval`` it is a metric: seeds give a mean with a t interval, and lines can be compared and ranked by it
    (``higher_is_better``). Others are means over seeds, or with ``fewest`` the smallest value. ``default``: tables show it unasked.
    A narrow terminal leaves out the columns of the least ``importance`` first.
    """

    name: str
    heading: str
    meaning: str
    formula: str
    measure: Callable[[Answers], float]
    format: Callable[..., str]
    interval: bool = False
    higher_is_better: bool = True
    fewest: bool = False
    default: bool = True
    narrow: str = ""
    json: str = ""
    importance: int = 0

    @property
    def interval_name(self) -> str:
        """The name of the column of its half widths."""
        return f"{self.name}_interval"

    @property
    def title(self) -> str:
        """Its name in words, with its unit if that is percent. A metric of a person's own keeps its dotted name."""
        if self.heading == self.name:
            return self.name
        return self.name.replace("_", " ") + (" %" if self.format is formats.percent else "")

    def text(self, value: float, half_width: float = float("nan")) -> str:
        """A value as it is shown."""
        return self.format(value, half_width) if self.interval else self.format(value)

    def difference(self, value: float, half_width: float = float("nan")) -> str:
        """A difference of two values as it is shown, with its sign."""
        text = self.text(value, half_width)
        return text if text.startswith(("-", formats.NONE)) else f"+{text}"


MEASURED: tuple[Column, ...] = (
    Column(
        "accuracy",
        "accuracy %",
        "average accuracy over all tasks learned, at the last checkpoint (ACC; Lopez-Paz & Ranzato 2017)",
        "1/T Σ<sub>j&lt;T</sub> R[last, j]",
        lambda answers: metrics.average_accuracy(answers.R, answers.learned),
        formats.percent,
        interval=True,
        narrow="acc. %",
        importance=ALWAYS,
    ),
    Column(
        "task_accuracy",
        "task accuracy %",
        "how often the task was inferred correctly; empty if no task is inferred",
        "the same average of the share of answers that named the right task",
        lambda answers: metrics.task_inference_accuracy(answers.T, answers.learned),
        formats.percent,
        interval=True,
        narrow="task\nacc. %",
        importance=ALWAYS,
    ),
    Column(
        "decisions",
        "decisions",
        "on how many decisions about the task the accuracy on a task rests: the smallest number of any task. "
        "Empty if no task is inferred. A line under the table names values below 20",
        "⌈images / group⌉",
        lambda answers: answers.last["decisions"].min(),
        formats.number,
        fewest=True,
        narrow="deci-\nsions",
        importance=6,
    ),
    Column(
        "forgetting",
        "forgetting %",
        "how far earlier tasks fell below their best (Chaudhry et al. 2018); may be negative",
        "1/(T−1) Σ<sub>j&lt;T−1</sub> (max<sub>i&lt;last</sub> R[i, j] − R[last, j])",
        lambda answers: metrics.forgetting(answers.R, answers.learned),
        formats.percent,
        interval=True,
        higher_is_better=False,
        narrow="forget-\nting %",
        importance=5,
    ),
    Column(
        "backward_transfer",
        "backward transfer %",
        "what later tasks did to earlier ones (Lopez-Paz & Ranzato 2017)",
        "1/(T−1) Σ<sub>j&lt;T−1</sub> (R[last, j] − R[j, j])",
        lambda answers: metrics.backward_transfer(answers.R, answers.learned),
        formats.percent,
        interval=True,
        default=False,
        narrow="backward\ntransfer %",
    ),
    Column(
        "anytime_accuracy",
        "anytime accuracy %",
        "the mean of the average accuracies of all checkpoints",
        "1/rows Σ<sub>i</sub> 1/T<sub>i</sub> Σ<sub>j&lt;T<sub>i</sub></sub> R[i, j]",
        lambda answers: metrics.anytime_accuracy(answers.R, answers.learned),
        formats.percent,
        interval=True,
        default=False,
        narrow="anytime\nacc. %",
    ),
    Column(
        "lowest_accuracy",
        "lowest accuracy %",
        "the lowest accuracy on each earlier task while later ones were learned, on average (min-ACC; De Lange et al. 2023). Far below the "
        "accuracy, it shows a stability gap. Needs `--every`",
        "1/(T−1) Σ<sub>j&lt;T−1</sub> min<sub>batches after task j</sub> accuracy on j",
        lambda answers: answers.last["lowest"].mean() if "lowest" in answers.last else float("nan"),
        formats.percent,
        interval=True,
        default=False,
        narrow="lowest\nacc. %",
    ),
    Column(
        "components",
        "masks",
        "components that the method keeps (masks, contexts, heads, networks)",
        "",
        lambda answers: answers.last["components"].iloc[0],
        formats.number,
        json="masks",
        importance=4,
    ),
    Column(
        "masks_per_task",
        "masks a task",
        "components that the method keeps, for each different task: 1 if it found the tasks as they are",
        "masks / different tasks",
        lambda answers: answers.last["components"].iloc[0] / answers.last["task"].nunique(),
        formats.measure,
        interval=True,
        higher_is_better=False,
        default=False,
        narrow="masks\na task",
    ),
    Column(
        "missed",
        "missed",
        "changes of the task at which a learner that is told none went on training the same component",
        "boundaries without a switch before the next one",
        lambda answers: answers.of_run("missed"),
        formats.measure,
        interval=True,
        higher_is_better=False,
        default=False,
    ),
    Column(
        "false_switches",
        "false switches",
        "switches to another component other than the first after a change of the task",
        "switches that detect no boundary",
        lambda answers: answers.of_run("false_switches"),
        formats.measure,
        interval=True,
        higher_is_better=False,
        default=False,
        narrow="false\nswitches",
    ),
    Column(
        "delay",
        "delay",
        "batches from a change of the task to the switch to another component, on average over the changes that were not missed",
        "first batch of the component − first batch with images of the task",
        lambda answers: answers.of_run("delay"),
        formats.measure,
        interval=True,
        higher_is_better=False,
        default=False,
    ),
    Column(
        "stored_bytes",
        "bytes to predict",
        "size of the file that gives the same answers again (`learned`)",
        "bytes of a safetensors file",
        lambda answers: answers.last["stored_bytes"].iloc[0],
        formats.bytes_,
        narrow="bytes to\npredict",
        importance=9,
    ),
    Column(
        "progress_bytes",
        "bytes to resume",
        "size of what is needed in addition to resume learning (`progress`)",
        "bytes of a safetensors file",
        lambda answers: answers.last["progress_bytes"].iloc[0],
        formats.bytes_,
        narrow="bytes to\nresume",
        importance=2,
    ),
    Column(
        "train_seconds",
        "train s",
        "seconds of training",
        "wall clock of this machine",
        lambda answers: answers.last["train_seconds"].iloc[0],
        formats.seconds,
        narrow="train\ns",
        importance=3,
    ),
    Column(
        "eval_seconds",
        "eval s",
        "seconds of answering, at all checkpoints",
        "wall clock of this machine",
        lambda answers: answers.scores["eval_seconds"].sum(),
        formats.seconds,
        narrow="eval\ns",
        importance=1,
    ),
)
"""All columns, in the order of tables."""


def find(name: str) -> Column:
    """The column called ``name``: one of ``MEASURED``, or a person's own metric.

    A metric is a function ``(R, scores) -> float`` of the accuracy matrix and the scores (``Answers``), named ``module:function`` or
    ``file.py:function`` or by the entry-point group ``clbench.metrics``. Higher is better, unless it has an attribute
    ``higher_is_better`` that is false. Raises a ``UserError`` for a name that is neither.
    """
    for column in MEASURED:
        if column.name == name:
            return column
    function = registry.metric(name)
    if function is None:
        raise unknown("column", name, [column.name for column in MEASURED])

    def measured(answers: Answers) -> float:
        with sources.naming(f"The metric {name}"):
            return float(function(answers.R, answers.scores))

    better = bool(getattr(function, "higher_is_better", True))
    return Column(name, name, "", "", measured, formats.measure, interval=True, higher_is_better=better, default=False)


def compared(name: str) -> Column:
    """The column called ``name`` if lines can be compared by it; a ``UserError`` if not."""
    column = find(name)
    if not column.interval:
        known = ", ".join(column.name for column in MEASURED if column.interval)
        raise UserError(f"Lines cannot be compared by {name}: give a metric ({known}, or module:function).")
    return column


def joined(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """``columns`` and those of the ``names``, which tables show always. Columns that are not in ``columns`` stand last."""
    extra = {name: replace(find(name), default=True, importance=ALWAYS) for name in names}
    return tuple(({column.name: column for column in columns} | extra).values())
