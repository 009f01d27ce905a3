"""Runs on disk, and doing them: one folder for each learn half, named by its hash. What is there is not done again.

A folder holds ``run.json`` (spec, versions, machine, status), tidy CSV tables that only grow (``scores``: one row for each ask, number of
tasks learned and task; ``confusion``: true against inferred tasks; ``tasks``: seconds, masks and bytes after each task; ``losses``; and
whatever tables the method writes), and ``state/<tasks learned>/``: what was learned and what is needed to go on, as safetensors.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from clbench import networks, registry, storage
from clbench.engine import probe, processor, provenance, states
from clbench.engine.build import build_method, build_stream
from clbench.engine.divergence import ON_DIVERGENCE, Diverged
from clbench.engine.environment import environment
from clbench.engine.evaluator import Ask, Schedule, Score, Taught, evaluate, examine, passes, tasks_at_once
from clbench.engine.learn import Job, Learn
from clbench.engine.run_files import SavingClock, Tables
from clbench.engine.settings import OnDivergence, Overwrite
from clbench.engine.store import Run, alone, note, now, update, writable, write_record
from clbench.errors import UserError, tell, unknown
from clbench.method import Method
from clbench.seeding import derive
from clbench.stream import Stream

OVERWRITE: tuple[str, ...] = get_args(Overwrite)

Watch = Callable[[Taught | Score], None]


def unwatched(event: Taught | Score) -> None:
    """Nobody looks on."""


def execute(
    job: Job,
    results: Path,
    *,
    data_root: str | None = None,
    device: torch.device | None = None,
    overwrite: Overwrite = "missing",
    on_divergence: OnDivergence = "stop",
    watch: Watch = unwatched,
) -> Run:
    """Do what is missing of a job and return its run: learn what is not learned, ask what is not asked.

    ``overwrite``: ``missing`` goes on where a run stopped and adds new asks; ``always`` begins again; ``never`` reads what is there and
    refuses to add to it. ``on_divergence``: ``stop`` ends a training that diverges with a ``Diverged``, and keeps what was learned before;
    ``mark`` goes on, and ``clbench.frame`` marks the rows. ``watch`` is called with each record as it comes.
    """
    if overwrite not in OVERWRITE:
        raise unknown("way to overwrite", overwrite, OVERWRITE)
    if on_divergence not in ON_DIVERGENCE:
        raise unknown("answer to divergence", on_divergence, ON_DIVERGENCE)
    device = device or torch.device("cpu")
    run = Run(writable(results) / "runs" / job.learn.hash)
    if overwrite == "never" and not (run.path / "run.json").exists():
        raise UserError(f"There is no run {run.path}, and --overwrite never only reads existing runs: use --overwrite missing.")
    with alone(run):
        return _execute(run, job, data_root, device, overwrite, on_divergence, watch)


def _execute(
    run: Run,
    job: Job,
    data_root: str | None,
    device: torch.device,
    overwrite: Overwrite,
    on_divergence: OnDivergence,
    watch: Watch,
) -> Run:
    if overwrite != "always" and (run.path / "run.json").exists():
        tell(run.notes)
        done = run.complete and not run.unanswered(job.asks, job.checkpoints)
        # Other people's streams are built in any case: what they load may have changed.
        if done and (overwrite == "never" or job.learn.stream_source is None):
            return run
        if run.record["status"] == "diverged" and on_divergence == "stop":
            raise _stopped(run)
        if overwrite == "never":
            raise UserError(
                f"The run {run.path} lacks some of these asks, and --overwrite never only reads: use --overwrite missing."
            )
        stream = stream_of(run, job.learn, data_root, device)
        if done:
            return run
    else:
        stream = build_stream(job.learn, data_root, device)
    method = build_method(job.learn, job.scenario, stream, device)
    method.check_tasks(job.learn.tasks)
    check_answerable(method, job.asks)
    probe.check(job.learn, job.scenario, stream, job.asks, device)
    work = networks.work(networks.resolve(job.learn.network, stream.input_shape), stream.classes, stream.input_shape)
    with processor.using(processor.threads_for(work.parameters, work.outputs, job.learn.batch_size)):
        if overwrite == "always" or not (run.path / "run.json").exists():
            record = _first_record(job, method, stream)
            # Only now that nothing stands in the way of the new run: earlier results are not lost for a request that cannot be met.
            if overwrite == "always" and run.path.exists():
                shutil.rmtree(run.path)
            run.path.mkdir(parents=True, exist_ok=True)
            write_record(run, record)
            update(run, asks=job.asks, checkpoints=job.checkpoints)
        note(run, (*job.notes, *stream.notes, *method.notes(job.learn.tasks, job.learn.updates)))
        if not run.complete:
            # Methods draw from their own generators, but a network (its dropout, say) may draw from the global one, the caller's.
            with torch.random.fork_rng():
                _learn(run, job, method, stream, on_divergence, watch)
        answer(run, job.asks, job.checkpoints, stream, device, watch)
    return run


def answer(
    run: Run, asks: tuple[Ask, ...], checkpoints: tuple[int, ...], stream: Stream, device: torch.device, watch: Watch = unwatched
) -> None:
    """Put to a complete run those of the asks that it was not asked at these checkpoints, from its stored state.

    A checkpoint before the last needs a method whose state holds its earlier states (``Method.rewind``); a ``UserError`` says so.
    """
    saved = run.saved()
    assert saved is not None
    last, _ = saved
    missing = run.unanswered(asks, checkpoints)
    stored = run.state("learned") if missing else {}
    tables = Tables(run.path)
    tables.forget_answers([(ask.label, learned) for ask, learned in missing])
    for learned in sorted({learned for _, learned in missing}):
        state: dict[str, torch.Tensor] | None = stored
        if learned < last:
            state = rewound(run, stored, learned)
        if state is None:
            raise UserError(
                f"The state after {learned} of {last} tasks was not kept in {run.path}: ask at {last}, "
                "or learn again with --overwrite always."
            )
        method = build_method(run.learn, run.scenario, stream, device)
        run.restore(method, state)
        check_answerable(method, asks)
        for together in passes(method, [ask for ask, at in missing if at == learned]):
            for score in examine(method, stream, together, learned):
                tables.add_score(score)
                watch(score)
            tables.flush()
            update(run, asks=together, checkpoints=(learned,))
    update(run, asks=asks, checkpoints=checkpoints)


def learner(run: Run, data_root: str | None = None) -> tuple[Any, Stream]:
    """What a complete run learned, as a method that can be asked, and its stream."""
    stream = stream_of(run, run.learn, data_root, torch.device("cpu"))
    method = build_method(run.learn, run.scenario, stream, torch.device("cpu"))
    run.restore(method, run.state("learned"))
    return method, stream


def stream_of(run: Run, learn: Learn, data_root: str | None, device: torch.device) -> Stream:
    """The stream of a run that exists; a ``UserError`` if its code or data changed since, or what a stream of somebody else's gives."""
    stream = build_stream(learn, data_root, device)
    recorded = run.record.get("contents")
    if recorded is not None and provenance.contents(stream) != recorded:
        raise UserError(
            f"The stream {learn.stream} gives other images or labels than those that the run {run.path} was made with: "
            "put its data back as they were, or do the run again with --overwrite always."
        )
    return stream


