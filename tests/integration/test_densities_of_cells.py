"""The density of every kind of column that is not continuous, against the shares of its cells.

With independent columns and no tilt a column has the density of its transform alone, and log Z is 0. The log density of a
dequantised value is then the log of its cell's probability over the width, where the density is even inside a cell.
"""

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.density.fitted import dequantized_rows
from drl_density.density.fitting.table import prepare_table
from drl_density.networks import ColumnTilt, ColumnTiltSettings
from drl_density.testing import seeded_generator
from tests.density.closed_form import closed_form_density

pytestmark = pytest.mark.filterwarnings(
    "ignore:column .* (has labels|are exactly 0|lie on a bound|values repeat):drl_density.errors.DataWarning"
)
NUM_ROWS = 400
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=NUM_ROWS)
AMOUNTS = np.where(np.arange(NUM_ROWS) % 4 == 0, 0.0, RNG.lognormal(3.0, 0.7, NUM_ROWS))
CLOSED = {
    "yes": RNG.random(NUM_ROWS) < 0.3,
    "two numbers": np.where(RNG.random(NUM_ROWS) < 0.3, 1.5, 4.0),
    "label": RNG.choice(["a", "b", "c"], NUM_ROWS, p=[0.6, 0.3, 0.1]),
    "stars": RNG.choice([1, 2, 5], NUM_ROWS),
}
"""Columns whose permitted values are listed: density is even inside their cells."""
OPEN = {
    "count": RNG.poisson(30.0, NUM_ROWS),
    "odd": 2 * RNG.poisson(30.0, NUM_ROWS) + 1,
    "rounded": NORMAL.round(1),
    "amounts": AMOUNTS,
    "atom": np.where(np.arange(NUM_ROWS) % 4 == 0, 0.25, NORMAL),
}
"""Columns on a grid without a list of values: density varies inside their cells."""


class Untilted:
    """Independent standard normal columns in model space."""

    def __init__(self, dim):
        self.dim = dim
        self.model = drl.EnergySequence(
            drl.NoiseSchedule.log_spaced(3),
            ColumnTilt(ColumnTiltSettings(dim, width=8)),
            (dim,),
            base=NoisedGaussianMixture.standard(dim),
        )

    def log_z(self, level):
        return 0.0

    def sample(self, num_samples, level, *, generator):
        return torch.randn(num_samples, self.dim, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def table():
    """All columns, with transforms that are fitted together."""
    return prepare_table(drl.load_dataset(pd.DataFrame(CLOSED | OPEN), seed=0))


def untilted(table, name):
    """The density of one column, and the values that it was fitted to."""
    columns = table.dataset.columns
    place = [column.name for column in columns].index(name)
    density = closed_form_density(Untilted(1), (columns[place],), table.transform.single_column(place))
    return density, columns[place], table.dataset.train[:, place]


@pytest.mark.parametrize("name", CLOSED)
def test_the_densities_of_listed_values_are_their_shares_over_the_width(table, name):
    density, column, train = untilted(table, name)
    assert column.is_closed
    values = torch.tensor(column.values, dtype=torch.float64)
    counts = (train[:, None] == values).sum(0).double()
    shares = (counts + 0.5) / (counts + 0.5).sum()  # half a row is added to every cell
    found = density.log_prob(values[:, None])
    torch.testing.assert_close(found, (shares / column.width).log(), rtol=0, atol=1e-5)  # a float32 base
    assert float((found.exp() * column.width).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", OPEN)
def test_the_cells_of_a_grid_hold_a_probability_of_one(table, name):
    """Cells of the grid within three ranges of the values, by twenty points each; none where a bound forbids it."""
    density, column, train = untilted(table, name)
    assert column.width > 0
    assert not column.is_closed
    middle, reach = float(train.mean()), 3 * float(train.max() - train.min())
    number = round(reach / column.width)
    center = round((middle - column.offset) / column.width)
    grid = column.offset + column.width * torch.arange(center - number, center + number + 1, dtype=torch.float64)
    offsets = column.width * ((torch.arange(20, dtype=torch.float64) + 0.5) / 20 - 0.5)
    densities = density.log_density_of((grid[:, None] + offsets).reshape(-1, 1)).exp().reshape(len(grid), 20)
    probabilities = column.width * densities.mean(1)
    assert float(probabilities.sum()) == pytest.approx(1, abs=2e-3)
    assert bool((probabilities[grid < column.lower] == 0).all())
    at_points = density.log_prob(grid[:, None]).exp()
    assert bool((at_points[grid < column.lower] == 0).all())
    if name not in ("amounts", "atom"):  # whose density is steep inside the cells at the bound and at the atom
        assert float((column.width * at_points).sum()) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("name", CLOSED)
def test_dequantised_rows_as_reports_score_them_have_the_densities_of_their_values(table, name):
    density, column, train = untilted(table, name)
    rows, widths = dequantized_rows(density, train[:50, None], generator=seeded_generator(0))
    assert widths.tolist() == [column.width]
    assert bool((rows[:, 0] != train[:50]).all())
    torch.testing.assert_close(density.log_density_of(rows), density.log_prob(train[:50, None]), rtol=0, atol=1e-5)
