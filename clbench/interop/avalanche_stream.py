"""Avalanche's classification benchmarks as streams (``--stream avalanche:SplitFMNIST``).

A task is an experience. The benchmark is made by Avalanche's own function, the parameters of which may follow the name, as in
``avalanche:CORe50:scenario=nc,mini=true``. Unless they stand there, ``n_experiences`` is the number of tasks, ``seed`` the stream's seed,
and ``dataset_root`` clbench's data root, where MNIST, Fashion-MNIST and CIFAR lie as Avalanche expects them. What is missing there
Avalanche downloads.

Inputs are what the benchmark's evaluation transform makes of the images, for training too: nothing is augmented. They are gathered into
memory. Labels are counted from 0 within each task, in the order of the benchmark's own; where one task has the classes of all others
(permutations, new instances) a label means the same in every task. If there is one test experience for all tasks, each is asked about
those of its images that are of the task's classes.
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
"""The number of tasks, where nobody gives one, of benchmarks for which Avalanche has no default and not every number will do."""


@cache
def benchmarks() -> dict[str, Callable[..., Any]]:
    """Avalanche's functions that make a benchmark from data that are known to it, by name."""
    found = {name: value for name, value in vars(avalanche.classic).items() if inspect.isfunction(value)}
    return {name: value for name, value in found.items() if name[0].isupper()}


def stream(name: str) -> StreamBuilder:
    """The stream ``avalanche:name``, where the name may have parameters behind it."""
    title, _, text = name.partition(":")
    if title not in benchmarks():
        raise unknown("benchmark of Avalanche", title, benchmarks())
    make = benchmarks()[title]
    takes = {p.name: p.default for p in inspect.signature(make).parameters.values() if not p.name.endswith("_transform")}
    given = _read(text, title, takes)
    most = given.get("n_experiences")
    if most is not None and not isinstance(most, int):
        raise UserError(f"n_experiences must be a whole number, not {most!r}.")
    default = takes.get("n_experiences")
    listed = ", ".join(n if d is inspect.Parameter.empty else f"{n}={d}" for n, d in takes.items())
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
    """The parameters in ``key=value,key=value``: a value is JSON, or else plain text."""
    values: dict[str, Any] = {}
    for part in re.split(r",(?=\w+=)", text) if text else ():
        key, equals, value = part.partition("=")
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
        except Exception as error:  # other people's code, which also downloads
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"Avalanche cannot make {name} with {tasks} tasks: {reason}.") from error


def as_stream(name: str, benchmark: Any, tasks: int) -> Stream:
    """The first ``tasks`` experiences of any classification benchmark of Avalanche's as a stream."""
    trained = [avalanche.gathered(experience.dataset) for experience in islice(benchmark.train_stream, tasks)]
    tested = [avalanche.gathered(experience.dataset) for experience in islice(benchmark.test_stream, tasks)]
    if len(trained) < tasks:
        raise UserError(f"{name} has {len(trained)} tasks: ask for at most that many, not {tasks}.")
    if len(tested) not in (1, tasks):
        raise UserError(f"{name} has {len(tested)} test experiences for {tasks} tasks: there must be one for each, or one for all.")
    classes = [labels.unique() for _, labels in trained]
    largest = max(classes, key=len)
    shared = all(torch.isin(own, largest).all() for own in classes)
    made = []
    for number, (train, own) in enumerate(zip(trained, classes, strict=True)):
        order = largest if shared else own
        test = _of_classes(*tested[number if len(tested) == tasks else 0], own)
        if not len(test[1]):
            raise UserError(f"{name} has no test images of the classes of task {number}.")
        learned, asked = (Split(images, torch.searchsorted(order, labels)) for images, labels in (train, test))
        made.append(Task(learned, asked, f"experience {number}: classes {', '.join(map(str, own.tolist()))}"))
    return Stream(name, made, len(largest), tuple(trained[0][0].shape[1:]))


def _of_classes(images: Tensor, labels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.isin(labels, classes)
    return images[rows], labels[rows]
