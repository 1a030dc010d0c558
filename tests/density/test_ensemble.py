"""Densities of several members: their energies, their base, and the samplers that follow from both."""

import json

import pytest
import torch

import drl_density as drl
from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings, NoisedGaussianMixture
from drl_density.density.ensemble import are_equal, join
from drl_density.density.model_state import members_from_values, members_to_values
from drl_density.inverse_problems.weighted_conditional import base_conditional
from drl_density.networks import MLP, ColumnTilt, ColumnTiltSettings, MLPSettings
from drl_density.networks.contract import is_bounded
from drl_density.samplers import plan_level_zero
from drl_density.samplers.importance import has_weighted_base
from drl_density.testing import seeded_generator

SCHEDULE = drl.NoiseSchedule.log_spaced(3)
ROWS = torch.randn(7, 3, generator=seeded_generator(5))


def mixture(place):
    """One component, with independent columns for the first place and without for all others."""
    spread = torch.full((3,), 0.5) if not place else torch.eye(3) + 0.3
    return NoisedGaussianMixture(torch.ones(1), torch.full((1, 3), float(place)), spread[None])


def network(seed, kind):
    made = kind(generator=seeded_generator(seed))
    torch.nn.init.normal_(made.readout.weight, generator=seeded_generator(seed))
    return made


def tilt(seed):
    return network(seed, lambda generator: ColumnTilt(ColumnTiltSettings(3, width=8), generator=generator))


def mlp(seed):
    return network(seed, lambda generator: MLP(MLPSettings(3, width=8), generator=generator))


def members(kind, places):
    """A sequence for each place of a base; equal places have equal bases, which are different objects."""
    return [drl.EnergySequence(SCHEDULE, kind(seed), (3,), base=mixture(place)) for seed, place in enumerate(places)]


@pytest.mark.parametrize("places", [(1, 1), (0, 1), (1, 2)], ids=["one base", "with and without axes", "two bases"])
@pytest.mark.parametrize("kind", [tilt, mlp])
def test_average_of_members_is_the_mean_of_their_energies(kind, places):
    models = members(kind, places)
    joined = join(models)
    for level in (0, 1.5):
        mean = torch.stack([model.log_density(ROWS, level) for model in models]).mean(0)
        torch.testing.assert_close(joined.log_density(ROWS, level), mean)
    assert joined.is_integrable
    assert has_weighted_base(joined) == (kind is tilt)
    assert (base_conditional(joined) is not None) == (kind is tilt)
    values = json.loads(json.dumps(members_to_values(joined)))
    assert ("base" in values) == (places == (1, 1))
    again = members_from_values(values, SCHEDULE)
    again.load_state_dict(joined.state_dict())
    assert torch.equal(again.log_density(ROWS, 1), joined.log_density(ROWS, 1))
    assert members_to_values(again) == members_to_values(joined)


def test_weights_of_an_average_on_the_mixture_of_bases_are_bounded_far_out():
    """The tilt falls between and beyond the bases, and is at most the mean of the networks."""
    models = members(tilt, (0, 2))
    joined = join(models)
    x, log_snr = torch.cat([ROWS, 30 * ROWS]), SCHEDULE.log_snr_at(0).float()
    most = torch.stack([model.network(x, log_snr) for model in models]).mean(0)
    assert bool((joined.tilt(x, 0) <= most + 1e-4).all())
    assert plan_level_zero(joined, generator=seeded_generator(0)).method in ("importance", "independence")


def test_average_on_bases_without_a_mixture_has_none():
    models = members(tilt, (0, 1))
    models[1].base = AutoregressiveFlow(AutoregressiveFlowSettings(3, width=8))
    joined = join(models)
    assert joined.base is None
    assert not is_bounded(joined.network)


def test_equal_bases_have_equal_tensors():
    assert are_equal([mixture(1), mixture(1)])
    assert not are_equal([mixture(1), mixture(2)])
    assert not are_equal([mixture(1), mixture(0)])


def test_joining_takes_members_with_a_base():
    with pytest.raises(ValueError, match="at least one member"):
        join([])
    bare = drl.EnergySequence(SCHEDULE, mlp(0), (3,), has_base=False)
    with pytest.raises(ValueError, match="1 of 2 have none"):
        join([bare, *members(mlp, (1,))])
    assert join([bare]) is bare