def check_answerable(method: Method, asks: Iterable[Ask]) -> None:
    """Raise the method's ``UserError`` for an ask that it could not answer."""
    for ask in asks:
        probe.check_one_image(method.brief, ask.images or ask.sample or 0, "--ask images")
        if not ask.scenario.task_given_in_inference:
            method.check_ask(**ask.parameters)


def rewound(run: Run, stored: dict[str, torch.Tensor], learned: int) -> dict[str, torch.Tensor] | None:
    """The state after ``learned`` tasks from the last one of ``run``, or None if that does not hold it."""
    if not run.scenario.task_given_in_training:
        return None
    with states.fitting(run.path / "state", run.digests):
        return registry.method(run.learn.method).rewind(stored, learned)


def rewinds(run: Run) -> bool:
    """Whether the last state of ``run`` holds its earlier states."""
    return run.saved() is not None and rewound(run, run.state("learned"), 1) is not None


def _learn(run: Run, job: Job, method: Method, stream: Stream, on_divergence: OnDivergence, watch: Watch) -> None:
    """Teach from the last saved state to the end, asking at the checkpoints and saving as it goes."""
    learn, tables = job.learn, Tables(run.path)
    start = learned = _taken_up(run, method)
    tables.forget_after(start)
    # An interrupted run may have been asked other things: those go on being asked, if the method still answers them in the same way.
    before = [ask for ask in run.asks if ask.version == method.ask_version(**ask.parameters)]
    asks = tuple({ask.label: ask for ask in (*before, *job.asks)}.values())
    checkpoints = tuple(sorted({*run.checkpoints, *job.checkpoints}))
    update(run, status="incomplete", asks=asks, checkpoints=checkpoints)
    schedule = Schedule(learn.updates, learn.batch_size, learn.seeds.training, on_divergence)
    clock = SavingClock()
    unscored = 0
    try:
        for event in evaluate(method, stream, asks, checkpoints, schedule, start=start):
            if isinstance(event, Taught):
                learned = event.learned
                unscored = learned * len(asks) if learned in checkpoints else 0
                _add_task(tables, event, method)
                _mark(run, event)
            else:
                tables.add_score(event)
                unscored -= 1
            watch(event)
            # Only between groups of tasks, when all scores of a checkpoint are in, do state and tables agree.
            settled = learned % tasks_at_once(method) == 0
            if unscored == 0 and (learned == learn.tasks or (settled and clock.due())):
                clock.time(partial(_save, run, method, learned, tables))
    except Diverged as end:
        _keep(run, job, stream, learned - learned % tasks_at_once(method), schedule, tables, method.brief.device)
        update(run, status="diverged", diverged=asdict(end.found))
        raise _stopped(run) from None
    seconds = {"train_seconds": run.table("tasks")["seconds"].sum(), "eval_seconds": run.table("scores")["seconds"].sum()}
    update(run, status="complete", finished=now(), timings={name: round(float(value), 3) for name, value in seconds.items()})


