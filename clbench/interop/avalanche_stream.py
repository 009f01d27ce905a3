"""Avalanche's classification benchmarks as streams (``--stream avalanche:SplitFMNIST``).

A task is an experience. Avalanche's own function makes the benchmark, and its parameters may follow the name, as in
``avalanche:CORe50:scenario=nc,mini=true``. Their defaults here: ``n_experiences`` is the number of tasks, ``seed`` the stream's seed, and
``dataset_root`` clbench's data root, where MNIST, Fashion-MNIST and CIFAR have the layout that Avalanche expects. Avalanche downloads what
is missing there.

Inputs are the images after the benchmark's evaluation transform, also for training: nothing is augmented. They are loaded into memory.
Labels are counted from 0 within each task, in the benchmark's order; if one task has the classes of all others (permutations, new
instances), a label means the same in every task. If there is one test experience for all tasks, each task is asked about the test images of
its own classes.
"""

import inspect
import json
import re
from collections.abc import Callable
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clbench.errors import UserError, unknown
from clbench.interop import _avalanche as avalanche
from clbench.stream import Split, Stream, StreamBuilder, Task

USUAL_TASKS = {"SplitMNIST": 5, "SplitFMNIST": 5, "SplitCIFAR10": 5, "SplitCIFAR100": 10, "SplitCIFAR110": 11}
"""The default number of tasks of benchmarks for which Avalanche has no default and not every number is possible."""


@cache
def benchmarks() -> dict[str, Callable[..., Any]]:
    """Avalanche's functions that make a benchmark from one of its data sets, by name."""
    functions = {name: value for name, value in vars(avalanche.classic).items() if inspect.isfunction(value)}
    return {name: value for name, value in functions.items() if name[0].isupper()}


def stream(name: str) -> StreamBuilder:
    """The stream ``avalanche:name``, where parameters may follow the name."""
    title, _, text = name.partition(":")
    if title not in benchmarks():
        raise unknown("benchmark of Avalanche", title, benchmarks())
    make = benchmarks()[title]
    defaults = {p.name: p.default for p in inspect.signature(make).parameters.values() if not p.name.endswith("_transform")}
    given = _read(text, title, defaults)
    most = given.get("n_experiences")
    if most is not None and not isinstance(most, int):
        raise UserError(f"n_experiences must be a whole number, not {most!r}.")
    default = defaults.get("n_experiences")
    listed = ", ".join(n if d is inspect.Parameter.empty else f"{n}={d}" for n, d in defaults.items())
    return StreamBuilder(
        name=f"avalanche:{name}",
        build=partial(_build, f"avalanche:{name}", make, given),
        summary=f"{(inspect.getdoc(make) or title).partition(chr(10))[0]} Parameters: {listed}.",
        data=(),
        full_data="avalanche",
        most_tasks=most,
        usual_tasks=most or USUAL_TASKS.get(title, default if isinstance(default, int) else None),
    )


def _read(text: str, title: str, known: dict[str, Any]) -> dict[str, Any]:
    """The parameters in ``key=value,key=value``: a value is JSON, or plain text if it is not JSON."""
    values: dict[str, Any] = {}
    for setting in re.split(r",(?=\w+=)", text) if text else ():
        key, equals, value = setting.partition("=")
        if key not in known:
            raise unknown(f"parameter of Avalanche's {title}", key, known)
        if not equals:
            raise UserError(f"The parameter {key} of Avalanche's {title} has no value: write {key}=VALUE.")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = value
    return values


def _build(name: str, make: Callable[..., Any], given: dict[str, Any], root: Path, *, tasks: int, seed: int) -> Stream:
    takes = inspect.signature(make).parameters
    ours = {"n_experiences": tasks, "seed": seed} | {key: str(root) for key in takes if key.startswith("dataset_root")}
    with avalanche.undisturbed(seed, "avalanche"):
        try:
            return as_stream(name, make(**{key: value for key, value in ours.items() if key in takes} | given), tasks)
        except UserError:
            raise
        except Exception as error:  # other people's code, which may also download
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"Avalanche cannot make {name} with {tasks} tasks: {reason}.") from error


def as_stream(name: str, benchmark: Any, tasks: int) -> Stream:
    """The first ``tasks`` experiences of any classification benchmark of Avalanche as a stream."""
    trained = [avalanche.gathered(experience.dataset) for experience in islice(benchmark.train_stream, tasks)]
    tested = [avalanche.gathered(experience.dataset) for experience in islice(benchmark.test_stream, tasks)]
    if len(trained) < tasks:
        raise UserError(f"{name} has {len(trained)} tasks: ask for at most that many, not {tasks}.")
    if len(tested) not in (1, tasks):
        raise UserError(f"{name} has {len(tested)} test experiences for {tasks} tasks: there must be one for each, or one for all.")
    classes = [labels.unique() for _, labels in trained]
    largest = max(classes, key=len)
    shared = all(torch.isin(task_classes, largest).all() for task_classes in classes)
    stream_tasks = []
    for number, (train, task_classes) in enumerate(zip(trained, classes, strict=True)):
        order = largest if shared else task_classes
        test = _of_classes(*tested[number if len(tested) == tasks else 0], task_classes)
        if not len(test[1]):
            raise UserError(f"{name} has no test images of the classes of task {number}.")
        to_learn, to_ask = (Split(images, torch.searchsorted(order, labels)) for images, labels in (train, test))
        stream_tasks.append(Task(to_learn, to_ask, f"experience {number}: classes {', '.join(map(str, task_classes.tolist()))}"))
    return Stream(name, stream_tasks, len(largest), tuple(trained[0][0].shape[1:]))


def _of_classes(images: Tensor, labels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.isin(labels, classes)
    return images[rows], labels[rows]
