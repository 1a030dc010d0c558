"""Every transform under one contract: round trip, Jacobian, deep tails, state."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.distributions.transforms import ComposeTransform

from drl_density.errors import DataError, RunFolderError
from drl_density.testing import seeded_generator
from drl_density.transforms import (
    Dequantization,
    fit_marginal_gaussianization,
    logit,
    standardize,
    transform_from_state,
    transform_to_state,
    whiten,
)
from drl_density.transforms.marginals import fit_mixture


def rows(num_rows=600):
    """Columns: normal, heavy-tailed, positive and skew, inside (0, 1)."""
    generator = seeded_generator(1)
    normal = torch.randn(num_rows, 5, generator=generator, dtype=torch.float64)
    heavy = normal[:, 1] / (normal[:, 2].square() + normal[:, 3].square()).mul(0.5).sqrt()
    return torch.stack([3 + 2 * normal[:, 0], heavy, normal[:, 3].exp(), torch.sigmoid(normal[:, 4])], 1)


def inside(x):
    return torch.sigmoid(x)


INF = math.inf
BOUNDS = {"lower": torch.tensor([-INF, -INF, 0.0, 0.0]), "upper": torch.tensor([INF, INF, INF, 1.0])}
TRANSFORMS = {
    "standardize": lambda: (standardize(rows()), rows()),
    "whiten": lambda: (whiten(rows()), rows()),
    "logit": lambda: (logit(torch.zeros(4), torch.ones(4)), inside(rows())),
    "composed": lambda: (
        ComposeTransform([logit(0.0, 1.0), standardize(logit(0.0, 1.0)(inside(rows())))]),
        inside(rows()),
    ),
    "gaussianize": lambda: (fit_marginal_gaussianization(rows()), rows()),
    "gaussianize bounded": lambda: (fit_marginal_gaussianization(rows(), **BOUNDS), rows()),
}


@pytest.fixture(params=TRANSFORMS, ids=list(TRANSFORMS), scope="module")
def pair(request):
    return TRANSFORMS[request.param]()


def test_round_trip(pair):
    transform, x = pair
    # Inverting a logit at 0.999 loses 1 / (x (1 - x)) digits: 1e-9 relative is far above 1e-16 * 1e5.
    torch.testing.assert_close(transform.inv(transform(x)), x, rtol=1e-9, atol=1e-9)


def test_jacobian_is_autograds(pair):
    transform, x = pair
    for row in x[:5]:
        matrix = torch.autograd.functional.jacobian(transform, row)
        expected = torch.linalg.slogdet(matrix).logabsdet
        torch.testing.assert_close(transform.log_abs_det_jacobian(row, transform(row)), expected, rtol=1e-8, atol=1e-8)


def test_vmap_of_gradients(pair):
    transform, x = pair
    values = torch.func.vmap(torch.func.grad(lambda row: transform(row).sum()))(x[:5])
    assert values.shape == x[:5].shape
    assert bool(values.isfinite().all())


def test_copies_and_states_are_the_same_map(pair):
    transform, x = pair
    settings, tensors = transform_to_state(transform)
    for other in (
        transform_from_state(settings, tensors),
        copy.deepcopy(transform),
        pickle.loads(pickle.dumps(transform)),
    ):
        assert torch.equal(other(x), transform(x))


def test_dtype_follows_the_input(pair):
    transform, x = pair
    u = transform(x)
    x = x[(u - u.mean(0)).abs().amax(1) < 3].float()
    u = transform(x)
    assert len(x) > 100
    assert transform.log_abs_det_jacobian(x, u).shape == x.shape[:1]
    assert bool(u.isfinite().all())


def test_marginals_integrate_to_one():
    transform = fit_marginal_gaussianization(rows(), **BOUNDS)
    u = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None].expand(-1, 4)
    x = transform.inv(u)
    density = transform.marginal_log_density(x).exp()
    mass = torch.trapezoid(density, x, dim=0)
    # Trapezoid over 4,000 intervals of smooth mixtures of at most 8 components: error of order 1e-4.
    torch.testing.assert_close(mass, torch.ones(4, dtype=torch.float64), rtol=1e-3, atol=0)


def test_independent_columns_are_a_standard_normal_in_model_space():
    x = rows()
    transform = fit_marginal_gaussianization(x)
    u = transform(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + transform.log_abs_det_jacobian(x, u)
    torch.testing.assert_close(normal, transform.marginal_log_density(x).sum(1), rtol=1e-9, atol=1e-9)


def test_deep_tails_stay_finite_and_invertible():
    transform = fit_marginal_gaussianization(torch.randn(500, 1, generator=seeded_generator(2)).double())
    x = torch.tensor([[-2000.0], [-60.0], [45.0], [3000.0]], dtype=torch.float64)
    u = transform(x)
    assert bool(u.isfinite().all())
    assert bool((u.flatten().diff() > 0).all())
    # Far out u^2 / 2 is the log tail itself: 1e-9 relative is ten million rounding errors.
    torch.testing.assert_close(transform.inv(u), x, rtol=1e-9, atol=0)


def test_heavy_tails_are_noticed():
    heavy = rows(4000)[:, 1:2]
    transform = fit_marginal_gaussianization(heavy)
    assert "asinh" in transform.describe()[0]
    assert float(transform.marginal_log_density(torch.tensor([[1000.0]]).double())) > -40


def test_no_mass_outside_declared_bounds():
    transform = fit_marginal_gaussianization(rows(), **BOUNDS)
    assert transform.bounds[0].tolist()[2:] == [0.0, 0.0]
    drawn = transform.inv(8 * torch.randn(500, 4, generator=seeded_generator(3)).double())
    assert bool((drawn[:, 2] > 0).all())
    assert bool(((drawn[:, 3] >= 0) & (drawn[:, 3] <= 1)).all())


def test_rounded_values_make_no_spikes():
    """On values rounded to 0.5, left as spikes, no component is narrower than the scale asked for."""
    x = (torch.randn(800, 1, generator=seeded_generator(4), dtype=torch.float64) * 2).round() / 2
    fit = fit_mixture(x, 8, torch.tensor([0.15], dtype=torch.float64))
    assert float(fit.scales.min()) >= 0.15
    free = fit_mixture(x, 8, torch.tensor([1e-4], dtype=torch.float64))
    assert float(free.scales.min()) < 0.05


def test_dequantization_bounds_the_probability_of_a_count():
    """Mean over the noise of log density + log width is at most the log mass of the cell (Jensen)."""
    generator = seeded_generator(5)
    width = torch.tensor([1.0], dtype=torch.float64)
    dequantize = Dequantization(width)
    normal = torch.distributions.Normal(0.0, 2.0)
    noisy = dequantize(torch.ones(4000, 1, dtype=torch.float64), generator)
    bound = float(normal.log_prob(noisy).mean() + dequantize.log_volume)
    mass = float((normal.cdf(torch.tensor(1.5)) - normal.cdf(torch.tensor(0.5))).log())
    assert bound < mass
    assert abs(noisy - 1).max() <= 0.5


BAD = [
    (lambda: standardize(torch.ones(5, 2)), DataError, r"columns \[0, 1\] do not vary"),
    (lambda: whiten(torch.arange(6.0).reshape(3, 2)), DataError, "linearly dependent"),
    (lambda: logit(1.0, 0.0), ValueError, "lower < upper"),
    (lambda: fit_marginal_gaussianization(torch.ones(9, 1)), DataError, "is constant"),
    (
        lambda: fit_marginal_gaussianization(rows(), lower=torch.tensor([5.0, -INF, -INF, -INF])),
        DataError,
        "widen the bounds",
    ),
    (lambda: transform_from_state({"kind": "spline"}, {}), RunFolderError, "unknown kind"),
    (lambda: transform_to_state(torch.distributions.transforms.ExpTransform()), TypeError, "this package's"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[row[2] for row in BAD])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_fits_are_deterministic():
    first, second = (fit_marginal_gaussianization(rows())(rows()) for _ in range(2))
    assert np.array_equal(first.numpy(), second.numpy())
