import numpy as np
import pytest
import torch

from clbench.data import Dataset


@pytest.fixture
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 4, 5), dtype=torch.uint8, generator=generator)
    labels = torch.arange(12) % 3
    return Dataset("tiny", images[:8], labels[:8], images[8:], labels[8:], 3, (0.1, 0.5, 0.9), (0.2, 1.0, 3.0))


def test_inputs_are_scaled_and_normalised_by_channel(dataset: Dataset) -> None:
    before = dataset.train_images.clone()
    inputs = dataset.inputs(dataset.train_images)
    expected = dataset.train_images.numpy().astype(np.float64) / 255
    for channel, (mean, std) in enumerate(zip(dataset.mean, dataset.std, strict=True)):
        expected[:, channel] = (expected[:, channel] - mean) / std
    assert inputs.dtype == torch.float32
    np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-6)
    assert torch.equal(dataset.train_images, before)


def test_fingerprint_changes_with_a_pixel_a_label_and_the_split(dataset: Dataset) -> None:
    def variant(images: torch.Tensor, labels: torch.Tensor, train: int = 8) -> str:
        parts = images[:train], labels[:train], images[train:], labels[train:]
        return Dataset("other", *parts, 3, (0.0,) * 3, (1.0,) * 3).fingerprint

    images = torch.cat([dataset.train_images, dataset.test_images])
    labels = torch.cat([dataset.train_labels, dataset.test_labels])
    assert variant(images, labels) == dataset.fingerprint
    pixel, label = images.clone(), labels.clone()
    pixel[9, 1, 2, 3] += 1
    label[0] += 1
    assert len({dataset.fingerprint, variant(pixel, labels), variant(images, label), variant(images, labels, 7)}) == 4
