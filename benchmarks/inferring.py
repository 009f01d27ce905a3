"""Every way to infer SupSup's tasks, beside each other: `python -m benchmarks.inferring [streams] [--seeds 0,1] [--folder results]`.

Each stream is learned once for each seed, and every way answers about the same test images: those that clbench offers through the
evaluator's own ``examine`` (of exhaustive search H; other objectives are computed from the same outputs). Statistics need no masks to find
tasks: ``--without-masks`` gathers them alone, and answers nothing.
Features of another random layer are gathered on what the run learned, because they do not depend on the masks. Rows of a stream and seed
are kept in the folder and not computed again. At the end inferring.csv and .md have the means over seeds.

Variants, which clbench does not offer, are measured too: objectives calibrated by two numbers of a task (its training images' mean and
deviation of the objective, or a temperature of its logits by their likelihood, and their mean objective then), H among the five tasks with
the highest densities, and densities of the last hidden layer under each mask with a covariance for each task.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

import clbench
from clbench import storage
from clbench.engine.asking import Ask, examine
from clbench.engine.build import build_method, build_stream
from clbench.engine.execution import learner
from clbench.engine.request import request, resolve
from clbench.engine.store import find
from clbench.methods._objectives import OBJECTIVES
from clbench.methods._statistics import ClassStatistics
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.statistics import PREFIX, TaskStatistics, hidden_units
from clbench.results import renderers, tables
from clbench.results.metrics import mean_t_interval
from clbench.stream import Stream

FEATURES = ("hidden", "random-1000", "random-2000")
WITHOUT = "-without-masks"
"""The end of the names of files with rows without masks."""
SHORTLIST = 5
CALIBRATED = ("H", "G", "logit")
TEMPERATURES = torch.logspace(-1, 1, 41)
TRAINING_IMAGES = 2000
"""Training images of a task from which the variants take its numbers."""
LENET: dict[str, Any] = {"network": "lenet-300-100", "method": "supsup", "scenario": "gnu"}
SETTINGS: dict[str, dict[str, Any]] = {
    "SplitMNIST": LENET | {"stream": "split-mnist", "data": "mnist", "tasks": 5, "updates": 1000, "sample": 256},
    "split Fashion-MNIST": LENET
    | {"stream": "split-fashion-mnist", "data": "fashion-mnist", "tasks": 5, "updates": 1000, "sample": 256},
    "rotations": LENET | {"stream": "rotated-mnist", "data": "mnist-5k", "tasks": 36, "updates": 300, "sample": 32},
    "mixed": LENET | {"stream": "mixed", "data": "mnist-5k+fashion-mnist", "tasks": 18, "updates": 300, "sample": 64},
    "permutations": LENET | {"stream": "permuted-mnist", "data": "mnist-5k", "tasks": 100, "updates": 200, "sample": 16},
}
SETTINGS["SplitCIFAR100"] = LENET | {
    "stream": "split-cifar100",
    "network": "resnet-18-20",
    "tasks": 20,
    "updates": 5000,
    "sample": 96,
}
"""The streams by name, and the images of each task that are asked about."""


def learned(name: str, seed: int, folder: Path, data_root: str | None) -> tuple[SupSup, Stream]:
    """The learner of a stream and seed, and its stream."""
    settings = {key: value for key, value in SETTINGS[name].items() if key != "sample"}
    scores = clbench.run(
        **settings,
        seeds=(seed,),
        set={"statistics": FEATURES[0]},
        ask={"algorithm": "statistics", "sample": SETTINGS[name]["sample"]},
        checkpoints=(settings["tasks"],),
        results=folder,
        data_root=data_root,
    )
    run = find(scores["run"].iloc[0], folder)
    method, stream = learner(run, data_root)
    assert isinstance(method, SupSup)
    return method, stream


def asks(sample: int, inferring: bool) -> list[Ask]:
    """The ways that need no statistics, or those by statistics."""
    one = {"group": 1, "evidence": 1}
    if inferring:
        several = {"group": 16, "evidence": 16}
        ways = [{"algorithm": "statistics", **images} for images in (one, several)]
        return [Ask(clbench.GNU, {"objective": "H"} | way, sample=sample) for way in ways]
    slopes = [("one-shot", name) for name, objective in OBJECTIVES.items() if objective.slope]
    ways = [{"algorithm": algorithm, "objective": objective, **one} for algorithm, objective in [*slopes, ("exhaustive", "H")]]
    return [Ask(clbench.GG, {}, sample=sample), *(Ask(clbench.GNU, way, sample=sample) for way in ways)]


def answered(method: SupSup, stream: Stream, ask: Ask) -> dict[str, Any]:
    """The answers to one ask: shares of right tasks and answers, and milliseconds for each image."""
    began = time.process_time()  # the processor's, which other processes do not lengthen
    scores = examine(method, stream, [ask], len(stream))
    seconds = time.process_time() - began
    images = sum(score.images for score in scores)
    return {
        "way": " ".join(str(ask.parameters[key]) for key in ("algorithm", "objective") if key in ask.parameters) or "given",
        "images": ask.parameters.get("evidence", 0),
        "tasks": sum((score.task_accuracy or 0.0) * score.images for score in scores) / images if ask.parameters else 1.0,
        "accuracy": sum(score.accuracy * score.images for score in scores) / images,
        "milliseconds": 1000 * seconds / images,
    }


def rows(name: str, seed: int, folder: Path, data_root: str | None) -> Iterator[dict[str, Any]]:
    """A row for each way."""
    method, stream = learned(name, seed, folder, data_root)
    sample = SETTINGS[name]["sample"]
    masks = {key: tensor for key, tensor in method.learned().items() if not key.startswith(PREFIX)}
    common = {
        "stream": name,
        "seed": seed,
        "tasks learned": len(stream),
        "bytes": storage.file_bytes(masks),
    }
    for ask in asks(sample, inferring=False):
        yield common | answered(method, stream, ask)
    for features in FEATURES:
        method.statistics = TaskStatistics(features, method.base, method.brief, method.seed)
        began = time.process_time()
        for index, task in enumerate(stream):
            method.statistics.add(task.train, index)
        gathering = {"bytes": storage.file_bytes(method.learned()), "gather_seconds": (time.process_time() - began) / len(stream)}
        for ask in asks(sample, inferring=True):
            yield common | answered(method, stream, ask) | gathering | {"way": f"statistics {features}"}
    yield from (common | row for row in variants(method, stream, sample))


def rows_untrained(name: str, seed: int, limit: int | None, data_root: str | None) -> Iterator[dict[str, Any]]:
    """A row for each kind of features, and for one image and 16: the tasks found by statistics, which need no masks."""
    settings = {key: value for key, value in SETTINGS[name].items() if key != "sample"}
    (job,) = resolve(request(settings | {"seeds": (seed,)}), data_root)
    stream = build_stream(job.learn, data_root, torch.device("cpu"))
    method = build_method(job.learn, job.scenario, stream, torch.device("cpu"))
    assert isinstance(method, SupSup)
    outputs = Outputs(method, stream)
    for features in FEATURES:
        statistics = TaskStatistics(features, method.base, method.brief, method.seed)
        began = time.process_time()
        for index, task in enumerate(stream):
            statistics.add(replace(task.train, images=task.train.images[:limit], labels=task.train.labels[:limit]), index)
        common = {"stream": name, "seed": seed, "tasks learned": len(stream), "way": f"statistics {features}"}
        common |= {"bytes": storage.file_bytes(statistics.learned())}
        common |= {"gather_seconds": (time.process_time() - began) / len(stream)}
        asked = [outputs.asked(index, SETTINGS[name]["sample"])[0] for index in range(len(stream))]
        of_image = torch.stack([statistics.densities(images[:, None]) for images in asked])  # [k, n, k]
        for images in (1, 16):
            found = of_image.unflatten(1, (-1, images)).sum(2).argmax(2) == torch.arange(len(stream))[:, None]
            yield common | {"images": images, "tasks": float(found.double().mean())}


def variants(method: SupSup, stream: Stream, sample: int) -> Iterator[dict[str, Any]]:
    """A row for each variant, from the outputs under every mask. ``method`` has the statistics of the last features."""
    outputs = Outputs(method, stream)
    inputs = [outputs.asked(index, sample) for index in range(len(stream))]
    logits = [outputs.under_all(images) for images, _ in inputs]  # of each task [k, n, s]

    def row(way: str, chosen: Sequence[Tensor], more: int) -> dict[str, Any]:
        right = [tasks == index for index, tasks in enumerate(chosen)]
        labels = [
            own[tasks, torch.arange(len(tasks)), : stream.classes].argmax(1) for own, tasks in zip(logits, chosen, strict=True)
        ]
        correct = [r & (own == truth) for r, own, (_, truth) in zip(right, labels, inputs, strict=True)]
        means = {"tasks": float(torch.cat(right).double().mean()), "accuracy": float(torch.cat(correct).double().mean())}
        size = storage.file_bytes({k: t for k, t in method.learned().items() if not k.startswith(PREFIX)})
        return {"way": way, "images": 1, "bytes": size + more} | means

    for name, objective in OBJECTIVES.items():
        if name != "H":  # which was asked
            yield row(f"exhaustive {name}", [objective.value(z, stream.classes).argmin(0) for z in logits], 0)
    own = [outputs.under(task.train.whole(TRAINING_IMAGES)[0], index) for index, task in enumerate(stream)]
    truths = [task.train.whole(TRAINING_IMAGES)[1] for task in stream]
    temperatures = torch.stack([temperature(z, y) for z, y in zip(own, truths, strict=True)])
    for name in CALIBRATED:
        value = OBJECTIVES[name].value
        values = [value(z, stream.classes) for z in own]
        means, deviations = (torch.stack([statistic(v) for v in values])[:, None] for statistic in (torch.mean, torch.std))
        cooled = [value(z / t, stream.classes).mean() for z, t in zip(own, temperatures, strict=True)]
        eight = 8 * len(stream)
        yield row(
            f"exhaustive {name}, scaled", [((value(z, stream.classes) - means) / deviations).argmin(0) for z in logits], eight
        )
        warm = [value(z / temperatures[:, None, None], stream.classes) for z in logits]
        yield row(f"exhaustive {name}, temperature", [v.argmin(0) for v in warm], eight // 2)
        yield row(f"exhaustive {name}, temperature and offset", [(v - torch.stack(cooled)[:, None]).argmin(0) for v in warm], eight)
    assert method.statistics is not None
    densities = [method.statistics.densities(images[:, None]).T for images, _ in inputs]  # [k, n]
    entropies = [OBJECTIVES["H"].value(z, stream.classes) for z in logits]
    count = min(SHORTLIST, len(stream))
    listed = [torch.full_like(d, float("inf")).scatter(0, d.topk(count, dim=0).indices, 0.0) for d in densities]
    more = sum(tensor.nbytes for tensor in method.statistics.learned().values())
    yield row(f"shortlist of {SHORTLIST}, then H", [(h + out).argmin(0) for h, out in zip(entropies, listed, strict=True)], more)
    yield masked_densities(outputs, stream, inputs, row)


def masked_densities(outputs: "Outputs", stream: Stream, inputs: Sequence[tuple[Tensor, Tensor]], row: Any) -> dict[str, Any]:
    """The tasks by densities of what goes into the last layer under each task's own mask, with a covariance for each task."""
    of_task, size = [], 0
    for index, task in enumerate(stream):
        images, labels = task.train.whole()
        features = outputs.last_hidden(images, index)
        own = ClassStatistics(features.shape[1], features.device)
        own.add(features, labels)
        sigma = own.covariance()
        size += 2 * own.means.numel() + features.shape[1] * (features.shape[1] + 1)
        normal = [torch.distributions.MultivariateNormal(mean.double(), sigma) for mean in own.means[own.counts > 0]]

        def log_density(images: Tensor, index: int = index, normal: Any = normal) -> Tensor:
            hidden = outputs.last_hidden(images, index).double()
            return torch.stack([each.log_prob(hidden) for each in normal]).logsumexp(0)

        of_task.append(log_density)
    chosen = [torch.stack([density(images) for density in of_task]).argmax(0) for images, _ in inputs]
    return row("densities under each mask", chosen, size)


