"""``Density.evaluate`` against quadrature."""

import dataclasses
import math
import warnings

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError
from tests.density.evaluation.sizes import LEAST


def test_interval_holds_the_quadrature(report, tiny_density):
    """exp(F + log Jacobian) summed over the plane is Z: the interval and bracket must hold its logarithm."""
    ticks = torch.linspace(-16, 40, 700, dtype=torch.float64)
    first = torch.linspace(-14, 14, 700, dtype=torch.float64)
    grid = torch.cartesian_prod(first, ticks)
    log_z = float((tiny_density.log_prob(grid) + tiny_density.estimate.log_z).logsumexp(0))
    log_z += math.log((28 / 699) * (56 / 699))
    assert report.verdict in ("reliable", "doubtful")
    error = report.tree.attrs["log_z_standard_error"]
    assert abs(report.log_z - log_z) < 5 * error + 1e-3
    assert report.tree.attrs["bracket_lower"] < log_z < report.tree.attrs["bracket_upper"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(3, 5), "expected rows of shape"),
        (torch.zeros(0, 2), "expected at least one row"),
        (torch.tensor([[0.0, math.nan]]), "empty or NaN"),
    ],
    ids=["another shape", "no rows", "NaN"],
)
def test_bad_rows_are_refused(tiny_density, rows, message):
    with pytest.raises(DataError, match=message):
        tiny_density.evaluate(rows)


def test_an_untrained_model_is_said_to_be_one(tiny_density, tiny_data):
    untrained = dataclasses.replace(
        tiny_density, provenance=dataclasses.replace(tiny_density.provenance, best_step={"gaussian-0": 0})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        evaluated = untrained.evaluate(tiny_data.test[:5], settings=LEAST)
    assert "untrained" in evaluated.summary()
    page = evaluated.page()
    assert any("untrained" in text for text in page.words)
    assert "untrained" in page.appendix
