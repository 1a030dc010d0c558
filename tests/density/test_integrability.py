"""Powers of a density that are known to be integrable."""

import dataclasses
import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.density.integrability import largest_power
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import GaussianMixtureSequence
from drl_density.transforms import MarginalGaussianization, Marginals
from tests.density.closed_form import closed_form_density

SCHEDULE = drl.NoiseSchedule.log_spaced(4)


def one_dimensional(means, scale, transform):
    """A density of one column in closed form behind ``transform``."""
    means = torch.tensor(means, dtype=torch.float64)[:, None]
    weights = torch.arange(1, len(means) + 1, dtype=torch.float64)
    variances = torch.full((len(means), 1, 1), scale**2, dtype=torch.float64)
    density = closed_form_density(GaussianMixtureSequence(weights / weights.sum(), means, variances, SCHEDULE))
    return dataclasses.replace(density, transform=transform, pool=transform.inv(density.transform(density.pool)))


def bent():
    """A transform whose Jacobian varies by a factor of ten: two logistics that lie apart."""
    parts = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[-1.0, 1.5]]), torch.tensor([[0.25, 0.4]])
    ends = [torch.tensor([value], dtype=torch.float64) for value in (1.0, 1.5, -math.inf, math.inf)]
    return MarginalGaussianization(Marginals(("linear",), *ends, *(part.double() for part in parts)))


FIRST = one_dimensional([-1.0, 1.0], 0.5, bent())


def behind(density, kind, scale=0.5, lower=0.0):
    """``density`` behind the fitted marginal of one column: a logistic of ``scale`` in a coordinate."""
    one = torch.ones(1, dtype=torch.float64)
    marginals = Marginals(
        (kind,), 0 * one, one, lower * one, math.inf * one, 0 * one[None], 0 * one[None], scale * one[None]
    )
    return dataclasses.replace(density, transform=MarginalGaussianization(marginals))


def independent_columns(covariance=1.0):
    """A fresh sequence: its level 0 is the base itself, N(0, 1) for covariance 1."""
    network = MLP(MLPSettings(1, width=4, num_blocks=1, num_fourier_features=1))
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1, 1), covariance))
    return drl.EnergySequence(SCHEDULE, network, (1,), base=base)


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_powers_of_a_density_that_grows_at_its_bound(scale):
    """A log-logistic goes as x^(1/s - 1) at 0, so the power w is integrable for w (1/s - 1) > -1."""
    density = behind(FIRST, "above", scale)
    exact = scale / (scale - 1) if scale > 1 else math.inf
    assert largest_power(independent_columns(), density.transform) == pytest.approx(exact, rel=1e-5)
    x = torch.tensor([[1e-30], [1e-60]], dtype=torch.float64)
    u = density.transform(x)
    slope = independent_columns().log_density(u, 0).detach() + density.transform.log_abs_det_jacobian(x, u)
    # Powers of ten: the exponent is read off two far points, where corrections are of order x^(1/s).
    assert float((slope[0] - slope[1]) / (30 * math.log(10))) == pytest.approx(1 / scale - 1, abs=1e-4)
    assert largest_power(independent_columns(2.0), density.transform) <= exact
    for kind in ("linear", "asinh"):
        assert largest_power(independent_columns(2.0), behind(FIRST, kind, scale).transform) == math.inf
