"""Selection by the annealed likelihood against sequences of known log Z, and by the last step."""

import copy
import dataclasses

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.density.ensemble import join
from drl_density.density.fitting.completions import HeldOut
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.selection import (
    AnnealedLikelihood,
    ImportanceLikelihood,
    select_model,
    training_score,
)
from drl_density.samplers import plan_level_zero
from drl_density.testing import assert_z, seeded_generator
from tests.density.closed_form import SYSTEM


@pytest.fixture(scope="module")
def rows():
    return SYSTEM.sample(2000, 0, generator=seeded_generator(3)).float()


@pytest.fixture(scope="module")
def plan(tiny_data, tiny_settings):
    settings = dataclasses.replace(tiny_settings, base="gaussian", num_networks=2, num_particles=64)
    return plan_fit(tiny_data, settings, seed=0)


@pytest.fixture(scope="module")
def states(plan):
    """States whose kept weights differ between the members."""
    found = {member.name: plan.new_state(member.base, seed=member.seed) for member in plan.members}
    for state in found.values():
        state.best = {name: value.clone() for name, value in state.model.state_dict().items()}
    return found


def test_the_likelihood_of_every_level_is_that_in_closed_form(rows):
    score = AnnealedLikelihood(HeldOut(rows), num_particles=512, has_learned_constants=False)
    found = score.by_level(SYSTEM.model)
    assert list(found) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    for level, value in found.items():
        truth = SYSTEM.model.log_density(rows, level).double().mean() - SYSTEM.log_z(level)
        # Annealing with 2 replicates of 512 particles has a standard error of about 0.02 nats here.
        assert value == pytest.approx(float(truth), abs=0.1), level
    best = score(SYSTEM.model)
    assert best.level == max(found, key=found.get)
    assert best.value == best.figures["selected_log_likelihood"] == found[best.level]
    assert best.figures["validation_log_likelihood"] == found[0.0]


