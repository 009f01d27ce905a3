"""A lesson: the training of one task, or of several together, batch by batch; and what is needed to resume inside it.

The order of batches is drawn again from its seed, and batches that were learned are skipped. What their training changed is restored: the
method's tensors, the states of the random generators, and the losses so far.
"""

import json
from collections.abc import Callable, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from clbench.engine.batches import Draws
from clbench.engine.boundaries import Switch, Switches
from clbench.engine.divergence import Divergence, Losses
from clbench.method import Method

Tensors = dict[str, Tensor]
FACTS = "facts"
"""The name of the tensor with all that is no tensor, as JSON in bytes."""


@dataclass(eq=False)
class Lesson:
    """The training of the tasks ``group`` so far: its ``losses``, whose number is that of the batches, and its ``seconds``.

    ``draws``: the generators of the batches; those of the ``augmented`` tasks draw what augmentation needs, batch by batch.
    ``switches``: what a learner that is told no tasks trained when.
    """

    group: range
    losses: Losses
    draws: Draws
    switches: Switches
    augmented: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def batches(self) -> int:
        """The number of batches of each task that were learned."""
        return self.losses.batches


@dataclass(frozen=True, eq=False)
class Midway:
    """The state inside a lesson, after ``learned`` whole tasks and ``batches`` batches of the next one (or of each of the next group).

    ``tensors`` are named by part: ``task`` (``Method.task_progress``) or, if the method is not told where tasks begin, ``learned`` and
    ``progress``; ``losses``; ``draws`` (the generators of augmentation, by task); ``generator`` (the global ones). ``rows``: the method's
    diagnostics since the last task ended, by table; ``switches`` of the learner since then, and its present ``component``.
    """

    learned: int
    batches: int
    tensors: Tensors
    seconds: float
    divergences: tuple[Divergence, ...] = ()
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    switches: tuple[Switch, ...] = ()
    component: int | None = None

    def part(self, name: str) -> Tensors:
        """The tensors of one part, as copies: those that were read from a file may share its memory."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): tensor.clone() for key, tensor in self.tensors.items() if key.startswith(prefix)}

    def restore(self, method: Method, lesson: Lesson) -> None:
        """Bring a method whose task has just begun, and its lesson, to this state; the global generators too."""
        if task := self.part("task"):
            method.restore_task(task)
        lesson.losses.restore(self.batches, self.part("losses"), self.divergences)
        lesson.seconds = self.seconds
        lesson.switches.component, lesson.switches.seen = self.component, list(self.switches)
        set_global_generators(self.part("generator"))

    def plain(self) -> Tensors:
        """All of it as tensors, for one file."""
        facts = {"learned": self.learned, "batches": self.batches, "seconds": self.seconds, "rows": self.rows}
        facts |= {"switches": self.switches, "component": self.component}
        text = json.dumps(
            facts | {"divergences": [asdict(each) for each in self.divergences]}, default=lambda scalar: scalar.item()
        )
        return self.tensors | {FACTS: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    @classmethod
    def from_plain(cls, tensors: Tensors) -> "Midway":
        """The inverse of ``plain``."""
        facts = json.loads(bytes(tensors[FACTS].numpy()))
        divergences = tuple(Divergence(**each) for each in facts.pop("divergences"))
        switches = tuple(Switch(*each) for each in facts.pop("switches"))
        return cls(
            switches=switches, tensors={name: t for name, t in tensors.items() if name != FACTS}, divergences=divergences, **facts
        )


def midway(method: Method, lesson: Lesson, rows: dict[str, list[dict[str, Any]]]) -> Midway | None:
    """The state of a method inside a lesson; None if it cannot resume there."""
    told = method.brief.scenario.task_given_in_training
    parts: dict[str, Tensors | None]
    parts = {"task": method.task_progress()} if told else {"learned": method.learned(), "progress": method.progress()}
    parts["losses"], parts["generator"] = lesson.losses.state(), global_generators()
    parts["draws"] = {str(task): lesson.draws[task].get_state() for task in lesson.augmented if task in lesson.draws}
    tensors: Tensors = {}
    for part, named in parts.items():
        if named is None:
            return None
        tensors |= {f"{part}/{name}": tensor for name, tensor in named.items()}
    divergences = tuple(lesson.losses.divergences.values())
    of_lesson = lesson.group.start, lesson.batches, tensors, lesson.seconds, divergences, rows
    return Midway(*of_lesson, tuple(lesson.switches.seen), lesson.switches.component)


def global_generators() -> Tensors:
    """The states of PyTorch's global generators, from which a network may draw (dropout)."""
    gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() and torch.cuda.is_initialized() else {}
    return {"state": torch.get_rng_state()} | gpu


def set_global_generators(states: Tensors) -> None:
    """Restore what ``global_generators`` returned."""
    torch.set_rng_state(states["state"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@dataclass
class Keep:
    """What is kept while a stream is taught and asked about. By default, nothing.

    ``answers``: answers by question, in the order in which they come, plain enough for JSON; those that it holds are not computed again.
    ``after_batch`` and ``after_answer`` are called between any two batches, and between any two answers; ``scored_inside`` with each score
    inside a task, before the ``after_batch`` of its batch.
    """

    answers: MutableMapping[str, Any] = field(default_factory=dict)
    after_batch: Callable[[Lesson], None] = lambda lesson: None
    after_answer: Callable[[], None] = lambda: None
    scored_inside: Callable[[Any], None] = lambda score: None
