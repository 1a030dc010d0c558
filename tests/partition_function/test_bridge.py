"""Bennett's ratio against closed forms, its interval, and what counts as a shift."""

import math

import pytest
import torch
from scipy import stats

from drl_density.errors import NumericalError
from drl_density.partition_function import (
    bennett,
)
from drl_density.partition_function.bridge import (
    ReplicatedBridge,
    bennett_by_replicates,
    bennett_shift,
    bridged,
    excess,
    mixing_shift,
)
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import Estimate
from tests.partition_function.known_answers import normal_weights


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


def test_bennett_is_solved_where_a_few_weights_lie_many_orders_of_magnitude_away():
    forward, reverse = normal_weights(3.7, 1.0, 500, 0)
    plain = bennett(forward, reverse).log_z
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # how many steps the root takes depends on the ends
        far = 10 ** (20 + 80 * torch.rand(4, generator=generator, dtype=torch.float64))
        found = bennett(torch.cat([forward, -far]), torch.cat([reverse, far]))
        assert found.log_z == pytest.approx(plain, abs=0.01)


NUM_RUNS = 200


@pytest.mark.parametrize(("shared", "promised"), [(0.0, 0.968), (0.5, 0.95)])
def test_interval_covers_as_often_as_it_says(shared, promised):
    # log weights N(-1/2, 1) under the proposal are N(1/2, 1) under the target, and log Z is 0; ``shared`` is the part of
    # the variance that the target's draws of one replicate have in common.
    generator = torch.Generator().manual_seed(3)
    covers = 0
    for _ in range(NUM_RUNS):
        forward = torch.randn(8, 32, generator=generator, dtype=torch.float64) - 0.5
        own, common = (torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (32, 1))
        found = bennett_by_replicates(forward, 0.5 + (1 - shared) ** 0.5 * own + shared**0.5 * common)
        covers += abs(found.log_z) < found.half_width()
    # either tail is passed by chance once in 10,000 runs
    assert stats.binom.ppf(1e-4, NUM_RUNS, promised) <= covers <= stats.binom.ppf(1 - 1e-4, NUM_RUNS, promised)


def test_quantile_is_that_of_the_error_in_use():
    by_spread = ReplicatedBridge(0.0, jackknife_error=0.2, asymptotic_error=0.1, overlap=1.0, num_replicates=8)
    assert by_spread.half_width() == pytest.approx(0.2 * stats.t.ppf(0.975, 7))
    by_theory = ReplicatedBridge(0.0, jackknife_error=0.1, asymptotic_error=0.2, overlap=1.0, num_replicates=8)
    assert by_theory.half_width() == pytest.approx(0.2 * stats.norm.ppf(0.975))
    assert by_spread.standard_error == by_theory.standard_error == 0.2


def test_a_gap_counts_only_beyond_what_both_errors_explain():
    assert excess(Estimate(1.0, 0.3), Estimate(1.9, 0.4)) == 0.0  # 0.9 apart with an error of 0.5
    assert excess(Estimate(1.0, 0.3), Estimate(3.0, 0.4)) == pytest.approx((2.0**2 - 0.5**2) ** 0.5)
    assert excess(Estimate(3.0, 0.3), Estimate(1.0, 0.4)) == pytest.approx((2.0**2 - 0.5**2) ** 0.5)


def test_a_shift_counts_only_beyond_its_error():
    """Draws that mixed on have the law they had: some 1 pair in 12 lies beyond two errors, every real shift of ten does."""
    generator = torch.Generator().manual_seed(4)

    def shifts(moved):
        found = []
        for _ in range(100):
            forward, earlier, later = (
                torch.randn(8, 32, generator=generator, dtype=torch.float64) + mean for mean in (-0.5, 0.5, 0.5 + moved)
            )
            found.append(bennett_shift(forward, earlier, later))
        return found

    assert sum(shift > 0 for shift in shifts(0.0)) <= stats.binom.ppf(1 - 1e-4, 100, 0.12)
    assert all(0.2 < shift < 1.0 for shift in shifts(1.0))


def test_weights_of_zero_and_infinity_are_part_of_the_ratio():
    """Two boxes that overlap in part: the log ratio of their lengths, from single steps."""
    generator = torch.Generator().manual_seed(0)
    first = 2 * torch.rand(4000, generator=generator, dtype=torch.float64)  # [0, 2], density 1/2
    second = 0.5 + 4 * torch.rand(4000, generator=generator, dtype=torch.float64)  # [0.5, 4.5], height 1

    def log_weight(x):
        numerator = torch.where((x >= 0.5) & (x <= 4.5), 0.0, -math.inf)
        return numerator - torch.where((x >= 0) & (x <= 2), math.log(0.5), -math.inf)

    found = bennett(log_weight(first), log_weight(second))
    assert_z(found.log_z, math.log(4.0), found.standard_error)
    assert found.standard_error < 0.05
    with pytest.raises(NumericalError, match="draw of the target has weight 0"):
        bennett(torch.zeros(3), torch.tensor([0.0, -math.inf]))
    with pytest.raises(NumericalError, match="not a number"):
        bennett(torch.tensor([0.0, math.nan]), torch.zeros(3))


def test_crossed_means_and_two_weights_have_no_ratio():
    down, up = torch.tensor([[0.1], [0.2]]), torch.tensor([[0.3], [0.0]])
    assert bridged(down, up) is None
    more = torch.tensor([[0.1, 0.4], [0.2, 0.3]])
    assert bridged(more, more + 0.1) == bennett_by_replicates(more, more + 0.1)
    assert bridged(more, more - 50) is None


def test_chains_are_compared_with_themselves_and_dead_ones_left_out():
    early = torch.randn(4, 64, generator=seeded_generator(3), dtype=torch.float64)
    late = early + torch.tensor([[0.1], [0.2], [0.3], [0.4]], dtype=torch.float64)
    assert mixing_shift(early, late) == pytest.approx((0.25, math.sqrt(0.05 / 3) / 2))
    late[:, :32] = math.inf
    early[:, :16] = math.inf
    assert mixing_shift(early, late) == pytest.approx((0.25, math.sqrt(0.05 / 3) / 2))
