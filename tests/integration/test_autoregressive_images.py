"""Fits of 8-bit images where nothing is chosen: an autoregressive density at level 0, if validation prefers it."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.bases import AutoregressivePixels, FactorAnalysers, LayeredBase, NoisedGaussianMixture
from drl_density.bases.fitting import autoregressive_pixels
from drl_density.density.evaluation.evaluate import evaluate

SETTINGS = dataclasses.replace(drl.FitSettings.preset("pixels"), num_pool_draws=40)


def sums(num_images, seed=0):
    """Images of 4 by 4 pixels of three grey levels; 95 % follow from their left and upper neighbours."""
    rng = np.random.default_rng(seed)
    kinds = np.zeros((num_images, 5, 5), int)
    kinds[:, 0, 1:] = rng.integers(0, 3, (num_images, 4))
    for row in range(1, 5):
        for column in range(1, 5):
            follows = (kinds[:, row - 1, column] + kinds[:, row, column - 1] + 1) % 3
            kinds[:, row, column] = np.where(rng.random(num_images) < 0.95, follows, rng.integers(0, 3, num_images))
    return np.array([10, 120, 240], np.uint8)[kinds[:, 1:, 1:]]


def bits_of_truth():
    """Entropy of the pixels that follow from others, and of the first row, which is free, in bits per pixel."""
    shares = np.array([0.95 + 0.05 / 3, 0.05 / 3, 0.05 / 3])
    return float(-(shares * np.log2(shares)).sum()), math.log2(3)


@pytest.fixture(scope="module")
def fitted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoregressive_pixels, "MOST_PASSES", 40)
        lines = []
        patch.setattr("drl_density.density.fitting.run.FitRun.say", lambda self, text: lines.append(text))
        yield drl.fit(sums(500), seed=0, settings=SETTINGS, progress=False), lines


def test_the_best_on_validation_carries_level_zero(fitted):
    density, _ = fitted
    base = density.model.base
    assert type(base) is LayeredBase
    assert type(base.clean) is AutoregressivePixels
    assert type(base.noisy) in (FactorAnalysers, NoisedGaussianMixture)
    scores = density.provenance.base_scores
    assert scores["autoregressive"] == max(scores.values()) > scores["factors"] + 3
    assert set(scores) == {"independent", "factors", "gaussian", "autoregressive"}
    assert (density.estimate.log_z, density.estimate.is_reliable) == (0.0, True)


def test_the_bits_are_those_of_grey_levels_with_an_interval_of_no_width(fitted, tmp_path):
    density, _ = fitted
    report = evaluate(density, sums(200, seed=1), seed=0, num_chain_steps=20)
    assert set(report.tree["sample_stats"]["start"].values) == {"the base"}  # no chain is run
    assert float(report.tree["sample_stats"]["acceptance_rate"].min()) == report.tree.attrs["autocorrelation_time"] == 1
    assert "chains" not in report.to_html(tmp_path / "report.html").read_text()
    bits = report.bits()
    assert bits.interval() == (bits.value, bits.value)
    assert bits.level_noise == 0.0  # it is evaluated without noise
    assert "density without noise" in bits.audit()
    assert report.verdict is drl.Verdict.RELIABLE
    follows, free = bits_of_truth()
    # The corner and the first row are uniform over three values; the network is not yet perfect.
    assert 0.9 * follows < bits.value < (12 * follows + 4 * free) / 16 + 0.5
    assert bits.value < 1.3 < float(drl_independent_bits(density))
    many = density.bits_per_dimension(sums(200, seed=1), num_samples=3, seed=0)
    assert many.value == pytest.approx(bits.value, abs=1e-4)  # no gap of dequantisation


def drl_independent_bits(density):
    """Bits per dimension of independent pixels on the images of the test."""
    shares = density.transform.marginals.log_shares
    images = torch.as_tensor(sums(200, seed=1)).reshape(200, 16).long()
    return -shares[torch.arange(16), images].mean() / math.log(2)


def test_draws_are_images_of_the_law(fitted):
    density, _ = fitted
    drawn = density.sample(200, seed=3).reshape(-1, 4, 4)
    levels = torch.tensor([10.0, 120.0, 240.0])
    kinds = (drawn[..., None] - levels).abs().argmin(-1)
    # Histograms of 400 images leave a little mass between the levels.
    assert float(((drawn - levels[kinds]).abs() > 20).double().mean()) < 0.02
    follows = (kinds[:, :-1, 1:] + kinds[:, 1:, :-1] + 1) % 3 == kinds[:, 1:, 1:]
    assert float(follows.double().mean()) > 0.8  # by chance a third


def test_stages_are_printed_and_described(fitted):
    density, lines = fitted
    text = "\n".join(lines)
    assert "reference: factor analysers, which carry the noisy levels" in text
    assert "reference: autoregressive density, a network of 3 layers of 64" in text
    assert "bits per dimension on validation" in text
    assert "kept autoregressive" in text
    assert "; best after " in text


def test_a_run_is_saved_and_read(fitted, tmp_path):
    density, _ = fitted
    again = drl.Density.load(density.save(tmp_path / "run"))
    x = torch.as_tensor(sums(6, seed=1)).reshape(6, 16).double() + 0.2
    assert torch.equal(again.log_density_of(x), density.log_density_of(x))
    assert type(again.model.base.clean) is AutoregressivePixels