class Outputs:
    """What the network with a task's mask makes of images."""

    def __init__(self, method: SupSup, stream: Stream) -> None:
        self.method, self.stream = method, stream

    def asked(self, index: int, sample: int) -> tuple[Tensor, Tensor]:
        """The images, and labels, that an ask with ``sample`` is about."""
        test = self.stream[index].test
        chosen = (index * sample + torch.arange(min(sample, len(test)))) % len(test)
        return replace(test, images=test.images[chosen], labels=test.labels[chosen]).whole()

    def under(self, images: Tensor, row: int) -> Tensor:
        """The logits under a mask, [n, s]."""
        base, bank = self.method.base, self.method.bank
        with torch.no_grad():
            return functional_call(base.network, base.state(base.weights * bank.mask(row), bank.statistics(row)), (images,))

    def under_all(self, images: Tensor) -> Tensor:
        """[k, n, s]."""
        return torch.stack([self.under(images, row) for row in range(len(self.method.bank))])

    def last_hidden(self, images: Tensor, row: int) -> Tensor:
        """What goes into the last layer under a mask."""
        base, bank = self.method.base, self.method.bank
        masked = replace(base, weights=base.weights * bank.mask(row), fresh=bank.statistics(row))
        with torch.no_grad():
            hidden = hidden_units(masked, images)
        last = list(base.layout.shapes.values())[-1]
        return hidden[:, -last[1:].numel() :]


def temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """The one of ``TEMPERATURES`` with the highest likelihood."""
    losses = torch.stack([nn.functional.cross_entropy(logits / t, labels) for t in TEMPERATURES])
    return TEMPERATURES[losses.argmin()]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each stream and way, means over seeds with 95 % intervals."""
    found = []
    for (stream, way, images), part in table.groupby(["stream", "way", "images"], sort=False, observed=True):
        shown = {"stream": stream, "tasks": int(part["tasks learned"].iloc[0]), "way": way, "images": images, "seeds": len(part)}
        for column, title in (("tasks", "tasks found (%)"), ("accuracy", "accuracy (%)")):
            known = part.get(column, pd.Series(dtype=float)).dropna()
            interval = mean_t_interval(known.to_numpy())
            shown[title] = tables.percent(interval.mean, interval.half_width) if len(known) else ""
        shown |= {"bytes": f"{part['bytes'].mean():,.0f}", "ms an image": _number(part["milliseconds"])}
        found.append(shown | {"gathering, s a task": _number(part["gather_seconds"])})
    return pd.DataFrame(found)


def _number(values: pd.Series) -> str:
    return "" if values.isna().all() else f"{values.mean():.3g}"


def known_rows(folder: Path) -> pd.DataFrame:
    """All rows in a folder. Those without masks have ways of their own, which say so."""
    frames = []
    for file in sorted(folder.glob("inferring-*-*.csv")):
        frame = pd.read_csv(file)
        frames.append(frame.assign(way=frame["way"] + ", no masks learned") if file.stem.endswith(WITHOUT) else frame)
    known = pd.concat(frames)
    known["stream"] = pd.Categorical(known["stream"], list(SETTINGS))
    return known.sort_values(["stream", "seed"], kind="stable")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("streams", nargs="*", default=list(SETTINGS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--folder", type=Path, default=Path("results"))
    parser.add_argument("--data-root")
    parser.add_argument("--without-masks", action="store_true", help="learn no masks: the tasks found by statistics alone")
    parser.add_argument("--training", type=int, help="without masks, gather from so many images of each task")
    given = parser.parse_args()
    for name in given.streams:
        for seed in map(int, given.seeds.split(",")):
            file = given.folder / f"inferring-{name.replace(' ', '-')}-{seed}{WITHOUT if given.without_masks else ''}.csv"
            if file.exists():
                continue
            if given.without_masks:
                made = rows_untrained(name, seed, given.training, given.data_root)
            else:
                made = rows(name, seed, given.folder, given.data_root)
            pd.DataFrame(made).to_csv(file, index=False)
    table = known_rows(given.folder)
    table.to_csv(given.folder / "inferring.csv", index=False)
    (given.folder / "inferring.md").write_text(renderers.markdown(summary(table)))
    print(summary(table).to_string(index=False))
