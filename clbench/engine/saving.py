"""Saving a run while it is computed: when, and what.

After whole tasks, a state of its own is saved (``store.save_state``); inside a task, what its batches changed since (``lesson.Midway``),
in one file next to the state of the tasks before it. Answers of an ask in progress are kept one by one (``answers``).
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from clbench.engine import interrupts, saved_state
from clbench.engine.answers import KeptAnswers
from clbench.engine.asking import Score
from clbench.engine.evaluator import tasks_at_once
from clbench.engine.lesson import Keep, Lesson, Midway, midway
from clbench.engine.run_files import Tables, save_state
from clbench.engine.schedule import Schedule
from clbench.method import Method

SAVING_SHARE = 0.02
"""Saving takes at most this share of the time, even if more work than intended is then at risk."""
AHEAD = 6
"""The state is saved between two tasks if it would be due within so many tasks: inside a task it can be saved only on top of that."""


class SavingClock:
    """Says when to save: if ``every`` seconds of work are at risk (0: always), but not so often that it slows the run down."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.cost = 0.0
        self.since = time.perf_counter()

    def due(self, ahead: float = 0.0) -> bool:
        """Whether to save now, or at the latest in ``ahead`` seconds."""
        since = time.perf_counter() - self.since
        return self.every == 0 or (since + ahead >= self.every and since >= self.cost / SAVING_SHARE)

    def time(self, save: Callable[[], None]) -> None:
        """Save, and remember how long that took."""
        began = time.perf_counter()
        save()
        self.since = time.perf_counter()
        self.cost = self.since - began


class Saver:
    """Saves one run from time to time, and if a signal asks to stop.

    ``learned``: the number of tasks learned so far; ``rows``: the method's diagnostics since then, by table.
    """

    def __init__(
        self, method: Method, tables: Tables, schedule: Schedule, every: float, learned: int, resumed: Midway | None
    ) -> None:
        self.run = run = tables.run
        self.method = method
        self.tables = tables
        self.at_once = tasks_at_once(method, schedule)
        self.clock = SavingClock(every)
        self.answers = KeptAnswers(run.answers_file)
        self.learned = learned
        self.rows = {} if resumed is None else resumed.rows
        told = method.brief.scenario.task_given_in_training
        self.resumes_inside = not told or type(method).task_progress is not Method.task_progress

    @property
    def keep(self) -> Keep:
        """What the evaluator keeps by it."""
        return Keep(self.answers, self.after_batch, self.after_answer, self.scored_inside)

    @property
    def whole_tasks(self) -> int:
        """The last number of tasks learned after which training can be resumed: tasks that are taught together count together."""
        return self.learned - self.learned % self.at_once

    def take_rows(self) -> dict[str, list[dict[str, Any]]]:
        """The method's diagnostics since the last task ended."""
        self._collect()
        rows, self.rows = self.rows, {}
        return rows

    def _collect(self) -> None:
        for table, rows in self.method.tables().items():
            self.rows.setdefault(table, []).extend(rows)

    def scored_inside(self, score: Score) -> None:
        """A score came inside a task: a row of ``inside``, which is kept with the method's diagnostics."""
        values = {name: getattr(score, name) for name in ("batch", "task", "accuracy", "task_accuracy")}
        self.rows.setdefault("inside", []).append({"ask": score.ask.label, **values})

    def after_task(self, learned: int, seconds: float) -> None:
        """A task was learned, in so many seconds."""
        self.learned = learned
        last = learned == self.run.learn.tasks
        if last or interrupts.asked() or self.clock.due(AHEAD * seconds if self.resumes_inside else math.inf):
            self._save_between_tasks(forget_answers=True)

    def after_batch(self, lesson: Lesson) -> None:
        """A batch was learned. Without a state of the tasks before it there is nothing to save: these tasks are short."""
        if (interrupts.asked() or self.clock.due()) and self.run.holds(lesson.group.start):
            if self.resumes_inside:
                self.clock.time(partial(self._save_inside, lesson))
            interrupts.stop_if_asked(self.kept)

    def after_answer(self) -> None:
        """An answer came."""
        if interrupts.asked() or self.clock.due():
            self._save_between_tasks()
        interrupts.stop_if_asked(self.kept)

    def _save_between_tasks(self, forget_answers: bool = False) -> None:
        """Save tables and state. ``forget_answers``: no ask is in progress, and the tables hold all answers."""
        # In a group of tasks that are taught together, training cannot be resumed after some of them.
        if self.learned != self.whole_tasks and self.learned < self.run.learn.tasks:
            return

        def save() -> None:
            save_state(self.method, self.learned, self.tables)
            if forget_answers:
                self.answers.clear()

        self.clock.time(save)
        interrupts.stop_if_asked(self.kept)

    def _save_inside(self, lesson: Lesson) -> None:
        self._collect()
        state = midway(self.method, lesson, self.rows)
        if state is not None:
            self.tables.commit()
            saved_state.write_inside(state, self.run.inside, self.run.path.name)
            self.answers.clear()

    def kept(self) -> str:
        """What is kept on disk, and how to resume."""
        saved, inside = self.run.saved(), saved_state.newest_inside(self.run.inside)
        tasks = 0 if saved is None else saved[0]
        more = f" and {inside[1]} updates of the next" if inside is not None and inside[0] == tasks else ""
        return f"{tasks} of {self.run.learn.tasks} tasks{more} are kept in {self.run.path}; the same command resumes there."
