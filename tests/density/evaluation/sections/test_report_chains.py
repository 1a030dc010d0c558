"""The long chains of a report: they follow the density, in data units, and count the steps to forget their start."""

import torch

from drl_density.density.evaluation.sections.report_chains import run_report_chains
from drl_density.testing import seeded_generator
from tests.density.closed_form import SYSTEM, closed_form_density


def test_chains_are_in_data_units_and_labelled_by_their_start():
    density = closed_form_density()
    u = SYSTEM.sample(50, 0, generator=seeded_generator(0))
    found = run_report_chains(density, u, num_steps=100, generator=seeded_generator(1))
    posterior = found.groups()["posterior"]
    assert posterior.sizes["chain"] == 8
    assert posterior["start"].values.tolist() == ["data"] * 4 + ["noise"] * 4
    draws = torch.as_tensor(posterior["x"].values).reshape(-1, 3)
    low, high = density.pool.min(0).values, density.pool.max(0).values
    assert bool(((draws > 2 * low - high) & (draws < 2 * high - low)).all())
    assert 1.0 < found.autocorrelation_time < 800.0
    assert found.attributes() == {"autocorrelation_time": found.autocorrelation_time}
