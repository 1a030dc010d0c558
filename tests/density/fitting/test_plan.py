"""Plan of a fit: models, optimisers, members and sizes that follow from the settings."""

import dataclasses
import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings, QuadraticBase
from drl_density.density.fitting.plan import SEED_STRIDE, plan_fit
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


def test_members_have_their_own_seeds(tiny_data, tiny_settings):
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", num_networks=3), seed=5)
    assert [member.name for member in plan.members] == ["gaussian-0", "gaussian-1", "gaussian-2"]
    assert [member.seed for member in plan.members] == [5, 5 + SEED_STRIDE, 5 + 2 * SEED_STRIDE]
    base = plan.members[0].base
    first, second = (plan.new_model(base, seed=member.seed).state_dict() for member in plan.members[:2])
    again = plan.new_model(base, seed=plan.members[0].seed).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert plan.new_model(base, seed=0).base is not base


def test_another_number_of_steps_is_in_the_settings_too(tiny_data, tiny_settings):
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian"))
    longer = plan.with_num_steps(77)
    assert (longer.training.num_steps, longer.settings.training.num_steps) == (77, 77)
    assert plan.training.num_steps == tiny_settings.training.num_steps
    assert dataclasses.replace(longer, training=plan.training, settings=plan.settings) == plan


@pytest.mark.parametrize(
    ("objective", "gradients", "classified"),
    [
        (drl.AdjustedObjective(num_chain_steps=7, classification_share=0.5), 8, 2.5),
        (drl.AdjustedObjective(num_chain_steps=7, classification_weight=0.0), 8, 0.0),
        (drl.LangevinObjective(num_chain_steps=3), 4, 5.0),
        (drl.NormalObjective(), 1, 5.0),
        (drl.DenoisingObjective(classification_share=0.2), 1, 1.0),
    ],
)
def test_costs_of_a_step(objective, gradients, classified, tiny_data, tiny_settings):
    """A chain of k steps takes k + 1 gradients; five levels are classified for the share of the rows."""
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", objective=objective))
    assert plan.cost.chain_gradients == gradients
    assert plan.cost.classified_rows == pytest.approx(classified)
    assert plan.cost.is_twice_differentiated == (objective.kind == "denoising")
    assert plan.selection.has_learned_constants == (classified > 0)


@pytest.mark.parametrize(("given", "least", "most"), [(None, 1024, 8192), (200, 200, 200), (3000, 1024, 3000)])
def test_held_out_rows_are_as_many_as_asked_for(given, least, most, tiny_data, tiny_settings):
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", num_validation_rows=given))
    assert (plan.held_out.least, plan.held_out.most) == (least, most)


def test_a_contrast_draws_from_a_pool_that_the_step_of_its_state_refreshes(tiny_data):
    plan = plan_fit(tiny_data, drl.FitSettings(base="gaussian", transform="standardize"), seed=0)
    state = plan.new_state(plan.members[0].base, seed=0)
    pool = plan.objective_of(state, seed=3).draw
    # 180 of 256 rows are clean; ten times the 320 training rows are fewer than the least size.
    assert (pool.draws_per_step, pool.size, pool.seed, pool.step()) == (180, 200_000, 3, 0)
    state.step = 100
    pool(AutoregressiveFlow(AutoregressiveFlowSettings(2, num_transforms=1, width=4)), 1)
    assert pool.num_held == (8 + 100 * 180 // (4 * 1024)) * 1024


def test_other_objectives_draw_nothing_from_a_pool(tiny_data, tiny_settings):
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian"), seed=0)
    assert plan.objective_of(plan.new_state(plan.members[0].base, seed=0), seed=0) is plan.objective


def test_an_evaluation_of_a_contrast_runs_no_chains(tiny_data, tiny_settings, monkeypatch):
    small = dataclasses.replace(tiny_settings, base="gaussian")
    contrast = {"objective": drl.ContrastObjective(num_samples=1000), "network": drl.ColumnNetwork(width=8)}
    found = {}
    for name, changes in (("recovery", {}), ("contrast", contrast)):
        plan = plan_fit(tiny_data, dataclasses.replace(small, **changes))
        state, held_out = plan.new_state(plan.members[0].base, seed=0), plan.validation(seed=0)
        evaluation = plan.evaluation(held_out, lambda _: None)
        found[name] = evaluation.figures(state.model.eval(), evaluation.rows, state.step_sizes)
        monkeypatch.setattr(RecoveryLikelihood, "contrast", lambda *_, **__: pytest.fail("ran a chain"))
    assert {"validation_loss", "validation_recovery_gap", "spurious_gap"} < found["recovery"].keys()
    assert found["contrast"].keys() == {"validation_loss", "validation_contrast"}
    assert found["contrast"]["validation_loss"] == pytest.approx(2 * math.log(2), rel=1e-6)  # an untrained tilt guesses
