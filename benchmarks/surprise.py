"""Finding tasks by surprise beside the paper's rule, and beside being told when tasks change.

`python -m benchmarks.surprise [data] [seeds] [results] [visits] [lengths]`. Tasks have random lengths, and boundaries lie inside batches.
Runs that exist are not repeated. Writes nns-surprise.csv (a row for each run) and .md (means over seeds) into the results folder.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import clbench
from clbench.results import renderers, tables
from clbench.results.metrics import mean_t_interval

SURPRISE, PAPER, TOLD = "NNs by surprise", "NNs, the paper's rule", "GNs, told when tasks change"
LINES: dict[str, dict[str, Any]] = {
    SURPRISE: {"scenario": "nns", "set": {"allocation": "surprise"}},
    TOLD: {"scenario": "gns"},
    PAPER: {"scenario": "nns"},
}


class Kind(NamedTuple):
    """A kind of stream: its name, the stream, the share of its visits that are to new tasks, the most visits, and more of its flow."""

    name: str
    stream: str = "permuted-mnist"
    new: float = 1.0
    most: int = 10**6
    flow: tuple[tuple[str, Any], ...] = (("boundaries", "inside"),)


KINDS = (
    Kind("boundaries inside batches"),
    Kind("and tasks recur", new=0.4),
    Kind("rotations by 10 degrees", "rotated-mnist", most=36),
    Kind("gradual, 100 updates", flow=(("linear", 100),)),
    Kind("gradual, 1000 updates", flow=(("linear", 1000),)),
    Kind("blurry, 10 %", flow=(("blurry", 0.1),)),
    Kind("blurry, 30 %", flow=(("blurry", 0.3),)),
)


class Traced(NamedTuple):
    """What a learner without given tasks did in a run, from the batches that each of its masks learned.

    ``foreign``: the share of images that a mask learned and that are not of the task of which it learned most. ``missed``: visits that the
    mask of the visit before learned. ``twice``: masks for a task that has another one. ``delay``: the number of batches with images of a
    visit before its mask learned the first of them, on average and at most. ``checks``: the share of batches at which masks were compared.
    """

    masks: int
    foreign: float
    missed: int
    twice: int
    delay: float
    longest: int
    checks: float


def traced(choices: pd.DataFrame, parts: Sequence[Sequence[tuple[int, int]]], tasks: Sequence[int]) -> Traced:
    """``choices``: the run's table ``allocation``; ``parts``: (visit, images) of every batch; ``tasks``: the task of each visit."""
    by_batch = {int(row["first_batch"]): row for row in choices.to_dict("records")}
    learning: list[int] = []  # the mask that learned each batch, -1 for none
    mask = -1
    for batch in range(len(parts)):
        choice = by_batch.get(batch)
        if choice is not None:
            mask = -1 if pd.isna(choice["mask"]) else int(choice["mask"])
        learning.append(mask if choice is None or choice.get("trained", True) else -1)
    masks = max(learning) + 1
    images = np.zeros((masks, len(tasks)), dtype=np.int64)
    for learner, batch_parts in zip(learning, parts, strict=True):
        for visit, count in batch_parts if learner >= 0 else ():
            images[learner, visit] += count
    by_task = np.zeros((masks, max(tasks) + 1), dtype=np.int64)
    np.add.at(by_task.T, np.array(tasks), images.T)
    own = images.argmax(0)  # the mask of each visit
    delays = [_delay(visit, int(own[visit]), learning, parts) for visit in range(1, len(tasks)) if own[visit] != own[visit - 1]]
    return Traced(
        masks=masks,
        foreign=1 - by_task.max(1).sum() / by_task.sum(),
        missed=int((own[1:] == own[:-1]).sum()),
        twice=masks - len(set(by_task.argmax(1).tolist())),
        delay=float(np.mean(delays)) if delays else float("nan"),
        longest=max(delays, default=0),
        checks=len(by_batch) / len(parts),
    )


def _delay(visit: int, mask: int, learning: Sequence[int], parts: Sequence[Sequence[tuple[int, int]]]) -> int:
    batches = [batch for batch, batch_parts in enumerate(parts) if any(each == visit for each, _ in batch_parts)]
    return next(number for number, batch in enumerate(batches) if learning[batch] == mask)


