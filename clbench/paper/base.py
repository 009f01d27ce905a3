"""What a figure of the paper is, and how one is made: runs, then one tidy table, then a drawing of that table and nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure

from clbench.engine import execution, learn, request, store
from clbench.engine.asking import Ask, Score
from clbench.engine.evaluator import Taught
from clbench.engine.settings import BUDGETS, USUAL, Overwrite
from clbench.errors import UserError, unknown
from clbench.files import write_text
from clbench.paper.files import COLUMNS, IMAGE, ORIGINS, PAPER, SEEDED, beside_runs, beside_seeds, read, single
from clbench.paper.published import Published
from clbench.registry import scenarios
from clbench.results import frames as results
from clbench.results import plots, renderers, style, tables

Watch = Callable[[learn.Job, Taught | Score], None]

SINGLE = "each image by itself"
"""The protocol ``IMAGE`` in words."""

BEYOND = "Beyond the paper"
"""The heading of a figure that the paper does not have."""


@dataclass(frozen=True)
class Curve:
    """What one question to one training gives to a figure.

    ``line``: the name of the line that its points lie on. ``settings``: those of a request (``clbench.engine.request.Request``), with
    exactly one ask. If several curves make up a line, ``value`` is the number in which they differ, ``detail`` says it in words, and
    ``at`` is the place of the points, if they are drawn against it. ``protocol``: how tasks are inferred, ``PAPER``, ``IMAGE`` or a word
    of the figure.
    """

    line: str
    settings: Mapping[str, Any]
    detail: str = ""
    value: float | None = None
    at: float | None = None
    protocol: str = PAPER

    @property
    def name(self) -> str:
        """A name that no other curve of the figure has."""
        return f"{self.line}{self.detail}{f', {SINGLE}' if self.protocol == IMAGE else ''}"


class Reference(NamedTuple):
    """A number that was published: a curve's average accuracy after ``learned`` tasks at the paper's budget."""

    curve: str
    learned: int
    number: Published


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper: what is run for it in each budget, and how its table is drawn.

    ``curves`` gives the lines for a budget's name; lines that come from one training share it. ``classes`` is the number of classes of a
    task (by budget, if budgets differ), for the accuracy of guessing. ``draw`` gets the table (``COLUMNS``) of the curves as read from
    its file, and ``heading``, with which the caption begins. ``beside`` draws what the paper's figure leaves out, from the same table and
    that of ``singly``'s curves. ``reference``: the paper's numbers. ``rows`` makes the table of the runs, and may add the columns
    ``measured`` (some with half widths, ``_interval``), and ``classes`` if they differ from row to row. ``by_seed`` makes the table of one
    seed's runs, if it is not the table of ``rows``. ``seeds``: how many at the paper's budget.
    """

    name: str
    title: str
    classes: int | Mapping[str, int]
    curves: Callable[[str], Sequence[Curve]]
    draw: Callable[[pd.DataFrame, str], Figure]
    reference: tuple[Reference, ...] = ()
    beside: Callable[[pd.DataFrame, str], Figure] | None = None
    rows: Callable[["Done"], pd.DataFrame] | None = None
    measured: tuple[str, ...] = ()
    by_seed: Callable[["Done"], pd.DataFrame] | None = None
    seeds: int = 3
    heading: str = BEYOND


class Drawn(NamedTuple):
    """A figure that was made: its table, the drawing, and its files (the three tables, .png, .pdf, .md, .tex, what is beside)."""

    frame: pd.DataFrame
    figure: Figure
    files: tuple[Path, ...]


class Answer(NamedTuple):
    """What a curve needs of one seed: a job with the curve's single ask."""

    curve: Curve
    job: learn.Job

    @property
    def ask(self) -> Ask:
        """The curve's ask."""
        return self.job.asks[0]


class Done(NamedTuple):
    """The answers that a figure needs, the runs that hold them (by hash), and the folder of their data."""

    answers: Sequence[Answer]
    by_hash: Mapping[str, store.Run]
    data_root: str | None

    def of(self, curve: str) -> list[store.Run]:
        """The runs of the curve of that name, one for each seed."""
        return [self.by_hash[answer.job.learn.hash] for answer in self.answers if answer.curve.name == curve]

    def by_seed(self) -> "dict[int, Done]":
        """The same, seed by seed."""
        answers: dict[int, list[Answer]] = {}
        for answer in self.answers:
            answers.setdefault(answer.job.learn.seeds.training, []).append(answer)
        return {
            seed: self._replace(answers=some, by_hash={each.job.learn.hash: self.by_hash[each.job.learn.hash] for each in some})
            for seed, some in answers.items()
        }


def unwatched(job: learn.Job, event: Taught | Score) -> None:
    """Ignores every event."""


