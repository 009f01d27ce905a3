"""clbench from Python: ``clbench.run(method="supsup", scenario="nns")``."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from clbench import registry
from clbench.engine import provenance
from clbench.engine.asks import check_checkpoints, check_same_learning, make_asks
from clbench.engine.execution import Watch, answer, execute, rewinds, stream_of, unwatched
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.settings import USUAL, Execution, Request, checked, described, given, parameters, signed
from clbench.engine.store import Run, alone, find
from clbench.errors import UserError
from clbench.networks import oneline
from clbench.results.frames import frame


@signed(*parameters(Request, positional=("method", "scenario")), *parameters(Execution))
def run(method: str | None = None, scenario: str | None = None, *, watch: Watch = unwatched, **options: Any) -> pd.DataFrame:
    """Do the runs of a request, or read those that were done before, and return their scores.

    One row for each seed, ask, number of tasks learned and task; ``clbench.summarise`` makes one for each seed and ask of it. ``watch``
    is called with each record as it comes. Raises ``clbench.UserError`` for bad input.
    """
    how = {key: value for key, value in options.items() if key in Execution.model_fields}
    what = {key: value for key, value in options.items() if key not in how}
    execution = checked(Execution, how)
    jobs = resolve(request(given(method=method, scenario=scenario) | what), execution.data_folder)
    device = choose_device(execution.device)
    return asked([carry_out(job, execution, device, watch) for job in jobs], jobs)


run.__doc__ = f"""{inspect.cleandoc(run.__doc__ or "")}

What to run (``clbench.engine.settings.Request``; seeds and checkpoints are tuples here, set and ask dictionaries):

{described(Request)}

How to run it (``clbench.engine.settings.Execution``):

{described(Execution)}
"""


def carry_out(job: Job, execution: Execution, device: torch.device, watch: Watch) -> Run:
    """Do one run as ``execution`` says."""
    how: dict[str, Any] = {"overwrite": execution.overwrite, "on_divergence": execution.on_divergence, "watch": watch}
    return execute(job, execution.results, data_root=execution.data_folder, device=device, **how)


def asked(runs: list[Run], jobs: list[Job]) -> pd.DataFrame:
    """The scores of ``runs`` that their jobs asked for, without earlier asks of the same runs."""
    scores = frame(runs)
    labels, checkpoints = [ask.label for ask in jobs[0].asks], jobs[0].checkpoints
    return scores[scores["ask"].isin(labels) & scores["learned"].isin(checkpoints)].reset_index(drop=True)


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is a GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Unknown device {name!r}: give auto, cpu or cuda.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"This machine has no GPU for --device {name}: use --device cpu.")
    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # each kind of device has its own; the device meta holds no values
        raise UserError(f"Nothing can be computed on the device {name} ({oneline(error)}): give auto, cpu or cuda.") from None
    return device


def ask(
    run: str | Path,
    *,
    results: str | Path = USUAL.results,
    data_root: str | Path | None = None,
    device: str = USUAL.device,
    checkpoints: tuple[int, ...] | None = None,
    trust: Iterable[str | Path] = (),
    **settings: Any,
) -> pd.DataFrame:
    """Ask a run something new about what it learned, without training, and return the scores.

    ``run``: its folder, or the first letters of its hash in ``results``; ``settings``: those of a request's ``ask``. Without
    ``checkpoints`` it is asked at the run's own if its last state holds the earlier ones, else after the last task. Files and modules from
    outside clbench that the run was made with are only imported if ``trust`` names them: the record of a run may come from anyone.
    """
    stored = find(str(run), Path(results))
    if not stored.complete:
        raise UserError(f"The run {stored.path} is not complete: finish it first by running it again.")
    learn, on = stored.learn, choose_device(device)
    provenance.check_trusted(learn, tuple(trust))
    provenance.check_code(learn)
    method = registry.method(learn.method)
    recipe = method.recipe(learn.stream, learn.network, stored.scenario.name)
    asks = make_asks(method, stored.scenario, settings, recipe.ask)
    check_same_learning(method, learn, stored.scenario, asks)
    stream = stream_of(stored, learn, None if data_root is None else str(data_root), on)
    if checkpoints is None:
        checkpoints = stored.checkpoints if rewinds(stored) else (learn.tasks,)
    with alone(stored):
        answer(stored, asks, check_checkpoints(checkpoints, learn.tasks), stream, on)
    scores = frame([stored])
    return scores[scores["ask"].isin([a.label for a in asks]) & scores["learned"].isin(checkpoints)].reset_index(drop=True)
