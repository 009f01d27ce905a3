"""HopSupSup: both rules of storage against double loops, both searches, and the same memory however many tasks there are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench import networks
from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods.hopsupsup.hopfield import descend, descend_by_signs, hebb, recall, storkey
from clbench.methods.hopsupsup.hopsupsup import HopSupSup, Masked
from clbench.scenarios import GNS, GNU
from clbench.seeding import generator
from clbench.stream import Split

Make = Callable[..., Any]


def strings(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 2, (count, size), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1


def test_hebb_is_the_paper_s_rule() -> None:
    psi, z = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)), strings(1, 5)[0]
    expected = [[float(psi[u, v]) + float(z[u] * z[v]) / 5 for v in range(5)] for u in range(5)]
    assert torch.allclose(hebb(psi, z), torch.tensor(expected))


def test_storkey_against_its_sums_written_out() -> None:
    """Storkey 1997: h_uv = sum over w other than u and v of Psi_uw z_w. On the diagonal that is one unit, and not two."""
    size, psi = 6, torch.zeros(6, 6)
    for z in strings(3, size):
        h = [[sum(float(psi[u, w] * z[w]) for w in range(size) if w not in (u, v)) for v in range(size)] for u in range(size)]
        expected = torch.tensor(
            [
                [float(psi[u, v]) + float(z[u] * z[v] - z[u] * h[v][u] - h[u][v] * z[v]) / size for v in range(size)]
                for u in range(size)
            ]
        )
        psi = storkey(psi, z)
        assert torch.allclose(psi, expected, atol=1e-6)


@pytest.mark.parametrize("rule", [hebb, storkey])
def test_stored_strings_are_minima_and_are_recovered(rule: Callable[[Tensor, Tensor], Tensor]) -> None:
    """With the entropy pointing at one of them; from their mean, as in answering."""
    size, stored = 200, strings(3, 200)
    psi = torch.zeros(size, size)
    for z in stored:
        psi = rule(psi, z)
    energy = [-(z @ psi @ z) / 2 for z in stored]
    flipped = [torch.where(torch.arange(size) < 20, -z, z) for z in stored]
    assert all(low < -(z @ psi @ z) / 2 for low, z in zip(energy, flipped, strict=True))
    for z in stored:
        states = descend(
            (psi,),
            stored.mean(0)[None],
            lambda masks, z=z: -(masks * z).sum(1) / size,  # lowest where mask and z agree
            steps=40,
            step_size=0.1,
            momentum=0.9,
            strength=4.0,
        )
        assert torch.equal(torch.sign(states[-1].z[0]), z)
        assert len(states) == 41
        assert states[-1].energy < states[0].energy


@pytest.mark.parametrize("rule", [hebb, storkey])
def test_all_stored_strings_are_recalled_from_random_ones(rule: Callable[[Tensor, Tensor], Tensor]) -> None:
    """And nothing else, not their mixtures, which lie higher, nor their negatives."""
    stored, psi = strings(4, 300), torch.zeros(300, 300)
    for z in stored:
        psi = rule(psi, z)
    recalled = recall((psi,), stored.sum(0), 4, strings(200, 300, seed=1))
    assert {tuple(z.tolist()) for z in recalled} == {tuple(z.tolist()) for z in stored}


class Hard(torch.autograd.Function):
    """1 where a score is 0 or more; the gradient passes through."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        return (scores >= 0).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0]


@pytest.mark.parametrize("widths", [(30,), (10, 20)])
def test_the_authors_descent_is_sgd_on_scores_of_hard_masks(widths: tuple[int, ...]) -> None:
    """Against torch.optim.SGD and autograd: weights in time (b + 1) / T, one batch a step, weight decay, s = 2 m - 1."""
    d, steps, step_size, strength, decay = 30, 7, 0.1, 5.0, 0.4
    memory = tuple(torch.zeros(width, width) for width in widths)
    stored = strings(3, d)
    for z in stored:
        memory = tuple(storkey(psi, part) for psi, part in zip(memory, z.split(widths), strict=True))
    psi = torch.block_diag(*memory)
    batches = torch.randn(steps, d, generator=torch.Generator().manual_seed(2))

    def doubt(masks: Tensor, step: int) -> Tensor:
        return ((masks - batches[step % steps]) ** 2).mean(-1)

    how = {"steps": steps, "step_size": step_size, "momentum": 0.9, "strength": strength, "decay": decay}
    states = descend_by_signs(memory, stored.mean(0)[None], doubt, **how)
    scores = nn.Parameter(stored.mean(0))
    sgd = torch.optim.SGD([scores], lr=step_size * d, momentum=0.9, weight_decay=decay / d)
    for step in range(steps):
        assert torch.allclose(states[step].z[0], scores.detach(), atol=1e-4)
        mask, share = Hard.apply(scores), (step + 1) / steps
        z = 2 * mask - 1
        energy = -(z @ psi @ z) / 2
        assert float(states[step].energy) == pytest.approx(energy.item(), abs=1e-4)
        sgd.zero_grad()
        (strength / d * share * energy + (1 - share) * doubt(mask, step)).backward()
        sgd.step()
    assert torch.allclose(states[-1].z[0], scores.detach(), atol=1e-4)
    assert len(states) == steps + 1


