"""Copies of training rows are noticed, fresh draws are not."""

import pytest
import torch

from drl_density import memorization_check
from drl_density.testing import seeded_generator


def test_memorized_rows_are_seen():
    generator = seeded_generator(3)
    train, test, fresh = (torch.randn(300, 3, generator=generator).double() for _ in range(3))
    assert memorization_check(fresh, train, test).p_value > 1e-4
    constant = [torch.cat([part, torch.ones(300, 1).double()], 1) for part in (fresh, train, test)]
    assert memorization_check(*constant) == memorization_check(fresh, train, test)
    copied = memorization_check(train + 1e-3, train, test)
    assert copied.p_value < 1e-6
    assert "memorised" in copied.conclusion


def test_the_sentence_has_all_figures():
    train, test = torch.arange(40.0).double()[:, None], torch.arange(40.0).double()[:, None] + 0.5
    check = memorization_check(train + 0.01, train, test)
    scale = float(train.std())
    assert check.sample_distance == pytest.approx(0.01 / scale)
    assert check.test_distance == pytest.approx(0.5 / scale)
    assert check.describe().startswith("Nearest training row: 0.000855 from samples, 0.0428 from test rows (p = ")
    assert check.describe().endswith(f": {check.conclusion}.")


def test_distances_do_not_depend_on_the_unit():
    generator = seeded_generator(4)
    parts = [torch.randn(100, 2, generator=generator).double() for _ in range(3)]
    for unit in (2.0**-1000, 2.0**1000):
        assert memorization_check(*(unit * part for part in parts)) == memorization_check(*parts)