class Constant(torch.nn.Module):
    """The same learned log Z at every level."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value, dtype=torch.float64), requires_grad=False)

    def forward(self, log_snr):
        return self.value.expand(log_snr.shape)


@pytest.mark.parametrize("constant", [-50.0, 50.0])
def test_the_larger_log_z_normalises(constant, rows):
    """A learned constant above the annealed log Z replaces it; one below, or one that was not learned, is ignored."""
    model = copy.deepcopy(SYSTEM.model)
    model.constants = Constant(constant)
    few = AnnealedLikelihood(HeldOut(rows), num_particles=64, steps_per_level=2, num_candidate_levels=2)
    learned = few.by_level(model)
    annealed = dataclasses.replace(few, has_learned_constants=False).by_level(model)
    for level, value in learned.items():
        with torch.no_grad():
            mean = float(model.log_density(rows, level).double().mean())
        expected = annealed[level] if constant < 0 else mean - constant
        assert value == pytest.approx(expected, abs=1e-9)


def test_constants_of_an_average_are_not_used(states):
    models = [state.model for state in states.values()]
    assert AnnealedLikelihood.uses_constants(models[0])
    assert not AnnealedLikelihood.uses_constants(join(models))


def test_training_scores_by_the_step_where_the_last_weights_are_kept(plan, states):
    last = dataclasses.replace(plan, selection=dataclasses.replace(plan.selection, rule="last"))
    state = next(iter(states.values()))
    score = training_score(last, plan.validation(seed=0), state, seed=0)
    assert (score(state.model).value, score(state.model).level) == (float(state.step), 0.0)
    likelihood = training_score(plan, plan.validation(seed=0), state, seed=5)
    assert isinstance(likelihood, AnnealedLikelihood)
    assert (likelihood.seed, likelihood.num_particles) == (5, plan.selection.num_training_particles)


def test_several_last_weights_are_averaged(plan, states):
    last = dataclasses.replace(plan, selection=dataclasses.replace(plan.selection, rule="last"))
    x = torch.randn(5, 2)
    selected = select_model(last, states, plan.validation(seed=0))
    assert selected.member == "average"
    mean = torch.stack([state.model.eval().log_density(x, 1) for state in states.values()]).mean(0)
    torch.testing.assert_close(selected.model.log_density(x, 1), mean)
    assert not any(parameter.requires_grad for parameter in selected.model.parameters())
    alone = dataclasses.replace(last, members=plan.members[:1])
    assert select_model(alone, states, plan.validation(seed=0)).member == plan.members[0].name


def test_the_member_that_scores_best_is_kept(plan, states):
    """A member whose energies are pulled away from the data loses to the other and to the average."""
    spoilt = dict(states)
    name = plan.members[1].name
    worse = plan.new_state(plan.members[1].base, seed=0)
    worse.best = {
        key: 3 * torch.randn_like(value) if "readout" in key else value.clone()
        for key, value in worse.model.state_dict().items()
    }
    spoilt[name] = worse
    selected = select_model(plan, spoilt, plan.validation(seed=0))
    assert selected.member == plan.members[0].name
    assert selected.model.num_levels <= plan.schedule.num_levels


def test_networks_by_contrast_are_averaged_where_that_scores_best(tiny_data, tiny_settings):
    """Two tilts that are opposites are worse than their mean, which is the base."""
    contrast = drl.ContrastObjective(num_samples=1000)
    network = drl.ColumnNetwork(width=8)
    settings = dataclasses.replace(
        tiny_settings, base="gaussian", num_networks=2, objective=contrast, network=network, selection="likelihood"
    )
    plan = plan_fit(tiny_data, settings, seed=0)
    states = {member.name: plan.new_state(member.base, seed=0) for member in plan.members}
    with torch.no_grad():
        readout = torch.randn(states[plan.members[0].name].model.network.readout.weight.shape)
        for state, sign in zip(states.values(), (1, -1), strict=True):
            state.model.network.readout.weight.copy_(30 * sign * readout)
            state.best = {name: value.clone() for name, value in state.model.state_dict().items()}
    selected = select_model(plan, states, plan.validation(seed=0))
    assert selected.member == "average"
    x = torch.randn(5, 2)
    torch.testing.assert_close(selected.model.tilt(x, 0), torch.zeros(5))
    assert plan_level_zero(selected.model).method == "importance"


def tilted(mean):
    """N(0, 1) in two dimensions tilted to the mean (m, m), times a constant."""

    class Shift(torch.nn.Module):
        is_bounded = has_bounded_growth = False

        def forward(self, x, log_snr):
            return mean * x.sum(1) + 0.7

    base = NoisedGaussianMixture.standard(2)
    return drl.EnergySequence(drl.NoiseSchedule.log_spaced(2, sigma_min=0.01), Shift(), (2,), base=base)


def test_the_gain_of_a_stage_and_its_error_are_those_in_closed_form():
    """Rows and draws are renewed 60 times: gains scatter around the truth as widely as their errors state."""
    before, after, deviations = tilted(0.2), tilted(0.5), []
    for seed in range(60):
        rows = 0.6 + torch.randn(300, 2, generator=seeded_generator(seed))
        score = ImportanceLikelihood(before, HeldOut(rows), num_samples=300, seed=1000 + seed)
        gain = score.gain(after, before)
        assert gain.value == pytest.approx(score(after).value - score(before).value)
        # The mean of log N(x; m) - log N(x; k) for x from N(0.6, 1) is m (0.6 - m / 2) - k (0.6 - k / 2) a column.
        truth = 2 * (0.5 * (0.6 - 0.25) - 0.2 * (0.6 - 0.1))
        deviations.append((gain.value - truth) / gain.standard_error)
    found = torch.tensor(deviations)
    assert_z(found.mean(), 0.0, 60**-0.5)
    assert_z(found.square().mean(), 1.0, (2 / 60) ** 0.5)


def test_the_gain_over_the_base_counts_from_its_score():
    score = ImportanceLikelihood(
        tilted(0.5), HeldOut(torch.randn(50, 2, generator=seeded_generator(0))), num_samples=100, seed=0
    )
    assert score.gain(tilted(0.5)).value == pytest.approx(score(tilted(0.5)).value - score.reference().value)
    assert score.gain(tilted(0.5), tilted(0.5)) == (0.0, 0.0)


def test_a_tilt_whose_log_z_rests_on_few_draws_counts_for_no_more_than_its_base():
    """A shift of a standard normal by m in two columns has an importance efficiency of exp(-2 m^2)."""
    rows = 2.0 + torch.randn(300, 2, generator=seeded_generator(0))
    score = ImportanceLikelihood(tilted(0.5), HeldOut(rows), num_samples=5000, seed=1)
    even, uneven = score(tilted(0.5)), score(tilted(2.0))
    assert even.figures["importance_efficiency"] > 0.5
    assert uneven.figures["importance_efficiency"] < 0.05
    assert even.value == pytest.approx(score.reference().value + even.figures["gain_over_base"])
    assert uneven.figures["gain_over_base"] > even.figures["gain_over_base"]
    assert uneven.value == pytest.approx(score.reference().value)