@pytest.mark.parametrize("place", ["output", "normalised"])
def test_a_mask_acts_at_the_chosen_place(place: str) -> None:
    """Equation 5, W2' (m * swish(n(W1' x))), or W2' swish(m * n(W1' x)), written out."""
    network = networks.swish((1, 2, 2), (3,), 2)
    masked, x, m = Masked(network, place, (1, 2, 2)), torch.randn(5, 1, 2, 2), torch.tensor([1.0, 0.0, 1.0])
    first, second = (layer.weight for layer in network if isinstance(layer, nn.Linear))
    hidden = x.flatten(1) @ first.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    hidden = m * hidden * hidden.sigmoid() if place == "output" else (m * hidden) * (m * hidden).sigmoid()
    assert masked.widths == [3]
    assert torch.allclose(masked(x, m), hidden @ second.T, atol=1e-5)


def swish(outputs: int) -> nn.Module:
    return networks.seeded(lambda n: networks.swish((1, 8, 8), (256,), n), outputs, 0)


def made(make_brief: Make, scenario: Any = GNU, **learning: Any) -> Any:
    return HopSupSup(make_brief(scenario)._replace(network=swish), outputs=12, **learning)


@pytest.mark.parametrize("search", ["recall", "task", "group"])
@pytest.mark.parametrize("storage", ["storkey", "hebb"])
def test_it_finds_the_task_and_keeps_the_same_memory(make_brief: Make, make_stream: Make, storage: Any, search: Any) -> None:
    method, stream, bytes_ = made(make_brief, storage=storage), make_stream(3), []
    for index in range(3):
        teach(method, stream[index], index, Schedule(60, 32, 0))
        bytes_.append(sum(tensor.nbytes for tensor in method.learned().values()))
    assert len(set(bytes_)) == 1
    tasks, labels_right = [], []
    for index in range(3):
        inputs, labels = stream[index].test.whole()
        prediction = method.predict(inputs, search=search, group=30 if search == "task" else 60)
        assert prediction.tasks is not None
        tasks.append((prediction.tasks == index).float().mean())
        labels_right.append((prediction.labels == labels).float().mean())
    assert torch.stack(tasks).mean() > 0.6  # by guessing a third
    assert torch.stack(labels_right).mean() > 0.6  # by guessing a quarter
    rows = method.tables()["recovery"]
    assert [(row["search"], row["step"]) for row in rows] == [
        (search, step) for search in ("group", "task") for step in range(31)
    ] * 3
    # The first descent starts at the only mask there is.
    assert rows[0]["distance"] == 0
    assert rows[0]["goal"] == pytest.approx(rows[0]["entropy"])
    assert [len({row["goal"] for row in rows[31 * part : 31 * part + 31]}) for part in range(6)] == [1] * 6
    assert method.tables() == {}


