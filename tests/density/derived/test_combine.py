"""Products, powers and mixtures of fits with different transforms, against quadrature."""

import dataclasses
import functools
import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.datasets import Column
from drl_density.density import combine
from drl_density.density.derived.combine import common_columns
from drl_density.errors import DataError, NumericalError
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import GaussianMixtureSequence, assert_z
from drl_density.transforms import Affine, MarginalGaussianization, Marginals
from tests.density.closed_form import closed_form_density

SCHEDULE = drl.NoiseSchedule.log_spaced(4)


SIZES = drl.AISSettings(num_particles=128, num_transitions=4, num_pilot_particles=128)


AXIS = torch.linspace(-12, 16, 5601, dtype=torch.float64)[:, None]


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


@functools.cache
def first():
    return one_dimensional([-1.0, 1.0], 0.5, bent())


@functools.cache
def second():
    return one_dimensional([0.4], 0.6, Affine(-0.9, 0.4))


CASES = {
    "product": {"weights": [1.5, 0.7]},
    "warm product": {"weights": [2.0, 1.5], "temperature": 2.0},
    "one alone, cold": {"temperature": 0.5},
    "mixture": {"how": "mixture", "weights": [1.0, 3.0]},
    "cold mixture": {"how": "mixture", "temperature": 0.6},
}


@pytest.mark.usefixtures("short_ends")
@pytest.mark.parametrize("name", CASES)
def test_draws_and_integral_are_those_of_the_combination(name):
    """By quadrature, spacing 0.005 on densities of scale 0.5 and more: error below 1e-8."""
    case = CASES[name]
    densities = [first()] if name.startswith("one") else [first(), second()]
    weights = torch.tensor(case.get("weights", [1.0] * len(densities))).double()
    logs = torch.stack([density.log_prob(AXIS) for density in densities])
    if case.get("how") == "mixture":
        values = (logs + (weights / weights.sum()).log()[:, None]).logsumexp(0)
    else:
        values = weights @ logs
    values = values / case.get("temperature", 1.0)
    shares = values.softmax(0)
    found = combine(densities, num_samples=1500, settings=SIZES, seed=0, **case)
    assert_z(found.log_z, float(values.logsumexp(0)) + math.log(0.005), max(found.standard_error, 1e-3))
    mean = float(shares @ AXIS[:, 0])
    for power in (1, 2):
        # Draws share ancestors among 8 x 128 particles: at most as if there were that many.
        moment = (found.draws[:, 0] - mean * (power - 1)) ** power
        truth = float(shares @ (AXIS[:, 0] - mean * (power - 1)) ** power)
        assert_z(float(moment.mean()), truth, float(moment.std()) * (1 / 1500 + 1 / 1024) ** 0.5)
    gap = found.distribution.log_prob(AXIS[::400]) - values[::400]
    assert float((gap - gap[0]).abs().max()) < 1e-6
    # Alone and cold, the modes lie too far apart for single chains; their shares come from the particles.
    if name in ("one alone, cold", "warm product"):
        assert found.is_doubtful == (name == "one alone, cold")
    assert "R-hat" in found.summary()


@pytest.mark.usefixtures("short_ends")
def test_fits_combine_into_what_the_combinators_give(tiny_density):
    few = drl.AISSettings(num_particles=16, num_replicates=2, num_transitions=1, num_pilot_particles=16)
    found = combine([tiny_density, tiny_density], num_samples=20, settings=few)
    assert found.draws.shape == (20, 2)
    direct = drl.product([tiny_density.distribution()] * 2)
    torch.testing.assert_close(found.distribution.log_prob(found.draws), direct.log_prob(found.draws))
    assert bool(found.ess.isfinite().all())


def with_column(density, **changes):
    return dataclasses.replace(density, columns=(dataclasses.replace(density.columns[0], **changes),))


def behind(density, kind, scale=0.5, lower=0.0):
    """``density`` behind the fitted marginal of one column: a logistic of ``scale`` in a coordinate."""
    one = torch.ones(1, dtype=torch.float64)
    marginals = Marginals(
        (kind,), 0 * one, one, lower * one, math.inf * one, 0 * one[None], 0 * one[None], scale * one[None]
    )
    return dataclasses.replace(density, transform=MarginalGaussianization(marginals))


