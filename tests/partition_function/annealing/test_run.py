"""Annealing runs against closed forms, and their cost."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, geometric_path, sequence_path
from drl_density.errors import NumericalError
from drl_density.mcmc import MALA
from drl_density.partition_function import anneal, plan_annealing
from drl_density.partition_function.annealing.run import join_runs
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import combine_replicates, log_mean_exp
from tests.partition_function.known_answers import SMALL, SYSTEM, half_plane


def test_every_level_on_the_way_is_estimated():
    path = sequence_path(SYSTEM.model)
    generator = seeded_generator(2)
    run = anneal(path, plan_annealing(path, SMALL, generator=generator), SMALL, generator=generator)
    for index, level in enumerate(path.levels):
        if index % 4 == 0:
            value, error = combine_replicates(run.log_z_by_density[index])
            # The first density has nearly even weights: an error of rounding size needs a floor.
            assert_z(value, SYSTEM.log_z(level), error + 1e-9)


def test_mean_weight_is_unbiased_on_a_geometric_path():
    """E[Z-hat] = Z over many tiny runs, which an unadjusted kernel or adaptation on the particles would spoil."""
    base = dist.Normal(torch.zeros(2, dtype=torch.float64), 1.5).to_event(1)
    precision = torch.tensor([4.0, 0.5], dtype=torch.float64)
    truth = 2.0 + math.log(2 * math.pi) - 0.5 * float(precision.log().sum())
    path = geometric_path(base, lambda x: 2.0 - 0.5 * (precision * x.square()).sum(-1), num_bridges=6)
    settings = AISSettings(num_particles=4, num_replicates=4000, num_pilot_particles=200)
    generator = seeded_generator(3)
    run = anneal(path, plan_annealing(path, settings, generator=generator), settings, generator=generator)
    assert_z((log_mean_exp(run.log_weights, 1) - truth).exp(), 1.0)


def test_one_density_is_plain_importance_sampling():
    base = dist.Normal(torch.zeros(1, dtype=torch.float64), 1.0).to_event(1)

    def target(x):
        return -x.square().sum(-1)

    path = geometric_path(base, target, num_bridges=1)
    settings = AISSettings(num_particles=10, num_replicates=2, num_pilot_particles=8)
    plan = plan_annealing(path, settings, generator=seeded_generator(4))
    run = anneal(path, plan, settings, generator=seeded_generator(5))
    x = path.draw(20, seeded_generator(5))
    expected = (target(x) - base.log_prob(x)).reshape(2, 10)
    torch.testing.assert_close(run.log_weights, expected, rtol=1e-10, atol=0)


def test_rates_of_joined_runs_are_means_over_their_replicates():
    path = geometric_path(dist.Normal(torch.zeros(1), 1.0).to_event(1), lambda x: -2 * x.square().sum(-1), num_bridges=3)
    settings = AISSettings(num_particles=8, num_replicates=1, num_pilot_particles=16)
    plan = plan_annealing(path, settings, generator=seeded_generator(0))
    sizes = (1, 3)
    generator = seeded_generator(1)
    runs = [anneal(path, plan, dataclasses.replace(settings, num_replicates=n), generator=generator) for n in sizes]
    joined = join_runs(runs)
    assert joined.log_weights.shape == (4, 8)
    for rate, one, three in zip(joined.acceptance_rates, *(run.acceptance_rates for run in runs), strict=True):
        assert rate == pytest.approx((one + 3 * three) / 4)


def test_chunks_do_not_change_the_plan_or_the_size():
    settings = dataclasses.replace(SMALL, num_replicates=6, max_rows=128)
    path = sequence_path(SYSTEM.model, steps_per_level=2)
    run = anneal(path, plan_annealing(path, settings), settings, generator=seeded_generator(6))
    assert run.log_weights.shape == (6, 64)
    assert run.particles.shape == (6, 64, 3)
    assert run.log_weights.dtype == torch.float64


def test_error_is_calibrated():
    """z-scores of 60 estimates have variance near one."""
    path = sequence_path(SYSTEM.model, steps_per_level=2)
    settings = AISSettings(num_particles=50, num_replicates=16, num_pilot_particles=128)
    generator = seeded_generator(7)
    plan = plan_annealing(path, settings, generator=generator)
    scores = []
    for _ in range(60):
        value, error = combine_replicates(
            log_mean_exp(anneal(path, plan, settings, generator=generator).log_weights, 1)
        )
        scores.append((value - float(SYSTEM.log_z(0))) / error)
    # Student-t with 15 degrees of freedom has variance 15 / 13 and kurtosis excess 6 / 11.
    assert_z(torch.tensor(scores).var(), 15 / 13, (15 / 13) * math.sqrt((2 + 6 / 11) / 60))


@pytest.mark.parametrize("is_adapted", [False, True])
def test_adapting_on_the_weighted_particles_biases_log_z(is_adapted):
    """Every particle's step size follows its own acceptance: frozen step sizes keep E[w] = Z, these do not."""
    base = dist.Normal(torch.zeros(2, dtype=torch.float64), 1.5).to_event(1)
    path = geometric_path(base, lambda x: 1.5 * x.sum(-1) - 2 * x.square().sum(-1) - x[..., 0] ** 4, num_bridges=6)
    grid = torch.linspace(-6, 6, 601, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    truth = float(path.log_densities[-1](points).logsumexp(0)) + 2 * math.log(0.02)  # trapezoid, exact for smooth decay
    generator = seeded_generator(8)
    x, kernel, sizes = path.draw(40_000, generator), MALA(), torch.full((40_000,), 0.5, dtype=torch.float64)
    weights, before = torch.zeros(len(x), dtype=torch.float64), base.log_prob(x)
    for log_density in path.log_densities:
        state = kernel.init(x, log_density)
        weights = weights + state.log_density - before
        for _ in range(4):
            state, info = kernel.step(state, log_density, sizes, generator)
            if is_adapted:
                sizes = sizes * (2 * (info.acceptance_probability - kernel.target_acceptance)).exp()
        x, before = state.position, state.log_density
    ratio = (weights - truth).exp()
    z = float((ratio.mean() - 1) / (ratio.std() / math.sqrt(len(ratio))))
    assert abs(z) > 8 if is_adapted else abs(z) < 4.5


def test_lost_weights_are_an_error():
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    path = geometric_path(base, lambda x: torch.full(x.shape[:1], -math.inf) + 0 * x.sum(-1), num_bridges=1)
    settings = AISSettings(num_particles=4, num_replicates=2, num_pilot_particles=4)
    plan = plan_annealing(geometric_path(base, base.log_prob, num_bridges=1), settings)
    with pytest.raises(NumericalError, match="lost its weight"):
        anneal(path, plan, settings)


def test_cost_is_linear_and_memory_is_bounded():
    """Rows evaluated grow as particles times densities, and no call sees more rows than max_rows."""

    def rows_seen(num_particles, num_bridges):
        calls = []

        def log_density(x):
            calls.append(len(x))
            return -(x**2).sum(-1)

        path = geometric_path(dist.Normal(torch.zeros(2), 1.5).to_event(1), log_density, num_bridges=num_bridges)
        settings = AISSettings(num_particles=num_particles, num_replicates=4, num_pilot_particles=16, max_rows=256)
        plan = plan_annealing(path, settings, generator=seeded_generator(0))
        calls.clear()
        anneal(path, plan, settings, generator=seeded_generator(0))
        return sum(calls), max(calls)

    (base, _), (more, largest), (longer, _) = rows_seen(64, 10), rows_seen(192, 10), rows_seen(64, 30)
    assert more == 3 * base
    assert longer == 3 * base
    assert largest <= 256


def test_a_particle_that_crosses_a_wall_and_comes_back_stays_dead():
    """Its weight was lost at the wall: a base that reaches further than the target must not gain from moves."""
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    path = geometric_path(base, half_plane(-math.inf), num_bridges=4)
    plain = AISSettings(num_particles=500, num_replicates=4, num_transitions=3, resample_below=None)
    run = anneal(path, plan_annealing(path, plain, generator=seeded_generator(0)), plain, generator=seeded_generator(1))
    alive = run.log_weights.isfinite()
    assert_z(alive.double().flatten(), 0.5)
    torch.testing.assert_close(run.log_weights[alive], torch.zeros_like(run.log_weights[alive]))
    assert float(run.ess_by_density.min()) == pytest.approx(1.0)


def test_a_replicate_without_any_particle_left_is_an_error():
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    path = geometric_path(base, lambda x: torch.where(x[:, 0] > 2, -x[:, 0], -math.inf), num_bridges=2)
    settings = AISSettings(num_particles=4, num_replicates=8, num_pilot_particles=2000)
    plan = plan_annealing(path, settings, generator=seeded_generator(0))
    with pytest.raises(NumericalError, match="of all particles are alive: use more particles"):
        anneal(path, plan, settings, generator=seeded_generator(0))