def test_the_search_for_a_task_uses_the_mask_with_the_lowest_entropy(make_brief: Make, make_stream: Make) -> None:
    """Restarts begin elsewhere, with the batches in another order; the first search begins at the mean of all z."""
    method, stream = made(make_brief), make_stream(3)
    for index in range(3):
        teach(method, stream[index], index, Schedule(20, 32, 0))
    inputs, _ = stream[2].test.whole()
    queries, orders = [inputs[None]], Split(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    ends = []
    for restart in range(6):
        order = torch.stack(list(orders.order(4, 10, generator(method.seed, "orders", restart))))
        added = 0.5 * torch.randn(1, method.size, generator=generator(method.seed, "starts", restart)) * (restart > 0)
        ends.append((method._recover_task(inputs, order[None], added, strength=0.5)[-1].z[0] >= 0).float())
    doubts = [float(method.doubt(inputs[None], mask[None])) for mask in ends]
    assert len({*doubts}) > 1, "the orders end alike: the test shows nothing"
    masks_used = [method._mask_of_task(inputs, queries, 10, 4, restarts, {"strength": 0.5}) for restarts in (1, 2, 6)]
    assert torch.equal(masks_used[0], ends[0])
    assert [float(method.doubt(inputs[None], mask[None])) for mask in masks_used] == pytest.approx(
        [doubts[0], min(doubts[:2]), min(doubts)], abs=1e-6
    )
    answers = [method.predict(inputs, search="task", restarts=6, steps=4, group=10) for _ in range(2)]
    assert torch.equal(answers[0].labels, answers[1].labels)


def test_a_memory_for_each_layer(make_brief: Make, make_stream: Make) -> None:
    """Each layer's block of a mask is stored by itself, and nothing else is; the method resumes from its file."""
    brief = make_brief(GNU)._replace(
        network=lambda outputs: networks.seeded(lambda n: networks.swish((1, 8, 8), (24, 16), n), outputs, 0)
    )
    method, stream = HopSupSup(brief, outputs=12, memory="layers"), make_stream(2)
    expected = [torch.zeros(24, 24), torch.zeros(16, 16)]
    for index in range(2):
        teach(method, stream[index], index, Schedule(5, 32, 0))
        z = torch.where(method.scores >= 0, 1.0, -1.0)
        expected = [storkey(psi, part) for psi, part in zip(expected, z.split((24, 16)), strict=True)]
    learned = method.learned()
    assert {"psi1", "psi2"} < set(learned)
    assert "psi" not in learned
    assert all(torch.equal(learned[f"psi{layer}"], psi) for layer, psi in enumerate(expected, 1))
    twin = HopSupSup(brief, outputs=12, memory="layers")
    twin.restore(learned, method.progress())
    inputs, _ = stream[0].test.whole()
    assert torch.equal(twin.predict(inputs).labels, method.predict(inputs).labels)


def test_the_retention_table_shows_how_much_of_the_first_mask_is_left(make_brief: Make, make_stream: Make) -> None:
    """Against a loop over its units, and again after a resumption."""
    method, stream = made(make_brief, storage="hebb"), make_stream(3)
    for index in range(2):
        teach(method, stream[index], index, Schedule(5, 32, 0))
    twin = made(make_brief, storage="hebb")
    twin.restore(method.learned(), method.progress())
    for each in (method, twin):
        teach(each, stream[2], 2, Schedule(5, 32, 0))
        *_, last = each.tables()["retention"]
        first = [float(unit) for unit in method.first]
        psi = method.memory[0].tolist()
        fields = [sum(psi[u][v] * first[v] for v in range(len(first)) if v != u) for u in range(len(first))]
        share = sum((field >= 0) != (unit > 0) for field, unit in zip(fields, first, strict=True)) / len(first)
        assert last == {"stored": 3, "lost": pytest.approx(share)}


def test_one_task_too_many_is_refused(make_brief: Make) -> None:
    with pytest.raises(
        UserError, match="outputs=12 are too few for 4 tasks of 4 classes, because each class needs its own: learn with outputs=16"
    ):
        made(make_brief).begin_task(3, 1)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"group": 1}, "group must be 2 or more"),
        ({"steps": 0}, "steps must be 1 or more"),
        ({"restarts": 0}, "restarts must be 1 or more"),
        ({"restarts": 2, "search": "group"}, "restarts belong to search=task"),
        ({"step_size": float("nan")}, "step_size must be above 0 and finite"),
        ({"descent_momentum": 1.5}, "descent_momentum must be at least 0 and below 1"),
    ],
)
def test_invalid_asks_are_refused(make_brief: Make, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        made(make_brief).check_ask(**asked)


def test_leftover_images_join_the_last_group(make_brief: Make, make_stream: Make) -> None:
    method, stream = made(make_brief), make_stream(1)
    teach(method, stream[0], 0, Schedule(5, 32, 0))
    inputs, _ = stream[0].test.whole()
    for count in (2, 33, 60):
        for search in ("recall", "task", "group"):
            assert method.predict(inputs[:count], search=search, group=16).labels.shape == (count,)
    assert [method.decisions(count, search="group", group=16) for count in (2, 33, 60)] == [1, 2, 3]
    assert method.decisions(60, search="task", group=16) == 1
    with pytest.raises(UserError, match="two images or more"):
        method.predict(inputs[:1])


def test_a_network_without_a_sequence_of_layers_is_refused(make_brief: Make) -> None:
    with pytest.raises(UserError, match=r"nn\.Sequential"):
        HopSupSup(make_brief(GNS)._replace(network=lambda outputs: nn.Linear(64, outputs)))
