"""Weighted conditional draws against quadrature, and which sequences have them."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems.row_streams import RowStreams
from drl_density.inverse_problems.weighted_conditional import base_conditional, weighted_conditional
from drl_density.model import EnergySequence
from drl_density.networks import ColumnTilt, ColumnTiltSettings
from drl_density.testing import assert_z, seeded_generator
from tests.density.tilted import TiltedSystem

SYSTEM = TiltedSystem()
VALUE, NUM_ROWS = 0.2, 400
MASK = torch.tensor([[True, False]])


def found_for(rows, num_samples=200, num_proposals=1024, seed=0, num_places=1):
    states = torch.full((rows, num_places, 2), VALUE, dtype=torch.float64)
    return weighted_conditional(
        SYSTEM.model,
        base_conditional(SYSTEM.model),
        states,
        MASK.expand(rows, 2),
        num_samples,
        num_proposals=num_proposals,
        log_offsets=torch.zeros(rows, num_places, dtype=torch.float64),
        streams=RowStreams.of(seeded_generator(seed)),
    )


@pytest.fixture(scope="module")
def found():
    """Independent runs for the same row."""
    return found_for(NUM_ROWS)


def test_draws_have_the_moments_of_the_conditional(found):
    """Self-normalised weights bias a mean by its variance over their ESS, about 1e-3, a fifth of the standard error here."""
    assert torch.equal(found.draws[..., 1], torch.full((NUM_ROWS, 200), VALUE, dtype=torch.float64))
    draws = found.draws[..., 0]
    moments = torch.stack([draws.mean(1), draws.square().mean(1)], 1)
    assert_z(moments, SYSTEM.moments(VALUE))
    untilted = TiltedSystem(0.0).moments(VALUE)
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(moments, untilted)


def test_the_normaliser_of_the_slice_is_unbiased_and_its_error_calibrated(found):
    truth = SYSTEM.log_mass(VALUE)
    by_row = (found.log_z - truth).exp()
    assert_z(by_row, 1.0)
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(by_row, 1.01)
    # The squared error of 16 groups has a relative spread of sqrt(2 / 15), its mean over 400 rows one of 2 %.
    scaled = ((found.log_z - truth) / found.standard_error).square()
    assert_z(scaled, 15 / 13)  # variance of Student's t with 15 degrees of freedom


def test_figures_are_those_of_the_weights(found):
    weights = found.log_weights.flatten(1).exp()
    ess = weights.sum(1).square() / weights.square().sum(1)
    torch.testing.assert_close(found.ess, ess)
    torch.testing.assert_close(found.least_ess, ess / 1024)
    torch.testing.assert_close(found.r_hat, (1 + 1 / ess).sqrt())
    pairs = weights[0][:, None].minimum(weights[0]).sum() / weights[0].sum() / 1024
    torch.testing.assert_close(found.acceptance_rate[0], pairs)


def test_places_of_one_row_share_its_proposals(found):
    several = found_for(NUM_ROWS, num_places=16)
    assert several.log_weights.shape == (NUM_ROWS, 16, 64)
    assert_z((several.log_z - SYSTEM.log_mass(VALUE)).exp(), 1.0)


def test_the_draws_of_a_row_depend_on_the_row_and_its_number_alone():
    whole = found_for(5, 10, 256)
    law, offsets = base_conditional(SYSTEM.model), torch.zeros(1, 1, dtype=torch.float64)
    states = torch.full((1, 1, 2), VALUE, dtype=torch.float64)
    options = {"num_proposals": 256, "log_offsets": offsets, "streams": RowStreams.of(seeded_generator(0))}
    for number in (4, 0, 2):
        options["numbers"] = torch.tensor([number])
        alone = weighted_conditional(SYSTEM.model, law, states, MASK, 10, **options)
        torch.testing.assert_close(alone.draws[0], whole.draws[number], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            alone.log_weights[0], whole.log_weights[number], rtol=1e-5, atol=1e-5
        )  # a float32 network
    assert len(whole.draws[:, 0, 0].unique()) == 5


class Unconditional(NoisedGaussianMixture):
    def conditional(self, log_snr=None):
        raise NotImplementedError


def test_sequences_without_a_start_in_closed_form():
    schedule, network = NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2))
    parts = torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2)
    assert base_conditional(EnergySequence(schedule, network, (2,))) is not None
    assert base_conditional(EnergySequence(schedule, network, (2,), base=Unconditional(*parts))) is None
    assert base_conditional(EnergySequence(schedule, network, (2,), has_base=False, is_integrable=True)) is None
