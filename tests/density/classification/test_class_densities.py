"""Bayes' rule over densities of labels, in closed form, and the power that keeps it honest."""

import dataclasses

import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.datasets import Column
from drl_density.density.classification.class_densities import best_power, label_probabilities
from drl_density.density.tables import HasColumns
from drl_density.errors import DataError
from drl_density.testing import assert_z, seeded_generator
from tests.density.closed_form import closed_form_density

HALVES = torch.tensor([0.5, 0.5])


class Shifted(HasColumns):
    """A standard normal around a mean, with the part of a density that classification needs."""

    columns, event_shape = (Column("a"), Column("b")), (2,)

    def __init__(self, mean, width=1.0):
        self.law = torch.distributions.Normal(torch.full((2,), float(mean)).double(), width, validate_args=False)

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


def test_frames_are_read_by_name_and_columns_must_agree():
    found, (rows, _) = drl.ClassDensities({3: Shifted(0.0), 4: Shifted(1.5)}, HALVES), rows_of_two(9)
    frame = pd.DataFrame(rows.numpy(), columns=["a", "b"])[["b", "a"]]
    torch.testing.assert_close(found.log_densities(frame), found.log_densities(rows))
    torch.testing.assert_close(found.predict(frame), found.predict(rows))
    turned, labelled = Shifted(1.5), Shifted(1.5)
    turned.columns = turned.columns[::-1]
    labelled.columns = (dataclasses.replace(turned.columns[1], categories=("u", "v")), turned.columns[0])
    for other, message in ((turned, "same columns in the same order: that of label 4 has b, a"), (labelled, "codes mean")):
        with pytest.raises(DataError, match=message):
            drl.ClassDensities({3: Shifted(0.0), 4: other}, HALVES)


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
    with pytest.raises(DataError, match="over the same columns: that of label 1 has"):
        drl.ClassDensities({0: Shifted(0.0), 1: closed_form_density()}, HALVES)
    with pytest.raises(DataError, match="2 positive shares"):
        drl.ClassDensities(two, torch.tensor([1.0, 0.0]))
    with pytest.raises(DataError, match=r"got \[5\] too"):
        drl.ClassDensities.calibrated(two, torch.zeros(2, 2), [0, 5])
    with pytest.raises(DataError, match="one label for each of 2 rows"):
        drl.ClassDensities.calibrated(two, torch.zeros(2, 2), [0, 1, 1])


TWO = {3: Shifted(0.0), 4: Shifted(1.5)}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([3.5] * 5, "whole numbers, got 3.5"),
        ([torch.nan] * 5, "whole numbers, got nan"),
        (["3"] * 5, "whole numbers, got list"),
        (torch.eye(5), "argmax of one-hot ones"),
        (torch.tensor(3), "got 1 labels"),
        ([3, 4], "got 2 labels"),
        ([9] * 5, r"expected labels among \[3, 4\], got \[9\]"),
    ],
    ids=str,
)
def test_labels_of_another_kind_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        drl.ClassDensities.calibrated(TWO, rows_of_two(5)[0], labels)


def test_labels_of_any_whole_type_give_one_power():
    rows, labels = rows_of_two(20)
    powers = [
        drl.ClassDensities.calibrated(TWO, rows, each).power
        for each in (labels, labels.float(), labels.to(torch.uint8), labels.tolist(), labels.numpy(), labels[:, None])
    ]
    assert len(set(powers)) == 1


def test_rows_that_calibrate_nothing_are_refused():
    rows, labels = rows_of_two(20)
    with pytest.raises(DataError, match="one row at least, got 0 labels"):
        drl.ClassDensities.calibrated(TWO, rows[:0], labels[:0])
    with pytest.raises(DataError, match="all 20 rows have density 0 under every label"):
        drl.ClassDensities.calibrated(TWO, rows + 99, labels)
    rows[7, 1] = torch.nan
    with pytest.raises(DataError, match="row 7 has missing values"):
        drl.ClassDensities.calibrated(TWO, rows, labels)
    with pytest.raises(DataError, match="row 7 has missing values"):
        drl.ClassDensities(TWO, HALVES).probabilities(rows)


def test_densities_shares_and_powers_of_another_kind_are_refused():
    for densities in (list(TWO.values()), {str(label): density for label, density in TWO.items()}):
        with pytest.raises(DataError, match="expected a dict from labels, whole numbers, to densities"):
            drl.ClassDensities(densities, HALVES)
    for power in (-1.0, torch.inf, torch.nan, "1", None):
        with pytest.raises(DataError, match="power must be a finite number of at least 0"):
            drl.ClassDensities(TWO, HALVES, power)
    with pytest.raises(DataError, match="got a mapping: list its values"):
        drl.ClassDensities(TWO, {3: 1.0, 4: 1.0})


def test_draws_have_any_shape():
    found = drl.ClassDensities(TWO, HALVES)
    assert [tuple(found.sample(count, seed=0).shape) for count in ((), 0, 3, (2, 3))] == [(2,), (0, 2), (3, 2), (2, 3, 2)]
    assert torch.equal(found.sample((2, 3), seed=0).reshape(6, 2), found.sample(6, seed=0))
    for count in (-1, 2.0, True):
        with pytest.raises(DataError, match="got"):
            found.sample(count)