def _taken_up(run: Run, method: Method) -> int:
    """Take up the last saved state, that of the global generator too, and return how many tasks were learned."""
    saved = run.saved()
    if saved is None:
        torch.manual_seed(derive(run.learn.seeds.training, "global"))
        return 0
    run.restore(method, run.state("learned"), run.state("progress"))
    torch.set_rng_state(run.state("generator")["state"])
    return saved[0]


def _keep(run: Run, job: Job, stream: Stream, learned: int, schedule: Schedule, tables: Tables, device: torch.device) -> None:
    """Save the tables and the state after ``learned`` tasks, before training diverged: learned again from the last saved state."""
    tables.flush()
    tables.forget_after(learned)
    if learned == 0:
        return
    method = build_method(job.learn, job.scenario, stream, device)
    start = _taken_up(run, method)
    for _ in evaluate(method, replace(stream, tasks=stream.tasks[:learned]), (), (), schedule, start=start):
        pass
    _save(run, method, learned, tables)


def _mark(run: Run, event: Taught) -> None:
    """Note the first task whose training diverged, if it is this one."""
    found = event.diverged
    if found is not None and (run.diverged or found).task == found.task:
        update(run, diverged=asdict(found))
        note(run, [f"{found.sentence} Rows from this task on are marked."])


def _stopped(run: Run) -> Diverged:
    """The error of a run that was stopped where it diverged, from its record."""
    found, saved = run.diverged, run.saved()
    assert found is not None
    kept = f"{saved[0]} of {run.learn.tasks} tasks are kept in {run.path}." if saved else ""
    return Diverged(found, kept)


def _add_task(tables: Tables, event: Taught, method: Method) -> None:
    """A row of what the task cost and what is kept after it, its losses, and the method's own diagnostics."""
    tables.add(
        "tasks",
        learned=event.learned,
        seconds=round(event.seconds, 6),
        components=method.components,
        stored_bytes=event.stored_bytes,
        progress_bytes=storage.file_bytes(method.progress()),
    )
    for part, loss in enumerate(event.losses):
        tables.add("losses", learned=event.learned, part=part, loss=loss)
    for table, rows in method.tables().items():
        for row in rows:
            tables.add(table, learned=event.learned, **row)


def _save(run: Run, method: Method, learned: int, tables: Tables) -> None:
    """Append the tables, and put the state after ``learned`` tasks in the place of earlier ones: a crash leaves one of them whole.

    Its digests are recorded before it is in its place, beside those of the earlier one: whichever is there is known by them.
    """
    earlier = list((run.path / "state").glob("*"))
    new, part = run.path / "state" / str(learned), run.path / "state" / f"{learned}.part"
    if new.exists():
        return
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    digests = states.write(method, part)
    tables.flush()
    recorded = run.record.get("state", {})
    update(run, state={old.name: recorded.get(old.name) for old in earlier if old.name.isdigit()} | {new.name: digests})
    part.rename(new)
    for old in earlier:
        shutil.rmtree(old, ignore_errors=True)


def _first_record(job: Job, method: Method, stream: Stream) -> dict[str, Any]:
    """The record of a run that has learned nothing yet."""
    return {
        "learn": job.learn.model_dump(mode="json"),
        "scenario": job.scenario.name,
        "asks": [],
        "checkpoints": [],
        "status": "incomplete",
        "transductive": method.transductive or probe.batch_use(method.brief).mixed,
        "compiled": method.brief.compiled,
        "started": now(),
        # What a stream of somebody else's loads stands nowhere else.
        "contents": None if job.learn.stream_source is None else provenance.contents(stream),
        "state": {},
        "environment": environment(),
    }
