"""Walks back from draws against a pair in closed form: one step from N(0, 4) to N(0, 1), whose log Z is 0."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, geometric_path
from drl_density.partition_function import OtherSideSettings, plan_annealing
from drl_density.partition_function.one_sided.other_side import Mixed, chosen_draws, compare, mixed_draws, with_reasons
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import Estimate, log_mean_exp

WIDE = 2.0


def log_density(x):
    """N(0, 1), normalised."""
    return -0.5 * x[:, 0].square() - 0.5 * math.log(2 * math.pi)


def log_weight(x):
    """Log density of N(0, 1) less that of N(0, 4)."""
    return log_density(x) + 0.5 * (x[:, 0] / WIDE).square() + 0.5 * math.log(2 * math.pi * WIDE**2)


def normal(count, seed, scale=1.0):
    return scale * torch.randn(count, 1, generator=seeded_generator(seed), dtype=torch.float64)


def forward_weights(seed=0):
    return log_weight(normal(8 * 250, seed, WIDE)).reshape(8, 250)


def exact(seed):
    return Mixed(*(normal(512, seed + k) for k in range(3)))


def judged(mixed=None, *, estimate=None, upward=log_weight, **options):
    forward = forward_weights()
    if estimate is None:
        estimate = Estimate(float(log_mean_exp(forward.flatten())), 0.02)
    return compare(estimate, forward, mixed or exact(10), upward, log_density, **options)


def test_exact_draws_are_sound_and_the_figures_are_those_of_both_directions():
    found = judged()
    assert found.is_sound
    assert_z(found.log_z, 0.0, found.standard_error)
    # E[log w] over N(0, 1) is log 2 - 3 / 8.
    assert_z(found.upper, math.log(2) - 0.375, found.upper_error)
    assert 0.5 < found.overlap <= 1.0
    sound = [judged(exact(100 + 3 * seed)).is_sound for seed in range(40)]
    # Each of three tests is passed with 0.997 or more; 4 failures of 40 have a probability below 1e-3.
    assert sum(sound) > 36


def test_the_overlap_does_not_depend_on_the_number_of_walks_of_one_side():
    estimate = Estimate(0.0, 0.02)
    few, many = (log_weight(normal(8 * count, 5, WIDE)).reshape(8, count) for count in (64, 2500))
    found = [compare(estimate, forward, exact(10), log_weight, log_density) for forward in (few, many)]
    assert [other.is_sound for other in found] == [True, True]
    # The shares differ as the optimal weights of both sides do; counted against the larger side the second would be 0.02.
    assert found[1].overlap > 0.5 * found[0].overlap > 0.1


@pytest.mark.parametrize(
    ("changes", "options", "fault", "doubt"),
    [
        # The estimate lies below what both directions say: weights that never occurred.
        ({}, {"estimate": Estimate(-0.3, 0.02)}, "from the estimate", None),
        # Chains leave the places of the particles: these have a fifth of the spread.
        ({"start": normal(512, 21, 0.2)}, {}, None, "chains move the weighted particles"),
        ({"early": normal(512, 22, 0.2)}, {}, None, "moved by"),
        ({}, {"pareto_k": 0.55}, None, "Pareto k 0.55"),
        ({}, {"upward": lambda x: log_weight(x) + 40.0}, "from the estimate", "hardly overlap"),
        ({}, {"upward": lambda x: log_weight(x) - 3.0}, "lie below", None),
    ],
)
def test_each_reason_rings(changes, options, fault, doubt):
    found = judged(exact(10)._replace(**changes), **options)
    assert (fault is None) == (not found.faults)
    assert fault is None or fault in found.faults[0]
    assert (doubt is None) == (not found.doubts)
    assert doubt is None or doubt in found.doubts[0]


def test_pareto_k_of_resampled_weights_is_no_reason():
    assert judged(pareto_k=math.nan).is_sound


def student_rows(count, seed):
    """Draws of four independent Student t variables with 2 degrees of freedom."""
    source = seeded_generator(seed)
    normal, squares = (torch.randn(count, 4, k, generator=source, dtype=torch.float64) for k in (1, 2))
    return normal[..., 0] / squares.square().mean(-1).sqrt()


def test_mass_beyond_the_weights_that_occurred_is_a_doubt():
    target = dist.StudentT(torch.tensor(2.0).double())
    base = dist.Normal(torch.tensor(0.0).double(), 2.0)

    def height(x):
        return target.log_prob(x).sum(1)

    def weight(x):
        return height(x) - base.log_prob(x).sum(1)

    forward = weight(2.0 * torch.randn(8 * 2000, 4, generator=seeded_generator(2), dtype=torch.float64)).reshape(8, 2000)
    low = Estimate(float(log_mean_exp(forward.flatten())), 0.006)
    assert low.log_z < -0.04  # the variance of the weights is infinite, and the tails are missing
    mixed = Mixed(*(student_rows(512, seed) for seed in (10, 11, 12)))
    found = compare(low, forward, mixed, weight, height, pareto_k=0.4)
    assert not found.faults
    assert ["larger weights than every walk" in doubt for doubt in found.doubts] == [True]
    # An error as large as that mass allows for it, and weights of resampled walks are not compared.
    for estimate, shape in ((Estimate(low.log_z, 0.1), 0.4), (low, math.nan)):
        assert compare(estimate, forward, mixed, weight, height, pareto_k=shape).is_sound
    # A bounded weight is counted.
    assert judged(pareto_k=0.4).is_sound


def test_further_reasons_are_kept():
    found = with_reasons(judged(), ["a"], ["b"])
    assert (found.faults, found.doubts) == (("a",), ("b",))
    assert with_reasons(found, ["c"], []).faults == ("a", "c")


def test_draws_are_chosen_by_weight_within_each_replicate():
    particles = torch.arange(8.0).reshape(2, 4, 1)
    weights = torch.full((2, 4), -math.inf).double()
    weights[0, 2] = weights[1, 1] = 3.0
    weights[1, 3] = 3.0
    found = chosen_draws(particles, weights, 4, generator=seeded_generator(0))
    assert found.flatten().tolist() == [2, 2, 2, 2, 5, 5, 7, 7]


def test_chains_leave_the_target_and_end_at_three_times():
    base = dist.Normal(torch.zeros(1).double(), WIDE).to_event(1)
    path = geometric_path(base, log_density, num_bridges=4)
    settings = AISSettings(num_particles=64, num_replicates=2, max_rows=700)
    plan = plan_annealing(path, settings, generator=seeded_generator(1))
    found = mixed_draws(path, plan, settings, normal(2000, 3), 8, seeded_generator(2))
    assert torch.equal(found.start, normal(2000, 3))
    assert not bool((found.early == found.late).all())
    for rows in found:
        assert_z(torch.cat([rows, rows.square()], 1), torch.tensor([0.0, 1.0]).double())


def test_sizes():
    sizes = OtherSideSettings(num_samples=40)
    assert [sizes.draws_of(count, 8) for count in (4, 20, 100, 400)] == [4, 16, 25, 40]
    for name in ("num_samples", "num_mixing_steps"):
        with pytest.raises(ValueError, match=f"{name} must be"):
            dataclasses.replace(sizes, **{name: 0})
