"""One-dimensional mixtures in a coordinate: mass one, CDF and density in step."""

import pytest
import torch

from drl_density.testing import seeded_generator
from drl_density.transforms import Marginals
from drl_density.transforms.marginals import COORDINATES
from tests.transforms.cases import gaussian, mixed_rows, rows, with_cells


def test_marginals_integrate_to_one():
    transform = gaussian(is_bounded=True)
    u = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None].expand(-1, 4)
    x = transform.inv(u)
    density = transform.marginal_log_density(x).exp()
    mass = torch.trapezoid(density, x, dim=0)
    # Trapezoid over 4,000 intervals of smooth mixtures of at most 8 components: error of order 1e-4.
    torch.testing.assert_close(mass, torch.ones(4, dtype=torch.float64), rtol=1e-3, atol=0)


def two_components(kind):
    one = torch.ones(1, dtype=torch.float64)
    mixture = (
        torch.tensor([[0.3, 0.7]]).double().log(),
        torch.tensor([[-1.0, 0.5]]).double(),
        0.4 * one[None].expand(1, 2),
    )
    cells = (torch.tensor([[1.0, 3.0]]).double(), torch.tensor([[0.4, 0.6]], dtype=torch.float64).log())
    return Marginals((kind,), 0.5 * one, 2.0 * one, 0.0 * one, 3.0 * one, *mixture, *cells)


@pytest.mark.parametrize("kind", COORDINATES)
def test_coordinates_round_trip_and_slopes_are_autograds(kind):
    marginals = two_components(kind)
    x = torch.linspace(0.1, 2.9, 30, dtype=torch.float64)[:, None].requires_grad_(True)
    y, slope = marginals.to_coordinate(x)
    torch.testing.assert_close(marginals.from_coordinate(y), x, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, gradient.log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", COORDINATES)
def test_the_density_is_the_slope_of_the_cdf_and_quantiles_invert_it(kind):
    marginals = two_components(kind)
    y = torch.linspace(-3, 3, 40, dtype=torch.float64)[:, None].requires_grad_(True)
    log_density, below, above = marginals.log_parts(y)
    (slope,) = torch.autograd.grad(below.exp().sum(), y)
    torch.testing.assert_close(log_density.exp(), slope, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(below.exp() + above.exp(), torch.ones_like(y), rtol=1e-12, atol=0)
    u = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None]
    found = marginals.log_parts(marginals.quantile_coordinate(torch.special.log_ndtr(u), torch.special.log_ndtr(-u)))[1]
    torch.testing.assert_close(found, torch.special.log_ndtr(u), rtol=1e-9, atol=1e-12)


def test_selected_columns_are_those_columns():
    for fitted, x in ((gaussian(is_bounded=True).marginals, rows()), (with_cells().marginals, mixed_rows())):
        part = fitted.select(torch.tensor([1, 2]))
        expected = fitted.log_density(x)[:, 1:3]
        torch.testing.assert_close(part.log_density(x[:, 1:3]), expected, rtol=1e-14, atol=1e-14)
    names = {"centers", "widths", "lower", "upper", "log_weights", "locations", "scales", "values", "log_shares"}
    assert set(part.tensors()) == names | {"spike_lower", "spike_upper", "spike_log_shares"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_far_tails_keep_their_digits_and_slopes(dtype):
    """Sums of logs at values where sums of probabilities underflow, beside values where they do not."""
    marginals = two_components("linear")
    y = torch.tensor([[-2e3], [-280.0], [-0.3], [40.0], [2e3]], dtype=dtype, requires_grad=True)
    z = (y[..., None] - marginals.locations.to(y)) / marginals.scales.to(y)
    lower, upper = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
    weights = marginals.log_weights.to(y)
    expected = (weights + lower + upper - marginals.scales.to(y).log(), weights + lower, weights + upper)
    for found, terms in zip(marginals.log_parts(y), expected, strict=True):
        logs = terms.logsumexp(-1)
        torch.testing.assert_close(found, logs, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=1e-6)
        slopes = (torch.autograd.grad(each.sum(), y, retain_graph=True)[0] for each in (found, logs))
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_columns_of_several_sizes_and_kinds_are_those_of_each_alone():
    """One to eight components and all coordinates in one record, against records of single columns."""
    generator = seeded_generator(8)
    sizes = [1, 8, 2, 5, 8, 3, 8, 8]
    kinds = ("linear", "above", "asinh", "between", "below", "asinh", "linear", "between")
    shape = (len(sizes), max(sizes))
    present = torch.arange(shape[1]) < torch.tensor(sizes)[:, None]
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).masked_fill(~present, -torch.inf)
    locations = torch.randn(shape, generator=generator, dtype=torch.float64)
    scales = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    zero = torch.zeros(len(sizes), dtype=torch.float64)
    marginals = Marginals(kinds, zero, zero + 2.0, zero - 1.0, zero + 9.0, logits.log_softmax(-1), locations, scales)
    x = 8 * torch.rand(7, len(sizes), generator=generator, dtype=torch.float64)
    for number, found in enumerate(marginals.log_parts_of(x)):
        for index in range(len(sizes)):
            alone = marginals.select(torch.tensor([index])).log_parts_of(x[:, index : index + 1])[number]
            torch.testing.assert_close(found[:, index], alone[:, 0], rtol=1e-13, atol=1e-13)
    z = (marginals.to_coordinate(x)[0][..., None] - locations) / scales
    below = (logits.softmax(-1) * torch.sigmoid(z)).sum(-1).log()
    torch.testing.assert_close(marginals.log_parts_of(x)[1], below, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        torch.func.vmap(lambda row: marginals.log_parts_of(row)[1])(x), below, rtol=0, atol=1e-13
    )


def test_quantiles_of_components_far_apart_are_found_where_newton_steps_go_to_and_fro():
    """1,001 places of 64 columns; Newton steps inside the bracket alone leave some columns off by nats."""
    generator = seeded_generator(1)
    shape = (64, 6)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64).log_softmax(-1)
    locations = 4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    scales = (torch.randn(shape, generator=generator, dtype=torch.float64) - 1).exp()
    zero = torch.zeros(shape[0], dtype=torch.float64)
    marginals = Marginals(("linear",) * shape[0], zero, zero + 1, zero, zero + 1, weights, locations, scales)
    u = torch.linspace(-9, 9, 1001, dtype=torch.float64)[:, None].expand(-1, shape[0])
    tails = torch.special.log_ndtr(u), torch.special.log_ndtr(-u)
    _, below, above = marginals.log_parts(marginals.quantile_coordinate(*tails))
    for found, expected in zip((below, above), tails, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
