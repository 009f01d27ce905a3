"""Trials of a network before anything is learned: can it be trained and asked, and do inputs of a batch affect each other?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from clbench import devices, networks
from clbench.engine.asking import Ask, examine, passes
from clbench.engine.evaluator import teach
from clbench.engine.schedule import Schedule
from clbench.errors import UserError
from clbench.method import Brief
from clbench.scenario import Scenario
from clbench.stream import Split, Stream, Task

if TYPE_CHECKING:
    from clbench.engine.learn import Job, Learn

FEW = 16
"""Number of images for a trial step and a trial ask."""


class BatchUse(NamedTuple):
    """How a network in evaluation mode uses a batch: do inputs change each other's outputs, and does it take one input alone?"""

    mixed: bool
    alone: bool


def batch_use(brief: Brief) -> BatchUse:
    """Try the network of a brief on random inputs. A network that fails on every batch counts as one without effects between inputs."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = brief.network(brief.classes).cpu().eval()
        torch.default_generator.manual_seed(0)
        inputs = torch.randn(7, *brief.input_shape)

        def outputs(some: Tensor) -> Tensor:
            torch.default_generator.manual_seed(1)  # a network that draws random numbers draws the same ones each time
            return network(some)

        try:
            one, other = outputs(inputs[:4])[0], outputs(torch.cat([inputs[:1], inputs[4:]]))[0]
        except Exception:  # other people's code: `check` reports the error
            return BatchUse(mixed=False, alone=True)
        try:
            alone = bool(outputs(inputs[:1]).isfinite().all())
        except Exception:  # batch normalisation raises an error for one input
            alone = False
        return BatchUse(not torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True), alone)


def check_one_image(brief: Brief, images: int, setting: str) -> None:
    """Raise a ``UserError`` if ``setting`` asks the network about one image at a time, and the network cannot take one."""
    if images == 1 and not batch_use(brief).alone:
        raise UserError(
            f"The network normalises by the batch, and one image has no variance: give {setting} of 2 or more (such as 128), "
            "or use a network with running statistics."
        )


def check(learn: "Learn", scenario: Scenario, stream: Stream, asks: Sequence[Ask], device: torch.device) -> None:
    """Raise a ``UserError`` if a network by dotted name cannot be trained as in ``learn`` and asked as in ``asks``."""
    error = _failure(learn, scenario, stream, asks, device) if networks.is_dotted(learn.network) else None
    if error is None:
        return
    problem = f"{learn.method} cannot use the network {learn.network}"
    if learn.precision != "float32" and _failure(_in_float32(learn), scenario, stream, asks, device) is None:
        raise UserError(f"{problem} in {learn.precision} ({error}): use --precision float32.")
    shape = " x ".join(map(str, stream.input_shape))
    raise UserError(f"{problem} on inputs of {shape} in batches of {learn.batch_size} ({error}): choose another method or network.")


def in_usable_precision(jobs: "list[Job]", data_root: str | None) -> "list[Job]":
    """The jobs of one request; in float32 and with a note if a network by dotted name cannot be trained in their precision."""
    from clbench.engine.build import build_stream

    learn, scenario, asks = jobs[0].learn, jobs[0].scenario, jobs[0].asks
    if learn.precision == "float32" or not networks.is_dotted(learn.network):
        return jobs
    device = devices.usual()
    stream = build_stream(learn, data_root, device)
    error = _failure(learn, scenario, stream, asks, device)
    if error is None or _failure(_in_float32(learn), scenario, stream, asks, device) is not None:
        return jobs  # `check` reports what fails in both precisions
    note = f"The network {learn.network} cannot be trained in {learn.precision} ({error}) and is trained in float32."
    return [job.model_copy(update={"learn": _in_float32(job.learn), "notes": (*job.notes, note)}) for job in jobs]


def _in_float32(learn: "Learn") -> "Learn":
    return learn.model_copy(update={"precision": "float32"})


def _failure(learn: "Learn", scenario: Scenario, stream: Stream, asks: Sequence[Ask], device: torch.device) -> str | None:
    """The error, in one line, of one update of the first task and one pass of asks about it, with a few images; None if there is none."""
    from clbench.engine.build import build_method

    first, size = stream[0], min(FEW, learn.batch_size)
    task = Task(_first_images(first.train, size), _first_images(first.test, FEW), first.name)
    short = learn.model_copy(update={"tasks": 1, "updates": 1})  # too short for a compiled step
    try:
        with torch.random.fork_rng():
            method = build_method(short, scenario, stream, device)
            teach(method, task, 0, Schedule(1, size))
            for asks_of_pass in passes(method, asks):
                examine(method, replace(stream, tasks=[task]), asks_of_pass, 1)
    except UserError:
        return None  # the run itself raises it again, unless there were just too few images here
    except Exception as error:  # other people's code
        return networks.oneline(error)
    return None


def _first_images(split: Split, images: int) -> Split:
    return replace(split, images=split.images[:images], labels=split.labels[:images])
