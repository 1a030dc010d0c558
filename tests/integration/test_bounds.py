"""Outside the bounds of its transform, composed or not, a density is zero: never NaN, and never an ordinary row."""

import dataclasses
import math

import pytest
import torch

import drl_density as drl
from drl_density.datasets import Column, Dataset, choose_transform
from drl_density.density import combine
from drl_density.distributions.experts import log_density_of
from drl_density.errors import DataError
from drl_density.testing import seeded_generator
from drl_density.transforms import Composed, MarginalGaussianization
from tests.density.closed_form import closed_form_density

LOWER, UPPER = -1.0, 3.0
COLUMNS = tuple(Column(name, lower=LOWER, upper=UPPER) for name in "abc")
OUTSIDE = torch.tensor([[3.5, 0.0, 0.0], [0.0, -1.5, 0.0], [0.0, 0.0, 1e9]], dtype=torch.float64)
INSIDE = torch.tensor([[0.5, 0.2, 1.0], [2.9, -0.9, 0.0]], dtype=torch.float64)


def bounded(kind):
    """The closed-form sequence behind the transform that ``choose_transform`` gives to columns in [-1, 3]."""
    rows = LOWER + (UPPER - LOWER) * torch.rand(400, 3, generator=seeded_generator(1), dtype=torch.float64)
    data = Dataset("made", rows[:300], rows[300:350], rows[350:], COLUMNS, (3,))
    transform, _ = choose_transform(data, kind=kind)
    density = closed_form_density(columns=COLUMNS)
    u = density.transform(density.pool)
    return dataclasses.replace(density, transform=transform, pool=transform.inv(u))


@pytest.fixture(scope="module", params=["logit", "gaussianize"])
def density(request):
    return bounded(request.param)


def test_the_transforms_are_what_they_should_be(density):
    assert isinstance(density.transform, Composed | MarginalGaussianization)
    # The logit's ends lie a thousandth of the range further out, those of the marginals 1e-9.
    torch.testing.assert_close(density.transform.bounds.lower, torch.full((3,), LOWER).double(), rtol=0, atol=5e-3)
    torch.testing.assert_close(density.transform.bounds.upper, torch.full((3,), UPPER).double(), rtol=0, atol=5e-3)


def test_log_prob_is_minus_infinity_outside(density):
    values = density.log_prob(torch.cat([OUTSIDE, INSIDE]))
    assert values[:3].tolist() == [-math.inf] * 3
    assert bool(values[3:].isfinite().all())
    ends = torch.cat([density.transform.bounds.lower[None], density.transform.bounds.upper[None]])
    assert density.log_prob(ends).tolist() == [-math.inf] * 2


def test_an_impossible_row_has_p_value_zero(density):
    scores = density.outlier_scores(torch.cat([OUTSIDE[:2], INSIDE]))
    assert scores.p_value[:2].tolist() == [0.0] * 2
    assert scores.typicality_p_value[:2].tolist() == [0.0] * 2
    assert scores.strangeness[:2].tolist() == [math.inf] * 2
    assert 0 < scores.p_value[2] <= 1


def test_the_support_is_the_box(density):
    dist = density.distribution()
    assert dist.support.check(INSIDE).tolist() == [True, True]
    assert dist.support.check(OUTSIDE).tolist() == [False] * 3
    unchecked = density.distribution().expand((3,))
    unchecked._validate_args = False
    assert unchecked.log_prob(OUTSIDE).tolist() == [-math.inf] * 3


def test_nothing_is_conditioned_on_an_impossible_value(density):
    with pytest.raises(DataError, match="outside the bounds"):
        density.condition({"a": 3.5}, normalize=True, seed=0)
    partial = density.condition({"a": 0.5})
    rows = torch.tensor([[0.0, 3.5], [0.0, 2.5]], dtype=torch.float64)
    assert partial.support.check(rows).tolist() == [False, True]
    partial._validate_args = False
    values = partial.unnormalized_log_prob(rows)
    assert values[0] == -math.inf
    assert bool(values[1].isfinite())


def test_predictions_stay_inside_and_give_impossible_values_no_density(density):
    rows = torch.tensor([[0.5, 0.2, 3.5], [0.5, 0.2, 1.0]], dtype=torch.float64)
    prediction = density.predict(rows, "c", seed=0)
    assert prediction.log_density[0] == -math.inf
    assert bool(prediction.log_density[1].isfinite())
    assert bool(((prediction.quantiles > LOWER - 5e-3) & (prediction.quantiles < UPPER + 5e-3)).all())


def test_only_densities_over_the_same_box_combine():
    first, second = bounded("logit"), closed_form_density(columns=COLUMNS)
    with pytest.raises(DataError, match=r"lies in \(-inf, inf\) in density 2 and in \(-1.0, 3.0\)"):
        combine([first, second], seed=0)


def test_evaluate_names_a_row_outside(density):
    rows = torch.cat([INSIDE, OUTSIDE[:1]])
    with pytest.raises(DataError, match="row 2: 3.5 of column 'a' lies outside the bounds"):
        density.evaluate(rows, seed=0)


COMBINED = {
    "product": lambda dist: drl.product([dist, dist], weights=[0.4, 0.6], sampler=SHORT),
    "power": lambda dist: drl.tempered(dist, 1.0).with_sampler(SHORT),
    "mixture": lambda dist: drl.Mixture([dist, dist], [1.0, 3.0]),
    "power of a mixture": lambda dist: drl.tempered(drl.Mixture([dist, dist], [1.0, 3.0]), 1.0).with_sampler(SHORT),
    "quotient": lambda dist: drl.excluding(dist, dist, floor=0.1).with_sampler(SHORT),
}
SHORT = drl.ChainSampler(num_warmup=20, num_steps=20)


@pytest.mark.parametrize("name", COMBINED)
def test_combinations_draw_inside_and_are_zero_outside(name, density):
    made = COMBINED[name](density.distribution())
    draws = made.sample((20,))
    lower, upper = density.bounds
    assert bool(((draws > lower) & (draws < upper)).all())
    assert bool(made.log_prob(draws).isfinite().all())
    log_density = log_density_of(made)
    assert log_density(OUTSIDE[:2].to(draws)).tolist() == [-math.inf] * 2
