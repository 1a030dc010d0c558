"""Bayes' rule over densities of labels, in closed form, and the power that keeps it honest."""

import pytest
import torch

import drl_density as drl
from drl_density.density.classification.class_densities import best_power, label_probabilities
from drl_density.errors import DataError
from drl_density.testing import assert_z, seeded_generator
from tests.density.closed_form import closed_form_density

HALVES = torch.tensor([0.5, 0.5])


class Shifted:
    """A standard normal around a mean, with the part of a density that classification needs."""

    event_shape = (2,)

    def __init__(self, mean, width=1.0):
        self.law = torch.distributions.Normal(torch.full((2,), float(mean)).double(), width)

    def log_prob(self, rows):
        values = self.law.log_prob(torch.as_tensor(rows).double()).sum(-1)
        return values.masked_fill(torch.as_tensor(rows)[..., 0] > 50, -torch.inf)

    def sample(self, num_samples, *, seed):
        return self.law.mean + torch.randn(num_samples, 2, generator=seeded_generator(seed)).double()


def rows_of_two(count, seed=0):
    labels = torch.randint(2, (count,), generator=seeded_generator(seed))
    return labels[:, None] * 1.5 + torch.randn(count, 2, generator=seeded_generator(seed + 1)).double(), 3 + labels


def test_probabilities_are_those_of_bayes_rule():
    found = drl.ClassDensities({3: Shifted(0.0), 4: Shifted(1.5)}, torch.tensor([1.0, 3.0]))
    rows, labels = rows_of_two(50)
    odds = found.densities[4].log_prob(rows) - found.densities[3].log_prob(rows)
    torch.testing.assert_close(found.probabilities(rows)[:, 1], torch.sigmoid(odds + torch.tensor(3.0).log()))
    mixture = 0.25 * found.densities[3].log_prob(rows).exp() + 0.75 * found.densities[4].log_prob(rows).exp()
    torch.testing.assert_close(found.log_prob(rows).exp(), mixture)
    assert set(found.predict(rows).tolist()) == {3, 4}
    with pytest.raises(DataError, match="row 0 has density 0 under every label"):
        found.probabilities(torch.tensor([[99.0, 0.0]]))


def test_draws_have_the_shares_of_the_labels_and_the_law_of_each():
    found = drl.ClassDensities({0: Shifted(-9.0), 1: Shifted(9.0)}, torch.tensor([1.0, 3.0]))
    drawn = found.sample(2000, seed=1)
    assert torch.equal(drawn, found.sample(2000, seed=1))
    assert_z((drawn[:, 0] > 0).double(), 0.75)
    assert float(found.sample(20, label=0, seed=1).max()) < 0
    with pytest.raises(DataError, match="expected a label among"):
        found.sample(1, label=7)


def test_the_power_is_found_from_the_labels_of_held_out_rows():
    """Densities whose log-likelihoods are four times too far apart get a quarter."""
    rows, labels = rows_of_two(4000)
    right = drl.ClassDensities.calibrated({3: Shifted(0.0), 4: Shifted(1.5)}, rows, labels)
    sure = drl.ClassDensities.calibrated({3: Shifted(0.0, 0.5), 4: Shifted(1.5, 0.5)}, rows, labels)
    assert right.power == pytest.approx(1.0, abs=0.15)  # its standard error is about 0.03
    assert sure.power == pytest.approx(right.power / 4, rel=1e-6)
    torch.testing.assert_close(sure.probabilities(rows), right.probabilities(rows))
    values = right.log_densities(rows)
    loss = [
        -float(label_probabilities(values, right.shares, power)[torch.arange(4000), labels - 3].log().mean())
        for power in (0.9 * right.power, right.power, 1.1 * right.power)
    ]
    assert loss[1] == min(loss)
    assert best_power(torch.tensor([[0.0, -torch.inf], [0.0, 1.0]]), torch.tensor([0, 1]), HALVES) > 10


def test_what_cannot_be_classified_is_refused():
    two = {0: Shifted(0.0), 1: Shifted(1.0)}
    with pytest.raises(DataError, match="at least two labels, got 1"):
        drl.ClassDensities({0: Shifted(0.0)}, torch.ones(1))
    with pytest.raises(DataError, match="of one shape"):
        drl.ClassDensities({0: Shifted(0.0), 1: closed_form_density()}, HALVES)
    with pytest.raises(DataError, match="2 positive shares"):
        drl.ClassDensities(two, torch.tensor([1.0, 0.0]))
    with pytest.raises(DataError, match=r"got \[5\] too"):
        drl.ClassDensities.calibrated(two, torch.zeros(2, 2), [0, 5])
    with pytest.raises(DataError, match="one label for each of 2 rows"):
        drl.ClassDensities.calibrated(two, torch.zeros(2, 2), [0, 1, 1])
