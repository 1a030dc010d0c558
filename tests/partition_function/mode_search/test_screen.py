"""Starts are assigned to a mode where their gradient points to its center, and to none where another mode pulls.

A sweep keeps the points that exceed what is known by most."""

import math

import torch

from drl_density.partition_function.mode_search.screen import screen, sweep, work_per_row
from drl_density.partition_function.mode_search.shape import Shape, measure_shape


def needle(x):
    """A mode half as wide, 10 away from a unit Gaussian."""
    return torch.logaddexp(-0.5 * x.square().sum(-1), -2 * (x - 10 / math.sqrt(6)).square().sum(-1) + 6 * math.log(2))


WIDE = measure_shape(needle, torch.zeros(6).double())


def looked(starts, shapes=(WIDE,), log_density=needle):
    return screen(log_density, starts, torch.ones(len(starts)), shapes)


def test_a_start_belongs_to_the_mode_that_dominates_it():
    direction = torch.full((6,), 1 / math.sqrt(6)).double()
    starts = torch.stack([12 * direction, 5 * direction, -300 * direction, 0.1 * direction])
    assert looked(starts).owner.tolist() == [-1, 0, 0, 0]
    narrow = measure_shape(needle, 10 * direction)
    assert looked(starts, (WIDE, narrow)).owner.tolist() == [1, 0, 0, 0]


def test_without_known_modes_every_start_is_open():
    starts = torch.zeros(3, 6).double()
    assert looked(starts, ()).is_open.all()


def test_starts_without_density_are_neither_open_nor_owned():
    def walled(x):
        return torch.where(x[:, 0] > -0.1, needle(x), -math.inf)

    # The first start lies so close to the center of the known mode that the mode would own it.
    found = looked(torch.tensor([[-0.2] + [0.0] * 5, [0.5] + [0.0] * 5]).double(), log_density=walled)
    assert found.owner.tolist() == [-1, 0]
    assert found.is_open.tolist() == [False, False]
    assert found.value.isfinite().tolist() == [False, True]


def test_a_start_whose_gradient_is_not_a_number_is_lost():
    found = looked(torch.zeros(1, 6).double(), log_density=lambda x: -x.square().sum(-1).sqrt())  # 0 / 0 at the origin
    assert found.owner.tolist() == [-1]
    assert found.value.tolist() == [-math.inf]


def test_a_screen_ends_before_one_open_start_too_many():
    starts = 3 * torch.randn(100, 6, generator=torch.Generator().manual_seed(0)).double()
    found = looked(starts, ())
    kept = found.until(7)
    assert len(kept.value) == int(kept.is_open.sum()) == 7
    assert len(looked(starts).until(7).value) == 100


UNIT = Shape(torch.zeros(3).double(), 0.0, torch.eye(3).double(), torch.eye(3).double())


def swept(log_density, number, shapes=(UNIT,)):
    return sweep(log_density, shapes, UNIT.log_density, number, generator=torch.Generator().manual_seed(0))


def test_a_sweep_surrounds_every_mode_and_is_evaluated_once():
    rows = []
    far = Shape(torch.full((3,), 100.0).double(), 0.0, torch.eye(3).double(), torch.eye(3).double())
    swept(lambda x: rows.append(x) or UNIT.log_density(x), 20_000, (UNIT, far))
    near, away = torch.cat(rows).split(10_000)
    distance = near.norm(dim=1) / math.sqrt(3)
    assert distance.max() < 30
    assert ((distance < 3).double().mean() - 0.75).abs() < 0.02
    assert (distance[distance < 3].mean() - 1.5).abs() < 0.05
    assert ((away - 100).median(0).values).abs().max() < 0.2


def test_points_whose_density_is_not_a_number_come_last():
    points = swept(lambda x: torch.where(x[:, 0] > 0, torch.nan, UNIT.log_density(x)), 100_000)
    assert len(points) == 8 * 32
    assert (points[:, 0] <= 0).all()


def test_needles_come_first_though_tails_exceed_what_is_known():
    """In tails of a Student t every point far out exceeds the Gaussian, by more than the needle does."""

    def target(x):
        tails = -3.5 * torch.log1p(x.square().sum(1) / 4)
        return torch.logaddexp(tails, -50 * (x - 2).square().sum(1) + 3)

    assert ((swept(target, 100_000)[:8] - 2).norm(dim=1) < 0.5).any()


def test_work_counts_every_row_of_a_regression():
    rows = torch.ones(1000, 3).double()
    cheap = work_per_row(lambda x: -x.square().sum(1), torch.zeros(64, 3).double())
    assert cheap < 10 < 2000 < work_per_row(lambda x: -(x @ rows.T).square().sum(1), torch.zeros(64, 3).double()) < 3000
