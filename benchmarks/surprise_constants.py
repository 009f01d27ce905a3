"""Why the constants of `allocation=surprise` are what they are, and what it costs to look at a batch before it is learned.

`python -m benchmarks.surprise_constants [data] [results folder]`, on seeds that no result is reported for. Writes
nns-surprise-constants.csv and .md: how far losses lie above the usual one, for batches of the mask's own task and for others; and the
processor time of a step.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from clbench import networks, registry
from clbench.data import load
from clbench.method import Brief
from clbench.methods.supsup import SupSup
from clbench.methods.supsup.surprise import DEVIATIONS, SHARE, SPAN, Surprise, Usual
from clbench.results import renderers
from clbench.scenario import Scenario
from clbench.scenarios import GNU, NNS
from clbench.seeding import generator
from clbench.stream import Stream

SEEDS = (1000, 1001)
"""Seeds of streams, networks and batches that serve for nothing else."""
STREAMS = ("permuted-mnist", "rotated-mnist", "split-mnist")
BATCHES, AGAIN, EVERY, BATCH_SIZE = 600, 100, 10, 128
OWN, RESUMED = "its own task", "its own task, trained again"
PARTS = {"a tenth of another task": 0.1, "half of another task": 0.5, "another task": 1.0}
OLD = 50
"""The age in batches from which a mask should notice other tasks; from ``SPAN`` on they are looked at."""

STEPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compiled": {"compiled": True},
    "compiled, bfloat16": {"compiled": True, "precision": torch.bfloat16},
}

Batch = tuple[Tensor, Tensor]


def learner(stream: Stream, seed: int, scenario: Scenario = NNS, step: Mapping[str, Any] | None = None, **settings: Any) -> SupSup:
    """SupSup with the paper's LeNet and 100 outputs. ``step``: the brief's ``compiled`` and ``precision``."""
    factory = networks.resolve("lenet-300-100", stream.input_shape)

    def network(outputs: int) -> nn.Module:
        return networks.seeded(factory, outputs, seed)

    brief = Brief(scenario, network, stream.input_shape, stream.classes, seed, **step or {})
    return SupSup(brief, outputs=100, **settings)


def margins(stream: Stream, seed: int) -> Iterator[dict[str, Any]]:
    """How far losses lie above the usual one while the first task's mask is trained, and trained again; a row for each batch looked at."""
    rule = Surprise(stream.classes, budget=1, when_full="refuse")
    method = learner(stream, seed)
    live, usual = method._live(method._random_scores(0), method.base.fresh), Usual()
    others = [
        list(stream[task].train.batches(BATCHES // EVERY, BATCH_SIZE, generator(seed, "other", task)))
        for task in (1, len(stream) - 1)
    ]

    def row(kind: str, batch: int, loss: float) -> dict[str, Any]:
        above, deviation = loss - usual.lowest, usual.variance**0.5
        surprising = loss > usual.limit(rule.guessing)
        distance = {"of a guess": above / rule.guessing, "deviations": above / deviation if deviation else float("nan")}
        return {
            "stream": stream.name,
            "seed": seed,
            "kind": kind,
            "batch": batch,
            "loss": loss,
            "surprising": surprising,
        } | distance

    for number, own in enumerate(stream[0].train.batches(BATCHES + AGAIN, BATCH_SIZE, generator(seed, "own"))):
        if number == BATCHES:  # from its bits, as when its task comes again
            method.bank.append(live.mask(), live.statistics)
            method.allocation, live = rule, method._resumed(0)
        look = live.look(*own)
        if number >= SPAN:
            yield row(RESUMED if number >= BATCHES else OWN, number, float(look.loss))
        if SPAN <= number < BATCHES and number % EVERY == 0:
            for other in (batches[number // EVERY] for batches in others):
                for kind, part in PARTS.items():
                    yield row(kind, number, float(live.look(*mixed(own, other, part)).loss))
        live.learn(look)
        usual = usual.after(float(look.loss))


def mixed(own: Batch, other: Batch, part: float) -> Batch:
    """A batch whose first ``part`` is from another task."""
    count = round(part * BATCH_SIZE)
    inputs, labels = (torch.cat([theirs[:count], mine[count:]]) for mine, theirs in zip(own, other, strict=True))
    return inputs, labels


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each stream and kind of batch, of masks of ``OLD`` batches or more; and the age from which every batch is surprising."""
    found = []
    for (stream, kind), part in rows.groupby(["stream", "kind"], sort=False):
        last = part.loc[~part["surprising"], "batch"].max()
        always = SPAN if pd.isna(last) else last + EVERY
        old = part[part["batch"] >= OLD]
        found.append(
            {
                "stream": stream,
                "batches of": kind,
                "n": len(old),
                "surprising (%)": f"{100 * old['surprising'].mean():.2f}",
                "all from batch": f"{always}" if always < BATCHES else "",
                "above the usual, of a guess": f"{old['of a guess'].min():.2f} to {old['of a guess'].max():.2f}",
                "above the usual, in deviations": f"{old['deviations'].min():.1f} to {old['deviations'].max():.1f}",
            }
        )
    return pd.DataFrame(found)


def costs(stream: Stream, name: str, blocks: int = 8, block: int = 40) -> pd.DataFrame:
    """The processor time of a batch in milliseconds, the ways in turn: a median over blocks of batches. One thread."""
    batches = list(stream[0].train.batches(block, BATCH_SIZE, generator(SEEDS[0], "cost")))
    told, untold = learner(stream, 0, GNU, STEPS[name]), learner(stream, 0, NNS, STEPS[name], allocation="surprise")
    told.begin_task(0, block)

    def step_and_look(inputs: Tensor, labels: Tensor) -> None:
        """The plain way to look first: a forward pass of its own."""
        assert told.live is not None
        told.training.loss_of(told.live.mask(), told.live.statistics, inputs, labels)
        told.observe(inputs, labels)

    ways: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "GNu: the task is given": told.observe,
        "NNs by surprise": untold.observe,
        "GNu and a forward pass before each step": step_and_look,
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(blocks + 1):
        for way, observe in ways.items():
            began = time.process_time()
            for batch in batches:
                observe(*batch)
            if number:  # the first block compiles
                times[way].append((time.process_time() - began) / block * 1000)
    medians = {way: float(pd.Series(taken).median()) for way, taken in times.items()}
    first = medians["GNu: the task is given"]
    return pd.DataFrame(
        {"step": name, "way": way, "ms a batch": f"{ms:.2f}", "times GNu's": f"{ms / first:.2f}"} for way, ms in medians.items()
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = sys.argv[1] if len(sys.argv) > 1 else "mnist-5k"
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "results")
    built = {(name, seed): registry.stream(name).build(load(data), tasks=4, seed=seed) for name in STREAMS for seed in SEEDS}
    rows = pd.DataFrame(row for (_, seed), stream in built.items() for row in margins(stream, seed))
    summary(rows).to_csv(folder / "nns-surprise-constants.csv", index=False)
    permuted = built["permuted-mnist", SEEDS[0]]
    cost = pd.concat([costs(permuted, name) for name in STEPS])
    text = (
        f"Constants: SPAN = {SPAN} batches, DEVIATIONS = {DEVIATIONS:g}, SHARE = {SHARE:g} of the loss of a guess. Data {data}, LeNet, "
        f"seeds {', '.join(map(str, SEEDS))}; other tasks are looked at every {EVERY} batches. The first table is of masks of {OLD} "
        f"batches or more.\n\n{renderers.markdown(summary(rows).astype(str))}\n{renderers.markdown(cost.astype(str))}"
    )
    (folder / "nns-surprise-constants.md").write_text(text)
    print(text)
