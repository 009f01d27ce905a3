"""Runs: learned once, resumed after an interruption, asked any number of questions. What is on disk is not computed again."""

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from clbench import networks, registry, storage
from clbench.engine import interrupts, probe, processor, provenance, saved_state
from clbench.engine.answers import KeptAnswers
from clbench.engine.asking import Ask, Score, ask_all, examine, passes
from clbench.engine.boundaries import Switch, boundaries
from clbench.engine.build import build_method, build_stream
from clbench.engine.divergence import Diverged
from clbench.engine.environment import changes, environment
from clbench.engine.evaluator import Taught, evaluate
from clbench.engine.flow import USUAL_FLOW
from clbench.engine.learn import Job, Learn
from clbench.engine.lesson import Keep, Midway, set_global_generators
from clbench.engine.run_files import Tables, remove_earlier_states, save_state
from clbench.engine.saving import Saver
from clbench.engine.schedule import Schedule
from clbench.engine.settings import Execution, checked
from clbench.engine.store import Run, add_notes, alone, ask_record, create, now, run_at, update, writable
from clbench.errors import UserError, tell
from clbench.method import Method
from clbench.seeding import derive
from clbench.stream import Stream

Watch = Callable[[Taught | Score], None]


def unwatched(event: Taught | Score) -> None:
    """Ignores every event."""


def execute(job: Job, results: Path, *, device: torch.device | None = None, watch: Watch = unwatched, **options: Any) -> Run:
    """``carry_out`` with the ``options`` of ``Execution`` as keywords, on the CPU if no device is given."""
    return carry_out(job, checked(Execution, {"results": results, **options}), device or torch.device("cpu"), watch)


def carry_out(job: Job, execution: Execution, device: torch.device, watch: Watch) -> Run:
    """Compute what is missing of a job and return its run: learn what is not learned, ask what is not asked.

    ``device`` is the one chosen for ``execution.device``; ``watch`` is called with each event as it happens. Training that diverges ends
    with a ``Diverged``, and what was learned before is kept, unless ``execution`` says to mark it: ``clbench.frame`` marks the rows then.
    """
    run = run_at(execution.results, job.learn)
    if execution.overwrite == "never":  # only reads: it needs neither the lock nor permission to write
        if not run.exists:
            raise UserError(f"There is no run {run.path} to read: use --overwrite missing to compute it.")
        return _execute(run, job, execution, device, watch)
    writable(execution.results)
    with alone(run), interrupts.at_safe_points():
        return _execute(run, job, execution, device, watch)


def _execute(run: Run, job: Job, execution: Execution, device: torch.device, watch: Watch) -> Run:
    overwrite, data_root = execution.overwrite, execution.data_folder
    new = overwrite == "always" or not run.exists
    if not new:
        provenance.check_record(run.learn, job.learn.hash)
        if overwrite == "missing":
            Tables(run)  # mends what a crash or another program damaged
            remove_earlier_states(run)
        tell(run.notes)
        if job.every and job.every != run.record.get("every", 0):
            raise UserError(f"The run {run.path} did not ask every {job.every} updates from its beginning: use --overwrite always.")
        done = run.complete and not run.unanswered(job.asks, job.checkpoints)
        # A stream from outside clbench is built in any case: what it loads may have changed.
        if done and (overwrite == "never" or job.learn.stream_source is None):
            return run
        if run.record["status"] == "diverged" and execution.on_divergence == "stop":
            raise _stopped(run)
        if overwrite == "never":
            raise UserError(f"The run {run.path} lacks some of these answers: use --overwrite missing to compute them.")
        stream = stream_of(run, job.learn, data_root, device)
        if done:
            return run
    else:
        stream = build_stream(job.learn, data_root, device)
    method = build_method(job.learn, job.scenario, stream, device)
    method.check_tasks(job.learn.tasks)
    check_answerable(method, job.asks)
    probe.check(job.learn, job.scenario, stream, job.asks, device)
    with processor.using(_threads(job.learn, stream, None if new else run)):
        if new:
            # Only after every check: a request that cannot be met must not remove earlier results.
            create(run, _first_record(job, method, stream))
        add_notes(run, (*job.notes, *stream.notes, *method.notes(job.learn.tasks, job.learn.updates)))
        if not run.complete:
            # Methods draw from their own generators, but a network (its dropout, say) may draw from the caller's global one.
            with torch.random.fork_rng():
                _learn(run, job, method, stream, execution, watch)
        answer(run, job.asks, job.checkpoints, stream, device, watch)
    return run


