"""Batched L-BFGS: optima of known targets, rows of their own, and what cannot be climbed."""

import math

import torch

from drl_density.partition_function.mode_search.ascent import climb, climb_rows, resolved


def starts(count, dim, width=4.0):
    return width * torch.randn(count, dim, generator=torch.Generator().manual_seed(0)).double()


def test_a_badly_scaled_gaussian_is_climbed():
    wide = torch.logspace(-1, 1, 10).double()
    end = climb(lambda x: -0.5 * ((x - 2) / wide).square().sum(-1), starts(6, 10))
    assert end.is_at_rest.all()
    assert (((end.position - 2) / wide).abs() < 1e-3).all()


def test_every_row_climbs_its_own_log_density():
    centers = torch.arange(5).double()[:, None].expand(5, 3)
    end = climb_rows(lambda x, rows: -0.5 * (x - centers[rows]).square().sum(-1), starts(5, 3))
    torch.testing.assert_close(end.position, centers, rtol=0, atol=1e-5)


def test_rows_climb_alone():
    """The same end whether a row climbs alone or beside others."""

    def log_density(x):
        return -torch.log1p(x.square()).sum(-1)

    rows = starts(4, 3)
    together = climb(log_density, rows).position
    alone = torch.cat([climb(log_density, row[None]).position for row in rows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-8)


def test_heavy_tails_and_kinks_end_at_their_tops():
    for log_density in (lambda x: -torch.log1p(x.square()).sum(-1), lambda x: -x.abs().sum(-1)):
        end = climb(log_density, starts(6, 4, width=64.0))
        assert end.is_at_rest.all()
        assert (end.position.abs() < 1e-3).all()


def test_rows_outside_the_support_stay_and_trials_do_not_leave_it():
    def log_density(x):
        inside = (x > 0).all(-1)
        return torch.where(inside, -x.sum(-1), torch.tensor(-math.inf).double())

    rows = torch.tensor([[-1.0, 1.0], [1.0, 2.0]]).double()
    end = climb(log_density, rows)
    assert end.value[0] == -math.inf
    assert not end.is_at_rest[0]
    torch.testing.assert_close(end.position[0], rows[0])
    assert (end.position[1] > 0).all()
    assert end.value[1] > -2  # it gains, and stops at the first wall that the gradient points into


def test_climbs_stop_where_they_are_told_to():
    end = climb_rows(
        lambda x, _: -0.5 * x.square().sum(-1),
        torch.full((1, 1), 100.0).double(),
        scale=0.1,
        is_done=lambda x, _: x[:, 0] < 99.95,
    )
    assert 99 < float(end.position) < 99.95
    assert end.is_at_rest.all()


def test_a_narrow_mode_is_resolved_and_one_narrower_than_float64_is_not():
    for width, is_lost in ((1e-10, False), (1e-16, True)):
        end = climb(lambda x, width=width: -0.5 * ((x - 1) / width).square().sum(-1), torch.ones(1, 3).double())
        assert bool(resolved(lambda x, width=width: -0.5 * ((x - 1) / width).square().sum(-1), end).value.isinf()) == is_lost
