"""The papers' objectives: step-size calibration, prescribed chains, normal approximation, initialiser, shared noise."""

import math
import warnings

import pytest
import torch
from scipy import stats
from torch import nn

from drl_density import ChainSampler, NoiseSchedule, RecoveryLikelihood
from drl_density.bases import QuadraticBase
from drl_density.errors import DRLDensityWarning, NumericalError
from drl_density.mcmc import HMC, MALA
from drl_density.model import EnergySequence
from drl_density.networks import (
    ResidualEnergy,
    ResidualSettings,
    SpectralWeight,
    StepCalibrated,
    UNet,
    UNetSettings,
    guide_by_label,
)
from drl_density.partition_function import AISSettings, annealed_importance_sampling, sequence_path, sequence_sandwich
from drl_density.samplers import (
    ProgressiveSettings,
    ShortRunSettings,
    plan_progressive,
    sample_progressive,
    sample_short_run,
)
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator
from drl_density.training import ChainEnds, CooperativeRecovery, LangevinChains, LangevinRecovery, draw_pairs, propose

VARIANCE = 0.5


class Quadratic(nn.Module):
    """f(y) = -precision |y|^2 / 2, one precision for all levels."""

    has_bounded_growth = True

    def __init__(self, precision=1.0):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x, log_snr):
        return -0.5 * self.precision * x.square().flatten(1).sum(1)


def exact(schedule=None):
    """Gaussian data of one variance, exact at every level."""
    schedule = schedule or NoiseSchedule.log_spaced(4)
    return gaussian_sequence(torch.zeros(1), torch.full((1, 1), VARIANCE), schedule)


def image_sequence(*, initializer=None, num_classes=0, base=True, schedule=None):
    schedule = schedule or NoiseSchedule.linear_beta()
    sizes = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1, num_classes=num_classes)
    raw = ResidualEnergy(sizes, generator=seeded_generator())
    network = StepCalibrated(raw, schedule.log_snr[:-1].float(), *(t.float() for t in schedule.langevin_steps()))
    return EnergySequence(
        schedule,
        network,
        (64,),
        base=QuadraticBase(64, 10.0) if base else None,
        has_base=base,
        initializer=initializer,
    )


def unet(num_classes=0):
    sizes = UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 1), num_blocks=1, num_classes=num_classes)
    return UNet(sizes, generator=seeded_generator(9))


def test_gradient_is_that_of_the_papers_loss_on_the_raw_output(monkeypatch):
    """-(sigma_1 / sigma_{t+1}) (f~(y+) - f~(y-)), f~ the output before division by s^2, y = a x with a = 1 at the top."""
    schedule = NoiseSchedule.linear_beta()
    step_alpha, step_size = schedule.langevin_steps()
    raw = Quadratic(0.3)
    model = EnergySequence(schedule, StepCalibrated(raw, schedule.log_snr[:-1], step_alpha, step_size), (5,))
    seen = {}

    def fixed(self, model, clean, x_noisier, levels, *, generator):
        seen.update(clean=clean, levels=levels, end=clean + 0.1 * torch.ones_like(clean))
        return ChainEnds(seen["end"], torch.ones(len(clean), dtype=clean.dtype))

    monkeypatch.setattr(LangevinRecovery, "draw", fixed)
    x = torch.randn(48, 5, dtype=torch.float64, generator=seeded_generator(1))
    LangevinRecovery()(model, x, torch.ones(6), generator=seeded_generator(2)).loss.backward()
    alpha = step_alpha[seen["levels"]][:, None]
    weight = (schedule.step_sigma[0] / schedule.step_sigma)[seen["levels"]]
    squares = (alpha * seen["clean"]).square().sum(1) - (alpha * seen["end"]).square().sum(1)
    assert float(raw.precision.grad) == pytest.approx(float((weight * 0.5 * squares).mean()), rel=1e-10)


def conditional_in_y(system, level, chains):
    """(precision, mean over x_noisier) of y given x_noisier, the quadratic term left out at a marginal top."""
    schedule = system.schedule
    a = float(chains.step_alpha(system.model, torch.tensor([level])))
    sigma = float(schedule.step_sigma[level])
    marginal = float(schedule.alpha[level] ** 2 * VARIANCE + schedule.sigma[level] ** 2)
    pull = 0.0 if level == schedule.num_levels - 1 and chains.is_top_marginal else sigma**-2
    precision = 1 / (a**2 * marginal) + pull
    return precision, pull / precision


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


