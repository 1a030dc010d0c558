"""Tables: dequantisation and row weights."""

import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.errors import DataError
from drl_density.testing import assert_z


def test_rounded_columns_are_dequantised_afresh():
    values = torch.randn(300, 2).mul(3).round().double()
    table = prepare_table(drl.load_dataset(values))
    assert isinstance(table, Table)
    rows = [table.batches(200, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    held_out = table.held_out(table.dataset.validation, seed=0)
    assert len(held_out) >= 1024
    source = table.chosen_rows(table.dataset.validation, seed=0)
    assert torch.equal(held_out.round(), table.dataset.validation[source])


def test_row_weights_move_bases_selection_and_floor():
    """Rows of N(0, 1) weighed by exp(x) stand for N(1, 1): the base, the held-out rows and the floor follow the weights."""
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "w": x[:, 0].exp()})
    data = drl.load_dataset(frame, split=drl.Split(weights="w"))
    assert data.validation_weights.shape == (len(data.validation),)
    table = prepare_table(data, "standardize").with_bases("gaussian")
    base = table.bases.mixtures["gaussian"]
    mean = (base.axes[0] @ base.centers[0]).double()
    rows = {"base": table.transform.inv(mean)}
    rows["held out"] = table.validation_rows(seed=0).mean(0)
    rows["floor"] = table.some_training_rows(generator=torch.Generator().manual_seed(2)).mean(0)
    # The effective number of rows, (sum w)^2 / sum w^2 = e^-1 of them: 1,200 of 3,200, and 150 of 400 held out.
    assert_z(rows["base"], torch.tensor([1.0, 0.0]), (1 / 1200 + 1 / 3200) ** 0.5)
    assert_z(rows["held out"], torch.tensor([1.0, 0.0]), (1 / 150 + 1 / 1024) ** 0.5)
    assert_z(rows["floor"], torch.tensor([1.0, 0.0]), (1 / 1200 + 1 / 3200) ** 0.5)


def test_choices_are_described():
    table = prepare_table(drl.load_dataset("wine", seed=0)).with_bases("gaussian")
    said = table.describe()
    assert "alcohol: " in said
    assert "logistic component" in said
    assert "kept gaussian" in said
    assert "standardize" not in said


@pytest.mark.filterwarnings("ignore:.*fewer than 10 rows per column")
@pytest.mark.parametrize(
    ("number", "message"),
    [(1, "single row"), (2, "10 rows or more"), (4, "10 rows or more"), (6, "at least 8 training rows")],
)
def test_a_few_rows_are_too_few_for_a_fit(number, message):
    rows = torch.randn(number, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=message):
        prepare_table(drl.load_dataset(rows, seed=0))


def test_ten_rows_are_enough():
    rows = torch.randn(10, 1, generator=torch.Generator().manual_seed(0))
    table = prepare_table(drl.load_dataset(rows, seed=0))
    assert bool(table.to_model(table.dataset.train, generator=None).isfinite().all())
