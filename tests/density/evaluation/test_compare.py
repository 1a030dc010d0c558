"""Paired comparisons on the same rows."""

import dataclasses
import math

import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from sklearn.mixture import GaussianMixture

import drl_density as drl
from drl_density.errors import DataError


def test_comparison_is_paired(tiny_density, tiny_data, report):
    x = tiny_data.test
    mixture = GaussianMixture(2, random_state=0).fit(tiny_data.train.numpy())
    flat = dist.Normal(torch.zeros(2).double(), 20.0).to_event(1)
    rows = drl.compare({"report": report, "density": tiny_density, "mixture": mixture, "flat": flat}, x)
    assert rows[0].difference == 0
    by_hand = report.log_likelihood - torch.as_tensor(mixture.score_samples(x.numpy()))
    assert rows[2].difference == pytest.approx(float(by_hand.mean()))
    assert rows[2].standard_error == pytest.approx(float(by_hand.std()) / math.sqrt(len(x)))
    with pytest.raises(DataError, match="other rows"):
        drl.compare({"report": report, "flat": flat}, x.flip(0))
    with pytest.raises(DataError, match="evaluate these"):
        drl.compare({"report": report, "flat": flat}, x[:5])
    with pytest.raises(DataError, match="neither log_prob"):
        drl.compare({"a": tiny_density, "b": 3}, x)
    with pytest.raises(DataError, match="at least two"):
        drl.compare({"a": tiny_density}, x)


def test_frames_are_read_by_name_and_columns_must_agree(tiny_density, tiny_data):
    """Turned columns of a frame change nothing, also for models that know no names; other columns are refused."""
    names = [column.name for column in tiny_density.columns]
    frame = pd.DataFrame(tiny_data.test.numpy(), columns=names)
    flat = dist.Normal(torch.tensor([0.0, 5.0]).double(), 20.0).to_event(1)
    models = {"density": tiny_density, "flat": flat}
    assert drl.compare(models, frame[names[::-1]]) == drl.compare(models, tiny_data.test)
    with pytest.raises(DataError, match="expected rows of numbers, got type object"):
        drl.compare({"flat": flat, "again": flat}, frame.astype(str))
    turned = dataclasses.replace(tiny_density, columns=tiny_density.columns[::-1])
    with pytest.raises(DataError, match="over the same columns in the same order: turned has"):
        drl.compare({"density": tiny_density, "turned": turned}, tiny_data.test)


def test_reports_of_different_schemes_refuse_to_be_compared(report, tiny_data):
    dequantised = report.tree.copy()
    dequantised.attrs["scheme"] = (
        "log density in data units, rows dequantised once by uniform noise of widths 1 (2 columns)"
    )
    with pytest.raises(DataError, match="different schemes do not compare"):
        drl.compare({"a": report, "b": drl.LikelihoodReport(dequantised)}, tiny_data.test)


def test_others_are_scored_on_the_rows_of_the_report(report, tiny_data):
    """Rows dequantised for the report are the rows of its rivals too; a flow gets them in its own dtype."""
    x = tiny_data.test
    moved = report.tree.copy()
    noise = torch.full((40, 2), 0.2, dtype=torch.float64)
    moved["observed_data"]["x"] = moved["observed_data"]["x"] + 0.2
    moved["observed_data"]["width"] = moved["observed_data"]["width"] + 0.5

    class Flow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.location = torch.nn.Parameter(torch.zeros(2))

        def forward(self):
            return dist.Normal(self.location, 1.0).to_event(1)

    flow = Flow()
    rows = drl.compare({"report": drl.LikelihoodReport(moved), "flow": flow}, x)
    assert rows[1].mean == pytest.approx(float(flow().log_prob((x + noise).float()).mean().detach()), abs=1e-5)
