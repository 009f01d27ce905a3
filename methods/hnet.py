"""HNET, a task-conditioned hypernetwork (von Oswald et al. 2020): one network writes the weights of another, given a task's embedding.

    weights of task t = scale * [h(e_t, c_1; Theta), h(e_t, c_2; Theta), ...]
    loss = cross-entropy + beta / (t - 1) * sum over earlier tasks i of |weights of i - the same with Theta*|^2

(equation 2 of the paper, without the look-ahead step, which its authors found to matter little). h writes the run's network in chunks:
c_k is a learned embedding of chunk k, and e_t one of the task. Theta* is Theta when the task begins: what was written for earlier tasks
must stay what it was, and needs no data. Theta and the chunks' embeddings are trained in every task, a task's embedding in its own task
only. h has two hidden layers with ReLU.

In GG the given task's embedding writes the weights. In GNs and GNu the weights of every task answer each image by itself, and the answer
with the lowest entropy counts (HNET+ENT).

Deviations: what h writes is multiplied by the initial standard deviation of each parameter tensor (for tensors that start constant: by
0.1, and added to this constant), so that a network starts at its usual scale (the authors' initialisation aims at the same). Batch-norm
statistics are per task. The optimiser is re-initialised for each task, as in the paper.

Stored to predict: Theta, the chunks' embeddings, and for each task an embedding and batch-norm statistics. Needed to resume: nothing
else.
"""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.checks import not_negative, positive
from clbench.method import Brief, Prediction, Recipe
from clbench.scenarios import GG, GNS, GNU
from clbench.seeding import generator
from clbench.training import OPTIMISERS, Tensors

from ._check import for_check
from ._per_class import drawn, parameters_of
from ._per_task import PerTaskMethod
from ._van_de_ven import PERMUTED, SPLIT

CHUNKS, TASK = "chunks", "embedding"
"""The names of the embeddings of all chunks [chunks, size], and of a task's embedding [size]."""
SOURCE = "the code of von Oswald et al. 2020 (hypercl)"


def writer(embeddings: int, width: int, chunk: int) -> nn.Module:
    """h: from the embeddings of a task and a chunk to the values of the chunk."""
    return nn.Sequential(nn.Linear(embeddings, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, chunk))


