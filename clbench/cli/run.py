"""``clbench run`` and ``clbench ask``."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli import options
from clbench.cli.options import AsJson, AskSettings, DataRoot, Device, Results
from clbench.engine.settings import USUAL, Execution, Request, checked, signed

if TYPE_CHECKING:
    import pandas as pd

    from clbench.engine.learn import Job
    from clbench.engine.store import Run


@signed(*options.options_of(Request), *options.options_of(Execution))
def run(
    *,
    spec: Annotated[
        Path | None, typer.Option(help="A JSON file with these settings; options on the command line override it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only predict time, memory and bytes.")] = False,
    as_json: AsJson = False,
    **texts: Any,
) -> None:
    """Teach a method a stream of tasks in a scenario, and ask what it learned."""
    from clbench import api, devices
    from clbench.cli.progress import bars
    from clbench.engine import request
    from clbench.engine.execution import carry_out

    settings = (request.read_spec(spec) if spec else {}) | options.settings(Request, texts)
    execution = checked(Execution, options.settings(Execution, texts))
    device = devices.chosen(execution.device)
    jobs = request.resolve(request.request(settings), execution.data_folder)
    if dry_run:
        _print_estimates(jobs, execution.data_folder, device, as_json)
        return
    with bars(quiet=as_json) as shown:
        runs = [carry_out(job, execution, device, partial(shown.watch, job)) for job in jobs]
    if not as_json:
        for line in dict.fromkeys(map(_step, runs)):
            print(line)
    _print_results(api.asked(runs, jobs), as_json)


def _step(run: "Run") -> str:
    """Say which training step a run used."""
    kind = "compiled" if run.record["compiled"] else "plain (compiling it would take longer than it saves, or there is no compiler)"
    return f"training step: {kind}, matrix products in {run.learn.precision}"


def ask(
    run: Annotated[str, typer.Argument(help="A run's folder, or the first letters of its hash.")],
    ask_: AskSettings = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="After how many tasks to ask, such as 5,10,20.", show_default="the run's, if its state allows"),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A file (or, of a network, a module) from outside clbench that the run was made with, and that may run here.",
        ),
    ] = None,
    data_root: DataRoot = None,
    device: Device = USUAL.device,
    results: Results = USUAL.results,
    as_json: AsJson = False,
) -> None:
    """Ask a run something new about what it learned. Nothing is trained again."""
    from clbench import api

    root = None if data_root is None else str(data_root)
    scores = api.ask(
        run,
        results=results,
        data_root=root,
        device=device,
        checkpoints=options.integers(checkpoints, "--checkpoints"),
        trust=trust or (),
        **options.choices(ask_, "--ask"),
    )
    _print_results(scores, as_json)


def _print_results(scores: "pd.DataFrame", as_json: bool) -> None:
    from clbench.results import tables
    from clbench.results.columns import MEASURED
    from clbench.results.frames import over_seeds, summarise
    from clbench.results.lines import flat

    summary = summarise(scores)
    if as_json:
        names = {column.name: column.json for column in MEASURED if column.json} | {"stream_seed": "seed"}
        for record in flat(summary).rename(columns=names).to_dict("records"):
            print(json.dumps({key: _plain(value) for key, value in record.items()}))
        return
    tables.print_table(over_seeds(summary))
    for path in dict.fromkeys(summary["path"]):
        print(path)


def _print_estimates(jobs: list["Job"], root: str | None, device: Any, as_json: bool) -> None:
    from clbench.engine.estimate import estimate

    for job in jobs:
        predicted = estimate(job, root, device)
        if as_json:
            print(json.dumps(predicted.record()))
        else:
            print(f"{job.learn.hash} seed {job.learn.seeds.stream}: {predicted.sentence()}")


def _plain(value: Any) -> Any:
    """A value of a frame for JSON: numpy scalars as numbers, NaN as null."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value
