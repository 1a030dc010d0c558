"""The papers' chains against the known bias of Langevin steps."""

import pytest
import torch
from torch import nn

from drl_density import EnergySequence, NoiseSchedule
from drl_density.mcmc import MALA
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import CooperativeRecovery, LangevinChains, LangevinRecovery
from drl_density.training.objectives.objective import uniform_levels
from tests.training.objectives.closed_forms import conditional_in_y, exact


@pytest.mark.parametrize("level", [0, 2, 3])
def test_chains_have_langevins_known_bias(level):
    """Stationary variance 1 / (P (1 - s^2 P / 4)) in y = a x: a wrong half, step, a or quadratic term shows."""
    system = exact()
    precision, slope = conditional_in_y(system, level, LangevinChains())
    factor = 0.8 / (precision * float(system.schedule.langevin_steps(1.0)[1][level]) ** 2)
    chains = LangevinChains(num_steps=30, factor=factor)
    x_noisier = torch.full((10_000, 1), 0.8, dtype=torch.float64)
    levels = torch.full((10_000,), level)
    a = chains.step_alpha(system.model, levels[:1])
    end, _ = chains.run(system.model, x_noisier / a, x_noisier, levels, generator=seeded_generator(level))
    y = a * end - slope * 0.8
    # With s^2 P = 0.8 the share 0.6^30 = 2e-7 of the start's distance is left.
    assert_z(y, 0.0)
    assert_z(y.square(), 1 / (precision * (1 - 0.8 / 4)))


def test_steps_scaled_by_the_conditional_have_langevins_known_bias():
    """In y = a x the squared step is a^2 times the factor of 1 / (a^2 / s^2 + 1 / sigma^2), without a and s at the top."""
    system, chains = exact(), LangevinChains(num_steps=200, factor=0.8, scaling="conditional")
    levels = torch.arange(4).repeat(2500)
    x_noisier = torch.full((len(levels), 1), 0.8, dtype=torch.float64)
    a = chains.step_alpha(system.model, levels)[:, None]
    end, _ = chains.run(system.model, x_noisier / a, x_noisier, levels, generator=seeded_generator(3))
    for level in range(4):
        precision, slope = conditional_in_y(system, level, chains)
        step_alpha, step_sigma, sigma = (
            float(table[level]) for table in (system.schedule.step_alpha, system.schedule.step_sigma, system.schedule.sigma)
        )
        pull = 0.0 if level == 3 else (step_alpha / step_sigma) ** 2
        squared = float(a[level]) ** 2 * 0.8 / (pull + sigma**-2)
        # s^2 P is at least 0.06, so that 0.97^200 = 2e-3 of the distance to the start is left.
        y = (a * end)[levels == level] - slope * 0.8
        assert_z(y.square(), 1 / (precision * (1 - squared * precision / 4)))


def test_adjusted_kernels_keep_the_target_when_the_factor_doubles():
    system, level = exact(), 1
    precision, slope = conditional_in_y(system, level, LangevinChains())
    generator = seeded_generator(4)
    x_noisier = torch.full((10_000, 1), 0.8, dtype=torch.float64)
    start = system.recovery(x_noisier, level).sample()
    a = float(system.schedule.step_alpha[level])
    for factor in (0.4, 0.8):
        chains = LangevinChains(num_steps=4, factor=factor, kernel=MALA())
        end, acceptance = chains.run(system.model, start, x_noisier, torch.full((10_000,), level), generator=generator)
        assert float(acceptance.mean()) < 1
        assert_z((a * end - slope * 0.8).square(), 1 / precision)


