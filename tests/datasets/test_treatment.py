"""The transform that fits a data set, and when it is refused."""

import dataclasses

import pytest
import torch

from drl_density import load_dataset
from drl_density.datasets import (
    Column,
    Dataset,
    choose_transform,
)
from drl_density.errors import DataError
from drl_density.testing import seeded_generator
from drl_density.transforms import Affine, Composed, GridHistograms, Logit, MarginalGaussianization
from tests.datasets.samples import TABLE


def test_treatments():
    digits = load_dataset("digits", seed=0)
    transform, dequantization = choose_transform(digits)
    x = dequantization(digits.train, generator=seeded_generator(2))
    u = transform(x)
    torch.testing.assert_close(transform.inv(u), x, rtol=1e-9, atol=1e-7)
    assert bool(u.isfinite().all())
    with pytest.raises(DataError, match="bounds for every column"):
        choose_transform(load_dataset(TABLE), kind="logit")
    with pytest.raises(DataError, match="transform must be one of"):
        choose_transform(digits, kind="magic")


def made(**declared):
    rows = torch.rand(200, 2, generator=seeded_generator(0), dtype=torch.float64)
    columns = tuple(Column(name, **declared) for name in "ab")
    return Dataset("made", rows[:150], rows[150:170], rows[170:], columns, (2,))


@pytest.mark.parametrize(
    ("kind", "declared", "expected"),
    [
        ("auto", {}, MarginalGaussianization),
        ("auto", {"lower": 0.0, "upper": 1.0}, MarginalGaussianization),
        ("logit", {"lower": 0.0, "upper": 1.0}, Composed),
        ("standardize", {}, Affine),
        ("rescale", {"lower": 0.0, "upper": 1.0}, Affine),
        ("gaussianize", {"lower": 0.0, "upper": 1.0}, MarginalGaussianization),
    ],
)
def test_each_kind_gives_its_transform(kind, declared, expected):
    transform, dequantization = choose_transform(made(**declared), kind=kind)
    assert type(transform) is expected
    assert dequantization is None
    assert bool(transform(made().train).isfinite().all())


def test_toys_are_standardized():
    transform, _ = choose_transform(load_dataset("banana", seed=0, num_rows=200))
    assert type(transform) is Affine


def test_rescaling_maps_the_ends_of_8_bit_values_to_one():
    data = made(lower=-0.5, upper=255.5, width=1.0, kind="integer")
    transform, dequantization = choose_transform(data, kind="rescale")
    v = torch.tensor([[0.0, 255.0], [127.5, 51.0]], dtype=torch.float64)
    torch.testing.assert_close(transform(v), v / 127.5 - 1, rtol=1e-12, atol=1e-15)
    assert dequantization.widths.tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match='"rescale" needs lower and upper bounds'):
        choose_transform(made(), kind="rescale")


def test_the_logit_standardizes_and_leaves_a_margin_around_grids_alone():
    transform, _ = choose_transform(made(lower=0.0, upper=1.0), kind="logit")
    assert [type(part) for part in transform.parts] == [Logit, Affine]
    assert transform.bounds.lower.tolist() == [0.0, 0.0]
    u = transform(made().train)
    torch.testing.assert_close(u.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-10)
    tenths = made(lower=0.0, upper=1.0, width=0.1, kind="rounded")
    tenths = dataclasses.replace(tenths, train=(10 * tenths.train).round() / 10)
    transform, _ = choose_transform(tenths, kind="logit")
    torch.testing.assert_close(
        transform.bounds.lower, torch.full((2,), -0.0511, dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_columns_of_one_grid_get_histograms():
    rows = (5 * torch.rand(300, 2, generator=seeded_generator(1), dtype=torch.float64)).floor()
    columns = tuple(Column(name, "integer", 1.0, lower=-0.5, upper=6.5) for name in "ab")
    data = Dataset("made", rows, rows[:20], rows[:20], columns, (2,))
    transform, dequantization = choose_transform(data)
    assert type(transform) is GridHistograms
    assert transform.marginals.log_shares.shape == (2, 7)
    assert bool(transform(dequantization(rows, generator=seeded_generator(2))).isfinite().all())
    other = dataclasses.replace(data, columns=(columns[0], dataclasses.replace(columns[1], upper=9.5)))
    assert type(choose_transform(other)[0]) is Composed
    off_grid = dataclasses.replace(data, validation=rows[:20] - 0.1)
    assert type(choose_transform(off_grid)[0]) is Composed
    with pytest.raises(DataError, match="one grid of at most 256 values"):
        choose_transform(other, kind="histogram")


def test_grids_end_half_a_width_beyond_their_bounds_and_closed_supports_get_histograms():
    rows = (5 * torch.rand(300, 2, generator=seeded_generator(1), dtype=torch.float64)).floor()
    rows[0, 0] = -0.3  # one row off the grid
    columns = (Column("a", "integer", 1.0, lower=-0.4), Column("b", "integer", 1.0, values=(0.0, 1.0, 2.0, 3.0, 4.0)))
    data = Dataset("made", rows, rows[:20], rows[:20], columns, (2,))
    transform, dequantization = choose_transform(data)
    lower, upper = transform.bounds
    assert lower.tolist() == [-0.8, -0.5]
    assert upper.tolist() == [float("inf"), 4.5]
    assert transform.describe()[1] == "b: histogram of 5 values"
    noisy = dequantization(rows.repeat(50, 1), generator=seeded_generator(2))
    assert bool(transform.bounds.contains(noisy).all())
