"""Bridges, reverse paths and the sandwich on systems whose log Z is known."""

import math
import warnings

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.errors import NumericalError, UnreliableEstimateWarning
from drl_density.mcmc import MALA
from drl_density.partition_function import (
    anneal,
    annealing_log_likelihood,
    bennett,
    equilibrium_estimates,
    flow_log_likelihood,
    forward_weights,
    geometric_path,
    judgement,
    level_recursion,
    multistate_bennett,
    place_bridges,
    plan_annealing,
    plan_reverse_path,
    reverse_anneal,
    reverse_weights,
    sequence_path,
    sequence_sandwich,
    thermodynamic_integration,
)
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence
from drl_density.weights import judge_estimate, log_mean_exp

SMALL = drl.SandwichSettings(num_particles=128, num_replicates=6, num_mixing_steps=20)


def normal_weights(log_z, spread, count, seed):
    """Log weights of a log-normal pair: forward N(c - v/2, v), reverse N(c + v/2, v) satisfy Crooks' relation exactly."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, count, generator=generator, dtype=torch.float64) * spread
    return log_z - spread**2 / 2 + noise[0], log_z + spread**2 / 2 + noise[1]


def test_bennett_is_calibrated():
    z = []
    for seed in range(40):
        forward, reverse = normal_weights(3.7, 1.5, 500, seed)
        estimate = bennett(forward, reverse)
        z.append((estimate.log_z - 3.7) / estimate.standard_error)
    z = torch.tensor(z)
    assert_z(float(z.mean()), 0.0, 1 / math.sqrt(len(z)))
    assert 0.6 < float(z.std()) < 1.5


def test_bennett_with_unequal_counts_and_swapped_arrays():
    forward, reverse = normal_weights(1.0, 1.0, 4000, 0)
    estimate = bennett(forward, reverse[:700])
    assert_z(estimate.log_z, 1.0, estimate.standard_error)
    with pytest.raises(NumericalError, match="swapped"):
        bennett(reverse, forward)


def test_bennett_refuses_lost_weights():
    with pytest.raises(NumericalError, match="finite log weights"):
        bennett(torch.full((5,), -math.inf), torch.zeros(5))


def test_multistate_bennett_and_thermodynamic_integration_on_gaussians():
    """Ten Gaussians of growing width: log Z ratios are log of the width ratios."""
    widths = torch.logspace(0, 0.5, 10, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    counts = torch.full((10,), 400)
    x = torch.cat([width * torch.randn(400, generator=generator, dtype=torch.float64) for width in widths])
    values = -0.5 * (x[None] / widths[:, None]) ** 2
    result = multistate_bennett(values, counts)
    truth = (widths / widths[0]).log()
    z = (result.log_z - truth)[1:] / result.standard_error[1:]
    assert float(z.abs().max()) < 4.5
    torch.testing.assert_close(result.overlap.sum(1), torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (
        abs(thermodynamic_integration(values, counts) - float(truth[-1])) < 6 * float(result.standard_error[-1]) + 1e-2
    )


def test_multistate_counts_must_fit():
    with pytest.raises(ValueError, match="counts"):
        multistate_bennett(torch.zeros(2, 5), torch.tensor([2, 2]))


def test_multistate_agrees_with_bennett_on_two_states():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(300, generator=generator).double(), 1.5 * torch.randn(300, generator=generator).double()
    x = torch.cat([first, second])
    values = torch.stack([-0.5 * x**2, -0.5 * (x / 1.5) ** 2])
    pair = bennett((values[1] - values[0])[:300], (values[1] - values[0])[300:])
    result = multistate_bennett(values, torch.tensor([300, 300]))
    assert float(result.log_z[1]) == pytest.approx(pair.log_z, abs=1e-6)
    assert float(result.standard_error[1]) == pytest.approx(pair.standard_error, rel=0.05)


def test_reverse_path_is_unbiased_in_both_directions():
    system = GaussianMixtureSequence.example(dim=3, seed=2)
    generator = torch.Generator().manual_seed(0)
    path = plan_reverse_path(system.model, system.sample(500, 0, generator=generator), generator=generator)
    forward, ends = forward_weights(path, 2000, generator=generator)
    reverse = reverse_weights(path, system.sample(2000, 0, generator=generator), generator=generator)
    truth = float(system.log_z(0))
    for sign, weights in ((1, forward), (-1, reverse)):
        shares = (sign * (weights - truth)).exp()
        assert_z(float(shares.mean()), 1.0, float(shares.std()) / math.sqrt(len(shares)))
    assert ends.shape == (2000, 3)
    assert float(forward.mean()) < truth < float(reverse.mean())


def test_path_of_a_correlated_gaussian_has_hardly_any_spread():
    """The reverse kernels have the exact covariance of a Gaussian level, whatever its axes: only the means' step errs."""
    factor = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    covariance = factor @ factor.T / 6 + 0.05 * torch.eye(6, dtype=torch.float64)
    system = gaussian_sequence(torch.zeros(6, dtype=torch.float64), covariance, drl.NoiseSchedule.log_spaced(8))
    generator = torch.Generator().manual_seed(0)
    path = plan_reverse_path(system.model, system.sample(20_000, 0, generator=generator), generator=generator)
    forward, _ = forward_weights(path, 1000, generator=generator)
    reverse = reverse_weights(path, system.sample(1000, 0, generator=generator), generator=generator)
    assert float(reverse.mean() - forward.mean()) < 0.2
    assert bennett(forward, reverse).overlap > 0.95


