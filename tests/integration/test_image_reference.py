"""Fits of 8-bit images by an exact reference over histograms of all pixels: factor analysers."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.bases import AutoregressivePixels, FactorAnalysers, LayeredBase, NoisedGaussianMixture, PixelSettings
from drl_density.density.fitting.bases import widest_noise
from drl_density.density.fitting.fit import usual_settings
from drl_density.density.settings import NoNetwork
from drl_density.errors import DataError
from drl_density.model import EnergySequence
from drl_density.networks import NoTilt
from drl_density.schedule import NoiseSchedule
from drl_density.transforms import GridHistograms


def stripes(num_images=120, seed=0):
    """Images of 4 by 4 pixels with a bright column at one of four places, and two pixels that never change."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 12, (num_images, 4, 4)).astype(np.uint8)
    for index, place in enumerate(rng.integers(0, 4, num_images)):
        images[index, 1:, place] = rng.integers(180, 250)
    images[:, 0, :2] = 7
    return images


SETTINGS = dataclasses.replace(drl.FitSettings.preset("pixels"), base="factors", num_pool_draws=50)


@pytest.fixture(scope="module")
def fitted():
    return drl.fit(stripes(), seed=0, settings=SETTINGS, progress=False)


def test_images_are_fitted_by_an_exact_reference(fitted):
    assert isinstance(fitted.settings.network, NoNetwork)
    assert type(fitted.transform) is GridHistograms
    assert type(fitted.model.base) is FactorAnalysers
    assert (fitted.estimate.log_z, fitted.estimate.standard_error, fitted.estimate.is_reliable) == (0.0, 0.0, True)
    scores = fitted.provenance.base_scores
    assert scores["factors"] > scores["independent"] + 2
    assert fitted.distribution().sample((5,)).shape == (5, 1, 4, 4)


def test_the_density_is_that_of_the_reference_under_the_noise_of_level_zero(fitted):
    x = torch.as_tensor(stripes(6, seed=1)).reshape(6, 16).double() + 0.2
    u, log_jacobian = fitted.transform.with_log_jacobian(x)
    noise = float(fitted.model.schedule.log_snr_at(0))
    expected = fitted.model.base(u.float(), torch.tensor(noise)).double() + log_jacobian
    torch.testing.assert_close(fitted.log_density_of(x), expected, rtol=1e-6, atol=1e-4)
    clean = fitted.model.base.log_prob(u.float()).double() + log_jacobian
    assert float((clean - expected).mean().abs()) < 0.5


def test_hidden_pixels_are_drawn_from_the_conditional_in_closed_form(fitted):
    """The bright column decides the rows below: two of its three pixels tell where the third one is bright."""
    images = torch.as_tensor(stripes(40, seed=2)).reshape(40, 16).double()
    holes = images.clone()
    holes[:, 12:] = torch.nan
    filled = fitted.impute(holes, seed=0, num_samples=1).rows[0]
    assert torch.equal(filled[:, :12], images[:, :12])
    is_bright = images[:, 12:] > 100
    assert float((filled[:, 12:] > 100)[is_bright].double().mean()) > 0.7
    assert float((filled[:, 12:] > 100)[~is_bright].double().mean()) < 0.15


def test_log_z_of_a_reference_alone_is_known_in_many_dimensions_too():
    """From 48 dimensions on the estimators of a sequence with a network are others."""
    images = np.random.default_rng(0).integers(0, 255, (80, 7, 7)).astype(np.uint8)
    wide = drl.fit(images, seed=0, settings=SETTINGS, progress=False)
    report = wide.evaluate(images[:12], seed=0)
    assert (report.log_z_lower, report.log_z_upper, report.verdict) == (0.0, 0.0, drl.Verdict.RELIABLE)


