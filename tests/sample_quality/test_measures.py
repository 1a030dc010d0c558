"""Figures of samples against closed forms."""

import math

import pytest
import torch

from drl_density.errors import DataError
from drl_density.sample_quality import (
    class_entropy,
    confident_share,
    precision_and_recall,
    sample_quality,
)
from tests.sample_quality.pixels import CLASSES, PIXELS, images


def test_precision_and_recall_on_a_line():
    """Points 0..9 with k = 1 cover [-1, 10]: of 0.5, 9.5 and 20 two lie inside; those reach 9, 9 and 10.5."""
    line, others = torch.arange(10.0)[:, None].double(), torch.tensor([[0.5], [9.5], [20.0]]).double()
    precision, recall = precision_and_recall(others, line, num_neighbours=1)
    assert precision == pytest.approx(2 / 3)
    assert recall == 1.0
    assert precision_and_recall(line + 100, line) == (0.0, 0.0)
    assert precision_and_recall(line, line) == (1.0, 1.0)


def test_class_statistics():
    probabilities = torch.tensor([[0.95, 0.05], [0.5, 0.5], [0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    mean = 2.45 / 4
    assert class_entropy(probabilities) == pytest.approx(-mean * math.log(mean) - (1 - mean) * math.log(1 - mean))
    assert confident_share(probabilities) == 0.75


def test_distances_are_those_of_the_formulas():
    """Frechet: |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) in float64; torchmetrics' last steps are float64 too."""
    pytest.importorskip("torchmetrics")
    samples, reference = images(60, low=20, high=200), images(80, seed=1)
    found = sample_quality(samples, reference, PIXELS, subset_size=30, num_subsets=5)
    x, y = (part.flatten(1).double() for part in (samples, reference))
    first, second = x.T.cov(), y.T.cov()
    root = torch.linalg.eigvals(first @ second).sqrt().real.sum()
    wanted = (x.mean(0) - y.mean(0)).square().sum() + first.trace() + second.trace() - 2 * root
    assert found.frechet_distance == pytest.approx(float(wanted), rel=1e-6)
    assert math.isnan(found.inception_score[0])
    assert found.extractor == "pixels"
    same = sample_quality(reference, reference, PIXELS, subset_size=80, num_subsets=2)
    assert abs(same.frechet_distance) < 1e-6 * float(second.trace())
    assert (same.precision, same.recall) == (1.0, 1.0)


def test_kernel_distance_is_the_unbiased_one_of_the_cubic_kernel():
    """Means of (<u, v> / d + 1)^3 over pairs of different images within a set, less twice the mean over both sets."""
    pytest.importorskip("torchmetrics")
    samples, reference = images(40, low=20, high=200), images(40, seed=1)
    found = sample_quality(samples, reference, PIXELS, subset_size=40, num_subsets=2)
    x, y = (part.flatten(1).double() for part in (samples, reference))
    within = [(part @ part.T / 16 + 1) ** 3 for part in (x, y)]
    means = [(kernel.sum() - kernel.trace()) / (40 * 39) for kernel in within]
    wanted = sum(means) - 2 * ((x @ y.T / 16 + 1) ** 3).mean()
    assert found.kernel_distance[0] == pytest.approx(float(wanted), rel=1e-6)
    assert found.kernel_distance[1] < 1e-6 * float(wanted)


def test_inception_score_of_two_even_classes():
    """Sure classes that come up evenly score exp(log 2), less what random splits of 40 and softmax at 9 nats leave.

    A share off one half by d costs 2 d^2 nats; of 400 draws d is below 4 / (2 sqrt(400)) = 0.1 with z = 4.
    """
    pytest.importorskip("torchmetrics")
    samples = images(400)
    found = sample_quality(samples, samples, CLASSES, subset_size=50, num_subsets=2)
    assert found.confident_share == 1.0
    assert found.class_entropy == pytest.approx(math.log(2), abs=2e-2)
    assert 1.9 < found.inception_score[0] < 2.0
    assert "parity" in found.summary()
    assert "inception score" in found.summary()


BAD = {
    "float images": (lambda p: sample_quality(images(20).float(), images(20), PIXELS), DataError, "expected uint8"),
    "few": (lambda p: sample_quality(images(5), images(20), PIXELS), DataError, "at least 10"),
    "sizes": (lambda p: sample_quality(images(20)[..., :3], images(20), PIXELS), DataError, "one size"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tmp_path, name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call(tmp_path)
