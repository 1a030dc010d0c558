"""Networks, objective and doctor built from their settings."""

import pytest
import torch

import drl_density as drl
from drl_density.density.fitting.build import build_doctor, build_objective, network_factory
from drl_density.errors import DataError
from drl_density.training import LangevinChains, LangevinRecovery
from tests.density.small_images import plan_for


@pytest.mark.parametrize("objective", ["langevin", "normal"])
def test_the_topmost_scale_is_1_only_where_the_top_is_a_marginal(objective, pictures):
    """The normal approximation has a conditional at the top too, whose a is that of the step."""
    plan = plan_for("cifar10", pictures, num_levels=6, objective=objective)
    model = plan.new_model(plan.members[0].base, seed=0)
    expected = model.schedule.step_alpha.clone()
    if objective == "langevin":
        expected[-1] = 1.0
    found = model.network.step_alpha_at(model.schedule.log_snr[:-1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0, check_dtype=False)


@pytest.mark.parametrize("level", range(6))
def test_the_papers_gaps_are_limited_in_the_raw_output_at_every_level(level):
    """A raw output that is 3 d off is divided by the squared Langevin step of its level, which differ 900 times."""
    settings = drl.FitSettings.preset("cifar10")
    doctor = build_doctor(settings.objective, settings.schedule.noise_schedule())
    _, step_size = drl.NoiseSchedule.linear_beta().langevin_steps()
    limit = 3 * 3072 / float(step_size[level]) ** 2
    record, gaps = {"loss": -1.0, "validation_loss": 1.0}, torch.zeros(6)
    gaps[level] = -0.99 * limit
    assert doctor.divergence(record | {"energy_gap": gaps.tolist()}, [], num_features=3072) is None
    gaps[level] = -1.01 * limit
    assert f"at level {level}" in doctor.divergence(record | {"energy_gap": gaps.tolist()}, [], num_features=3072)


def test_a_residual_network_gets_its_patches_and_its_readout():
    network = drl.ResidualNetwork(num_channels=4, patch_size=2, readout="places").resolve(100, (8, 8))
    levels = drl.LogSpacedSchedule(2, 0.1).noise_schedule()
    sizes = network_factory(network, drl.LangevinObjective(), levels, 64).energy
    assert (sizes.patch_size, sizes.readout, sizes.last_shape) == (2, "places", (8, 2, 2))


@pytest.mark.parametrize("kind", [drl.UNetNetwork, drl.ResidualNetwork])
def test_images_that_cannot_be_folded(kind):
    network = kind(patch_size=3).resolve(100, (8, 8))
    levels = drl.LogSpacedSchedule(2, 0.1).noise_schedule()
    with pytest.raises(DataError, match="network.multipliers or network.patch_size do not fit"):
        network_factory(network, drl.AdjustedObjective(), levels, 64)


@pytest.mark.parametrize("given", [{}, {"shares_noise": True}, {"level_shares": (1.0, 2.0)}], ids=str)
def test_noise_and_levels_of_langevin_training_are_those_asked_for(given):
    built = build_objective(drl.LangevinObjective(num_chain_steps=5, kernel="ula", **given))
    assert built == LangevinRecovery(LangevinChains(num_steps=5), classification_weight=1.0, **given)
