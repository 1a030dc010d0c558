"""How to evaluate a log density: type of numbers, gradient, and mistakes that are told apart."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.partition_function.targets.source import examine_source, with_gradient_known
from drl_density.testing import seeded_generator

ROWS = torch.randn(8, 2, generator=seeded_generator(0), dtype=torch.float64)


def quadratic(x):
    return -0.5 * x.square().sum(-1)


def examined(function, target=None):
    target = target or drl.EnergyDistribution.from_log_density(function, (2,))
    return examine_source(target, function, ROWS)


def test_float64_comes_first_and_float32_where_it_is_refused():
    assert examined(quadratic).dtype == torch.float64
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    source = examined(network)
    assert (source.dtype, source.precision) == (torch.float32, torch.float32)
    assert source(ROWS).dtype == torch.float64
    halves = examined(lambda x: quadratic(x.float()))
    assert (halves.dtype, halves.precision) == (torch.float64, torch.float32)
    design = torch.randn(4, 2, generator=seeded_generator(1), dtype=torch.float64)
    assert examined(lambda w: -(w @ design.T).square().sum(-1)).dtype == torch.float64


@pytest.mark.parametrize(
    ("function", "has_gradient"),
    [
        (quadratic, True),
        (lambda x: quadratic(x.detach()), False),
        (lambda x: quadratic(x).detach().numpy(), False),
        (lambda x: torch.as_tensor(quadratic(torch.as_tensor(x.numpy()))), False),
        (lambda x: quadratic((x * 8).round() / 8), False),
        (lambda x: torch.zeros(len(x)), False),
        (lambda x: 0 * x.sum(-1), True),
        (lambda x: x.square().sum(-1).sqrt().neg(), True),
    ],
    ids=["plain", "detached", "numpy", "numpy inside", "rounded", "constant", "constant with a graph", "root"],
)
def test_a_gradient_is_looked_for(function, has_gradient):
    source = with_gradient_known(examined(function), torch.cat([torch.zeros(1, 2).double(), ROWS]))
    assert source.has_gradient is has_gradient
    assert source(ROWS.clone().requires_grad_(True)).requires_grad is has_gradient


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: -0.5 * x**2, r"it gave shape \(8, 2\): one number for each coordinate"),
        (lambda x: quadratic(x).sum(), r"it gave shape \(\): it sums over the points too"),
        (lambda x: x.new_zeros(3), r"it gave shape \(3,\): return one number for each"),
        (lambda x: quadratic(x) + 0j, "complex"),
        (lambda x: quadratic(x) + torch.randn(len(x)), "must not be random"),
        (lambda x: quadratic(x) + x[0, 0], "changes with the other points"),
    ],
    ids=["rows of rows", "scalar", "other", "complex", "random", "batch"],
)
def test_every_mistake_is_named(function, words):
    with pytest.raises(ValueError, match=words):
        examined(function)


def test_an_error_of_the_target_is_passed_on():
    def broken(x):
        raise KeyError("beta")

    with pytest.raises(KeyError, match="beta") as found:
        examined(broken)
    assert "of every floating-point type" in found.value.__notes__[0]


def test_a_scale_that_is_zero_far_out_is_explained():
    def neck(x):
        return torch.distributions.Normal(0.0, (x[..., 0] / 2).exp(), validate_args=True).log_prob(x[..., 1])

    source = examined(neck)
    with pytest.raises(ValueError, match="Expected parameter scale") as caught:
        source(-1e5 * ROWS.abs())
    assert "validate_args=False" in caught.value.__notes__[0]


def test_values_that_are_no_numbers_do_not_count_as_random():
    source = examined(lambda x: torch.where(x[:, 0] > 0, quadratic(x), math.nan))
    assert bool(source(ROWS).isnan().any())
