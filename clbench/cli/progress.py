"""The live progress bar: on standard error, so that standard output holds only results."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clbench import terminal

if TYPE_CHECKING:
    from clbench.engine.asking import Score
    from clbench.engine.evaluator import Taught
    from clbench.engine.learn import Job


class Bars:
    """One bar for each run, with the tasks learned and the running accuracy of its first ask."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.bars: dict[str, TaskID] = {}
        self.latest: dict[tuple[str, int], list[float]] = {}
        self.first: dict[str, dict[str, Any]] = {}

    def watch(self, job: "Job", event: "Taught | Score") -> None:
        """Update the bar of a run with a record of it."""
        from clbench.engine.evaluator import Taught

        learn = job.learn
        if learn.hash not in self.bars:
            self.bars[learn.hash] = self.progress.add_task(self.name(job), total=learn.tasks, accuracy="")
        bar, latest = self.bars[learn.hash], self.latest.setdefault((learn.hash, event.learned), [])
        if isinstance(event, Taught):
            self.progress.update(bar, completed=event.learned)
        elif event.ask.label == job.asks[0].label:
            latest.append(event.accuracy)
            self.progress.update(
                bar, completed=event.learned, accuracy=f"accuracy {100 * sum(latest) / len(latest):.2f} % after {event.learned}"
            )

    def name(self, job: "Job") -> str:
        """The method, scenario and seed; of several runs that agree on them, the later ones name what they set otherwise."""
        learn = job.learn
        usual = self.first.setdefault(f"{learn.method} {job.scenario.name}", learn.parameters)
        changes = [f"{key}={value}" for key, value in learn.parameters.items() if usual.get(key) != value]
        return terminal.printable(" ".join([learn.method, job.scenario.name, *changes, f"seed {learn.seeds.stream}"]))


@contextmanager
def bars(quiet: bool = False) -> Iterator[Bars]:
    """Bars to show runs in; with ``quiet`` only on a terminal."""
    screen = terminal.console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, disable=quiet and not screen.is_terminal) as progress:
        yield Bars(progress)
