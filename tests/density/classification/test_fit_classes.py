"""Fits of the rows of every label."""

import dataclasses

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.datasets.splits import Parts
from drl_density.errors import DataError

SETTINGS = dataclasses.replace(drl.FitSettings.preset("pixels"), base="factors", num_pool_draws=8)


def bars(num_images):
    """Noisy bars, lying with label 2 and standing with label 5."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, num_images)
    images = rng.integers(0, 60, (num_images, 4, 4))
    for image, label, place in zip(images, labels, rng.integers(0, 4, num_images), strict=True):
        (image if label == 0 else image.T)[place] += 180
    return images.astype(np.uint8), np.where(labels == 0, 2, 5)


def test_labels_of_images_are_told_by_their_densities(tmp_path):
    images, labels = bars(700)
    path = tmp_path / "bars.npz"
    np.savez(path, x_train=images[:500], y_train=labels[:500], x_test=images[500:], y_test=labels[500:])
    found = drl.fit_classes(path, seed=0, settings=SETTINGS, progress=False)
    assert found.labels == [2, 5]
    rows, truth = torch.as_tensor(images[500:]), torch.as_tensor(labels[500:])
    assert float((found.predict(rows) == truth).double().mean()) > 0.9
    chances = found.probabilities(rows)[torch.arange(200), (truth == 5).long()]
    assert float(-chances.log().mean()) < 0.4  # nothing known is 0.69
    assert found.densities[5].provenance.name == "bars, label 5"


def test_data_without_enough_labels_are_refused():
    images, _ = bars(80)
    data = drl.load_dataset(images)
    with pytest.raises(DataError, match="expected data with one label for each row"):
        drl.fit_classes(data)
    with pytest.raises(DataError, match="max_minutes must be a positive number, got -1"):
        drl.fit_classes(data, max_minutes=-1)
    parts = Parts(*(torch.zeros(len(part), dtype=torch.long) for part in (data.train, data.validation, data.test)))
    with pytest.raises(DataError, match="got 1 label: leave"):
        drl.fit_classes(dataclasses.replace(data, labels=parts))