def answer(
    run: Run, asks: tuple[Ask, ...], checkpoints: tuple[int, ...], stream: Stream, device: torch.device, watch: Watch = unwatched
) -> None:
    """Ask a complete run, from its saved state, every ask that it has not answered at these checkpoints.

    Raises a ``UserError`` for a checkpoint before the last if the saved state does not hold the earlier states (``Method.rewind``).
    """
    last, _ = run.last_state()
    tables = Tables(run)
    missing = run.unanswered(asks, checkpoints)
    last_state = run.state("learned") if missing else {}
    tables.forget_answers([(ask.label, learned) for ask, learned in missing])
    kept = KeptAnswers(run.answers_file)

    def stop_if_asked() -> None:
        interrupts.stop_if_asked(lambda: f"{len(kept)} answers about {run.path} are kept; the same command resumes there.")

    keep = Keep(kept, after_answer=stop_if_asked)
    for learned in sorted({learned for _, learned in missing}):
        state: dict[str, torch.Tensor] | None = last_state
        if learned < last:
            state = rewound(run, last_state, learned)
        if state is None:
            raise UserError(
                f"The run {run.path} holds no state after {learned} of {last} tasks: ask at {last}, "
                "or learn again with --overwrite always."
            )
        method = build_method(run.learn, run.scenario, stream, device)
        run.restore(method, state)
        check_answerable(method, asks)
        for asks_of_pass in passes(method, [ask for ask, checkpoint in missing if checkpoint == learned]):
            for score in examine(method, stream, asks_of_pass, learned, keep):
                tables.add_score(score)
                watch(score)
            tables.commit(asks=asks_of_pass, checkpoints=(learned,))
            kept.clear()
    update(run, asks=asks, checkpoints=checkpoints)


def learner(run: Run, data_root: str | None = None) -> tuple[Any, Stream]:
    """What a complete run learned, as a method that can be asked, and its stream."""
    provenance.check_record(run.learn, run.path.name)
    stream = stream_of(run, run.learn, data_root, torch.device("cpu"))
    method = build_method(run.learn, run.scenario, stream, torch.device("cpu"))
    run.restore(method, run.state("learned"))
    return method, stream


def stream_of(run: Run, learn: Learn, data_root: str | None, device: torch.device) -> Stream:
    """The stream of an existing run. Raises a ``UserError`` if its code or data changed since, or the images of a stream from outside."""
    stream = build_stream(learn, data_root, device)
    recorded = run.record.get("contents")
    if recorded is not None and provenance.contents(stream) != recorded:
        raise UserError(
            f"The stream {learn.stream} gives other images or labels than those that the run {run.path} was made with: "
            "put its data back as they were, or repeat the run with --overwrite always."
        )
    return stream


def check_answerable(method: Method, asks: Iterable[Ask]) -> None:
    """Raise the method's ``UserError`` for an ask that it cannot answer."""
    for ask in asks:
        probe.check_one_image(method.brief, ask.images or ask.sample or 0, "--ask images")
        if not ask.scenario.task_given_in_inference:
            method.check_ask(**ask.parameters)


def rewound(run: Run, last_state: dict[str, torch.Tensor], learned: int) -> dict[str, torch.Tensor] | None:
    """The state of ``run`` after ``learned`` tasks, taken from its last one; None if that does not hold it."""
    saved = run.saved()
    if saved is None or not run.scenario.task_given_in_training:
        return None
    with saved_state.misfit_named(saved[1], run.digests):
        return registry.method(run.learn.method).rewind(last_state, learned)


def rewinds(run: Run) -> bool:
    """Whether the last state of ``run`` holds its earlier states."""
    return run.saved() is not None and rewound(run, run.state("learned"), 1) is not None


def _learn(run: Run, job: Job, method: Method, stream: Stream, execution: Execution, watch: Watch) -> None:
    """Teach from the last saved state to the end, ask at the checkpoints, and save from time to time."""
    learn, tables = job.learn, Tables(run)
    if learn.flow != USUAL_FLOW and "schedule" not in run.table_names():
        for row in run.timetable.rows():
            tables.add("schedule", **row)
        tables.commit()
    start, midway = _resume(run, method)
    tables.forget_after(start)
    if (start or midway) and (changed := changes(run.record["environment"], environment())):
        add_notes(
            run, [f"It was resumed under other conditions ({'; '.join(changed)}): it may differ from a whole run by rounding."]
        )
    # Earlier asks of an interrupted run are asked at the remaining checkpoints too, if the method still answers them in the same way.
    earlier = [ask for ask in run.asks if ask.version == method.ask_version(**ask.parameters)]
    asks = tuple({ask.label: ask for ask in (*earlier, *job.asks)}.values())
    checkpoints = tuple(sorted({*run.checkpoints, *job.checkpoints}))
    update(run, status="incomplete", asks=asks, checkpoints=checkpoints)
    schedule = learn.schedule(execution.on_divergence, job.every)
    saver = Saver(method, tables, schedule, execution.save_every, start, midway)
    missing = run.unanswered(asks, tuple({start} & {*checkpoints})) if midway is None else []
    tables.forget_answers([(ask.label, start) for ask, _ in missing])
    answers = ask_all(method, stream, [ask for ask, _ in missing], start, saver.keep)
    lessons = evaluate(method, stream, asks, checkpoints, schedule, start=start, midway=midway, keep=saver.keep)
    try:
        for event in chain(answers, lessons):
            if isinstance(event, Taught):
                _add_task(tables, event, method, saver.take_rows())
                _mark(run, event)
                watch(event)
                saver.after_task(event.learned, event.seconds)
            else:
                tables.add_score(event)
                watch(event)
    except Diverged as error:
        _save_before_divergence(run, job, stream, saver.whole_tasks, schedule, tables, method.brief.device)
        update(run, status="diverged", diverged=asdict(error.divergence))
        raise _stopped(run) from None
    tables.commit()
    seconds = {"train_seconds": run.table("tasks")["seconds"].sum(), "eval_seconds": run.table("scores")["seconds"].sum()}
    _add_boundaries(run, tables)
    tables.commit(status="complete", finished=now(), timings={name: round(float(value), 3) for name, value in seconds.items()})
    saver.answers.clear()


