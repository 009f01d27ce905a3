"""Task inference against superpositions written out here in double precision, and against loops over masks."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clbench.engine.asking import Ask
from clbench.errors import UserError
from clbench.method import Brief
from clbench.methods import _objectives
from clbench.methods._inference import Inference
from clbench.methods.supsup import SupSup, inference
from clbench.methods.supsup.bank import MaskBank
from clbench.methods.supsup.layout import Base, random_base
from clbench.scenarios import GNU

CPU = torch.device("cpu")
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Case:
    """A random network with k masks, and the images of q groups: what inference sees, and the same as named double tensors."""

    base: Base
    bank: MaskBank
    masks: list[dict[str, Tensor]]
    statistics: list[dict[str, Tensor]]
    groups: Tensor  # [q, e, *input_shape]
    classes: int

    def logits(self, alpha: Tensor, images: Tensor) -> Tensor:
        """Equation 2: outputs for weights W * sum_i alpha_i M_i, and for statistics superposed with the same alpha."""
        state = {name: value.double() for name, value in self.base.fixed.items()}
        for name, weight in self.base.layout.split(self.base.weights).items():
            state[name] = weight.double() * sum(a * mask[name] for a, mask in zip(alpha, self.masks, strict=True))
        for name in self.base.statistics.shapes:
            state[name] = sum(a * statistics[name] for a, statistics in zip(alpha, self.statistics, strict=True))
        outputs = images.double()
        for number, layer in self.base.network.named_children():
            tensors = {name.removeprefix(f"{number}."): value for name, value in state.items() if name.startswith(f"{number}.")}
            if isinstance(layer, nn.Linear):
                outputs = outputs @ tensors["weight"].T + tensors.get("bias", 0)
            elif isinstance(layer, nn.Conv2d):
                outputs = nn.functional.conv2d(outputs, tensors["weight"], tensors.get("bias"))
            elif isinstance(layer, nn.BatchNorm2d):
                mean, variance, scale, shift = (
                    tensors[name].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
                )
                outputs = (outputs - mean) / (variance + layer.eps).sqrt() * scale + shift
            else:
                outputs = outputs.relu() if isinstance(layer, nn.ReLU) else outputs.flatten(1)
        return outputs

    def gradient(self, alpha: Tensor, images: Tensor, objective: str) -> Tensor:
        """dH/dalpha [k], or that of another objective, by autograd through the superposition."""
        alpha = alpha.double().requires_grad_()
        logits = self.logits(alpha, images)
        p = logits.softmax(1)
        if objective in ("logit", "energy"):
            return torch.autograd.grad(value(objective, logits, self.classes).mean(), alpha)[0]
        if objective == "H":
            return torch.autograd.grad(-(p * p.log()).sum(1).mean(), alpha)[0]
        # G = logsumexp has the gradient p with respect to the logits, masked for the real classes.
        masked = torch.cat([torch.zeros_like(p[:, : self.classes]), p[:, self.classes :]], 1)
        return torch.autograd.grad(logits, alpha, masked.detach() / len(images))[0]

    def uniform(self) -> Tensor:
        return torch.full((len(self.masks),), 1 / len(self.masks), dtype=torch.float64)


def random_case(kind: str, widths: tuple[int, ...], masks: int, groups: int, evidence: int, classes: int, seed: int) -> Case:
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws)

    *hidden, outputs = widths
    if kind == "convolution":
        sizes = (2, 5, 5)
        head = nn.Linear(hidden[0] * 9, outputs, bias=False)
        network = nn.Sequential(nn.Conv2d(2, hidden[0], 3), nn.BatchNorm2d(hidden[0], eps=0.1), nn.ReLU(), nn.Flatten(), head)
    else:
        sizes = (6,)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((*sizes, *hidden)):
            layers += [nn.Linear(fan_in, fan_out, bias=kind == "biases"), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(hidden[-1], outputs, bias=kind == "biases"))
    base = random_base(network, seed, CPU)
    # SupSup's own biases are 0 and scales 1; others show that they are neither masked nor superposed.
    base.fixed.update({name: normal(*value.shape) for name, value in base.fixed.items() if value.is_floating_point()})
    bank = MaskBank(base.layout.size, base.statistics.size, CPU)
    named_masks, named_statistics = [], []
    for _ in range(masks):
        mask = {name: torch.rand(shape, generator=draws) < 0.6 for name, shape in base.layout.shapes.items()}
        means = {name: normal(*shape) for name, shape in base.statistics.shapes.items()}
        statistics = {name: value.abs() + 0.5 if name.endswith("var") else value for name, value in means.items()}
        flat = torch.cat([value.flatten() for value in statistics.values()]) if statistics else torch.empty(0)
        bank.append(torch.cat([value.flatten() for value in mask.values()]), flat)
        named_masks.append({name: value.double() for name, value in mask.items()})
        named_statistics.append({name: value.double() for name, value in statistics.items()})
    return Case(base, bank, named_masks, named_statistics, normal(groups, evidence, *sizes), classes)


@st.composite
def cases(draw: st.DrawFn, most_masks: int = 9) -> Case:
    classes = draw(st.integers(2, 4))
    hidden = draw(st.lists(st.integers(2, 7), min_size=1, max_size=2))
    outputs = classes + draw(st.integers(1, 6))
    return random_case(
        kind=draw(st.sampled_from(["plain", "biases", "convolution"])),
        widths=(*hidden, outputs),
        masks=draw(st.integers(1, most_masks)),
        groups=draw(st.integers(1, 3)),
        evidence=draw(st.integers(1, 5)),
        classes=classes,
        seed=draw(st.integers(0, 10**6)),
    )


objectives = st.sampled_from(["H", "G", "logit", "energy"])


def value(objective: str, logits: Tensor, classes: int) -> Tensor:
    """What exhaustive search compares, for each row of logits."""
    if objective == "H":
        return torch.distributions.Categorical(logits=logits).entropy()
    if objective == "G":
        return logits.softmax(1)[:, classes:].sum(1).log()
    if objective == "logit":
        return -logits[:, :classes].amax(1)
    if objective == "energy":
        return -logits[:, :classes].exp().sum(1).log()
    ordered = logits.sort(1).values
    return ordered[:, -2] - ordered[:, -1]


def some_alpha(case: Case, seed: int) -> Tensor:
    """Coefficients [q, k] on the simplex, others for every group."""
    draws = torch.rand(len(case.groups), len(case.masks), generator=torch.Generator().manual_seed(seed)) + 0.05
    return draws / draws.sum(1, keepdim=True)


def close(actual: Tensor, expected: Tensor) -> bool:
    return torch.allclose(actual.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()) + 1e-6)


# The gradient


@quick
@given(cases(), objectives)
def test_gradient_of_alpha_is_that_of_an_explicit_superposition(case: Case, objective: str) -> None:
    expected = torch.stack([case.gradient(case.uniform(), images, objective) for images in case.groups])
    assert close(inference.alpha_gradient(case.base, case.bank, case.groups, [objective], case.classes, None)[0], expected)


@quick
@given(cases(), objectives, st.integers(0, 99))
def test_gradient_at_coefficients_that_differ_between_groups(case: Case, objective: str, seed: int) -> None:
    alpha = some_alpha(case, seed)
    expected = torch.stack([case.gradient(a, images, objective) for a, images in zip(alpha, case.groups, strict=True)])
    assert close(inference.alpha_gradient(case.base, case.bank, case.groups, [objective], case.classes, alpha)[0], expected)


@quick
@given(cases(most_masks=5), objectives, st.integers(0, 99))
def test_gradient_of_alpha_is_that_of_finite_differences(case: Case, objective: str, seed: int) -> None:
    step = 1e-6
    at = some_alpha(case, seed)
    gradients = inference.alpha_gradient(case.base, case.bank, case.groups, [objective], case.classes, at)[0]
    for alpha, images, slopes in zip(at.double(), case.groups, gradients, strict=True):
        real = case.logits(alpha, images)[:, : case.classes]

        def at_alpha(moved: Tensor, images: Tensor = images, real: Tensor = real) -> float:
            logits = case.logits(moved, images)
            if objective == "G":  # its gradient is masked for the real classes: they stand still
                return float(torch.cat([real, logits[:, case.classes :]], 1).logsumexp(1).mean())
            return float(value(objective, logits, case.classes).mean())

        differences = [at_alpha(alpha + step * e) - at_alpha(alpha - step * e) for e in torch.eye(len(alpha), dtype=torch.float64)]
        assert torch.allclose(slopes.double(), torch.tensor(differences, dtype=torch.float64) / (2 * step), rtol=1e-3, atol=1e-3)


@quick
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_lemma_1(classes: int, superfluous: int, seed: int) -> None:
    """For a superfluous output dG/dlogit is the derivative of the cross-entropy, whatever the label; for real classes it is 0."""
    draws = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(7, classes + superfluous, generator=draws)).requires_grad_()
    labels = torch.randint(classes, (7,), generator=draws)
    (of_g,) = torch.autograd.grad(_objectives.superfluous(logits, classes).sum(), logits)
    (of_loss,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)
    assert torch.equal(of_g[:, :classes], torch.zeros(7, classes))
    assert torch.allclose(of_g[:, classes:], of_loss[:, classes:], atol=1e-6)
    assert (of_g[:, classes:] > 0).all()


def test_entropy_of_outputs_that_are_certain_and_of_some_that_are_not() -> None:
    logits = torch.tensor([[0.0, 0, 0, 0], [200, 0, 0, 0], [5, 5, -200, -200]])
    assert torch.allclose(_objectives.entropy(logits, 4), torch.tensor([math.log(4), 0, math.log(2)]), atol=1e-6)


# The algorithms


@quick
@given(cases(), objectives)
def test_one_shot_is_one_step_of_frank_wolfe(case: Case, objective: str) -> None:
    """From alpha = 1/k, the vertex of the simplex that minimises the linearised objective; the step to it is 2 / (t + 2) = 1."""
    tasks = inference.one_shot(case.base, case.bank, case.groups, objective, case.classes)
    assert tasks.dtype == torch.int64
    for group, images in enumerate(case.groups):
        alpha = case.uniform()
        slope = case.gradient(alpha, images, objective)
        vertices = torch.eye(len(alpha), dtype=torch.float64)
        values = [float(vertex @ slope) for vertex in vertices]
        nearest = vertices[values.index(min(values))]
        after = alpha + 2 / (0 + 2) * (nearest - alpha)
        best = int(after.argmax())
        # In single precision another mask may win that is as good.
        assert tasks[group] == best or close(slope[tasks[group]].float(), slope[best])


def naive_binary(case: Case, images: Tensor, objective: str) -> tuple[int, int, float]:
    """The mask that is left, the rounds, and how narrowly any mask was ruled out."""
    alive, rounds, margin = list(range(len(case.masks))), 0, math.inf
    while len(alive) > 1:
        alpha = [1 / len(alive) if i in alive else 0.0 for i in range(len(case.masks))]
        slope = case.gradient(torch.tensor(alpha, dtype=torch.float64), images, objective).tolist()
        ranked = sorted(alive, key=lambda i: slope[i])
        half = math.ceil(len(ranked) / 2)
        scale = max(abs(slope[i]) for i in ranked) or 1
        margin = min(margin, (slope[ranked[half]] - slope[ranked[half - 1]]) / scale)
        alive, rounds = ranked[:half], rounds + 1
    return alive[0], rounds, margin


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple]:
    """The arguments of every call of a function of ``inference``."""
    calls: list[tuple] = []
    original: Callable[..., Tensor] = getattr(inference, name)

    def call(*arguments: object) -> Tensor:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(inference, name, call)
    return calls


@quick
@given(cases(), objectives)
def test_binary_is_a_loop_that_halves_the_candidates(case: Case, objective: str) -> None:
    expected = [naive_binary(case, images, objective) for images in case.groups]
    assume(min(margin for _, _, margin in expected) > 1e-4)  # else single precision decides otherwise
    with pytest.MonkeyPatch.context() as patch:
        calls = counted(patch, "alpha_gradient")
        tasks = inference.binary(case.base, case.bank, case.groups, objective, case.classes)
    assert tasks.tolist() == [winner for winner, _, _ in expected]
    assert {len(calls)} == {rounds for _, rounds, _ in expected} == {math.ceil(math.log2(len(case.masks)))}


@pytest.mark.parametrize("masks", [1, 2, 3, 8, 13])
def test_ties_do_not_stop_binary(masks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case("plain", (4, 5), 1, 3, 2, 3, seed=0)
    for _ in range(masks - 1):
        case.bank.append(case.bank.mask(0), case.bank.statistics(0))
    calls = counted(monkeypatch, "alpha_gradient")
    tasks = inference.binary(case.base, case.bank, case.groups, "H", 3)
    assert len(calls) == math.ceil(math.log2(masks))
    assert all(0 <= winner < masks for winner in tasks.tolist())


@quick
@given(cases(), objectives, st.integers(1, 4), st.sampled_from([0.01, 0.3, 5.0]))
def test_gradient_descent_follows_equation_3_on_the_simplex(case: Case, objective: str, steps: int, step_size: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = counted(patch, "alpha_gradient")
        actual = inference.gradient_descent(
            case.base, case.bank, case.groups, objective, case.classes, steps=steps, step_size=step_size
        )
    visited = torch.stack([arguments[-1] for arguments in calls])  # [steps, q, k]
    assert len(visited) == steps
    assert (visited >= 0).all()
    assert torch.allclose(visited.sum(-1), torch.ones(steps, len(case.groups)), atol=1e-5)
    assert torch.allclose(visited[0], torch.full_like(visited[0], 1 / len(case.masks)))
    for group, images in enumerate(case.groups):
        alphas = visited[:, group].double()
        for step in range(steps):
            moved = (alphas[step] - step_size * case.gradient(alphas[step], images, objective)).clamp(min=0)
            after = moved / moved.sum() if moved.sum() > 1e-3 else alphas[step]
            if step + 1 < steps:
                assume(moved.sum() == 0 or moved.sum() > 1e-2)  # else single precision may see no step
                assert torch.allclose(alphas[step + 1], after, atol=2e-3)
        assert after[actual[group]] >= after.max() - 2e-2


@quick
@given(cases(), st.sampled_from(sorted(_objectives.OBJECTIVES)))
def test_exhaustive_is_a_loop_over_the_masks(case: Case, objective: str) -> None:
    tasks = inference.exhaustive(case.base, case.bank, case.groups, objective, case.classes)
    corners = torch.eye(len(case.masks), dtype=torch.float64)
    for group, images in enumerate(case.groups):
        values = [float(value(objective, case.logits(corner, images), case.classes).mean()) for corner in corners]
        assert values[tasks[group]] <= min(values) + 1e-4 * (1 + abs(min(values)))


def two_masks_of_a_linear_layer(first: list[float], second: list[float], classes: int) -> tuple[Base, MaskBank, Tensor]:
    """Weights such that for the one image each mask has the given logits."""
    base = random_base(nn.Linear(2, len(first), bias=False), 0, CPU)
    base = replace(base, weights=torch.tensor([first, second]).T.flatten())
    bank = MaskBank(2 * len(first), 0, CPU)
    for keeps in ([True, False], [False, True]):
        bank.append(torch.tensor([keeps] * len(first)).flatten(), torch.empty(0))
    return base, bank, torch.ones(1, 1, 2)


def test_exhaustive_g_compares_the_probability_of_a_superfluous_output() -> None:
    """The second mask fits: a large logit for its class and low superfluous ones. With the class in it, its value would be larger."""
    base, bank, groups = two_masks_of_a_linear_layer([1.0, 1, 1, 1], [9.0, 0, -2, -2], classes=2)
    assert _objectives.superfluous(torch.tensor([9.0, 0, -2, -2]), 2) > _objectives.superfluous(torch.tensor([1.0, 1, 1, 1]), 2)
    assert inference.exhaustive(base, bank, groups, "G", 2).tolist() == [1]


def test_exhaustive_g_of_three_outputs_by_hand() -> None:
    """Of odds 1 : 1 : 2 the superfluous third has a half, of 8 : 1 : 3 a quarter, though its logit is larger: the second mask wins."""
    first, second = [math.log(1), math.log(1), math.log(2)], [math.log(8), math.log(1), math.log(3)]
    values = _objectives.superfluous_value(torch.tensor([first, second]), 2)
    assert torch.allclose(values, torch.tensor([math.log(1 / 2), math.log(1 / 4)]))
    base, bank, groups = two_masks_of_a_linear_layer(first, second, classes=2)
    assert inference.exhaustive(base, bank, groups, "G", 2).tolist() == [1]


@pytest.mark.parametrize("offset", [-40.0, -3.0, 3.0, 40.0])
@pytest.mark.parametrize("objective", ["H", "G"])
def test_the_level_of_a_mask_s_logits_has_no_effect(objective: str, offset: float) -> None:
    """A softmax does not see a number that is added to all logits, and neither H nor G may."""
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        first, second = (3 * torch.randn(2, 5, generator=draws)).tolist()
        tasks = [
            inference.exhaustive(*two_masks_of_a_linear_layer(first, moved, classes=2), objective, 2).tolist()
            for moved in (second, [logit + offset for logit in second])
        ]
        assert tasks[0] == tasks[1]


def test_h_counts_superfluous_outputs_too() -> None:
    """The second mask is certain of a superfluous output, the first wavers between the classes."""
    base, bank, groups = two_masks_of_a_linear_layer([2.0, 2, 0, 0], [0.0, 0, 9, 0], classes=2)
    assert inference.exhaustive(base, bank, groups, "H", 2).tolist() == [1]


# Groups and evidence


@pytest.mark.parametrize("images", [1, 5, 6, 7, 12, 17])
@pytest.mark.parametrize(("group", "evidence"), [(1, 1), (6, 1), (6, 4), (6, 6), (100, 3), (10**20, 3)])
@pytest.mark.parametrize("algorithm", ["one-shot", "exhaustive"])
def test_a_group_shares_the_task_that_its_first_images_decide(images: int, group: int, evidence: int, algorithm: str) -> None:
    case = random_case("plain", (8, 9), masks=6, groups=1, evidence=images, classes=3, seed=images)
    inputs = case.groups[0]
    tasks = inference.infer_tasks(case.base, case.bank, inputs, 3, Inference(algorithm, "H", group, evidence))
    expected = []
    for first in range(0, images, group):
        members = inputs[first : first + group]
        decision = inference.ALGORITHMS[algorithm](case.base, case.bank, members[:evidence][None], "H", 3)
        expected += decision.tolist() * len(members)
    assert tasks.tolist() == expected
    assert tasks.dtype == torch.int64


def test_in_groups_of_one_each_image_decides_for_itself() -> None:
    """So that the test above is not about masks that all groups agree on."""
    case = random_case("plain", (8, 9), masks=6, groups=1, evidence=17, classes=3, seed=17)
    alone = inference.infer_tasks(case.base, case.bank, case.groups[0], 3, Inference(group=1))
    assert len(alone.unique()) > 1
    assert (alone != inference.infer_tasks(case.base, case.bank, case.groups[0], 3, Inference(group=6))).any()


def test_a_group_larger_than_the_ask_is_the_whole_ask() -> None:
    """In the pass that several asks share too, and without memory for more."""
    case = random_case("plain", (8, 9), masks=6, groups=1, evidence=17, classes=3, seed=17)
    asks = [(count, Inference(group=group)) for count, group in ((17, 10**20), (17, 17), (5, 10**20))]
    huge, whole, some = inference.infer_from_one_image(case.base, case.bank, case.groups[0], 3, asks)
    assert huge.tolist() == whole.tolist() == [int(whole[0])] * 17
    assert some.tolist() == [int(whole[0])] * 5


def test_groups_are_split_into_passes_that_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case("plain", (8, 9), masks=6, groups=1, evidence=17, classes=3, seed=1)
    how = Inference(group=2, evidence=2)
    whole = inference.infer_tasks(case.base, case.bank, case.groups[0], 3, how)
    monkeypatch.setattr(inference, "GRADIENT_BYTES", 3 * 4 * case.base.layout.size)
    calls = counted(monkeypatch, "superposed_gradient")
    assert torch.equal(inference.infer_tasks(case.base, case.bank, case.groups[0], 3, how), whole)
    assert [len(arguments[3]) for arguments in calls] == [3, 3, 2, 1]


# predict


def test_predict_answers_among_the_task_s_own_labels_with_the_inferred_mask(make_brief: Callable[..., Brief]) -> None:
    """The mask that won makes the prediction, by equation 1, and superfluous outputs are no answers."""
    method = SupSup(make_brief(GNU), outputs=20)
    draws = torch.Generator().manual_seed(0)
    for _ in range(3):
        method.bank.append(torch.rand(method.base.layout.size, generator=draws) < 0.5, torch.empty(0))
    inputs = torch.randn(10, 1, 8, 8, generator=draws)
    prediction = method.predict(inputs, group=3, evidence=2)
    first, last = (w.double() for w in method.base.layout.split(method.base.weights).values())
    superfluous = 0
    for row, image in enumerate(inputs):
        keep_first, keep_last = method.base.layout.split(method.bank.mask(int(prediction.tasks[row]))).values()
        logits = (last * keep_last) @ ((first * keep_first) @ image.flatten().double()).relu()
        assert prediction.labels[row] == logits[:4].argmax()
        assert method.predict(inputs, int(prediction.tasks[row])).labels[row] == prediction.labels[row]
        superfluous += int(logits.argmax() >= 4)
    assert superfluous > 0
    assert method.predict(inputs, 0).tasks is None


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"objective": "G"}, "superfluous"),
        ({"evidence": 3, "group": 2}, "evidence"),
        ({"evidence": 0}, "evidence"),
        ({"group": 0}, "evidence must be between 1 and the group"),
        ({"steps": 3}, "gradient"),
        ({"algorithm": "gradient", "steps": 0}, "above 0"),
        ({"algorithm": "gradient", "step_size": -1.0}, "above 0"),
    ],
)
def test_asks_without_an_answer_are_refused(parameters: dict, says: str, make_brief: Callable[..., Brief]) -> None:
    with pytest.raises(UserError, match=says):
        SupSup(make_brief(GNU), outputs=4).check_ask(**Ask(GNU, parameters).parameters)


@pytest.mark.parametrize("algorithm", ["one-shot", "binary", "gradient", "exhaustive"])
def test_every_algorithm_answers_inside_no_grad(algorithm: str, make_brief: Callable[..., Brief]) -> None:
    """The evaluator asks with gradients off; a method that needs them says so itself."""
    method = SupSup(make_brief(GNU), outputs=20)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        method.bank.append(torch.rand(method.base.layout.size, generator=draws) < 0.5, torch.empty(0))
    inputs = torch.randn(6, 1, 8, 8, generator=draws)
    for objective in ("H", "G"):
        method.check_ask(algorithm=algorithm, objective=objective)
        outside = method.predict(inputs, algorithm=algorithm, objective=objective, group=1)
        with torch.no_grad():
            inside = method.predict(inputs, algorithm=algorithm, objective=objective, group=1)
        assert torch.equal(outside.tasks, inside.tasks)


# Several asks at once


ASKS = [
    (12, {"objective": "H", "group": 128}),
    (12, {"objective": "G", "group": 5}),
    (7, {"objective": "H", "group": 1}),
    (9, {"objective": "G", "group": 1}),
    (12, {"algorithm": "one-shot", "group": 4, "evidence": 1}),
]


def test_asks_together_get_the_same_answers_as_alone(make_brief: Callable[..., Brief]) -> None:
    method = SupSup(make_brief(GNU), outputs=20)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        method.bank.append(torch.rand(method.base.layout.size, generator=draws) < 0.5, torch.empty(0))
    inputs = torch.randn(12, 1, 8, 8, generator=draws)
    assert {method.shared_pass(**how) for _, how in ASKS} == {"one-shot from one image"}
    together = method.predict_together(inputs, ASKS)
    for (count, how), answers in zip(ASKS, together, strict=True):
        alone = method.predict(inputs[:count], **how)
        assert answers.tasks is not None
        assert alone.tasks is not None
        assert torch.equal(answers.tasks, alone.tasks)
        assert torch.equal(answers.labels, alone.labels)
    assert len({tuple(answers.tasks[:7].tolist()) for answers in together}) > 1  # or nothing was told apart


def test_work_that_asks_share_is_done_once(make_brief: Callable[..., Brief], monkeypatch: pytest.MonkeyPatch) -> None:
    method = SupSup(make_brief(GNU), outputs=20)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        method.bank.append(torch.rand(method.base.layout.size, generator=draws) < 0.5, torch.empty(0))
    calls = counted(monkeypatch, "superposed_gradient")
    method.predict_together(torch.randn(12, 1, 8, 8, generator=draws), ASKS)
    # G alone is wanted of images 7 and 10, H and G of 0 to 6 and of 8.
    assert [(len(arguments[3]), arguments[4]) for arguments in calls] == [(2, ("G",)), (8, ("G", "H"))]


@pytest.mark.parametrize("how", [{"algorithm": "binary"}, {"algorithm": "exhaustive"}, {"evidence": 2}])
def test_other_asks_are_answered_alone(make_brief: Callable[..., Brief], how: dict[str, object]) -> None:
    assert SupSup(make_brief(GNU)).shared_pass(**how) is None
