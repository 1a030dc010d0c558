"""Particle filters over the pixels of tiny images, against sums over all images."""

import itertools
import math

import pytest
import torch
from torch import nn

from drl_density.bases import AutoregressivePixels, LayeredBase, NoisedGaussianMixture, PixelSettings
from drl_density.inverse_problems.filtered_conditional import filtered_conditional, pixel_base
from drl_density.inverse_problems.row_streams import RowStreams
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings, NoTilt
from drl_density.schedule import NoiseSchedule
from drl_density.testing import assert_z, seeded_generator

ALL = torch.tensor(list(itertools.product(range(3), repeat=4)))
GIVEN = torch.tensor([2, 0, 1, 2])


class Step(nn.Module):
    """A bounded tilt that favours bright first pixels."""

    is_bounded, has_bounded_growth = True, True

    def forward(self, x, log_snr):
        return torch.tanh(x[:, 0]) + 0.0 * log_snr


@pytest.fixture(scope="module")
def pixels():
    generator = seeded_generator(0)
    shares = torch.rand(4, 3, generator=generator).double()
    base = AutoregressivePixels(
        PixelSettings((1, 2, 2), num_cells=3, width=8, depth=1, rank=4),
        (shares / shares.sum(1, keepdim=True)).log(),
        generator=generator,
    )
    for weight in base.weights():
        weight.add_(0.15 * torch.randn(weight.shape, generator=generator))
    return base


def sequence(base, tilt=None):
    noisy = LayeredBase(base, NoisedGaussianMixture.standard(4), 5.0)
    schedule = NoiseSchedule.log_spaced(3, sigma_min=0.08)
    return EnergySequence(schedule, tilt or NoTilt(), (4,), base=noisy)


def filtered(base, masks, *, num_samples=50, num_particles=64, seed=0, numbers=None, tilt=None, filters=8):
    u = base.from_cells(GIVEN[None], generator=seeded_generator(1))
    return filtered_conditional(
        sequence(base, tilt),
        u.expand(len(masks), filters, 4),
        masks,
        num_samples,
        num_particles=num_particles,
        log_offsets=torch.zeros(len(masks), filters).double(),
        streams=RowStreams(seed),
        numbers=numbers,
    ), u[0]


MASKS = torch.tensor([pattern for pattern in itertools.product([False, True], repeat=4) if 0 < sum(pattern) < 4])


def test_normalisers_are_sums_over_the_hidden_pixels(pixels):
    found, u = filtered(pixels, MASKS, num_particles=200)
    probability = pixels.cell_log_probabilities(ALL).sum(1).exp()
    shares = pixels.log_shares.gather(1, GIVEN[:, None]).squeeze(1)
    points = -0.5 * (u.square() + math.log(2 * math.pi)) - shares
    for row, mask in enumerate(MASKS):
        fits = (ALL == GIVEN)[:, ~mask].all(1)
        exact = float(probability[fits].sum().log() + points[~mask].sum())
        error = float(found.standard_error[row])
        assert error < 0.1
        assert abs(float(found.log_z[row]) - exact) < 4 * error + 1e-6


def test_draws_have_the_conditional_probabilities(pixels):
    mask = torch.tensor([[True, True, False, False]])
    found, u = filtered(pixels, mask, num_samples=1600, num_particles=800)
    cells = pixels.cells(found.draws[0])
    assert torch.equal(cells[:, 2:], GIVEN[2:].expand(len(cells), 2))
    assert torch.equal(found.draws[0][:, 2:], u[2:].expand(len(cells), 2))
    probability = pixels.cell_log_probabilities(ALL).sum(1).exp()
    fits = (ALL == GIVEN)[:, 2:].all(1)
    exact = torch.zeros(3, 3).double().index_put((ALL[fits, 0], ALL[fits, 1]), probability[fits])
    counts = torch.zeros(3, 3).double().index_put((cells[:, 0], cells[:, 1]), torch.ones(len(cells)).double(), True)
    assert 100 < float(found.ess) < 6400
    ess = 1 / (1 / float(found.ess) + 1 / len(cells))
    expected = ess * exact / exact.sum()
    distance = ((ess * counts / len(cells) - expected).square() / expected).sum()
    assert float(distance) < 26.1  # chi squared with 8 degrees of freedom: 0.1 %


def test_last_pixels_are_drawn_exactly(pixels):
    """No given pixel follows: every particle has the same weight, and is a family of its own."""
    found, _ = filtered(pixels, torch.tensor([[False, False, True, True]]))
    assert float(found.ess) == pytest.approx(8 * 64)
    assert float(found.least_ess) == pytest.approx(1)
    assert float(found.standard_error) < 1e-9


def test_a_tilt_weighs_the_particles(pixels):
    mask = torch.tensor([[True, False, False, False]])
    plain, u = filtered(pixels, mask, num_particles=500)
    tilted, _ = filtered(pixels, mask, num_particles=500, tilt=Step())
    first = tilted.draws[0][:, 0]
    assert float(first.mean()) > float(plain.draws[0][:, 0].mean())
    # Both runs have the same particles: importance weights exp(tilt) of the plain draws give the ratio of the normalisers.
    many, _ = filtered(pixels, mask, num_particles=500, num_samples=4000)
    ratio = torch.tanh(many.draws[0][:, 0]).exp().mean().log()
    assert float(tilted.log_z - plain.log_z) == pytest.approx(float(ratio), abs=0.02)


def test_filters_are_unbiased_where_particles_are_resampled(pixels):
    """Few particles and a mask that leaves three given pixels after the hidden one: the mean of Z over many seeds."""
    mask = torch.tensor([[True, False, False, False]])
    exact = pixels.cell_log_probabilities(ALL).sum(1).exp()[(ALL == GIVEN)[:, 1:].all(1)].sum()
    shares = pixels.log_shares.gather(1, GIVEN[:, None]).squeeze(1)
    found = [filtered(pixels, mask, num_particles=3, seed=seed, filters=40) for seed in range(20)]
    u = found[0][1]
    points = float((-0.5 * (u.square() + math.log(2 * math.pi)) - shares)[1:].sum())
    estimates = torch.stack([run.log_weights.exp().mean(2).flatten() for run, _ in found]).flatten() * math.exp(-points)
    assert_z(estimates, float(exact))
    assert any(float(run.least_ess) < 1 for run, _ in found)


def test_draws_of_a_row_depend_on_the_row_alone(pixels):
    masks = torch.tensor([[True, False, True, False], [False, True, True, False]])
    both, _ = filtered(pixels, masks, numbers=torch.tensor([5, 9]))
    alone, _ = filtered(pixels, masks[1:], numbers=torch.tensor([9]))
    torch.testing.assert_close(both.draws[1], alone.draws[0])
    torch.testing.assert_close(both.log_z[1], alone.log_z[0])


def test_other_sequences_have_no_filters(pixels):
    unbounded = sequence(pixels, MLP(MLPSettings(4, width=8)))
    assert pixel_base(unbounded) is None
    assert pixel_base(EnergySequence(NoiseSchedule.log_spaced(3), NoTilt(), (4,))) is None
    assert pixel_base(sequence(pixels)) is pixels
    with pytest.raises(ValueError, match="autoregressive base and a bounded network"):
        filtered_conditional(
            unbounded,
            torch.zeros(1, 8, 4).double(),
            MASKS[:1],
            2,
            num_particles=4,
            log_offsets=torch.zeros(1, 8),
            streams=RowStreams(0),
        )
