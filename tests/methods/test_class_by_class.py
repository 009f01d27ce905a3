"""SLDA, PEC and the generative classifier: scores against independent ones, classes that share nothing, and no forgetting."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from clbench.engine.evaluator import Schedule, teach
from clbench.errors import UserError
from clbench.methods._autoencoder import divergence
from clbench.methods.generative_classifier import GenerativeClassifier
from clbench.methods.naive import Naive
from clbench.methods.pec import PEC
from clbench.methods.slda import SLDA
from clbench.scenario import Scenario
from clbench.scenarios import GG, GNS, GNU, NNS
from tests.methods.learning import accuracies

Make = Callable[..., Any]
METHODS: dict[str, Callable[[Any], Any]] = {
    "slda": lambda brief: SLDA(brief, width=60, shrinkage=0.01),
    "pec": lambda brief: PEC(brief, width=6, teacher_width=60, outputs=20),
    "generative-classifier": lambda brief: GenerativeClassifier(brief, width=20, latent=3, learning_rate=0.01),
}
SCHEDULE = Schedule(updates=60, batch_size=32)


def test_slda_against_a_loop_over_images(make_brief: Make, make_stream: Make) -> None:
    """Gaussians about each class's mean with the pooled covariance, from numpy, over the inputs of all tasks."""
    method, stream = SLDA(make_brief(GNU), features="pixels", shrinkage=0.3), make_stream(2)
    images, numbers = [], []
    for index, task in enumerate(stream):
        method.begin_task(index, 1)
        inputs, labels = task.train.whole()
        method.observe(inputs, labels)
        images += list(inputs.flatten(1).double().numpy())
        numbers += (labels + 4 * index).tolist()
    means = [np.mean([x for x, number in zip(images, numbers, strict=True) if number == k], 0) for k in range(8)]
    covariance = np.zeros((64, 64))
    for x, number in zip(images, numbers, strict=True):
        covariance += np.outer(x - means[number], x - means[number]) / len(images)
    shrunk = 0.7 * covariance + 0.3 * np.eye(64)
    test, _ = stream[1].test.whole()
    densities = np.array([stats.multivariate_normal(mean, shrunk).logpdf(test.flatten(1).numpy()) for mean in means])
    prediction = method.predict(test)
    assert prediction.tasks is not None
    assert (4 * prediction.tasks + prediction.labels).tolist() == densities.argmax(0).tolist()
    ours = test.flatten(1) @ method.discriminant()["weights"].T + method.discriminant()["biases"]
    differences = torch.from_numpy((densities[1:] - densities[:1]).T).float()  # densities, but for what all classes share
    torch.testing.assert_close(ours[:, 1:] - ours[:, :1], differences, rtol=1e-3, atol=1e-2)


def test_slda_does_not_depend_on_the_order_of_images_and_batches(make_brief: Make, make_stream: Make) -> None:
    task = make_stream(1)[0]
    inputs, labels = task.train.whole()
    together, apart = SLDA(make_brief(GNS), width=50), SLDA(make_brief(GNS), width=50)
    together.observe(inputs, labels)
    for rows in torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split(7):
        apart.observe(inputs[rows], labels[rows])
    for name, tensor in together.discriminant().items():
        torch.testing.assert_close(apart.discriminant()[name], tensor, rtol=1e-3, atol=1e-3)


def test_pec_trains_the_student_of_the_shown_class_with_torch_s_adam(make_brief: Make, make_stream: Make) -> None:
    method = PEC(make_brief(GNU), width=5, teacher_width=40, outputs=7, learning_rate=0.01, schedule="linear")
    names = ["1.weight", "1.bias", "2.weight", "2.bias", "4.weight", "4.bias"]

    def forward(images: Tensor, p: dict[str, Tensor]) -> Tensor:
        hidden = layer_norm(linear(images.flatten(1), p["1.weight"], p["1.bias"]), (5,), p["2.weight"], p["2.bias"])
        return linear(gelu(hidden), p["4.weight"], p["4.bias"])

    students = [{name: nn.Parameter(method.initial[name].clone()) for name in names} for _ in range(4)]
    optimisers = [torch.optim.Adam(student.values(), lr=0.01) for student in students]
    method.begin_task(0, 10)
    batches = list(make_stream(1)[0].train.batches(10, 3, torch.Generator().manual_seed(0)))
    for step, (inputs, labels) in enumerate(batches):
        method.observe(inputs, labels)
        for k in set(labels.tolist()):
            own = inputs[labels == k]
            optimisers[k].param_groups[0]["lr"] = 0.01 * (1 - (step + 0.5) / 10)
            optimisers[k].zero_grad()
            (forward(own, students[k]) - method.teacher(own)).square().mean().backward()
            optimisers[k].step()
    method.end_task(make_stream(1)[0].train)
    for k, student in enumerate(students):
        for name in names:
            torch.testing.assert_close(method.models[k][name], student[name].detach(), rtol=1e-3, atol=1e-5)
    inputs, _ = make_stream(1)[0].test.whole()
    errors = [[float((forward(x[None], s) - method.teacher(x[None])).norm()) for s in students] for x in inputs]
    assert method.predict(inputs).labels.tolist() == np.argmin(errors, 1).tolist()