def test_hidden_pixels_of_an_autoregressive_density_are_filtered(fitted):
    """Rows whose last pixels are hidden: their observed pixels have the probability of the steps before."""
    generator = torch.Generator().manual_seed(0)
    shares = fitted.transform.marginals.log_shares
    pixels = AutoregressivePixels(PixelSettings((1, 4, 4), width=8), shares, generator=generator)
    for weight in pixels.weights():
        weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    schedule = fitted.model.schedule
    base = LayeredBase(pixels, fitted.model.base, float(schedule.log_snr_at(0)))
    density = dataclasses.replace(fitted, model=EnergySequence(schedule, NoTilt(), (16,), base=base))
    images = torch.as_tensor(stripes(5, seed=2)).reshape(5, 16).double()
    holes = images.clone()
    holes[:4, 12:], holes[4, :3] = torch.nan, torch.nan
    found = density.impute(holes, seed=0, num_samples=7)
    assert torch.equal(found.rows[:, :4, :12], images[:4, :12].expand(7, 4, 12))
    assert bool(((found.rows >= 0) & (found.rows <= 255) & (found.rows == found.rows.round())).all())
    exact = pixels.cell_log_probabilities(images.long())[:4, :12].sum(1)
    torch.testing.assert_close(found.log_density[:4], exact, rtol=1e-5, atol=1e-4)
    assert not found.is_doubtful[:4].any()
    assert float(found.ess[:4].min()) == pytest.approx(256)
    assert 1 <= float(found.ess[4]) < 1024
    again = density.impute(holes[2:], seed=0, num_samples=7)
    assert again.rows.shape == (7, 3, 16)
    partly = density.condition({f"x{place}": float(images[0, place]) for place in range(12)})
    assert partly.sample((3,)).shape == (3, 4)


def test_bits_per_dimension_fall_with_the_draws_to_those_of_the_probability(fitted):
    images = stripes(30, seed=4)
    one, many = (fitted.bits_per_dimension(images, num_samples=count, seed=0) for count in (1, 64))
    assert many.value < one.value
    assert many.interval() == (many.value, many.value)
    assert (many.value_range, many.dequantization, many.num_rows) == ((0, 255), "64 x uniform", 30)
    # Each pixel alone has a constant density inside its cell, so the draws of independent pixels cannot differ.
    independent = NoisedGaussianMixture.standard(16)
    alone = dataclasses.replace(
        fitted, model=EnergySequence(NoiseSchedule.log_spaced(3), NoTilt(), (16,), base=independent)
    )
    shares = fitted.transform.marginals.log_shares
    flat = torch.as_tensor(images).reshape(30, 16).long()
    exact = -float(shares[torch.arange(16), flat].sum(1).mean()) / 16 / math.log(2)
    assert alone.bits_per_dimension(images, num_samples=3, seed=0).value == pytest.approx(exact, rel=1e-5)
    with pytest.raises(DataError, match="expected whole numbers, got values between them"):
        fitted.bits_per_dimension(images + 0.3)
    with pytest.raises(DataError, match="at least 1, got 0"):
        fitted.bits_per_dimension(images, num_samples=0)


def test_other_images_than_those_of_the_fit_are_named(fitted):
    grey = stripes(5, seed=3)
    assert fitted.log_prob(grey).shape == (5,)
    torch.testing.assert_close(fitted.log_prob(grey), fitted.log_prob(torch.as_tensor(grey[:, None]).double()))
    cases = {
        "the fit has grey images": np.repeat(grey[:, None], 3, 1),
        "give the channels first": np.repeat(grey[..., None], 3, -1),
        "the fit has images of 4x4 pixels": np.zeros((5, 6, 6), np.uint8),
        "grey levels divided by 255": grey / 255,
    }
    for message, images in cases.items():
        with pytest.raises(DataError, match=message):
            fitted.outlier_scores(images)


def test_a_run_is_saved_and_read(fitted, tmp_path):
    again = drl.Density.load(fitted.save(tmp_path / "run"))
    x = torch.as_tensor(stripes(6, seed=1)).reshape(6, 16).double() + 0.2
    assert torch.equal(again.log_density_of(x), fitted.log_density_of(x))


def test_settings_are_chosen_for_images_alone():
    images, table = drl.load_dataset(stripes(60)), drl.load_dataset("banana", num_rows=60)
    assert usual_settings(images, None) == usual_settings(images, drl.FitSettings()) == drl.FitSettings.preset("pixels")
    assert usual_settings(table, None) == drl.FitSettings()
    asked = drl.FitSettings(num_pool_draws=7)
    assert usual_settings(images, asked) is asked


def test_the_noise_of_level_zero_may_cost_bits_by_the_column():
    scores = {0.1: -1.0, 0.05: -0.2, 0.01: -0.01, 0.005: 0.0}
    assert widest_noise(scores, 4) == 0.01
    assert widest_noise(scores, 784) == 0.05  # 0.27 nats
