"""The log density that all stages evaluate: constants, points without density, and gradients."""

import math

import torch

from drl_density.mcmc import value_and_gradient
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_density import FlatDensity, Rejections

PLAIN = Coordinates.onto(None, torch.Size((2,)))


def test_a_constant_is_taken_off_before_digits_are_lost():
    flat = FlatDensity(lambda x: x[:, 0] + 1e12, PLAIN, offset=1e12)
    torch.testing.assert_close(flat(torch.tensor([[0.25, 0.0]]).double()), torch.tensor([0.25]).double())


def test_points_without_density_are_rejected_and_counted():
    def holes(x):
        values = torch.where(x[:, 0] < 0, -math.inf, -x[:, 0])
        return torch.where(x[:, 1] < 0, math.nan, torch.where(x[:, 1] > 5, math.inf, values))

    rows = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 9.0], [math.nan, 1.0], [1.0, math.inf]]).double()
    flat = FlatDensity(holes, PLAIN).counted()
    assert flat(rows).tolist() == [-1.0, *[-math.inf] * 5]
    assert flat.rejections == Rejections(num_points=6, num_zero=3, num_undefined=2)
    assert flat.rejections.dead_share == 5 / 6
    assert flat.rejections.undefined_share == 2 / 6
    assert flat.uncounted().rejections == Rejections()


def test_gradients_are_finite_and_always_there():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).double()
    root = FlatDensity(lambda x: -(x.square().sum(-1)).sqrt(), PLAIN)  # its gradient at 0 is 0 / 0
    torch.testing.assert_close(value_and_gradient(root, rows)[1], torch.tensor([[0.0, 0.0], [-0.6, -0.8]]).double())
    constant = FlatDensity(lambda x: torch.zeros(len(x)).double(), PLAIN)
    values, gradients = value_and_gradient(constant, rows)
    assert values.tolist() == [0.0, 0.0]
    assert gradients.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_hessians_pass_through():
    flat = FlatDensity(lambda x: -(x**4).sum(-1), PLAIN)
    one = torch.tensor([1.0, 2.0]).double()
    expected = torch.diag(torch.tensor([-12.0, -48.0])).double()
    by_function = torch.func.jacrev(torch.func.grad(lambda u: flat(u[None])[0]))
    torch.testing.assert_close(by_function(one), expected)
    torch.testing.assert_close(torch.autograd.functional.hessian(lambda u: flat(u[None])[0], one), expected)
    torch.testing.assert_close(torch.vmap(lambda u: flat(u[None])[0])(one[None]), torch.tensor([-17.0]).double())


def test_an_overflow_on_the_way_to_the_support_is_outside():
    from torch.distributions import constraints

    flat = FlatDensity(lambda x: -x.sum(-1), Coordinates.onto(constraints.positive, torch.Size((2,))))
    assert flat(torch.tensor([[900.0, 0.0], [0.0, 0.0]]).double()).tolist() == [-math.inf, -2.0]
