"""End points of climbs become one mode where no dip lies between them."""

import math

import torch

from drl_density.partition_function.mode_search import grouping
from drl_density.partition_function.mode_search.ascent import Climb, climb
from drl_density.partition_function.mode_search.grouping import group_ends


def ends(log_density, dim, width=3.0, count=24):
    rows = width * torch.randn(count, dim, generator=torch.Generator().manual_seed(0)).double()
    return climb(log_density, rows)


def shell(x):
    return -0.5 * ((x.norm(dim=-1) - 2) / 0.1).square()


def test_three_gaussians_are_three_modes():
    centers = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]]).double()

    def log_density(x):
        return (-0.5 * (x[:, None] - centers).square().sum(-1)).logsumexp(1)

    end = ends(log_density, 2, width=8.0)
    found = group_ends(log_density, end)
    assert found.num_modes == len(found.shapes) == 3
    nearest = torch.cdist(end.position, centers).argmin(1)
    for mode in range(3):
        assert len(nearest[found.labels == mode].unique()) == 1


def test_a_ring_of_optima_is_one_mode():
    for dim in (2, 6):
        end = ends(shell, dim)
        assert torch.cdist(end.position, end.position).max() > 3  # the ends lie all around
        found = group_ends(shell, end)
        assert found.num_modes == 1
        assert len(found.shapes) > 1


def test_flat_tops_and_kinks_are_one_mode():
    for log_density in (lambda x: -x.abs().sum(-1), lambda x: -((x / 2).abs().clamp_min(1) - 1).sum(-1)):
        assert group_ends(log_density, ends(log_density, 3)).num_modes == 1


def test_a_low_optimum_on_the_slope_of_a_high_one_is_a_mode_of_its_own():
    """Its dip is half a nat, and its height seven nats below: joining them would hide how seldom the high one is found."""

    def log_density(x):
        return torch.logaddexp(5 - 0.5 * x[:, 0].square(), -2 - 0.5 * ((x[:, 0] - 5) / 0.3).square())

    end = climb(log_density, torch.tensor([[0.5], [5.1], [0.1]]).double(), scale=0.01)
    assert group_ends(log_density, end).labels.tolist() == [0, 1, 0]


def test_lost_climbs_belong_to_no_mode():
    def log_density(x):
        return torch.where(x[:, 0] > 0, -0.5 * x.square().sum(-1) + x[:, 0], -math.inf)

    end = climb(log_density, torch.tensor([[1.0, 1.0], [-5.0, 0.0]]).double())
    assert group_ends(log_density, end).labels.tolist() == [0, -1]


def test_further_ends_are_grouped_without_measuring_known_optima_again(monkeypatch):
    end = ends(shell, 3)
    earlier = group_ends(shell, end)
    monkeypatch.setattr(grouping, "measure_shape", None)
    more = climb(shell, end.position * 1.5)
    both = Climb(*(torch.cat([getattr(one, name) for one in (end, more)]) for name in ("position", "value", "is_at_rest")))
    again = group_ends(shell, both, earlier=earlier)
    assert again.num_modes == 1
    assert again.shapes == earlier.shapes
    assert (again.labels == 0).all()


def test_ends_of_a_shell_are_followed_to_a_few_measured_ones():
    end = ends(shell, 4, count=80)
    found = group_ends(shell, end)
    assert found.num_modes == 1
    assert len(found.shapes) < 20


def test_ends_that_stopped_along_a_neck_are_one_mode(monkeypatch):
    """Climbs of a funnel stop anywhere along its neck; a few of them are measured and climb on, to the top at height 18."""
    measured, measure = [], grouping.measure_shape
    monkeypatch.setattr(grouping, "measure_shape", lambda *args, **options: measured.append(1) or measure(*args, **options))

    def funnel(x):
        return -0.5 * (x[:, 0] / 3).square() - 2 * x[:, 0] - 0.5 * x[:, 1:].square().sum(1) * (-x[:, 0]).exp()

    neck = torch.linspace(-12, 2, 40).double()[:, None]
    noise = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).double()
    start = torch.cat([neck, 0.3 * (neck / 2).exp() * noise], 1)
    found = group_ends(funnel, Climb(start, funnel(start), torch.ones(40).bool()))
    assert found.num_modes == 1
    assert (found.labels == 0).all()
    assert abs(found.shapes[0].value - 18) < 0.01
    assert len(measured) < 30