def test_errors_at_other_levels_cost_variance_not_bias():
    """Levels above 0 disturbed by a smooth wave: the path estimate stays at the log Z of level 0."""
    system = GaussianMixtureSequence.example(dim=2, seed=1)
    network = system.model.network
    top = float(system.schedule.log_snr_at(0))

    class Disturbed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.weight = network, torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x, log_snr):
            return self.inner(x, log_snr) + 0.5 * torch.sin(3 * x.sum(-1)) * (log_snr < top - 1e-9)

    model = drl.EnergySequence(
        system.schedule, Disturbed(), (2,), has_base=False, is_integrable=True, dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    noised = [system.sample(4000, level, generator=generator) for level in range(1, model.num_levels)]
    draws = [*noised, torch.randn(4000, 2, generator=generator, dtype=torch.float64)]
    truth = float(system.log_z(0))
    assert abs(float(level_recursion(system.model, draws)[0]) - truth) < 0.06  # consistent where the levels agree ...
    assert abs(float(level_recursion(model, draws)[0]) - truth) > 0.12  # ... and moved by levels that do not
    path = plan_reverse_path(model, system.sample(400, 0, generator=generator), generator=generator)
    forward, _ = forward_weights(path, 2000, generator=generator)
    estimate = bennett(forward, reverse_weights(path, system.sample(2000, 0, generator=generator), generator=generator))
    assert_z(estimate.log_z, float(system.log_z(0)), estimate.standard_error)


def test_level_recursion_wants_every_level():
    system = GaussianMixtureSequence.example(dim=2, seed=1)
    with pytest.raises(ValueError, match="draws of levels 1 to"):
        level_recursion(system.model, [torch.zeros(3, 2)])


def test_equilibrium_draws_of_every_density_give_log_z():
    target = dist.MultivariateNormal(torch.ones(3), 0.2 * torch.eye(3) + 0.1)
    settings = drl.AISSettings(num_particles=200, num_replicates=6, num_kept=40, num_transitions=5)
    generator = torch.Generator().manual_seed(0)
    path = geometric_path(
        dist.Normal(torch.zeros(3), 1.5).to_event(1), lambda x: target.log_prob(x) + 2.0, num_bridges=20
    )
    plan = plan_annealing(path, settings, generator=generator)
    run = anneal(path, plan, settings, generator=generator)
    assert run.kept.shape == (6, 20, 40, 3)
    result = equilibrium_estimates(path, run.kept, generator=generator)
    assert abs(result.multistate[0] - 2.0) < 5 * result.multistate[1] + 0.02
    assert abs(result.integration[0] - 2.0) < 5 * result.integration[1] + 0.05
    assert result.overlap.shape == (21, 21)


def test_annealing_sampler_errs_low():
    target = dist.MultivariateNormal(torch.ones(3), 0.2 * torch.eye(3) + 0.1)
    settings = drl.AISSettings(num_particles=200, num_replicates=4)
    generator = torch.Generator().manual_seed(0)
    path = geometric_path(dist.Normal(torch.zeros(3), 1.5).to_event(1), target.log_prob, num_bridges=30)
    plan = plan_annealing(path, settings, generator=generator)
    torch.manual_seed(0)
    x = target.sample((300,))
    gap = annealing_log_likelihood(path, plan, settings, x, generator=generator) - target.log_prob(x)
    assert -0.3 < float(gap.mean()) < 0.01


def judged(*, estimates=None, forward_shift=0.0, annealing_shift=0.0, **changes):
    """Verdict on a sandwich without fault, but for the changes."""
    forward, reverse = normal_weights(2.0, 0.5, 800, 0)
    annealing = judge_estimate(forward.reshape(8, 100) + annealing_shift, bias="lower")
    values = {
        judgement.ANNEALING: (2.0, 0.02),
        judgement.LOWER: (1.9, 0.02),
        judgement.UPPER_NOISE: (2.1, 0.02),
        judgement.MULTISTATE: (2.0, 0.02),
        **(estimates or {}),
    }
    known = {"is_settled": True, "least_acceptance": 0.5, **changes}
    return judgement.judge_sandwich(values, (2.0, 0.02), 0.9, annealing, forward + forward_shift, **known)


@pytest.mark.parametrize(("bound", "verdict"), [(1.8, "doubtful"), (2.08, "reliable"), (2.4, "unknown")])
def test_starts_are_compared_by_the_bound_as_well(bound, verdict):
    estimates = {judgement.BENNETT_DATA: (1.97, 0.02), judgement.UPPER_DATA: (bound, 0.02)}
    assert judged(estimates=estimates)[0] == verdict
    found = judgement.start_gaps({**estimates, judgement.UPPER_NOISE: (2.1, 0.02)}, (2.0, 0.02))
    assert [gap.holds for _, gap in found] == [True, verdict == "reliable"]
    assert found[1][0] == pytest.approx(bound - 2.1)


def test_every_alarm_rings_alone():
    assert judged()[0] == "reliable"
    alarms = [
        ({"is_settled": False}, "still moves from one fitted base"),
        ({"least_acceptance": 0.01}, "hardly accepts"),
        ({"forward_shift": -6.0}, "half of the forward paths"),
        ({"annealing_shift": -0.3}, "annealing and Bennett's ratio differ"),
        ({"estimates": {judgement.MULTISTATE: (1.8, 0.02)}}, "mix slowly"),
        ({"estimates": {judgement.BENNETT_EARLY: (1.8, 0.02)}}, "mixed a quarter as long"),
        ({"estimates": {judgement.LOWER: (2.4, 0.02)}}, "lower bound lies above"),
    ]
    for changes, words in alarms:
        for drift in (0.0, 0.3):  # what log Z moved by excuses no disagreement
            verdict, advice = judged(**changes, drift=drift)
            assert (verdict, words in advice) == ("unreliable", True), (changes, verdict, advice)
    verdict, advice = judged(drift=0.06)
    assert (verdict, "may move on" in advice) == ("doubtful", True)


def test_too_few_rounds_are_refused():
    with pytest.raises(ValueError, match="three fitted bases can agree"):
        drl.SandwichSettings(most_rounds=3)


def test_reverse_annealing_brackets_log_z():
    target = dist.MultivariateNormal(torch.ones(3), 0.2 * torch.eye(3) + 0.1)
    base = dist.Normal(torch.zeros(3), 1.5).to_event(1)
    settings = drl.AISSettings(num_particles=200, num_replicates=4, resample_below=None)
    generator = torch.Generator().manual_seed(0)
    path = geometric_path(base, lambda x: target.log_prob(x) + 2.0, num_bridges=30)
    plan = plan_annealing(path, settings, generator=generator)
    torch.manual_seed(0)
    weights = reverse_anneal(path, plan, settings, target.sample((800,)), generator=generator)
    shares = (2.0 - weights).exp()
    assert_z(float(shares.mean()), 1.0, float(shares.std()) / math.sqrt(len(shares)))
    assert float(weights.mean()) > 2.0
    assert float(-log_mean_exp(-weights)) < float(weights.mean())


def test_bridges_are_placed_where_they_are_needed():
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    generator = torch.Generator().manual_seed(0)
    near = place_bridges(
        base, dist.Normal(torch.zeros(2), 0.9).to_event(1).log_prob, drl.AISSettings(), generator=generator
    )
    far = place_bridges(
        base, dist.Normal(torch.ones(2), 0.1).to_event(1).log_prob, drl.AISSettings(), generator=generator
    )
    assert len(near.levels) < len(far.levels)
    assert far.levels[-1] == 1.0
    with pytest.raises(NumericalError, match="placing bridges stopped"):
        place_bridges(
            base, dist.Normal(torch.ones(2), 0.1).to_event(1).log_prob, drl.AISSettings(), most=2, generator=generator
        )


@pytest.mark.parametrize("dim", [2, 8])
def test_sandwich_of_a_sequence_covers_the_truth(dim):
    covered, z = 0, []
    for seed in range(5):
        system = GaussianMixtureSequence.example(dim=dim, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        data = system.sample(200, 0, generator=generator)
        result = sequence_sandwich(system.model, data=data, settings=SMALL, generator=generator)
        truth = float(system.log_z(0))
        assert result.bracket[0] < truth < result.bracket[1]
        assert result.verdict in ("reliable", "doubtful")
        covered += result.lower < truth < result.upper
        z.append((result.log_z - truth) / result.standard_error)
    assert covered >= 3  # under 95 % coverage fewer than 3 of 5 has probability 1.2e-3
    assert max(map(abs, z)) < 6


def test_sandwich_of_any_distribution():
    target = drl.EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1) / 0.25 + 4.0, event_shape=(3,))
    result = drl.sandwich(target, base=dist.Normal(torch.zeros(3), 1.0).to_event(1), seed=0, settings=SMALL)
    truth = 4.0 + 1.5 * math.log(2 * math.pi * 0.25)
    assert_z(result.log_z, truth, result.standard_error)
    assert result.lower < result.log_z < result.upper
    assert "log Z" in str(result)
    assert target.normalize(result).is_normalized