def test_normal_negatives_are_draws_of_the_normal_approximation():
    system, level = exact(), 1
    objective = LangevinRecovery(chains=LangevinChains(is_top_marginal=False), negatives="normal")
    x_noisier = torch.full((10_000, 1), 0.8, dtype=torch.float64)
    draws, _ = objective.draw(
        system.model, x_noisier, x_noisier, torch.full((10_000,), level), generator=seeded_generator(6)
    )
    expected = system.model.recovery(level).normal_approximation(x_noisier[:1])
    assert_z(draws, expected.mean[0])
    assert_z((draws - expected.mean).square(), float(expected.variance))


def test_shared_noise_leaves_the_mean_gradient_and_lowers_its_variance():
    """Gaussian data, f = -lambda y^2 / 2 with a wrong lambda, exact negatives: means agree, the spread falls."""
    system, level, num_rows = exact(NoiseSchedule.linear_beta()), 1, 100_000
    model, schedule = system.model, system.schedule
    x = VARIANCE**0.5 * torch.randn(num_rows, 1, generator=seeded_generator(1), dtype=torch.float64)
    a, sigma = float(schedule.step_alpha[level]), float(schedule.step_sigma[level])
    levels = torch.full((num_rows,), level)
    total = 1.6 + sigma**-2
    gradients = []
    for offset, shares_noise in ((2, False), (3, True)):
        generator = seeded_generator(offset)
        clean, x_noisier = draw_pairs(model, x, levels, levels + 1, shares_noise=shares_noise, generator=generator)
        negative = x_noisier / (sigma**2 * total) + total**-0.5 * torch.randn(
            num_rows, 1, generator=generator, dtype=torch.float64
        )
        gradients.append(0.5 * (negative.square() - (a * clean).square()))
    markov, shared = gradients
    error = math.hypot(*(float(value.std()) / num_rows**0.5 for value in gradients))
    assert_z(markov.mean() - shared.mean(), 0.0, error)
    assert abs(float(markov.mean())) > 20 * error
    assert float(shared.std()) < 0.95 * float(markov.std())


def staying(monkeypatch, offset=0.0):
    """Chains that end ``offset`` beyond their start, and a list of what each run was given: (start, x_noisier, levels)."""
    runs = []

    def run(self, model, start, x_noisier, levels, *, label=None, generator=None):
        runs.append((start, x_noisier, levels))
        return ChainEnds(start + offset, torch.ones(len(start), dtype=start.dtype))

    monkeypatch.setattr(LangevinChains, "run", run)
    return runs


def papers_alpha(schedule):
    """a of levels 0..T-1: that of the steps, and 1 at the top."""
    return torch.cat([schedule.step_alpha[:-1], torch.ones(1, dtype=torch.float64)])


def test_training_chains_start_at_the_noisier_state_in_y(monkeypatch):
    """y = x_{t+1}, so a x = x_{t+1} at every level."""
    system, runs = exact(), staying(monkeypatch)
    x_noisier = torch.randn(12, 1, generator=seeded_generator(1), dtype=torch.float64)
    levels = torch.arange(12) % 4
    LangevinRecovery().draw(system.model, x_noisier + 1, x_noisier, levels, generator=seeded_generator(2))
    start = runs[0][0]
    torch.testing.assert_close(papers_alpha(system.schedule)[levels][:, None] * start, x_noisier, rtol=1e-12, atol=0)


def test_short_runs_start_at_the_noisier_state_in_y(monkeypatch):
    system, runs = exact(), staying(monkeypatch)
    alpha = papers_alpha(system.schedule)
    x = torch.randn(5, 1, generator=seeded_generator(1), dtype=torch.float64)
    draws = sample_short_run(system.model, 5, noise=x).draws
    assert [int(levels[0]) for _, _, levels in runs] == [3, 2, 1, 0]
    for start, x_noisier, levels in runs:
        assert torch.equal(x_noisier, x)
        torch.testing.assert_close(alpha[levels][:, None] * start, x_noisier, rtol=1e-12, atol=0)
        x = start
    assert torch.equal(draws, x)


