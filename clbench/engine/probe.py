"""What is found out about a network before anything is learned: whether it can be trained and asked, and how it uses a batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from clbench import networks
from clbench.engine.evaluator import Ask, Schedule, examine, passes, teach
from clbench.errors import UserError
from clbench.method import Brief
from clbench.scenario import Scenario
from clbench.stream import Split, Stream, Task

if TYPE_CHECKING:
    from clbench.engine.learn import Job, Learn

FEW = 16
"""So many images are enough to try a step and an ask."""


class BatchUse(NamedTuple):
    """What a network in evaluation makes of a batch: whether inputs change each other's outputs, and whether it takes one alone."""

    mixed: bool
    alone: bool


def batch_use(brief: Brief) -> BatchUse:
    """Try the network of a brief on random inputs. A network that takes no batch at all counts as one that takes each input by itself."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = brief.network(brief.classes).cpu().eval()
        torch.default_generator.manual_seed(0)
        inputs = torch.randn(7, *brief.input_shape)

        def outputs(some: Tensor) -> Tensor:
            torch.default_generator.manual_seed(1)  # a network that draws numbers draws the same ones each time
            return network(some)

        try:
            one, other = outputs(inputs[:4])[0], outputs(torch.cat([inputs[:1], inputs[4:]]))[0]
        except Exception:  # other people's code: `check` says what is wrong
            return BatchUse(mixed=False, alone=True)
        try:
            alone = bool(outputs(inputs[:1]).isfinite().all())
        except Exception:  # so says batch normalisation
            alone = False
        return BatchUse(not torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True), alone)


def check_one_image(brief: Brief, images: int, setting: str) -> None:
    """Raise a ``UserError`` if the network of a brief would be asked about one image at a time, by the ``setting``, and cannot be."""
    if images == 1 and not batch_use(brief).alone:
        raise UserError(
            f"The network normalises by the batch that it is given, and one image has no variance: give {setting} of 2 or more "
            "(128, say), or a network that keeps running statistics."
        )


def check(learn: "Learn", scenario: Scenario, stream: Stream, asks: Sequence[Ask], device: torch.device) -> None:
    """Raise a ``UserError`` if a network by dotted name cannot be trained and asked as ``learn`` and ``asks`` want it."""
    error = _failure(learn, scenario, stream, asks, device) if networks.is_dotted(learn.network) else None
    if error is None:
        return
    what = f"{learn.method} cannot use the network {learn.network}"
    if learn.precision != "float32" and _failure(_in_float32(learn), scenario, stream, asks, device) is None:
        raise UserError(f"{what} in {learn.precision} ({error}): give --precision float32.")
    shape = " x ".join(map(str, stream.input_shape))
    raise UserError(f"{what} on inputs of {shape} in batches of {learn.batch_size} ({error}): give another method or network.")


def in_usable_precision(jobs: "list[Job]", data_root: str | None) -> "list[Job]":
    """The jobs of one request, in float32 and with a note where a network by dotted name cannot be trained in their precision."""
    from clbench.engine.build import build_stream

    learn, scenario, asks = jobs[0].learn, jobs[0].scenario, jobs[0].asks
    if learn.precision == "float32" or not networks.is_dotted(learn.network):
        return jobs
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stream = build_stream(learn, data_root, device)
    error = _failure(learn, scenario, stream, asks, device)
    if error is None or _failure(_in_float32(learn), scenario, stream, asks, device) is not None:
        return jobs  # of what fails in both `check` says so
    note = f"The network {learn.network} cannot be trained in {learn.precision} ({error}) and is trained in float32."
    return [job.model_copy(update={"learn": _in_float32(job.learn), "notes": (*job.notes, note)}) for job in jobs]


def _in_float32(learn: "Learn") -> "Learn":
    return learn.model_copy(update={"precision": "float32"})


def _failure(learn: "Learn", scenario: Scenario, stream: Stream, asks: Sequence[Ask], device: torch.device) -> str | None:
    """The error, in a line, of teaching one update of the first task and asking about it, with a few images; None if it can be done."""
    from clbench.engine.build import build_method

    first, size = stream[0], min(FEW, learn.batch_size)
    task = Task(_part(first.train, size), _part(first.test, FEW), first.name)
    short = learn.model_copy(update={"tasks": 1, "updates": 1})  # which no compiled step pays for
    try:
        with torch.random.fork_rng():
            method = build_method(short, scenario, stream, device)
            teach(method, task, 0, Schedule(1, size))
            for together in passes(method, asks):
                examine(method, replace(stream, tasks=[task]), together, 1)
    except UserError:
        return None  # the run itself says so, if it is not for want of images
    except Exception as error:  # other people's code
        return networks.oneline(error)
    return None


def _part(split: Split, images: int) -> Split:
    return replace(split, images=split.images[:images], labels=split.labels[:images])
