"""Products, powers and mixtures against closed forms, and refusals of what may have no integral."""

import pickle

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.errors import NumericalError
from drl_density.testing import assert_z

FIRST = dist.Normal(torch.zeros(2), 1.0).to_event(1)
SECOND = dist.Normal(torch.ones(2), 0.5).to_event(1)


def test_product_of_gaussians_is_the_precision_weighted_gaussian():
    both = drl.product([FIRST, SECOND])
    exact = dist.Normal(torch.full((2,), 0.8), 0.2**0.5).to_event(1)
    x = torch.randn(5, 2)
    gap = both.log_prob(x) - exact.log_prob(x)
    torch.testing.assert_close(gap, gap[:1].expand(5), rtol=0, atol=1e-5)
    draws = both.sample((600,))
    assert_z(float(draws[:, 0].mean()), 0.8, float(draws[:, 0].std()) / 600**0.5)
    assert abs(float(draws.var()) / 0.2 - 1) < 0.25


def test_log_z_of_a_product_comes_from_the_sandwich():
    result = drl.sandwich(
        drl.product([FIRST, SECOND]), base=FIRST, seed=0, settings=drl.SandwichSettings(num_particles=128)
    )
    exact = float(dist.Normal(torch.ones(2), 1.25**0.5).to_event(1).log_prob(torch.zeros(2)))
    assert_z(result.log_z, exact, result.standard_error)


def test_powers_and_quotients():
    cold = drl.tempered(FIRST, 0.5)
    x = torch.randn(4, 2)
    torch.testing.assert_close(cold.log_prob(x), 2 * FIRST.log_prob(x))
    quotient = drl.product([SECOND, FIRST], weights=[1.0, -1.0], is_integrable=True)
    torch.testing.assert_close(quotient.log_prob(x), SECOND.log_prob(x) - FIRST.log_prob(x))


def test_what_may_have_no_integral_is_refused():
    with pytest.raises(NumericalError, match="improper"):
        drl.product([SECOND, FIRST], weights=[1.0, -1.0])
    with pytest.raises(NumericalError, match="improper"):
        drl.tempered(FIRST, 2.0)
    unknown = drl.EnergyDistribution.from_log_density(lambda x: x.sum(-1), event_shape=(2,))
    with pytest.raises(NumericalError, match="improper"):
        drl.product([FIRST, unknown])


AXIS = torch.linspace(-8, 8, 3201, dtype=torch.float64)
CLASSES = [dist.Normal(torch.tensor(-0.7).double(), 1.0), dist.Normal(torch.tensor(0.8).double(), 0.6)]


def moments(density):
    """Mean and variance by quadrature: spacing 0.005 on densities of scale 0.1 or more, error below 1e-8."""
    shares = density.log_prob(AXIS).softmax(0)
    mean = (shares * AXIS).sum()
    return float(mean), float((shares * (AXIS - mean) ** 2).sum())


def agrees(density, mean, variance):
    """Draws of the sampler against exact moments."""
    draws = density.with_sampler(drl.ChainSampler(num_warmup=150, num_steps=50)).sample((1500,))
    assert_z(draws, mean)
    assert_z((draws - mean).square(), variance)


def test_guidance_is_sampled_as_the_density_it_claims():
    """Guidance moves away from the other class: neither the conditional nor its power."""
    both = drl.Mixture(CLASSES, [0.4, 0.6])
    sharper = drl.guided(CLASSES[0], both, 2.0)
    assert sharper.is_integrable
    x = AXIS[::100]
    torch.testing.assert_close(sharper.log_prob(x), 3 * CLASSES[0].log_prob(x) - 2 * both.log_prob(x))
    mean, variance = moments(sharper)
    assert mean < -0.9
    agrees(sharper, mean, variance)
    torch.testing.assert_close(drl.guided(CLASSES[0], both, 0.0).log_prob(x), CLASSES[0].log_prob(x))


def test_guidance_without_a_bound_is_refused():
    wide, narrow = dist.Normal(0.0, 2.0), dist.Normal(0.0, 1.0)
    with pytest.raises(NumericalError, match="improper"):
        drl.guided(wide, narrow, 1.0)
    with pytest.raises(NumericalError, match="improper"):
        drl.guided(wide, drl.Mixture(CLASSES, [1.0, 1.0]), 1.0)
    assert drl.guided(narrow, wide, 1.0, is_integrable=True).is_integrable
    with pytest.raises(ValueError, match="negative"):
        drl.guided(narrow, wide, -1.0)


def test_negation_with_a_floor_is_integrable_and_without_one_refused():
    expert = dist.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    unwanted = dist.Normal(torch.tensor(0.5).double(), 0.5)
    away = drl.excluding(expert, unwanted, weight=1.5, floor=0.1)
    assert away.is_integrable
    x = AXIS[::100]
    torch.testing.assert_close(away.log_prob(x), expert.log_prob(x) - 1.5 * (unwanted.log_prob(x).exp() + 0.1).log())
    mean, variance = moments(away)
    assert mean < -0.2
    agrees(away, mean, variance)
    with pytest.raises(NumericalError, match="improper"):
        drl.excluding(expert, unwanted)
    with pytest.raises(NumericalError, match="improper"):
        drl.excluding(drl.EnergyDistribution.from_log_density(lambda x: x, event_shape=()), unwanted, floor=0.1)
    with pytest.raises(ValueError, match="must be positive"):
        drl.excluding(expert, unwanted, floor=0.0)
    with pytest.raises(ValueError, match="must be normalised"):
        drl.excluding(expert, drl.product([expert, unwanted]), floor=0.1)


def test_combinations_of_combinations_stay_integrable():
    inner = drl.product([FIRST, SECOND])
    assert drl.product([inner, FIRST]).is_integrable
    assert drl.tempered(inner, 0.5).is_integrable


def test_fitted_densities_multiply(tiny_density):
    both = drl.product([tiny_density.distribution(), dist.Normal(torch.zeros(2).double(), 0.5).to_event(1)])
    draws = both.sample((20,))
    assert bool(both.log_prob(draws).isfinite().all())
    torch.testing.assert_close(pickle.loads(pickle.dumps(both)).log_prob(draws), both.log_prob(draws))


WRONG = {
    "counts": (lambda: drl.product([FIRST], weights=[1.0, 2.0]), "as many weights"),
    "none": (lambda: drl.product([]), "at least one"),
    "shapes": (lambda: drl.product([FIRST, dist.Normal(0.0, 1.0)]), "one event shape"),
    "temperature": (lambda: drl.tempered(FIRST, 0.0), "must be positive"),
    "mixture weight": (lambda: drl.Mixture([FIRST, SECOND], [1.0, -1.0]), "must be positive"),
    "unnormalised": (lambda: drl.Mixture([FIRST, drl.product([FIRST, SECOND])], [1.0, 1.0]), "not normalised"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