def parts_of(learn: Any) -> list[list[tuple[int, int]]]:
    """(visit, images) of every batch of a run."""
    runs: Iterator[Any] = learn.schedule().timetable(learn.tasks).runs()
    return [[(part.visit, part.images) for part in parts] for batches, parts in runs for _ in batches]


def compared(data: str, seeds: Sequence[int], results: Path, visits: int, lengths: str) -> Iterator[dict[str, Any]]:
    """A row for each kind of stream, line and seed, as runs finish."""
    for seed, kind, (line, settings) in product(seeds, KINDS, LINES.items()):
        count = min(visits, kind.most)
        flow: dict[str, Any] = {"lengths": lengths, **dict(kind.flow)}
        flow |= {} if kind.new == 1 else {"different": max(2, round(kind.new * count))}
        scores = clbench.run(
            **settings,
            stream=kind.stream,
            data=data,
            tasks=count,
            flow=flow,
            seeds=(seed,),
            checkpoints=(count,),
            precision="bfloat16",
            ask={"objective": "H", "group": 128, "sample": 1024},
            results=results,
        )
        run = clbench.Run(Path(scores["path"].iloc[0]))
        learn = run.learn
        parts, tasks = parts_of(learn), learn.flow.tasks_of(learn.tasks, learn.seeds.stream)
        row = {
            "stream": kind.name,
            "line": line,
            "seed": seed,
            "data": data,
            "lengths": lengths,
            "visits": count,
            "tasks": len(set(tasks)),
        }
        row |= {
            "batches": len(parts),
            "accuracy": scores["accuracy"].mean(),
            "task_accuracy": scores["task_accuracy"].mean(),
        }
        row |= {"train_seconds": scores["train_seconds"].max(), "run": learn.hash}
        yield row | (traced(run.table("allocation"), parts, tasks)._asdict() if line != TOLD else {})


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind of stream and line, means over seeds; the accuracy also as what it is above that of being told, seed by seed."""
    told = rows[rows["line"] == TOLD].set_index(["stream", "seed"])["accuracy"]
    found = []
    for (stream, line), part in rows.groupby(["stream", "line"], sort=False):
        own = mean_t_interval(part["accuracy"].to_numpy())
        above = part["accuracy"].to_numpy() - told.reindex(list(zip(part["stream"], part["seed"], strict=True))).to_numpy()
        gain = mean_t_interval(above)
        row = {
            "stream": stream,
            "line": line,
            "lengths": part["lengths"].iloc[0],
            "seeds": len(part),
            "visits": part["visits"].iloc[0],
            "tasks": _all(part["tasks"]),
        }
        row |= {"masks": _all(part["masks"]), "accuracy (%)": tables.percent(own.mean, own.half_width)}
        row |= {"above being told": "" if line == TOLD else tables.percent(gain.mean, gain.half_width)}
        row |= {"foreign images (%)": _mean(100 * part["foreign"], 2), "missed": _all(part["missed"]), "twice": _all(part["twice"])}
        row |= {"delay in batches": _mean(part["delay"], 2), "longest": _all(part["longest"])}
        found.append(row | {"checks (% of batches)": _mean(100 * part["checks"], 2)})
    return pd.DataFrame(found)


def _all(values: "pd.Series[Any]") -> str:
    """The counts of all seeds."""
    return ", ".join(str(int(value)) for value in values if not pd.isna(value))


def _mean(values: "pd.Series[Any]", digits: int) -> str:
    return "" if values.isna().all() else f"{values.mean():.{digits}f}"


if __name__ == "__main__":
    usual = ["mnist-5k", "3", "results", "30", "200..1500"]
    data, seeds, results, visits, lengths = [*sys.argv[1:], *usual[len(sys.argv) - 1 :]]
    folder, rows = Path(results), list[dict[str, Any]]()
    for row in compared(data, range(int(seeds)), folder, int(visits), lengths):
        rows.append(row)
        table = pd.DataFrame(rows)
        table.to_csv(folder / "nns-surprise.csv", index=False)
        (folder / "nns-surprise.md").write_text(renderers.markdown(summary(table).astype(str)))
    print((folder / "nns-surprise.md").read_text())