def reproduce(
    figure: PaperFigure,
    budget: str,
    folder: Path,
    *,
    seeds: tuple[int, ...] | None = None,
    from_results: bool = False,
    watch: Watch = unwatched,
    data_root: str | None = None,
    device: torch.device | None = None,
    overwrite: Overwrite = USUAL.overwrite,
) -> Drawn:
    """Make a figure in the results folder ``folder``; ``clbench.paper.figure`` says how."""
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    if seeds is None:
        seeds = tuple(range(figure.seeds)) if budget == "paper" else (0,)
    curves = list(figure.curves(budget))
    answers = needed([*curves, *(singly(curves) if figure.beside else [])], seeds, data_root)
    jobs = merged(answers)
    if from_results:
        done = {job.learn.hash: store.run_at(folder, job.learn) for job in jobs}
        check_complete(figure, budget, folder, answers, done)
    else:
        where: dict[str, Any] = {"data_root": data_root, "device": device, "overwrite": overwrite}
        done = {job.learn.hash: execution.execute(job, folder, watch=partial(watch, job), **where) for job in jobs}
    answered = Done(answers, done, data_root)
    table = (figure.rows or points)(answered)
    table.insert(0, "budget", budget)
    table.insert(0, "figure", figure.name)
    known = published(figure, budget, table)
    table["paper"] = [float("nan") if number is None else number.share for number in known]
    table["source"] = [None if number is None else number.cited for number in known]
    seeded = of_seeds(figure, answered)
    if figure.beside:
        for frame in (table, seeded):
            # That accuracy is on other images: next to the accuracy on all, it would look like a difference between the protocols.
            frame.loc[single(frame), [name for name in ("accuracy", "accuracy_interval") if name in frame]] = float("nan")
    classes = figure.classes if isinstance(figure.classes, int) else figure.classes[budget]
    extras = ["source"] if figure.reference else []
    extras += [name for each in figure.measured for name in (each, f"{each}_interval") if name in table]
    table = plots.with_chance(table, classes)[[*COLUMNS, *extras]]
    file = folder / "figures" / f"{figure.name}.csv"
    write_text(file, renderers.csv(table))
    write_text(beside_seeds(file), renderers.csv(seeded))
    write_text(beside_runs(file), renderers.csv(origins(done.values())))
    drawn = redraw(figure, file)
    return drawn._replace(files=(file, beside_seeds(file), beside_runs(file), *drawn.files[1:]))


def redraw(figure: PaperFigure, file: Path) -> Drawn:
    """Draw a figure from its table ``file`` and nothing else; the pictures and the formatted tables are written beside it."""
    table = read_of(figure, file)
    texts = {
        file.with_suffix(suffix): render(tables.figure_table(table, figure.measured))
        for suffix, render in renderers.RENDERERS.items()
    }
    for path, text in texts.items():
        write_text(path, text)
    points = table[~single(table)].reset_index(drop=True) if figure.beside else table
    drawing = figure.draw(points, figure.heading)
    files = [file, *style.save(drawing, file.with_suffix("")), *texts]
    if figure.beside:
        files += style.save(figure.beside(table, figure.heading), file.with_name(f"{figure.name}-beside"))
    return Drawn(table, drawing, tuple(files))


def read_of(figure: PaperFigure, file: Path) -> pd.DataFrame:
    """The figure's table from ``file``; a ``UserError`` if it lacks a column that the figure measures."""
    table = read(file)
    if missing := set(figure.measured) - set(table):
        raise UserError(
            f"{file} lacks {', '.join(sorted(missing))}: make it again with `clbench figure {figure.name}`, or remove it."
        )
    return table


