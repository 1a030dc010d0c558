"""Data sets and columns describe themselves."""

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density import load_dataset
from drl_density.datasets import (
    Column,
    Dataset,
)
from drl_density.errors import DataError
from tests.datasets.samples import TABLE

RNG = np.random.default_rng(0)


def test_labels_of_the_likelihood():
    frame = pd.DataFrame(TABLE[:, :2], columns=["a", "b"])
    assert load_dataset(frame).likelihood_label == "density"
    assert load_dataset(frame.round(1)).likelihood_label == "density of dequantised values"
    counts = frame.assign(k=RNG.poisson(3.0, 200))
    assert "lower bound for discrete columns" in load_dataset(counts).likelihood_label


def test_column_lines_read_well():
    assert Column("age", "integer", 1.0, 0.0).describe() == "age: integer, grid 1; bounds (0, inf); dequantised"


def test_a_summary_counts_rows_and_missing_values_and_stops_at_twenty_columns():
    rows = torch.zeros(10, 25, dtype=torch.float64)
    rows[0, :5] = torch.nan
    columns = tuple(Column(f"x{index}") for index in range(25))
    data = Dataset("made", rows, rows[1:3], rows[3:5], columns, (25,))
    lines = data.describe().splitlines()
    assert (
        lines[0] == "made: 10 training, 2 validation, 2 test rows, 25 columns; likelihood: density of observed values"
    )
    assert lines[1] == "  missing values: 1.4%; 9 + 2 + 2 rows are complete"
    assert lines[-1] == "  ... and 5 more columns"
    assert data.has_missing_values
    assert not data.is_images


def test_a_column_describes_bounds_piles_and_labels():
    column = Column("share", lower=0.0, piles=(0.0, 1.0))
    assert column.describe() == "share: continuous; bounds (0, inf); rows pile up at 1: declare a bound if it is one"
    labels = Column("color", "categorical", 1.0, categories=("blue", "red"))
    assert labels.describe() == "color: categorical, grid 1; labels blue, red; dequantised"
    assert (labels.is_label, labels.is_discrete, column.is_discrete) == (True, True, False)
    assert Column("size", is_positive=True).describe() == "size: continuous; positive"


def test_the_density_of_real_rows_is_unknown():
    rows = torch.zeros(4, 1, dtype=torch.float64)
    with pytest.raises(DataError, match="density of 'made' is not known"):
        Dataset("made", rows, rows, rows, (Column("x"),), (1,)).log_density(rows)