WRONG = {
    "none": (lambda: combine([]), DataError, "at least one density"),
    "one": (lambda: combine(first()), DataError, r"expected a list of densities, got one density: give combine\(\[density"),
    "names": (
        lambda: combine([first(), with_column(second(), name="y")]),
        DataError,
        "over the same columns: density 2 has y",
    ),
    "labels": (
        lambda: combine([with_column(first(), categories=("a", "b")), with_column(second(), categories=("b", "c"))]),
        DataError,
        "codes mean different things",
    ),
    "values": (
        lambda: combine(
            [with_column(first(), width=1.0, values=(0.0, 1.0)), with_column(second(), width=1.0, values=(0.0, 1.0, 2.0))]
        ),
        DataError,
        r"has the values \(0.0, 1.0, 2.0\) in density 2 and \(0.0, 1.0\) in the first one",
    ),
    "bounds": (
        lambda: combine([behind(first(), "linear"), behind(second(), "above")]),
        DataError,
        r"lies in \(0.0, inf\) in density 2",
    ),
    "other bounds": (
        lambda: combine([behind(first(), "above", lower=-1.0), behind(second(), "above")]),
        DataError,
        "declare the same bounds",
    ),
    "kind": (lambda: combine([first()], how="sum"), DataError, "choose product or mixture"),
    "draws": (lambda: combine([first()], num_samples=0), DataError, "num_samples"),
    "weights": (lambda: combine([first(), second()], weights=[1.0]), ValueError, "as many weights"),
    "temperature": (lambda: combine([first()], temperature=0.0), ValueError, "must be positive"),
    "hot": (lambda: combine([first()], temperature=1.5), NumericalError, "improper"),
    "hot mixture": (lambda: combine([first(), second()], how="mixture", temperature=1.5), NumericalError, "improper"),
    "quotient": (lambda: combine([first(), second()], weights=[2.0, -1.0]), NumericalError, "improper"),
    "mixture weight": (lambda: combine([first(), second()], how="mixture", weights=[2.0, -1.0]), ValueError, "positive"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_combine_is_refused(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


def test_order_is_said_where_it_is_the_order():
    two = tuple(Column(name) for name in ("a", "b"))
    density = dataclasses.replace(first(), columns=two)
    with pytest.raises(DataError, match="in the same order"):
        common_columns([density, dataclasses.replace(density, columns=two[::-1])])


def test_columns_keep_their_grid_where_it_is_one():
    grids = [with_column(first(), width=width, offset=0.5) for width in (1.0, 1.0, 2.0)]
    assert common_columns(grids[:2])[0].width == 1.0
    assert common_columns(grids)[0].width == 0.0


def independent_columns(covariance=1.0):
    """A fresh sequence: its level 0 is the base itself, N(0, 1) for covariance 1."""
    network = MLP(MLPSettings(1, width=4, num_blocks=1, num_fourier_features=1))
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1, 1), covariance))
    return drl.EnergySequence(SCHEDULE, network, (1,), base=base)


def test_products_that_have_no_integral_at_a_bound_are_refused():
    model = independent_columns()
    steep, mild = (
        dataclasses.replace(behind(first(), "above", scale), model=model).distribution() for scale in (3.0, 1.4)
    )
    assert steep.expand(()).largest_power == pytest.approx(1.5, rel=1e-5)
    assert drl.product([steep, steep], weights=[0.5, 0.5]).is_integrable
    assert drl.product([steep, steep], weights=[0.7, 0.7]).is_integrable
    with pytest.raises(NumericalError, match="up to a sum of 1.5"):
        drl.product([steep, steep])
    both = drl.product([mild, mild])
    assert both.largest_power == pytest.approx(1.75, rel=1e-5)
    with pytest.raises(NumericalError, match="improper"):
        drl.tempered(both, 0.5)
    with pytest.raises(NumericalError, match="improper"):
        drl.tempered(drl.Mixture([steep, mild], [1.0, 1.0]), 0.5)