def _resume(run: Run, method: Method) -> tuple[int, Midway | None]:
    """Restore the last saved state: the number of tasks learned and, if there is one, the state inside the next task."""
    midway = saved_state.read_inside(run.inside, run.path.name)
    if midway is not None and not run.holds(midway.learned):  # left by a crash, before it was removed
        midway = None
    if midway is not None and not run.scenario.task_given_in_training:
        method.restore(midway.part("learned"), midway.part("progress"))
        return midway.learned, midway
    return _resume_between_tasks(run, method), midway


def _resume_between_tasks(run: Run, method: Method) -> int:
    """Restore the last state between two tasks, that of the global generators too, and return how many tasks were learned."""
    saved = run.saved()
    if saved is None:
        torch.manual_seed(derive(run.learn.seeds.training, "global"))
        return 0
    run.restore(method, run.state("learned"), run.state("progress"))
    set_global_generators(run.state("generator"))
    return saved[0]


def _save_before_divergence(
    run: Run, job: Job, stream: Stream, learned: int, schedule: Schedule, tables: Tables, device: torch.device
) -> None:
    """Save the tables and the state after ``learned`` tasks, before training diverged; it is learned again from the last saved state."""
    tables.forget_after(learned)
    if learned == 0:
        return
    method = build_method(job.learn, job.scenario, stream, device)
    start = _resume_between_tasks(run, method)
    for event in evaluate(method, stream, (), (), schedule, start=start) if start < learned else ():
        if event.learned == learned:
            break
    save_state(method, learned, tables)


def _mark(run: Run, event: Taught) -> None:
    """Record the first task whose training diverged, if it is this one."""
    divergence = event.diverged
    if divergence is not None and (run.diverged or divergence).task == divergence.task:
        update(run, diverged=asdict(divergence))
        add_notes(run, [f"{divergence.sentence} Rows from this task on are marked."])


def _stopped(run: Run) -> Diverged:
    """The error of a run that was stopped where it diverged, from its record."""
    divergence, saved = run.diverged, run.saved()
    assert divergence is not None
    return Diverged(divergence, f"{saved[0]} of {run.learn.tasks} tasks are kept in {run.path}." if saved else "")


def _add_task(tables: Tables, event: Taught, method: Method, diagnostics: dict[str, list[dict[str, Any]]]) -> None:
    """Add a row of the task's cost and stored bytes, its losses, and the method's own diagnostics."""
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
    for switch in event.switches:
        tables.add("switches", learned=event.learned, batch=switch.batch, mask=switch.component)
    for table, rows in diagnostics.items():
        for row in rows:
            tables.add(table, learned=event.learned, **row)


def _add_boundaries(run: Run, tables: Tables) -> None:
    """Add what the learner made of each boundary, if it chose itself which component (here called mask) to train."""
    switches = [Switch(int(row["batch"]), int(row["mask"])) for row in run.table("switches").to_dict("records")]
    for boundary in boundaries(run.timetable, run.tasks, switches) if switches else ():
        row = boundary._asdict()
        component = row.pop("component")
        tables.add("boundaries", **row, mask=component)


def _threads(learn: Learn, stream: Stream, run: Run | None) -> int:
    """The number of threads: that with which ``run`` began, because it changes float32 results by rounding; else by work and idle cores."""
    recorded = run.record["environment"].get("threads") if run is not None else None
    if recorded and "OMP_NUM_THREADS" not in os.environ:
        return min(int(recorded), processor.usable_cores())
    work = networks.work(networks.resolve(learn.network, stream.input_shape), stream.classes, stream.input_shape)
    return processor.threads_for(work.parameters, work.outputs, learn.batch_size)


def _first_record(job: Job, method: Method, stream: Stream) -> dict[str, Any]:
    """The record of a run that has learned nothing yet."""
    return {
        "learn": job.learn.model_dump(mode="json"),
        "scenario": job.scenario.name,
        "asks": [ask_record(ask) for ask in job.asks],
        "checkpoints": sorted({*job.checkpoints}),
        "status": "incomplete",
        "transductive": method.transductive or probe.batch_use(method.brief).mixed,
        "compiled": method.brief.compiled,
        "started": now(),
        # Nothing else identifies what a stream from outside clbench loads.
        "contents": None if job.learn.stream_source is None else provenance.contents(stream),
        "every": job.every,
        "identities": stream.identities,
        "shares": stream.shares() if job.learn.flow.online else None,
        "state": {},
        "environment": environment(),
    }
