"""Plan of a fit: models, optimisers, members and sizes that follow from the settings."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import QuadraticBase
from drl_density.density.fitting.selection import AnnealedLikelihood
from drl_density.networks import ResidualEnergy, StepCalibrated, UNet
from drl_density.training import CooperativeRecovery, LangevinRecovery, RecoveryLikelihood
from tests.density.small_images import plan_for


def test_the_initializer_learns_at_a_tenth_of_the_rate(pictures):
    """1e-4 for the energy and 1e-5 for the initialiser, each gradient clipped to norm 1 by itself."""
    plan = plan_for("cifar10_cdrl", pictures)
    state = plan.new_state(plan.members[0].base, seed=0)
    state.set_rates(1e-4)
    energy, initializer = state.optimizer.param_groups
    assert [group["lr"] for group in (energy, initializer)] == [1e-4, pytest.approx(1e-5)]
    model = state.model
    assert {id(part) for part in initializer["params"]} == {id(part) for part in model.initializer.parameters()}
    assert {id(part) for part in model.network.parameters()} <= {id(part) for part in energy["params"]}
    assert len(energy["params"]) + len(initializer["params"]) == len(list(model.parameters()))
    for group, size in ((energy, 30.0), (initializer, 0.4)):
        count = sum(part.numel() for part in group["params"])
        for part in group["params"]:
            part.grad = torch.full_like(part, size / math.sqrt(count))
    assert float(state.clip_gradients(1.0)) == pytest.approx(math.hypot(30.0, 0.4), rel=1e-5)
    for group, wanted in ((energy, 1.0), (initializer, 0.4)):
        norm = torch.stack([part.grad.square().sum() for part in group["params"]]).sum().sqrt()
        assert float(norm) == pytest.approx(wanted, rel=1e-5)


def test_weights_are_selected_by_the_last_step_or_the_likelihood(pictures):
    assert AnnealedLikelihood(torch.zeros(1, 16)).has_learned_constants
    last, likelihood = (plan_for(name, pictures).selection for name in ("cifar10", "images"))
    assert (last.rule, last.has_learned_constants) == ("last", False)
    assert (likelihood.rule, likelihood.has_learned_constants) == ("likelihood", True)
    assert (likelihood.num_particles, likelihood.num_training_particles) == (4, 4)


def test_settings_become_the_papers_parts(pictures):
    plan = plan_for("cifar10", pictures, num_levels=6)
    model = plan.new_model(plan.members[0].base, seed=0)
    assert isinstance(model.network, StepCalibrated)
    assert isinstance(model.network.network, ResidualEnergy)
    assert isinstance(model.base, QuadraticBase)
    assert model.is_integrable
    assert model.schedule == drl.NoiseSchedule.linear_beta()
    times = model.network.network.embed_level.time(model.schedule.log_snr.float())
    assert torch.allclose(times[:6], torch.arange(6.0), atol=1e-4)
    assert isinstance(plan.objective, LangevinRecovery)
    assert plan.objective.start == "noisier"
    normal = plan_for("cifar10_t1k", pictures).objective
    assert (normal.negatives, normal.chains.is_top_marginal) == ("normal", False)
    plan = plan_for("cifar10_cdrl", pictures, num_levels=6)
    model = plan.new_model(plan.members[0].base, seed=0)
    assert isinstance(model.initializer, UNet)
    assert isinstance(plan.objective, CooperativeRecovery)
    assert model.schedule == drl.NoiseSchedule.cosine(6)
    assert isinstance(plan_for("images", pictures).objective, RecoveryLikelihood)