class _LostMode(torch.nn.Module):
    """Two far modes at level 0; the upper levels know the first alone, so that no path from noise reaches the second."""

    has_bounded_growth = False

    def __init__(self):
        super().__init__()
        weights, means = torch.tensor([0.5, 0.5]), torch.tensor([[-1.0] * 4, [3.0] * 4])
        narrow = 0.02 * torch.eye(4).expand(2, 4, 4)
        self.both = NoisedGaussianMixture(weights, means, narrow)
        self.one = NoisedGaussianMixture(torch.ones(1), means[:1], narrow[:1])
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, log_snr):
        is_clean = log_snr > 4.0
        return torch.where(is_clean, self.both(x, log_snr), self.one(x, log_snr))


def test_a_lost_mode_is_unknown_and_never_small():
    model = drl.EnergySequence(
        drl.NoiseSchedule.log_spaced(6, sigma_min=0.1), _LostMode(), (4,), has_base=False, is_integrable=True
    )
    generator = torch.Generator().manual_seed(0)
    modes = torch.tensor([[-1.0] * 4, [3.0] * 4])[torch.arange(100) % 2]
    data = modes + 0.14 * torch.randn(100, 4, generator=generator)
    with pytest.warns(UnreliableEstimateWarning, match="no path from noise reaches"):
        result = sequence_sandwich(model, data=data, settings=SMALL, generator=generator)
    assert result.verdict == "unknown"
    assert (result.lower, result.upper) == (-math.inf, math.inf)


