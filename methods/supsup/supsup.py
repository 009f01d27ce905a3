"""The method: what SupSup does at each call of the contract."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.checks import above_zero
from clbench.engine.probe import batch_use
from clbench.errors import UserError
from clbench.method import Brief, Method, Prediction
from clbench.networks import in_parts
from clbench.scenarios import GG, GNS, GNU, NNS
from clbench.seeding import generator
from clbench.stream import Split
from clbench.training import OPTIMISERS, LearningRate, LearningRateSchedule

from .._bits import unpack
from .._inference import ONE_SHOT, Inference, decide
from .._objectives import ObjectiveName
from .allocation import Allocation, uncertainty
from .bank import WORKING_BYTES, MaskBank, multiplies_bytes, restored_bank
from .coding import Bytes, decoded, encoded, joined, parted
from .inference import infer_from_one_image, infer_tasks
from .layout import random_base, random_scores
from .masking import kept_weights
from .recipes import RECIPES
from .statistics import IMAGES, PREFIX, TaskStatistics
from .surprise import Surprise, WhenFull, other_losses
from .training import LiveMask, MaskTraining

SMALL = 2**19
"""The most weights for which several tasks at once are faster: the training states of larger masks do not fit in a cache together."""
STATISTICS = "statistics"
AT_ONCE = 2
"""Tasks trained at once: a step of two tasks takes three quarters of the time of two steps. More tasks save hardly more."""


class SupSup(Method):
    """Supermasks in superposition."""

    name = "supsup"
    version = 2
    scenarios = frozenset({GG, GNS, GNU, NNS})
    citation = "Wortsman, Ramanujan, Liu, Kembhavi, Rastegari, Yosinski, Farhadi: Supermasks in Superposition. NeurIPS 2020"
    learning_depends_on = frozenset({"task_given_in_training"})
    added = frozenset({"statistics", "allocation", "when_full"})
    recipes = RECIPES

    def __init__(
        self,
        brief: Brief,
        *,
        outputs: int = 100,
        density: float | None = None,
        edges: float | None = None,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "rmsprop",
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        schedule: LearningRateSchedule = "constant",
        start: Literal["random", "transfer"] = "random",
        allocation: Literal["uncertainty", "surprise"] = "uncertainty",
        interval: int = 100,
        offset: int = 0,
        epsilon: float = 2**-3,
        budget: int = 2500,
        when_full: WhenFull = "refuse",
        statistics: str | None = None,
    ) -> None:
        """Create a learner with an empty mask bank.

        ``outputs``: the output size s, superfluous neurons included. A mask selects the weights whose scores are 0 or more. With
        ``density`` or ``edges`` it selects the largest scores of each layer (edge-popup): the share ``density`` of its weights, or
        ``edges`` times its number of inputs and outputs. ``optimiser`` with its ``learning_rate``, which follows ``schedule`` over a
        task's updates, and ``weight_decay`` of the scores; ``start``: new scores are random, or the running mean of earlier tasks' scores
        ("Transfer").

        If no task is given in training, ``allocation`` chooses the mask. ``uncertainty``, the paper's rule, chooses every ``interval``
        batches: before the first one, and whenever the batch number modulo ``interval`` is ``offset`` (0: aligned with tasks whose length
        is a multiple of the interval). A new mask is allocated if k * max(nu) < 1 + ``epsilon``. ``surprise`` looks at the loss of every
        batch before it learns it (``surprise.py``), and needs no interval. There are at most ``budget`` masks; after that, ``when_full``
        says what becomes of a new task: it is not learned (``refuse``), or, by surprise only, the mask with the lowest loss learns it too
        and forgets its own (``reuse``).

        ``statistics``: the fixed random features whose densities are gathered at the end of each task, for ``algorithm=statistics``:
        ``hidden``, the units of the unmasked random network, or ``random-1000``, a random layer with that many units.
        """
        super().__init__(brief)
        if outputs < brief.classes:
            raise UserError(f"outputs={outputs} is below the {brief.classes} classes of a task: give at least that many.")
        above_zero(interval=interval, epsilon=epsilon, budget=budget)
        if not 0 <= offset < interval:
            raise UserError(f"offset must be at least 0 and below the interval of {interval} batches, not {offset}.")
        task_given = brief.scenario.task_given_in_training
        if start == "transfer" and not task_given:
            raise UserError("start=transfer needs to know when a task ends, which is not given here: use start=random.")
        if not task_given and (density is not None or edges is not None or schedule != "constant"):
            raise UserError("density, edges and schedule need to know when a task begins, which is not given here: leave them out.")
        if statistics is not None and not task_given:
            raise UserError("statistics are gathered when a task ends, which is not given here: leave them out.")
        self.outputs = outputs
        self.features = statistics
        self.optimiser = OPTIMISERS[optimiser](learning_rate, weight_decay=weight_decay)
        self.schedule = schedule
        self.density, self.edges = density, edges
        self.transfer = start == "transfer"
        self._set_base(brief.seed)
        self.bank = self._empty_bank()
        self.live: LiveMask | None = None
        self.score_sum = torch.zeros(self.base.layout.size if self.transfer else 0, device=brief.device)
        if allocation != "surprise" and when_full != "refuse":
            raise UserError(f"when_full={when_full} needs allocation=surprise, which compares the masks' losses.")
        by_surprise = Surprise(brief.classes, budget, when_full)
        by_uncertainty = Allocation(interval, offset, epsilon, budget)
        self.allocation = None if task_given else by_surprise if allocation == "surprise" else by_uncertainty
        self.ended: list[tuple[Tensor, Tensor]] = []
        self.codes: list[Bytes] = []
        self.rate = LearningRate("constant", 1)

    def _set_base(self, seed: int) -> None:
        """Create the random network of ``seed``, and the step that trains masks on it."""
        brief = self.brief
        self.seed = seed
        self.base = random_base(brief.network(self.outputs), seed, brief.device)
        self.kept = kept_weights(self.base.layout, self.density, self.edges)
        self.training = MaskTraining(self.base, self.optimiser, kept=self.kept, precision=brief.precision, compiled=brief.compiled)
        self.statistics = None if self.features is None else TaskStatistics(self.features, self.base, brief, seed)

    def _empty_bank(self) -> MaskBank:
        device, layout = self.brief.device, self.base.layout
        return MaskBank(
            layout.size, self.base.statistics.size, device, integers=multiplies_bytes(device), working_bytes=WORKING_BYTES
        )

    # Learning

    def begin_task(self, task: int, updates: int) -> None:
        self.rate = LearningRate(self.schedule, updates)
        mean = self.score_sum / len(self.bank) if self.transfer and len(self.bank) else None
        self.live = self._live(self._random_scores(task) if mean is None else mean, self.base.fresh)

    def observe(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        if isinstance(self.allocation, Surprise):
            return self._look_and_learn(self.allocation, inputs, labels)
        if self.allocation is not None:
            if self.allocation.due():
                self._choose_mask(inputs)
            self.allocation.step += 1
        return None if self.live is None else self.live.update(inputs, labels, self.rate())

    @cached_property
    def tasks_at_once(self) -> int:
        """Masks of different tasks are independent, unless one starts from the others (Transfer)."""
        if self.allocation is not None or self.transfer or self.kept or self.base.layout.size > SMALL:
            return 1
        return AT_ONCE if self.training.together(self.brief.input_shape) else 1

    def begin_tasks(self, tasks: range, updates: int) -> None:
        self.rate = LearningRate(self.schedule, updates)
        scores = torch.stack([self._random_scores(task) for task in tasks])
        self.live = self._live(scores, self.base.fresh.expand(len(tasks), -1))

    def observe_tasks(self, inputs: Tensor, labels: Tensor) -> Tensor | None:
        assert self.live is not None
        return self.live.update(inputs, labels, self.rate())

    def end_task(self, data: Split) -> None:
        if self.live is not None:
            self.ended = self.live.finished()
            if self.transfer:
                self.score_sum += self.live.scores
            self.live = None
        if self.statistics is not None:
            self.statistics.add(data, len(self.bank))
        mask, statistics = self.ended.pop(0)
        self.bank.append(mask, statistics)
        if self.kept:
            self.codes.append(encoded(mask, self.layer_sizes))

    @property
    def layer_sizes(self) -> list[int]:
        """The number of maskable weights of each layer."""
        return [shape.numel() for shape in self.base.layout.shapes.values()]

    def _live(self, scores: Tensor, statistics: Tensor) -> LiveMask:
        return LiveMask(self.training, scores, statistics)

    def _random_scores(self, number: int) -> Tensor:
        return random_scores(self.base.layout, generator(self.seed, "scores", number)).to(self.brief.device)

    # Learning without a given task

    def notes(self, tasks: int, updates: int) -> list[str]:
        notes = []
        unmasked = [name for name, value in self.base.network.named_parameters() if name in self.base.fixed and value.ndim >= 2]
        if unmasked:
            notes.append(
                f"supsup does not mask parameters that no layer multiplies by, and keeps their initial values: {', '.join(unmasked)}."
            )
        if isinstance(self.allocation, Allocation) and tasks > 1 and updates % self.allocation.interval:
            notes.append(
                f"supsup chooses a mask every {self.allocation.interval} batches, and a task has {updates}: a mask may learn from two "
                "tasks, because choices do not fall on the beginnings of tasks. Make updates a multiple of the interval."
            )
        return notes

    def _choose_mask(self, inputs: Tensor) -> None:
        """Decide which mask the next batches train: the one in training, an earlier one, or a new one (section 3.4)."""
        assert isinstance(self.allocation, Allocation)
        self._bank_live_mask()
        spare = self._random_scores(len(self.bank))
        doubt = uncertainty(self.base, self.bank, spare >= 0, inputs, self.brief.classes)
        present = self.allocation.training
        row = self.allocation.decide(doubt, len(self.bank))
        if row is None:
            self.live = None
        elif row != present:
            self.live = self._begun(row)

    def _look_and_learn(self, rule: Surprise, inputs: Tensor, labels: Tensor) -> Tensor:
        """Learn from a batch that the mask in training knows; otherwise let the rule choose a mask for it, or none.

        Returns the loss under the mask that is in training afterwards.
        """
        look = None if self.live is None else self.live.look(inputs, labels)
        loss = math.nan if look is None else float(look.loss)
        learns = not rule.surprising(loss)
        if not learns:
            self._bank_live_mask()
            before = rule.training
            learns = rule.decide(loss, other_losses(self.training, self.bank, before, (inputs, labels), self.brief.classes))
            if rule.training is not None and (learns or rule.training != before):
                self.live = self._begun(rule.training)
                look = self.live.look(inputs, labels)
        assert look is not None
        if self.live is not None and learns:
            self.live.learn(look)
            rule.learned(float(look.loss))
        rule.step += 1
        return look.loss

    def _begun(self, row: int) -> LiveMask:
        """A mask whose training begins: a new one, which gets the bank's next row, or an earlier one again."""
        if row < len(self.bank):
            return self._resumed(row)
        live = self._live(self._random_scores(row), self.base.fresh)
        self.bank.append(live.mask(), live.statistics)
        return live

    def _resumed(self, row: int) -> LiveMask:
        """An earlier mask back in training: its bits become the signs of scores of the initial magnitude."""
        assert self.allocation is not None
        magnitude = self._random_scores(row).abs()
        # A score of exactly 0 selects a weight, so a dropped weight needs a score below 0.
        dropped = -magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny)
        return self._live(torch.where(self.bank.mask(row), magnitude, dropped), self.bank.statistics(row))

    def _bank_live_mask(self) -> None:
        """Update the bank's row of the mask in training, if a mask stays in training between calls."""
        if self.allocation is not None and self.live is not None:
            assert self.allocation.training is not None
            self.bank.replace(self.allocation.training, self.live.mask(), self.live.statistics)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``allocation``: every choice of a mask, with what decided it and the first batch that it is about."""
        return {} if self.allocation is None else {"allocation": self.allocation.take_rows()}

    # Answering

    def check_ask(self, **parameters: Any) -> None:
        how = Inference(**parameters)
        how.check(self.brief, self.outputs)
        if how.algorithm == STATISTICS and self.statistics is None:
            raise UserError("algorithm=statistics needs what is gathered in training: learn with --set statistics=hidden.")
        if how.algorithm == STATISTICS and how.objective != Inference.objective:
            raise UserError(f"algorithm=statistics has no objective: leave out objective={how.objective}.")

    def predict(
        self,
        inputs: Tensor,
        task: int | None = None,
        *,
        algorithm: Literal["one-shot", "binary", "gradient", "exhaustive", "statistics"] = ONE_SHOT,
        objective: ObjectiveName = Inference.objective,
        group: int = Inference.group,
        evidence: int = Inference.evidence,
        steps: int | None = Inference.steps,
        step_size: float | None = Inference.step_size,
    ) -> Prediction:
        """Answer with the given task's mask, or with the inferred one's.

        ``group`` consecutive images share one inferred task, which the first ``evidence`` of them decide: 1 and 1 let every image
        identify its own task, 128 and 1 are the paper's protocol, 128 and 128 are a full batch. ``objective``: what the right task makes
        small, such as the entropy H, or G of the superfluous outputs (``_objectives.py``). ``statistics`` needs learning with
        ``statistics``, and no objective. ``steps`` (10 where not given) and ``step_size`` (0.1) belong to the algorithm ``gradient`` alone.
        """
        if task is not None:
            return Prediction(self._labels(inputs.to(self.brief.device), task))
        how = Inference(algorithm, objective, group, evidence, steps, step_size)
        return self.predict_together(inputs, [(len(inputs), asdict(how))])[0]

    @classmethod
    def ask_version(cls, **parameters: Any) -> int:
        """2 for exhaustive search with G: version 1 compared values that depended on the level of the logits."""
        return 2 if (parameters.get("algorithm"), parameters.get("objective")) == ("exhaustive", "G") else 1

    @cached_property
    def alone(self) -> bool:
        """Whether the network takes one image by itself."""
        return batch_use(self.brief).alone

    def shared_pass(self, **parameters: Any) -> str | None:
        """One-Shot with one image of evidence decides about each image by itself: such asks have forward passes in common."""
        how = Inference(**parameters)
        return "one-shot from one image" if (how.algorithm, how.evidence) == (ONE_SHOT, 1) else None

    def predict_together(self, inputs: Tensor, asks: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Prediction]:
        inputs = inputs.to(self.brief.device)
        self._bank_live_mask()
        inferences = [(count, Inference(**how)) for count, how in asks]
        if all(self.shared_pass(**how) for _, how in asks):
            tasks = infer_from_one_image(self.base, self.bank, inputs, self.brief.classes, inferences)
        else:
            alone = all(how.evidence == 1 for _, how in inferences) or self.alone
            tasks = [self._inferred(inputs[:count], how, alone) for count, how in inferences]
        labels = [torch.empty_like(of_ask) for of_ask in tasks]
        for task in torch.cat(tasks).unique().tolist():
            # Images for which several asks infer this task are answered once.
            rows = torch.stack([nn.functional.pad(of_ask == task, (0, len(inputs) - len(of_ask))) for of_ask in tasks]).any(0)
            answers = torch.empty(len(inputs), dtype=torch.int64, device=inputs.device)
            answers[rows] = self._labels(inputs[rows], task)
            for of_ask, ask_labels in zip(tasks, labels, strict=True):
                ask_labels[of_ask == task] = answers[: len(of_ask)][of_ask == task]
        return [Prediction(*answered) for answered in zip(labels, tasks, strict=True)]

    def _inferred(self, inputs: Tensor, how: Inference, alone: bool) -> Tensor:
        """The inferred task of each input, by groups."""
        if how.algorithm != STATISTICS:
            return infer_tasks(self.base, self.bank, inputs, self.brief.classes, how, alone=alone)
        assert self.statistics is not None
        at_a_time = IMAGES // how.evidence
        return decide(self.statistics.infer, inputs, group=how.group, evidence=how.evidence, at_a_time=at_a_time, alone=alone)

    def _labels(self, inputs: Tensor, row: int) -> Tensor:
        """Equation 1. Predictions are made among the task's own labels, never a superfluous output."""
        state = self.base.state(self.base.weights * self.bank.mask(row), self.bank.statistics(row))
        with torch.no_grad():
            logits = [functional_call(self.base.network, state, (batch,)) for batch in in_parts(inputs)]
        return torch.cat(logits)[:, : self.brief.classes].argmax(1)

    # State

    def frozen_state(self) -> dict[str, Tensor]:
        """The random weights."""
        return {"weights": self.base.weights}

    @property
    def in_training(self) -> int | None:
        """The row of the mask in training, if no task is given."""
        return None if self.allocation is None else self.allocation.training

    @property
    def components(self) -> int:
        """The number of allocated masks."""
        return len(self.bank)

    def learned(self) -> dict[str, Tensor]:
        self._bank_live_mask()
        state = {"seed": torch.tensor(self.seed)} | (joined(self.codes) if self.kept else {"masks": self.bank.packed()})
        state |= {"statistics": self.bank.all_statistics()} if self.base.statistics.size else {}
        return state | (self.statistics.learned() if self.statistics else {})

    def progress(self) -> dict[str, Tensor]:
        state = {"score_sum": self.score_sum.clone()} if self.transfer else {}
        state |= self.statistics.progress() if self.statistics else {}
        if self.allocation is not None:
            state |= self.allocation.progress()
            state |= {f"live.{key}": value for key, value in self.live.progress().items()} if self.live else {}
        return state

    def task_progress(self) -> dict[str, Tensor] | None:
        """The mask or masks in training, and the place in the learning rate's schedule."""
        assert self.live is not None
        return self.live.progress() | {"done": torch.tensor(self.rate.done)}

    def restore_task(self, progress: dict[str, Tensor]) -> None:
        self.live = self._live(progress["scores"], progress["statistics"].to(self.brief.device))
        self.live.restore(progress)
        self.rate.done = int(progress["done"])

    def restore(self, learned: dict[str, Tensor], progress: dict[str, Tensor] | None = None) -> None:
        self._set_base(int(learned["seed"]))
        if self.kept:
            self.codes = list(parted(learned))
            masks = [decoded(code, self.layer_sizes) for code in self.codes]
        else:
            masks = [unpack(row, self.base.layout.size) for row in learned["masks"]]
        self.bank = restored_bank(self._empty_bank(), masks, learned.get("statistics", torch.empty(len(masks), 0)))
        if self.statistics:
            self.statistics.restore(learned, progress)
        if progress is None:
            return
        if self.transfer:
            self.score_sum = progress["score_sum"].to(self.brief.device, copy=True)
        if self.allocation is not None:
            self.allocation.restore(progress)
            live = {key.removeprefix("live."): value for key, value in progress.items() if key.startswith("live.")}
            if live:
                self.live = self._live(live["scores"].clone(), live["statistics"].to(self.brief.device))
                self.live.restore(live)

    @classmethod
    def rewind(cls, learned: dict[str, Tensor], tasks: int) -> dict[str, Tensor] | None:
        """A task's mask never changes once learned, so an earlier state is the first rows. Statistics change with every task."""
        if any(name.startswith(PREFIX) for name in learned):
            return None
        earlier = {key: value if key == "seed" else value[:tasks] for key, value in learned.items()}
        return earlier | ({"codes": learned["codes"][: int(learned["ends"][tasks - 1])]} if "codes" in learned else {})
