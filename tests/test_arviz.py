"""Report trees and Pyro runs in whichever generation of ArviZ is installed: 0.23, 1.x, or 1.x's parts."""

import importlib.util
import warnings

import matplotlib as mpl
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer import MCMC, NUTS

import drl_density as drl
from drl_density.diagnostics import split_r_hat

mpl.use("Agg")
HAS_META = importlib.util.find_spec("arviz") is not None


@pytest.fixture(scope="module")
def report(tiny_density, tiny_data):
    settings = drl.SandwichSettings(num_particles=32, num_replicates=4, num_mixing_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        return tiny_density.evaluate(tiny_data.test[:20], settings=settings)


def test_summary_and_figures_of_chains(report):
    data = report.to_arviz()
    if HAS_META:
        import arviz

        assert len(arviz.summary(data)) == 2
    else:
        import arviz_stats

        assert len(arviz_stats.summary(data)) == 2
    table = report.chain_diagnostics()
    assert all(row["ess_bulk"] > 0 and np.isfinite(row["r_hat"]) for row in table.values())


# ArviZ 0.23 calls matplotlib in a way that matplotlib 3.11 deprecates.
@pytest.mark.filterwarnings("ignore::matplotlib.MatplotlibDeprecationWarning")
def test_plots_draw(report):
    data = report.to_arviz()
    if not isinstance(data, xr.DataTree):
        import arviz

        for plot in (arviz.plot_trace, arviz.plot_rank, arviz.plot_energy):
            assert plot(data) is not None
    else:
        import arviz_plots

        for plot in (arviz_plots.plot_trace, arviz_plots.plot_rank, arviz_plots.plot_energy):
            assert plot(data, backend="matplotlib") is not None


def test_netcdf_round_trip(report, tmp_path):
    again = drl.LikelihoodReport.load(report.save(tmp_path / "report.nc"))
    assert set(again.tree.groups) == set(report.tree.groups)
    assert {"/posterior", "/sample_stats", "/log_likelihood", "/observed_data", "/ais", "/paths"} <= set(
        again.tree.groups
    )
    xr.testing.assert_identical(again.tree["ais"].to_dataset(), report.tree["ais"].to_dataset())


def test_pyro_runs_become_trees():
    def model():
        import pyro

        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    mcmc = MCMC(NUTS(model), num_samples=30, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    tree = drl.from_pyro_mcmc(mcmc)
    assert tree["posterior"]["x"].shape == (1, 30, 2)
    assert np.asarray(tree["sample_stats"]["diverging"]).dtype == bool
    assert drl.as_arviz(tree) is not None


def test_split_r_hat_tells_chains_apart():
    draws = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    draws[0, :, 1] += 5
    values = split_r_hat(draws)
    assert float(values[0]) < 1.1
    assert float(values[1]) > 1.3