class HNet(PerTaskMethod):
    """A hypernetwork that writes each task's weights."""

    name = "hnet"
    scenarios = frozenset({GG, GNS, GNU})
    citation = "von Oswald, Henning, Grewe, Sacramento: Continual learning with hypernetworks. ICLR 2020"
    price = 0.1  # it writes more weights than it has
    recipes = (
        *(
            Recipe(
                "split-mnist-raw",
                "*",
                {"width": 10, "task_embedding": 96, "chunk_embedding": 96, "chunk": 42_000, "beta": 0.01, "learning_rate": 1e-3},
                {},
                SOURCE,
                scenario,
                "hypercl-split",
                SPLIT,
            )
            for scenario in ("GNu", "GG")
        ),
        *(
            Recipe(
                "permuted-mnist-32",
                "*",
                {"width": 25, "task_embedding": 24, "chunk_embedding": 8, "chunk": 78_000, "beta": 0.1, "learning_rate": 1e-4},
                {},
                SOURCE,
                scenario,
                "hypercl-permuted",
                PERMUTED,
            )
            for scenario in ("GNu", "GG")
        ),
        for_check({"chunk": 2000, "width": 32, "task_embedding": 16, "chunk_embedding": 16, "beta": 0.03, "learning_rate": 3e-3}),
    )

    def __init__(
        self,
        brief: Brief,
        *,
        beta: float = 0.01,
        width: int = 25,
        task_embedding: int = 24,
        chunk_embedding: int = 24,
        chunk: int = 10_000,
        optimiser: Literal["rmsprop", "adam", "sgd"] = "adam",
        learning_rate: float = 1e-3,
    ) -> None:
        """``beta``: the strength of the regulariser; ``width``: units of h's hidden layers; ``task_embedding`` and ``chunk_embedding``:
        their sizes; ``chunk``: parameters written at a time; ``optimiser`` with its defaults but for the ``learning_rate``."""
        not_negative(beta=beta)
        positive(width=width, task_embedding=task_embedding, chunk_embedding=chunk_embedding, chunk=chunk)
        super().__init__(brief, optimiser=OPTIMISERS[optimiser](learning_rate))
        self.beta = beta
        self.task_embedding = task_embedding
        self.sizes = {name: tensor.numel() for name, tensor in self.initial.items()}
        chunks = -(-sum(self.sizes.values()) // chunk)
        self.writer = drawn(partial(writer, task_embedding + chunk_embedding, width, chunk), brief.seed, "writer").to(brief.device)
        embeddings = torch.randn(chunks, chunk_embedding, generator=generator(brief.seed, CHUNKS)).to(brief.device)
        self.shared = parameters_of(self.writer, brief.device) | {CHUNKS: embeddings}
        constant = {name: bool((tensor == tensor.flatten()[0]).all()) for name, tensor in self.initial.items()}
        deviations = {name: 0.1 if constant[name] else float(tensor.std()) for name, tensor in self.initial.items()}
        self.scale = torch.cat([torch.full((size,), deviations[name]) for name, size in self.sizes.items()]).to(brief.device)
        self.centres = {name: float(tensor.flatten()[0]) if constant[name] else 0.0 for name, tensor in self.initial.items()}

    def learns_shared(self, task: int) -> bool:
        return True

    def fresh_own(self, task: int) -> Tensors:
        draws = generator(self.brief.seed, TASK, task)
        return {TASK: torch.randn(self.task_embedding, generator=draws).to(self.brief.device)}

    def written(self, tensors: Tensors, embedding: Tensor) -> Tensor:
        """The weights [parameters of the network] for a task's embedding, without their centres. A pure function."""
        chunks = tensors[CHUNKS]
        both = torch.cat([embedding.expand(len(chunks), -1), chunks], 1)
        h = {name: tensor for name, tensor in tensors.items() if name not in (CHUNKS, TASK)}
        outputs: Tensor = functional_call(self.writer, h, (both,))
        return outputs.flatten()[: len(self.scale)].float() * self.scale

    def effective(self, tensors: Tensors) -> Tensors:
        parts = self.written(tensors, tensors[TASK]).split(list(self.sizes.values()))
        return {
            name: self.centres[name] + part.view(self.initial[name].shape) for name, part in zip(self.sizes, parts, strict=True)
        }

    def begin_task(self, task: int, updates: int) -> None:
        super().begin_task(task, updates)
        if task > 0:
            with torch.no_grad():
                embeddings = torch.stack([row[TASK] for row in self.rows])
                before = torch.stack([self.written(self.shared, embedding) for embedding in embeddings])
            self.given["written"] = {"embeddings": embeddings, "before": before}

    def loss(self, trained: Tensors, given: dict[str, Any], inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
        loss, buffers = super().loss(trained, given, inputs, labels)
        if "written" not in given:
            return loss, buffers
        earlier = zip(given["written"]["embeddings"], given["written"]["before"], strict=True)
        changes = [(self.written(trained, embedding) - before).square().sum() for embedding, before in earlier]
        return loss + self.beta * torch.stack(changes).mean(), buffers

    def predict(self, inputs: Tensor, task: int | None = None) -> Prediction:
        if task is not None:
            return super().predict(inputs, task)
        with torch.no_grad():
            likelihoods = torch.stack(
                [self.logits(inputs, t)[:, : self.brief.classes].log_softmax(1) for t in range(len(self.rows))]
            )
        entropies = -(likelihoods.exp() * likelihoods).sum(2)
        tasks = entropies.argmin(0)
        return Prediction(likelihoods[tasks, torch.arange(len(tasks), device=tasks.device)].argmax(1), tasks)

    @classmethod
    def rewind(cls, learned: Tensors, tasks: int) -> Tensors | None:
        """None: every task changes the hypernetwork."""
        return None
