"""Build the stream and the method of a learn half."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch

from clbench import devices, networks, registry
from clbench.engine import provenance
from clbench.engine.learn import Learn
from clbench.engine.stream_check import checked, small_tasks
from clbench.errors import UserError
from clbench.method import Brief, Method
from clbench.scenario import Scenario
from clbench.stream import Stream
from clbench.training import compiling_pays

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_stream(learn: Learn, data_root: str | None, device: torch.device) -> Stream:
    """The stream of a learn half, built from the data sets below ``data_root`` and checked, with images and labels on ``device``.

    Raises a ``UserError`` if the code of the stream, method or network, or the data, have changed since ``learn`` was made.
    """
    from clbench import data

    provenance.check_code(learn)
    builder = registry.stream(learn.stream)
    folder = provenance.folder_of(learn.data, data_root) if builder.any_folder else data.data_root(data_root)
    if builder.any_folder:
        provenance.check_tree(learn, folder)
    sources = [data.load(name, data_root) for name in learn.data.split("+")] if builder.data else [folder]
    tasks = learn.different_tasks
    stream = builder.build(*sources, tasks=tasks, seed=learn.seeds.stream)
    if len(stream) != tasks:
        raise UserError(f"The stream {learn.stream} has {len(stream)} tasks, and the run needs {tasks}: use --tasks {len(stream)}.")
    stream = checked(learn.flow.expanded(stream, learn.tasks, learn.seeds.stream))
    fixed = (
        (f"The stream seed changes nothing in {builder.name}: {builder.fixed}.",) if builder.fixed and learn.seeds.stream else ()
    )
    return replace(stream, notes=(*stream.notes, *small_tasks(stream, learn.batch_size), *fixed)).to(device)


def build_method(learn: Learn, scenario: Scenario, stream: Stream, device: torch.device) -> Method:
    """The method of a learn half, untrained, with a brief for ``stream``."""
    factory = networks.resolve(learn.network, stream.input_shape)
    seed = learn.seeds.initialisation
    brief = Brief(
        scenario=scenario,
        network=lambda outputs: networks.seeded(factory, outputs, seed),
        input_shape=stream.input_shape,
        classes=stream.classes,
        seed=seed,
        device=device,
        precision=PRECISIONS[learn.precision],
        compiled=compiling_pays(
            learn.updates * learn.tasks, networks.work(factory, stream.classes, stream.input_shape), learn.batch_size
        ),
    )
    method: Callable[..., Method] = registry.method(learn.method)
    return method(brief, **learn.parameters)


def usual_precision(method: type[Method], scenario: Scenario) -> Literal["float32", "bfloat16"]:
    """The precision in which this machine multiplies matrices fastest; the paper's float32 for a method that has to detect the tasks
    itself.

    There, small differences can decide whether a task is new, so that more than accuracy depends on the precision.
    """
    if not scenario.task_given_in_training and "task_given_in_training" in method.learning_depends_on:
        return "float32"
    return "bfloat16" if devices.product_type(devices.usual()) == torch.bfloat16 else "float32"