def test_improper_and_wrong_targets_are_refused():
    model = drl.EnergySequence(drl.NoiseSchedule.log_spaced(2), torch.nn.Linear(2, 1), (2,), has_base=False)
    for estimate in (drl.sandwich, sequence_path, lambda m: level_recursion(m, [torch.zeros(3, 2)] * 2)):
        with pytest.raises(NumericalError, match="improper"):
            estimate(model)
    with pytest.raises(ValueError, match="without batch shape"):
        drl.sandwich(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
    with pytest.raises(ValueError, match="one event shape"):
        drl.sandwich(dist.Normal(torch.zeros(2), 1.0).to_event(1), base=dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pytest.raises(ValueError, match="over all reals"):
        drl.sandwich(dist.Gamma(torch.ones(2), 1.0).to_event(1))


def test_unadjusted_kernels_are_refused():
    with pytest.raises(ValueError, match="adjusted"):
        drl.SandwichSettings(kernel=drl.ULA()).annealing()
    assert drl.SandwichSettings(kernel=MALA()).annealing().num_replicates == 8


def test_probability_flow_of_a_gaussian_is_its_density():
    """The flow of exact scores gives the exact density, up to the integrator's error (Heun, 400 steps)."""
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    x = system.sample(20, 0, generator=torch.Generator().manual_seed(0))
    # the top of the schedule still holds a little signal (alpha = 0.1), which bounds the agreement
    gap = flow_log_likelihood(system.model, x, num_steps=400) - system.log_prob(x, 0)
    assert float(gap.abs().mean()) < 0.1


def test_sandwich_is_reproducible():
    target = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (drl.sandwich(target, seed=3, settings=SMALL) for _ in range(2))
    assert first.log_z == second.log_z


@pytest.mark.parametrize("counts", [{"num_particles": 0}, {"num_particles": 1}, {"num_replicates": 1}])
def test_too_few_particles_are_refused_before_anything_runs(counts):
    with pytest.raises(ValueError, match="at least 2 particles and 2 replicates"):
        drl.SandwichSettings(**counts)


def test_one_lost_draw_of_the_base_does_not_lose_the_multistate_ratio():
    """N(0, 1) cut off at 2 by a cliff of ten million nats: log Z = log Phi(2), though some draws of the base lie there."""
    generator = torch.Generator().manual_seed(21)
    base = dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)

    def cut(x):
        return base.log_prob(x) - 1e7 * (x[..., 0] > 2)

    path = geometric_path(base, cut, num_bridges=1)
    draws = torch.randn(20_000, generator=generator, dtype=torch.float64)
    kept = draws[draws <= 2][: 8 * 64].reshape(8, 1, 64, 1)
    value, error = equilibrium_estimates(path, kept, generator=generator).multistate
    assert_z(value, math.log(0.97725), error)
