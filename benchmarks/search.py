"""What HopSupSup's search for a group misses: `python -m benchmarks.search mnist` writes results/hopsupsup-search.csv and .md.

HopSupSup does not keep its masks; here a copy is kept. After all five tasks of SplitMNIST were learned, it is counted for groups of 64
training images of each task how often the entropy is lowest for the true mask, how often it falls most towards that mask at the beginning
of the descent (One-Shot among the stored masks), how often the descent ends nearest to it, and how often exactly at it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from clbench import registry
from clbench.engine.build import build_method, build_stream
from clbench.engine.evaluator import teach
from clbench.engine.request import request, resolve
from clbench.engine.schedule import Schedule
from clbench.results import renderers
from clbench.seeding import generator

TASKS, UPDATES, SEEDS, GROUPS, SIZE = 5, 94, 5, 16, 64
NETWORK = "swish-2048x2048"


def rows(
    data: str, masked: str, seed: int, network: str = NETWORK, updates: int = UPDATES, groups: int = GROUPS
) -> Iterator[dict[str, Any]]:
    """A row for each task."""
    settings = {"method": "hopsupsup", "stream": "split-mnist", "network": network, "data": data, "tasks": TASKS}
    (job,) = resolve(request(settings | {"updates": updates, "seeds": (seed,), "set": {"masked": masked}}))
    cpu = torch.device("cpu")
    stream = build_stream(job.learn, None, cpu)
    method: Any = build_method(job.learn, registry.scenario("gnu"), stream, cpu)
    names = []
    for index, task in enumerate(stream):
        teach(method, task, index, Schedule(updates, job.learn.batch_size, seed))
        names.append(torch.where(method.scores >= 0, 1.0, -1.0))
    strings = torch.stack(names)
    for index, task in enumerate(stream):
        inputs, _ = next(task.train.batches(1, groups * SIZE, generator(seed, "search", index)))
        yield {"masked": masked, "seed": seed, "task": index + 1} | of_groups(
            method, strings, index, inputs.unflatten(0, (groups, SIZE))
        )


def of_groups(method: Any, strings: Tensor, task: int, images: Tensor) -> dict[str, float]:
    """The shares and the mean entropies for groups of images [q, b, *input_shape]."""
    doubts = torch.stack([method.doubt(images, ((z + 1) / 2).expand(len(images), -1)) for z in strings], 1)
    start = (method.sum / method.tasks).expand(len(images), -1).clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(method.doubt(images, (start + 1) / 2).sum(), start)
    string = torch.where(method.recover(images)[-1].z >= 0, 1.0, -1.0)
    overlap = string @ strings.T / strings.shape[1]
    right = {
        "entropy_lowest": doubts.argmin(1) == task,
        "first_step": (-slope @ strings.T).argmax(1) == task,
        "nearest": overlap.argmax(1) == task,
        "exact": overlap[:, task] == 1,
    }
    shares = {name: each.double().mean().item() for name, each in right.items()}
    of_found = method.doubt(images, (string + 1) / 2)
    return shares | {"entropy_of_true": doubts[:, task].mean().item(), "entropy_of_found": of_found.mean().item()}


if __name__ == "__main__":
    data = sys.argv[1] if len(sys.argv) > 1 else "mnist-5k"
    table = pd.DataFrame(row for masked in ("output", "normalised") for seed in range(SEEDS) for row in rows(data, masked, seed))
    table.insert(0, "data", data)
    means = table.drop(columns="seed").groupby(["data", "masked", "task"]).mean().reset_index()
    shares = ["entropy_lowest", "first_step", "nearest", "exact"]
    texts = means.assign(**{f"{name} %": (100 * means[name]).map("{:.1f}".format) for name in shares}).drop(columns=shares)
    folder = Path("results")
    table.to_csv(folder / "hopsupsup-search.csv", index=False)
    (folder / "hopsupsup-search.md").write_text(renderers.markdown(texts.round(2).astype(str)), encoding="utf-8")
    print(texts.round(2).to_string(index=False))
