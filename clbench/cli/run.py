"""``clbench run`` and ``clbench ask``."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli import options
from clbench.cli.options import AsJson, AskSettings, DataRoot, Device, OnDivergence, Overwrite, Results

if TYPE_CHECKING:
    import pandas as pd

    from clbench.engine.learn import Job
    from clbench.engine.store import Run


def run(
    method: Annotated[
        str | None,
        typer.Option(
            help="A method's name, or ./file.py:Class.",
            show_default="supsup",
            autocompletion=options.completing(options.method_names),
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="gg, gns, gnu or nns.", show_default="gnu", autocompletion=options.completing(options.scenario_names)),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(
            help="A stream's name, or ./file.py:function.",
            show_default="permuted-mnist",
            autocompletion=options.completing(options.stream_names),
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="A network's name, or package.module:factory.",
            show_default="lenet-300-100",
            autocompletion=options.completing(options.network_names),
        ),
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(help="How many tasks of the stream.", show_default="the budget's or the stream's")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds with commas between them: a run for each.", show_default="0")] = None,
    stream_seed: Annotated[int | None, typer.Option(help="One seed for the tasks of all runs.")] = None,
    initialisation_seed: Annotated[int | None, typer.Option(help="One seed for the method's draws in all runs.")] = None,
    training_seed: Annotated[int | None, typer.Option(help="One seed for the order of batches in all runs.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="smoke: under a minute; laptop: minutes; paper: the full protocol.",
            show_default="laptop",
            autocompletion=options.completing(options.budget_names),
        ),
    ] = None,
    updates: Annotated[int | None, typer.Option(help="Updates a task.", show_default="the budget's")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a training batch.", show_default="128")] = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="Numbers of tasks learned at which to ask.", show_default="every one, or ten of many")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Of training: float32, bfloat16, or auto, the fastest here and in NNs float32.", show_default="auto"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The data set.", show_default="the embedded one, in budget paper the full one")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method (clbench show METHOD).")
    ] = None,
    ask_: AskSettings = None,
    spec: Annotated[Path | None, typer.Option(help="A JSON file with these settings; options on the line come before it.")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    results: Results = Path("results"),
    overwrite: Overwrite = "missing",
    on_divergence: OnDivergence = "stop",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Predict time, memory and bytes, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Teach a method a stream of tasks in a scenario, and ask what it learned."""
    from clbench import api
    from clbench.cli.progress import bars
    from clbench.engine import request
    from clbench.engine.execution import execute

    settings = (request.read_spec(spec) if spec else {}) | options.given(
        method=method,
        scenario=scenario,
        stream=stream,
        network=network,
        tasks=tasks,
        seeds=options.integers(seeds, "--seeds"),
        stream_seed=stream_seed,
        initialisation_seed=initialisation_seed,
        training_seed=training_seed,
        budget=budget,
        updates=updates,
        batch_size=batch_size,
        checkpoints=options.integers(checkpoints, "--checkpoints"),
        precision=precision,
        data=data,
        set=options.pairs(set_, "--set") or None,
        ask=options.choices(ask_, "--ask") or None,
    )
    where, root = api.choose_device(device), None if data_root is None else str(data_root)
    jobs = request.resolve(request.request(settings), root)
    if dry_run:
        _print_estimates(jobs, root, where, as_json)
        return
    how: dict[str, Any] = {"overwrite": options.overwriting(overwrite), "on_divergence": options.diverging(on_divergence)}
    with bars(quiet=as_json) as shown:
        done = [execute(job, results, data_root=root, device=where, watch=partial(shown.watch, job), **how) for job in jobs]
    if not as_json:
        for line in dict.fromkeys(map(_step, done)):
            print(line)
    _print_results(api.asked(done, jobs), as_json)


def _step(run: "Run") -> str:
    """Which training step a run used."""
    kind = "compiled" if run.record["compiled"] else "plain (compiling it would take longer than it saves, or there is no compiler)"
    return f"training step: {kind}, matrix products in {run.learn.precision}"


def ask(
    run: Annotated[str, typer.Argument(help="A run's folder, or the first letters of its hash.")],
    ask_: AskSettings = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="Numbers of tasks learned at which to ask.", show_default="the run's, where its state allows")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Put a new question to what a run learned. Nothing is trained again."""
    from clbench import api

    root = None if data_root is None else str(data_root)
    scores = api.ask(
        run,
        results=results,
        data_root=root,
        device=device,
        checkpoints=options.integers(checkpoints, "--checkpoints"),
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
    """A value of a frame as JSON knows it: numpy scalars as numbers, NaN as null."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value
