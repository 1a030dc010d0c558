"""Reverse kernels of a Gaussian sequence, whose conditionals are known."""

import pytest
import torch

from drl_density.model import EnergySequence
from drl_density.partition_function.sequence_paths.kernels import (
    MAX_ROWS,
    PlanningRows,
    ReverseKernels,
    measure_kernels,
    noised_rows,
    pooled,
    smoothed,
    standard_normal,
)
from drl_density.partition_function.sequence_paths.noise_grid import even_grid
from drl_density.schedule import NoiseSchedule
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.sequence_paths.gaussian_paths import SYSTEM, exact_errors, exact_kernels


def test_the_kernel_is_the_conditional_of_the_sequence():
    kernels = exact_kernels(10)
    noisier = torch.randn(4, 3, generator=seeded_generator(0), dtype=torch.float64)
    _, score = kernels.evaluate(noisier, 4)
    truth = SYSTEM.recovery(noisier, float(kernels.grid.levels[3]), noisier=float(kernels.grid.levels[4]))
    torch.testing.assert_close(kernels.mean(noisier, score, 3), truth.mean)
    torch.testing.assert_close(kernels.variances[3].expand(4, 3), truth.variance)


def test_the_ratio_of_both_kernels_is_that_of_the_marginals():
    """Bayes' rule: log q(y | x) - log r(x | y) = log p(y) - log p(x) for the exact conditional."""
    kernels = exact_kernels(10)
    x, y = torch.randn(2, 5, 3, generator=seeded_generator(1), dtype=torch.float64)
    _, score = kernels.evaluate(y, 3)
    found = kernels.log_ratio(x, y, kernels.mean(y, score, 2), 2)
    lower, upper = (SYSTEM.marginal(float(kernels.grid.levels[index])) for index in (2, 3))
    torch.testing.assert_close(found, upper.log_prob(y) - lower.log_prob(x))


def test_variances_measured_on_rows_are_those_of_the_conditional():
    generator = seeded_generator(2)
    grid = even_grid(SYSTEM.schedule, 8)
    found = measure_kernels(
        SYSTEM.model,
        grid,
        noised_rows(SYSTEM.model, SYSTEM.sample(4000, None, generator=generator)),
        generator=generator,
    )
    expected = pooled(smoothed(exact_errors(grid)))
    # A mean of 4,000 squares of normal numbers is off by 2.2 %; five standard deviations.
    torch.testing.assert_close(found.errors, expected, rtol=0.12, atol=0)
    assert found.uses_top_score


def test_estimates_of_clean_rows_count_with_their_own_error():
    """Where the clean rows are known up to an error only, it adds to what the states show."""
    generator = seeded_generator(3)
    grid = even_grid(SYSTEM.schedule, 8)
    clean = SYSTEM.sample(4000, None, generator=generator)
    states = noised_rows(SYSTEM.model, clean, generator=generator).states
    signal, noise = torch.sigmoid(grid.log_snrs[0]), torch.sigmoid(-grid.log_snrs[0])
    spreads = SYSTEM.covariances[0].diagonal()
    rows = PlanningRows(SYSTEM.denoise(states, 0), states, spreads * noise / (signal * spreads + noise))
    found = measure_kernels(SYSTEM.model, grid, rows, generator=generator)
    known = measure_kernels(
        SYSTEM.model, grid, PlanningRows(clean, states, torch.zeros(3).double()), generator=generator
    )
    assert_z(found.errors.mean(), known.errors.mean(), 0.01)
    torch.testing.assert_close(found.errors, known.errors, rtol=0.3, atol=0)


class Wrong(torch.nn.Module):
    """An energy whose gradient is wrong by a factor, as an untrained network's is."""

    has_bounded_growth = False

    def forward(self, x, log_snr):
        return -4 * x.square().sum(1)


def test_the_last_step_takes_the_better_of_two_scores():
    model = EnergySequence(NoiseSchedule.log_spaced(3), Wrong(), (3,), has_base=False, is_integrable=True)
    rows = torch.randn(64, 3, generator=seeded_generator(4))
    kernels = measure_kernels(
        model, even_grid(model.schedule, 6), noised_rows(model, rows), generator=seeded_generator(5)
    )
    assert not kernels.uses_top_score
    value, score = kernels.evaluate(rows, 6)
    torch.testing.assert_close(score, -rows)
    torch.testing.assert_close(value, standard_normal(rows))


def test_rows_are_evaluated_in_parts_with_the_same_result():
    whole = exact_kernels(5)
    parts = ReverseKernels(whole.model, whole.grid, whole.errors, True, max_rows=3)
    x = torch.randn(8, 3, generator=seeded_generator(6), dtype=torch.float64)
    for first, second in zip(whole.evaluate(x, 2), parts.evaluate(x, 2), strict=True):
        torch.testing.assert_close(first, second)
    assert whole.max_rows == MAX_ROWS


def test_one_row_plans_nothing():
    with pytest.raises(ValueError, match="at least two rows"):
        measure_kernels(SYSTEM.model, even_grid(SYSTEM.schedule, 4), noised_rows(SYSTEM.model, torch.zeros(1, 3)))
