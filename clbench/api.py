"""clbench from Python: ``clbench.run(method="supsup", scenario="nns")``."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from clbench import registry
from clbench.engine import provenance
from clbench.engine.asks import check_checkpoints, check_same_learning, make_asks
from clbench.engine.divergence import OnDivergence
from clbench.engine.execution import Overwrite, Watch, answer, execute, rewinds, stream_of, unwatched
from clbench.engine.learn import Job
from clbench.engine.request import request, resolve
from clbench.engine.store import Run, alone, find
from clbench.errors import UserError
from clbench.results.frames import frame


def run(
    method: str = "supsup",
    scenario: str = "gnu",
    *,
    results: str | Path = "results",
    data_root: str | Path | None = None,
    device: str = "auto",
    overwrite: Overwrite = "missing",
    on_divergence: OnDivergence = "stop",
    watch: Watch = unwatched,
    **settings: Any,
) -> pd.DataFrame:
    """Do the runs of a request, or read those that were done before, and return their scores.

    ``settings`` are the other settings of a run (``clbench.engine.request.Request``): stream, network, tasks, seeds, budget, data, set,
    ask, … One row for each seed, ask, number of tasks learned and task; ``clbench.summarise`` makes one for each seed and ask of it.

    ``on_divergence``: ``stop`` raises an error where training diverges, and keeps what was learned before; ``mark`` goes on, and marks the
    rows in the column ``diverged``. Raises ``clbench.UserError`` for what a person can mend.
    """
    root = None if data_root is None else str(data_root)
    jobs = resolve(request({"method": method, "scenario": scenario, **settings}), root)
    where = choose_device(device)
    how: dict[str, Any] = {"overwrite": overwrite, "on_divergence": on_divergence, "watch": watch}
    done = [execute(job, Path(results), data_root=root, device=where, **how) for job in jobs]
    return asked(done, jobs)


def asked(runs: list[Run], jobs: list[Job]) -> pd.DataFrame:
    """The scores of ``runs`` that their jobs asked for; earlier questions to the same runs are left out."""
    scores = frame(runs)
    labels, checkpoints = [ask.label for ask in jobs[0].asks], jobs[0].checkpoints
    return scores[scores["ask"].isin(labels) & scores["learned"].isin(checkpoints)].reset_index(drop=True)


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is a GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Unknown device {name!r}: give auto, cpu or cuda.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"There is no GPU for --device {name} here: use --device cpu.")
    return device


def ask(
    run: str | Path,
    *,
    results: str | Path = "results",
    data_root: str | Path | None = None,
    device: str = "auto",
    checkpoints: tuple[int, ...] | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Put new questions to what a run learned, without training, and return their scores.

    ``run``: its folder, or its hash or the beginning of it in ``results``; ``settings``: as a request's ``ask``. Asked at the run's own
    checkpoints where its last state holds the earlier ones, else after the last task.
    """
    found = find(str(run), Path(results))
    if not found.complete:
        raise UserError(f"The run {found.path} is not complete: finish it first by running it again.")
    learn, where = found.learn, choose_device(device)
    provenance.check_code(learn)
    method = registry.method(learn.method)
    recipe = method.recipe(learn.stream, learn.network, found.scenario.name)
    asks = make_asks(method, found.scenario, settings, recipe.ask)
    check_same_learning(method, learn, found.scenario, asks)
    stream = stream_of(found, learn, None if data_root is None else str(data_root), where)
    if checkpoints is None:
        checkpoints = found.checkpoints if rewinds(found) else (learn.tasks,)
    with alone(found):
        answer(found, asks, check_checkpoints(checkpoints, learn.tasks), stream, where)
    scores = frame([found])
    return scores[scores["ask"].isin([a.label for a in asks]) & scores["learned"].isin(checkpoints)].reset_index(drop=True)