def test_the_divergence_against_an_integral() -> None:
    mean, deviation = 0.7, 0.4
    q, p = stats.norm(mean, deviation), stats.norm()
    expected, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -3, 4)
    ours = divergence(torch.tensor([mean]), torch.tensor([2 * math.log(deviation)]))
    assert float(ours) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("likelihood", ["normal", "bernoulli"])
def test_the_likelihood_of_a_generative_classifier_against_an_integral(likelihood: Any, make_brief: Make) -> None:
    """log of the integral of p(x | z) p(z) over a single latent dimension."""
    brief = make_brief(GNU, input_shape=(3,), classes=2)
    method = GenerativeClassifier(brief, width=4, latent=1, likelihood=likelihood)
    models = [method.fresh(number) for number in range(2)]
    images = torch.tensor([[0.2, 0.9, 0.0], [1.0, 0.4, 0.7]])
    ours = method.scores(images, models, 0, samples=20_000)
    for k, model in enumerate(models):

        def decoded(z: float, p: dict[str, Tensor] = model) -> np.ndarray[Any, Any]:
            hidden = torch.tensor([z])
            for layer in (0, 2, 4):
                hidden = linear(hidden.relu() if layer else hidden, p[f"decoder.{layer}.weight"], p[f"decoder.{layer}.bias"])
            return hidden.numpy().astype(float)

        for row, x in enumerate(images.numpy().astype(float)):

            def density(z: float, x: np.ndarray[Any, Any] = x, decoded: Callable[[float], Any] = decoded) -> float:
                outputs = decoded(z)
                if likelihood == "normal":
                    log_p = -((x - outputs) ** 2).sum() / 2
                else:
                    chances = 1 / (1 + np.exp(-outputs))
                    log_p = (x * np.log(chances) + (1 - x) * np.log(1 - chances)).sum()
                return float(np.exp(log_p) * stats.norm.pdf(z))

            expected = math.log(integrate.quad(density, -7, 7, limit=200)[0])
            assert float(ours[row, k]) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", METHODS)
def test_tasks_never_change_each_other_s_classes(name: str, make_brief: Make, make_stream: Make) -> None:
    """Naive training forgets; here a later task leaves the answers in GG as they are (SLDA: but for the common covariance)."""
    matrices = [accuracies(kind(make_brief(GG)), make_stream(3)) for kind in (METHODS[name], Naive)]
    forgetting = [float((matrix.diag() - matrix[-1])[:-1].mean()) for matrix in matrices]
    assert forgetting[0] <= (0.02 if name == "slda" else 0.0)
    assert matrices[0].diag().mean() > 0.9


@pytest.mark.parametrize("name", METHODS)
def test_without_the_task_it_is_inferred_and_naive_training_is_beaten(name: str, make_brief: Make, make_stream: Make) -> None:
    ours, naive = (accuracies(kind(make_brief(GNU)), make_stream(3))[-1].mean() for kind in (METHODS[name], Naive))
    assert ours > naive + 0.2


@pytest.mark.parametrize("scenario", [GG, GNS, GNU], ids=lambda s: s.name)
def test_the_three_scenarios_learn_the_same(scenario: Scenario, make_brief: Make, make_stream: Make) -> None:
    method, other = METHODS["pec"](make_brief(scenario)), METHODS["pec"](make_brief(GNU))
    for learner in (method, other):
        teach(learner, make_stream(1)[0], 0, Schedule(5, 16))
    assert all(torch.equal(tensor, other.learned()[name]) for name, tensor in method.learned().items())


def test_without_tasks_slda_has_one_mean_for_a_label(make_brief: Make, make_stream: Make) -> None:
    method = SLDA(make_brief(NNS), width=20)
    for task in make_stream(2):
        method.observe(*task.train.whole())
    assert len(method.statistics.means) == 4
    assert method.predict(make_stream(1)[0].test.whole()[0]).tasks is None


def test_grey_values_outside_0_to_1_have_no_bernoulli_likelihood(make_brief: Make, make_stream: Make) -> None:
    method = GenerativeClassifier(make_brief(GNU), likelihood="bernoulli")
    method.begin_task(0, 1)
    with pytest.raises(UserError, match="likelihood=bernoulli needs inputs from 0 to 1"):
        method.observe(*make_stream(1)[0].train.whole(8))


def test_a_shrinkage_outside_0_to_1_is_refused(make_brief: Make) -> None:
    for wrong in (0.0, 1.5):
        with pytest.raises(UserError, match="shrinkage must be above 0 and at most 1"):
            SLDA(make_brief(GNU), shrinkage=wrong)