def test_the_top_level_is_a_marginal_and_the_others_are_not():
    system = exact()
    start, levels = torch.zeros(4, 1, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    chains = LangevinChains(num_steps=2, factor=0.1)
    ends = [
        chains.run(system.model, start, value * torch.ones_like(start), levels, generator=seeded_generator())[0]
        for value in (1.0, -1.0)
    ]
    assert (ends[0] == ends[1]).flatten().tolist() == [False, False, False, True]


def test_temperature_is_the_scaled_noise_and_training_refuses_it():
    system, x = exact(), torch.full((3, 1), 0.7, dtype=torch.float64)
    levels = torch.zeros(3, dtype=torch.long)
    moved, _ = LangevinChains(num_steps=1, factor=0.1, temperature=0.99**2).run(
        system.model, x, x, levels, generator=seeded_generator()
    )
    noise = torch.randn(x.shape, generator=seeded_generator(), dtype=x.dtype)
    a, sigma = float(system.schedule.step_alpha[0]), float(system.schedule.step_sigma[0])
    step = float(system.schedule.langevin_steps(0.1)[1][0]) / a
    drift = system.model.score(x, 0) + a * (x - a * x) / sigma**2
    torch.testing.assert_close(moved, x + 0.5 * step**2 * drift + 0.99 * step * noise, rtol=1e-12, atol=1e-12)
    for objective in (LangevinRecovery, CooperativeRecovery):
        with pytest.raises(ValueError, match="temperature 1"):
            objective(chains=LangevinChains(temperature=0.98))


def test_weights_of_the_paper_are_those_of_the_raw_output_and_nats_weigh_all_levels_alike():
    system, levels = exact(), torch.arange(4)
    sigma, step = system.schedule.step_sigma, system.schedule.langevin_steps(0.1)[1]
    paper = LangevinChains(num_steps=1, factor=0.1).loss_weight(system.model, levels)
    torch.testing.assert_close(paper, sigma[0] / sigma * step**2)
    rows = torch.randn(64, 1, generator=seeded_generator(1), dtype=torch.float64)
    losses = {}
    for weights in ("paper", "nats"):
        objective = LangevinRecovery(LangevinChains(num_steps=1, factor=0.1, weights=weights))
        value = objective(system.model, rows, torch.ones(4), generator=seeded_generator(2))
        losses[weights] = float(value.loss)
        if weights == "nats":
            counts = torch.bincount(uniform_levels(64, 4, generator=seeded_generator(2)), minlength=4)
            assert losses[weights] == pytest.approx(-float((value.statistics.energy_gap * counts).sum() / 64))
    assert losses["paper"] != pytest.approx(losses["nats"])
    with pytest.raises(ValueError, match="weights must be one of 'paper', 'nats'"):
        LangevinChains(weights="levels")


class OfOnePoint(nn.Module):
    """Log density of a noised point at 0, at the noise that the state itself shows, times a factor."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, log_snr):
        return -self.factor * x.shape[1] / 2 * x.square().sum(1).log()


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_short_chains_take_the_noise_of_a_level_off_by_scaled_energies(level):
    """In 400 dimensions a state shows its noise. Scaled energies end at that of their level, unscaled ones far above."""
    schedule, network = NoiseSchedule.linear_beta(), OfOnePoint()
    model = EnergySequence(schedule, network, (400,), has_base=False, is_integrable=False).requires_grad_(False)
    chains, levels, generator = LangevinChains(), torch.full((50,), level), seeded_generator(level)
    x_noisier = schedule.sigma[level + 1] * torch.randn(50, 400, generator=generator, dtype=torch.float64)
    start = x_noisier / chains.step_alpha(model, levels[:1])
    ends = []
    for factor in (1.0, float(chains.energy_scale(model, levels)[0])):
        network.factor.fill_(factor)
        x, _ = chains.run(model, start, x_noisier, levels, generator=generator)
        ends.append(float(x.square().mean().sqrt() / schedule.sigma[level]))
    assert ends[0] > 1.5
    assert ends[1] == pytest.approx(1.05, abs=0.07)


def test_scales_of_the_papers_chains_and_of_chains_that_have_none():
    model = EnergySequence(NoiseSchedule.linear_beta(), OfOnePoint(), (2,), has_base=False, is_integrable=False)
    levels = torch.arange(6)
    found = LangevinChains().energy_scale(model, levels)
    assert found.tolist() == pytest.approx([167.667, 6.147, 3.843, 3.141, 2.856, 2.736], rel=1e-3)
    cold = LangevinChains(temperature=0.5).energy_scale(model, levels)  # adds half the noise
    assert (found - cold).tolist() == pytest.approx([0.5] * 6)
    for chains in (LangevinChains(num_steps=0), LangevinChains(kernel=MALA())):
        with pytest.raises(ValueError, match="unadjusted chains of at least one step"):
            chains.energy_scale(model, levels)


@pytest.mark.parametrize("levels", [torch.tensor([-1]), torch.tensor([4]), torch.tensor([0.0]), torch.tensor([True])])
def test_levels_that_there_are_not_are_refused(levels):
    """-1 is not the top level, and 0.0 no index."""
    model, chains, x = exact().model, LangevinChains(num_steps=1), torch.zeros(1, 1, dtype=torch.float64)
    for call in (
        lambda: chains.step_alpha(model, levels),
        lambda: chains.loss_weight(model, levels),
        lambda: chains.energy_scale(model, levels),
        lambda: chains.run(model, x, x, levels),
    ):
        with pytest.raises(ValueError, match="expected integer levels from 0 to 3, one for each row, got tensor"):
            call()
