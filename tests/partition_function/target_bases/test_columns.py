"""One-dimensional mixtures of all columns at once."""

import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from drl_density.partition_function.target_bases.columns import fit_columns, look_normal
from drl_density.testing import seeded_generator


def rows_of(count, seed):
    """A normal, two wells of unequal mass, and a spike inside a wide normal."""
    generator = seeded_generator(seed)
    noise = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    chance = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    wells = torch.where(chance[:, 0] < 0.1, -2.0, 0.2) + 0.1 * noise[:, 1]
    spike = torch.where(chance[:, 1] < 0.4, 0.01, 1.0) * noise[:, 2]
    return torch.stack([noise[:, 0], wells, spike], 1)


def test_mixtures_reach_the_entropy_of_what_made_the_rows():
    train, held = rows_of(2000, 0), rows_of(2000, 1)
    columns = fit_columns(train, held)
    wells = MixtureSameFamily(Categorical(torch.tensor([0.1, 0.9])), Normal(torch.tensor([-2.0, 0.2]), 0.1))
    spike = MixtureSameFamily(Categorical(torch.tensor([0.4, 0.6])), Normal(torch.zeros(2), torch.tensor([0.01, 1.0])))
    truth = [model.log_prob(held[:, index]).mean() for index, model in enumerate((Normal(0.0, 1.0), wells, spike))]
    torch.testing.assert_close(columns.scores, torch.stack(truth), rtol=0, atol=0.02)
    assert columns.weights[:, 0].tolist() == [1, 0, 0]
    torch.testing.assert_close(columns.weights.sum(0), torch.ones(3).double())


def test_the_product_has_the_columns_scores_in_any_units():
    train, held = rows_of(1000, 2), rows_of(1000, 3)
    columns = fit_columns(train, held)
    center, unit = torch.tensor([3.0, -1.0, 0.0]).double(), torch.tensor([2.0, 0.5, 4.0]).double()
    product = columns.product(center, unit, 1.0, train)
    score = float(product.log_prob(center + unit * held).mean() + unit.log().sum())
    # Each further component costs 0.002 of the score.
    assert 0 <= score - columns.score < 0.013
    assert columns.product(center, unit, 1.0, train, kept=[1]).event_shape == (1,)
    wider = columns.product(center, unit, 1.5, train)
    torch.testing.assert_close(wider.spreads, 1.5 * product.spreads)


def test_columns_that_look_normal():
    assert look_normal(rows_of(1000, 4)).tolist() == [True, False, False]
    assert look_normal(torch.ones(10, 1).double()).tolist() == [True]