SHARED = {
    "recovery likelihood": lambda: RecoveryLikelihood(shares_noise=True),
    "half of the chains": lambda: RecoveryLikelihood(shares_noise=True, noisier_share=0.5),
    "langevin": lambda: LangevinRecovery(start="data", shares_noise=True),
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_noise_with_data_starts_is_refused(name):
    with pytest.raises(ValueError, match="need Markov pairs"):
        SHARED[name]()
    RecoveryLikelihood(shares_noise=True, noisier_share=1.0)
    LangevinRecovery(shares_noise=True)


BAD = [
    (lambda: LangevinRecovery(negatives="normal"), "no conditional to approximate"),
    (lambda: LangevinRecovery(chains=LangevinChains(num_steps=0)), 'K = 0 give negatives="normal"'),
    (lambda: LangevinChains(factor=0.0), "factor > 0"),
    (lambda: CooperativeRecovery(label_dropout=1.5), "label_dropout must lie in"),
    (lambda: propose(image_sequence(), torch.zeros(1, 64), torch.zeros(1).long(), LangevinChains()), "initializer"),
    (lambda: sample_short_run(image_sequence(), 2, noise=torch.zeros(3, 64)), "expected noise at level"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", ["langevin", "normal", "cooperative", "adjusted"])
def test_power_iteration_moves_once_per_loss_and_stands_still_in_chains(kind):
    model = image_sequence(initializer=unet()).train()
    objective = {
        "langevin": LangevinRecovery(chains=LangevinChains(num_steps=3)),
        "normal": LangevinRecovery(chains=LangevinChains(is_top_marginal=False), negatives="normal"),
        "cooperative": CooperativeRecovery(chains=LangevinChains(num_steps=3)),
        "adjusted": RecoveryLikelihood(num_steps=3, classification_weight=0.0),
    }[kind]
    weights = [part for part in model.network.modules() if isinstance(part, SpectralWeight) and part.is_normalized]
    expected = [weight.iterate()[0] for weight in weights]
    x = torch.randn(12, 64, generator=seeded_generator(1))
    value = objective(model, x, torch.full((6,), 0.5, dtype=torch.float64), generator=seeded_generator(2))
    assert all(torch.equal(weight.u, u) for weight, u in zip(weights, expected, strict=True))
    assert bool(torch.isfinite(value.loss))


def test_energy_and_initialiser_learn_each_from_its_own_loss():
    gradients = {}
    for weight in (0.0, 1.0):
        model = image_sequence(initializer=unet()).train()
        objective = CooperativeRecovery(chains=LangevinChains(num_steps=2, factor=4e-4), initializer_weight=weight)
        torch.manual_seed(0)
        x = torch.randn(12, 64, generator=seeded_generator(1))
        objective(model, x, torch.ones(6), generator=seeded_generator(2)).loss.backward()
        gradients[weight] = model
    for name, parameter in gradients[1.0].network.named_parameters():
        assert torch.equal(parameter.grad, gradients[0.0].network.get_parameter(name).grad), name
    reached = [part.grad for part in gradients[0.0].initializer.parameters() if part.grad is not None]
    assert all(float(gradient.abs().max()) == 0 for gradient in reached)
    assert float(gradients[1.0].initializer.leave.weight.grad.abs().max()) > 0


class Slopes(nn.Module):
    """A linear initialiser: one slope per level, found by the log-SNR of the noisier one."""

    def __init__(self, schedule):
        super().__init__()
        self.table = schedule.log_snr[1:]
        self.slope = nn.Parameter(torch.full((schedule.num_levels,), 0.5, dtype=torch.float64))

    def forward(self, x, log_snr):
        return self.slope[(self.table - log_snr[:, None]).abs().argmin(1)][:, None] * x


def test_cooperative_training_of_a_linear_initialiser_finds_the_posterior_mean():
    """Slope a Cov(x_t, x_{t+1}) / Var(x_{t+1}) below the top and 0 at it, within 2 %: the refined states have it."""
    schedule = NoiseSchedule.log_spaced(3, sigma_min=0.5)
    system = exact(schedule)
    model = system.model
    model.initializer = start = Slopes(schedule)
    # s^2 P is 0.65 and 1.87 at the two levels below the top, so 12 steps forget all but 1 % of a proposal.
    objective = CooperativeRecovery(chains=LangevinChains(num_steps=12, factor=0.2), shares_noise=False)
    generator = seeded_generator(7)
    curvature = 2 / 3 * (schedule.alpha.square() * VARIANCE + schedule.sigma.square())[1:]
    found = []
    for _ in range(6):
        x = system.sample(30_000, None, generator=generator)
        objective(model, x, torch.ones(3), generator=generator).loss.backward()
        with torch.no_grad():
            start.slope -= start.slope.grad / curvature
            start.slope.grad = None
        found.append(start.slope.detach().clone())
    mean = torch.stack(found[3:]).mean(0)
    for level in range(2):
        _, slope = conditional_in_y(system, level, objective.chains)
        assert abs(float(mean[level]) / slope - 1) < 0.02, (level, slope)


def with_slopes(slope, *, dim=1):
    """A standard Gaussian sequence with a linear initialiser."""
    system = gaussian_sequence(torch.zeros(dim), torch.eye(dim), NoiseSchedule.log_spaced(4))
    model = system.model
    model.initializer = Slopes(system.schedule)
    nn.init.constant_(model.initializer.slope, slope)
    return system.schedule, model


def test_cooperative_chains_start_at_the_proposal():
    """With no steps the chain ends where it began, so nothing is left to learn for the initialiser."""
    _, model = with_slopes(0.5, dim=3)
    x = torch.randn(64, 3, generator=seeded_generator(1), dtype=torch.float64)
    objective = CooperativeRecovery(chains=LangevinChains(num_steps=0))
    value = objective(model, x, torch.ones(4), generator=seeded_generator(2))
    assert float(value.parts["initializer"]) == 0


def test_the_initialisers_lesson_is_the_squared_distance_in_y(monkeypatch):
    """a^2 |x^K - proposal|^2, summed over dimensions and averaged over rows."""
    schedule, model = with_slopes(0.5, dim=3)
    x, offset = torch.randn(2, 64, 3, generator=seeded_generator(1), dtype=torch.float64)
    runs = staying(monkeypatch, offset)
    value = CooperativeRecovery()(model, x, torch.ones(4), generator=seeded_generator(2))
    expected = (papers_alpha(schedule)[runs[0][2]].square() * offset.square().sum(1)).mean()
    assert float(value.parts["initializer"]) == pytest.approx(float(expected), rel=1e-10)
    assert float(value.loss.detach() - value.parts["recovery"]) == pytest.approx(float(expected), rel=1e-10)


def test_proposals_have_the_small_posterior_variance_in_y():
    """a^2 (1 - a^2) sigma_t^2 / sigma_{t+1}^2 around the initialiser's answer, below the top."""
    schedule, model = with_slopes(0.0)
    for level in range(3):
        levels = torch.full((10_000,), level)
        x_noisier = torch.ones(10_000, 1, dtype=torch.float64)
        with torch.no_grad():
            found = propose(model, x_noisier, levels, LangevinChains(), generator=seeded_generator(level))
        a, (sigma, noisier) = schedule.step_alpha[level], schedule.sigma[level : level + 2]
        assert_z(a * found, 0.0)
        assert_z((a * found).square(), a**2 * (1 - a**2) * (sigma / noisier) ** 2)


@pytest.mark.parametrize("objective", [LangevinRecovery(), CooperativeRecovery()], ids=["langevin", "cooperative"])
def test_levels_are_uniform(objective, monkeypatch):
    """Every level from 0 to T - 1 equally often, by a chi-square test at 1e-4."""
    _, model = with_slopes(0.5)
    runs = staying(monkeypatch)
    objective(model, torch.zeros(20_000, 1, dtype=torch.float64), torch.ones(4), generator=seeded_generator(1))
    counts = runs[0][2].bincount(minlength=4)
    assert len(counts) == 4
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_defaults_are_the_papers():
    first, second = LangevinRecovery(), CooperativeRecovery()
    assert (first.chains.num_steps, first.chains.factor) == (30, 2e-4)
    assert (second.chains.num_steps, second.chains.factor) == (15, 4e-4)
    assert second.label_dropout == 0.1
    assert second.initializer_weight == 1


def test_labels_are_dropped_told_and_guided():
    model = image_sequence(initializer=unet(num_classes=3), num_classes=3).train()
    x, label = torch.randn(12, 64, generator=seeded_generator(1)), torch.arange(12) % 3 + 1
    seen = []
    handle = model.network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    objective = CooperativeRecovery(chains=LangevinChains(num_steps=1), label_dropout=0.5)
    objective(model, (x, label), torch.ones(6), generator=seeded_generator(3))
    handle.remove()
    told = seen[0]
    assert 0 < int((told == 0).sum()) < 12
    assert torch.equal(told[told > 0], label[told > 0])
    assert torch.equal(seen[-1], torch.cat([told, told]))
    model.eval()
    other = model.with_network(
        guide_by_label(model.network, 2, 1.5), initializer=guide_by_label(model.initializer, 2, 1.5)
    )
    with torch.no_grad():
        own, plain = (model.log_density_at(x, torch.tensor(0.0), torch.tensor(k)) for k in (2, 0))
        assert torch.allclose(other.log_density_at(x, torch.tensor(0.0)), 2.5 * own - 1.5 * plain, rtol=1e-4)
    assert other.is_integrable
    draws = sample_short_run(other, 2, settings=ShortRunSettings(LangevinChains(num_steps=1)))
    assert draws.draws.shape == (2, 64)


def test_the_last_denoising_step_uses_the_same_density_once():
    """Tweedie's formula with F; the second paper's release has twice the score there."""
    model, states = image_sequence(), []
    settings = ShortRunSettings(LangevinChains(num_steps=2), is_denoised=True)
    result = sample_short_run(
        model, 3, settings=settings, generator=seeded_generator(), on_step=lambda record: states.append(record.x)
    )
    last = states[-1]
    sigma, alpha = float(model.schedule.sigma[0]), float(model.schedule.alpha[0])
    model.eval()
    with torch.enable_grad():
        point = last.clone().requires_grad_(True)
        (score,) = torch.autograd.grad(model.log_density(point, 0).sum(), point)
    assert torch.allclose(result.draws, (last + sigma**2 * score) / alpha, atol=1e-5)
    assert not torch.allclose(result.draws, (last + 2 * sigma**2 * score) / alpha, atol=1e-4)
    assert len(states) == 6


def test_refined_normal_approximation_ends_at_the_marginal():
    """The T = 1000 sampler at 12 levels: a Gaussian draw, then HMC with two leapfrog steps, on a Gaussian of known width."""
    system = exact(NoiseSchedule.log_spaced(12, sigma_min=0.3))
    settings = ProgressiveSettings(
        steps_per_level=1, num_steps=4, num_final_steps=0, kernel=HMC(num_leapfrog=2), starts_at_normal=True
    )
    result = sample_progressive(system.model, 4000, settings=settings, generator=seeded_generator(8))
    variance = float(system.schedule.alpha[0] ** 2 * VARIANCE + system.schedule.sigma[0] ** 2)
    assert_z(result.draws.square(), variance)
    rates = result.stats["acceptance_rate"][:-1].mean(1)
    assert bool(((rates > 0.5) & (rates <= 1)).all())
    unrefined = sample_progressive(
        system.model,
        4000,
        settings=ProgressiveSettings(steps_per_level=1, num_steps=0, num_final_steps=0, starts_at_normal=True),
        generator=seeded_generator(8),
    )
    with pytest.raises(AssertionError, match="estimate"):
        assert_z(unrefined.draws.square(), variance)


def test_a_new_sequence_is_one_density_for_samplers_and_estimators():
    """Its spectral norms stand still; each pass in training mode would move them a step."""
    model, generator = image_sequence(), seeded_generator(4)
    spectral = [m for m in model.modules() if isinstance(m, SpectralWeight) and m.is_normalized]
    before = [module.u.clone() for module in spectral]
    sizes = {"num_particles": 4, "num_replicates": 2, "num_transitions": 1, "num_pilot_particles": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        model.level(0, sampler=ChainSampler(num_warmup=1, num_steps=1)).sample((2,))
        path = sequence_path(model, steps_per_level=1)
        annealed_importance_sampling(path, settings=AISSettings(**sizes), generator=generator)
    plan = plan_progressive(model, generator=generator, num_pilot=4)
    sample_progressive(model, 2, plan=plan, generator=generator)
    assert all(torch.equal(module.u, u) for module, u in zip(spectral, before, strict=True))
    model.train().score(torch.zeros(1, 64), 0.0)
    assert not all(torch.equal(module.u, u) for module, u in zip(spectral, before, strict=True))


def test_a_network_without_a_base_is_improper():
    model = image_sequence(base=False)
    assert not model.is_integrable
    with pytest.raises(NumericalError, match="improper"):
        sequence_sandwich(model)
    assert image_sequence().is_integrable
    assert float(QuadraticBase(64, 10.0)(torch.zeros(1, 64), torch.tensor(50.0))) == pytest.approx(
        -32 * math.log(2 * math.pi * 100), rel=1e-5
    )