def singly(curves: Sequence[Curve]) -> list[Curve]:
    """Those of the curves that infer the task, asked again with every image deciding its own: some test images of each task.

    From 8 to 128 images of each task, some 8,000 in all if that leaves so many: enough to tell how often the task is inferred correctly,
    which is all that a figure's table says of these curves. If one image decides for a group, both have the same expectation. Curves
    that differ in nothing but group and evidence come to the same question: it is asked once, under the name of the first of them.
    """
    known = scenarios()
    single_curves: list[Curve] = []
    for curve in curves:
        ask = curve.settings.get("ask", {})
        if not known[ask.get("scenario", curve.settings["scenario"])].task_given_in_inference:
            images = max(8, min(128, 8192 // curve.settings["tasks"]))
            alone = {**curve.settings, "ask": ask | {"group": 1, "evidence": 1, "images": images}}
            if all(each.settings != alone for each in single_curves):
                single_curves.append(replace(curve, settings=alone, protocol=IMAGE))
    return single_curves


def published(figure: PaperFigure, budget: str, table: pd.DataFrame) -> list[Published | None]:
    """What was published for each row: at the paper's budget in its own row, at the others in the row of a curve's last point."""
    known = {(each.curve, each.learned): each.number for each in figure.reference}
    if budget != "paper":
        last = table.groupby("curve")["learned"].max()
        known = {(curve, int(last[curve])): number for (curve, _), number in known.items() if curve in last}
    return [known.get(place) for place in zip(table["curve"], table["learned"], strict=True)]


def of_seeds(figure: PaperFigure, answered: Done) -> pd.DataFrame:
    """A figure's values by seed (``SEEDED``): its table as made from each seed's runs alone."""
    make = figure.by_seed or figure.rows or points
    table = pd.concat([make(own).assign(seed=seed) for seed, own in answered.by_seed().items()], ignore_index=True)
    table = table.rename(columns={"runs": "run"})
    return table[[*SEEDED, *(name for name in figure.measured if name in table)]]


def origins(runs: Iterable[store.Run]) -> pd.DataFrame:
    """What made each run (``ORIGINS``)."""
    rows = []
    for run in runs:
        made_by = run.record["environment"]
        packages = ", ".join(f"{name} {version}" for name, version in made_by["packages"].items())
        rows.append(
            {"run": run.learn.hash, "method": run.learn.method, "scenario": run.scenario.name, "seed": run.learn.seeds.training}
            | {"commit": made_by.get("git_commit"), "changed": made_by.get("git_changed"), "packages": packages}
            | {name: made_by.get(name) for name in ("machine", "cores", "threads")}
            | run.record.get("timings", {})
        )
    return pd.DataFrame(rows, columns=ORIGINS)


def needed(curves: Sequence[Curve], seeds: tuple[int, ...], data_root: str | None = None) -> list[Answer]:
    """The answers that curves are drawn from."""
    answers = []
    for curve in curves:
        for job in request.resolve(request.request({**curve.settings, "seeds": seeds}), data_root):
            if len(job.asks) != 1:
                raise ValueError(f"the curve {curve.name!r} must have one ask, not {len(job.asks)}")
            answers.append(Answer(curve, job))
    return answers


def merged(answers: Sequence[Answer]) -> list[learn.Job]:
    """The jobs of all answers, those that learn the same as one: what is learned once is asked everything."""
    jobs: dict[str, learn.Job] = {}
    for answer in answers:
        job = jobs.setdefault(answer.job.learn.hash, answer.job)
        asks = tuple({ask.label: ask for ask in (*job.asks, answer.ask)}.values())
        checkpoints = tuple(sorted({*job.checkpoints, *answer.job.checkpoints}))
        jobs[answer.job.learn.hash] = job.model_copy(update={"asks": asks, "checkpoints": checkpoints})
    return list(jobs.values())


def check_complete(
    figure: PaperFigure, budget: str, folder: Path, answers: Sequence[Answer], stored: Mapping[str, store.Run]
) -> None:
    """Raise a ``UserError`` that names each run that is missing or not complete, and the curves that need it."""
    lacking: dict[str, list[str]] = {}
    for curve, job in answers:
        if state := run_state(stored[job.learn.hash], job):
            lacking.setdefault(f"run {job.learn.hash} {state}", []).append(curve.name)
    if lacking:
        which = "; ".join(f"{', '.join(curves)} ({what})" for what, curves in lacking.items())
        seeds = ",".join(str(seed) for seed in sorted({answer.job.learn.seeds.training for answer in answers}))
        raise UserError(
            f"The figure {figure.name} cannot be drawn from {folder}, which lacks {which}: do the runs with "
            f"`clbench figure {figure.name} --budget {budget} --results {folder} --seeds {seeds}`."
        )


def run_state(run: store.Run, job: learn.Job) -> str:
    """What a stored run lacks of a job, in words; empty if it lacks nothing."""
    if not run.exists:
        return "is not there"
    if not run.complete:
        return "is not finished"
    open_ = [learned for _, learned in run.unanswered(job.asks, job.checkpoints)]
    return f"was not asked after {', '.join(map(str, open_))} tasks" if open_ else ""


def points(done: Done) -> pd.DataFrame:
    """The points of all curves, in their order: the rows of ``clbench.results.tables.by_tasks``, with what names a curve."""
    frames = []
    for answer in {answer.curve.name: answer for answer in done.answers}.values():
        curve = answer.curve
        scores = results.frame(done.of(curve.name))
        rows = (scores["ask"] == answer.ask.label) & scores["learned"].isin(answer.job.checkpoints)
        named = {"line": curve.line, "protocol": curve.protocol, "curve": curve.name, "value": curve.value, "at": curve.at}
        frames.append(tables.by_tasks(scores[rows]).assign(**named))
    return pd.concat(frames, ignore_index=True)
