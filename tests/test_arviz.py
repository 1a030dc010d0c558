"""Report trees and Pyro runs in whichever generation of ArviZ is installed: 0.23, 1.x, or 1.x's parts."""

import importlib.util
import warnings

import matplotlib as mpl
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer import MCMC, NUTS, RandomWalkKernel

import drl_density as drl
from drl_density.diagnostics import chain_table, split_r_hat

mpl.use("Agg")
HAS_META = importlib.util.find_spec("arviz") is not None


@pytest.fixture(scope="module")
def report(tiny_density, tiny_data):
    settings = drl.SandwichSettings(num_particles=32, num_replicates=4, num_mixing_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        return tiny_density.evaluate(tiny_data.test[:20], settings=settings, seed=0)


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
        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    mcmc = MCMC(NUTS(model), num_samples=30, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    tree = drl.from_pyro_mcmc(mcmc)
    assert tree["posterior"]["x"].shape == (1, 30, 2)
    assert np.asarray(tree["sample_stats"]["diverging"]).dtype == bool
    assert drl.as_arviz(tree) is not None


class FinishedRun:
    """What ``from_pyro_mcmc`` asks of any finished run: two chains here, one vector and one scalar site."""

    def __init__(self, kernel_diagnostics):
        generator = torch.Generator().manual_seed(0)
        self.samples = {"x": torch.randn(2, 30, 3, generator=generator), "s": torch.randn(2, 30, generator=generator)}
        self.kernel_diagnostics = kernel_diagnostics

    def get_samples(self, *, group_by_chain):
        return self.samples if group_by_chain else {}

    def diagnostics(self):
        return {"x": {}, "s": {}, **self.kernel_diagnostics}


def test_any_pyro_run_becomes_a_tree():
    """Several chains keep their own divergences; kernels that count none (random walks) have no such group."""
    tree = drl.from_pyro_mcmc(FinishedRun({"divergences": {"chain 0": [3], "chain 1": [0, 29]}}))
    assert {name: values.shape for name, values in tree["posterior"].data_vars.items()} == {
        "x": (2, 30, 3),
        "s": (2, 30),
    }
    assert np.argwhere(np.asarray(tree["sample_stats"]["diverging"])).tolist() == [[0, 3], [1, 0], [1, 29]]
    assert set(chain_table(tree)) == {"s", "x[0]", "x[1]", "x[2]"}
    assert "sample_stats" not in drl.from_pyro_mcmc(FinishedRun({})).children


def test_a_random_walk_run_becomes_a_tree():
    mcmc = MCMC(RandomWalkKernel(lambda: pyro.sample("x", dist.Normal(0.0, 1.0))), num_samples=20, disable_progbar=True)
    with pytest.raises(ValueError, match="after run"):
        drl.from_pyro_mcmc(mcmc)
    mcmc.run()
    assert drl.from_pyro_mcmc(mcmc)["posterior"]["x"].shape == (1, 20)


def test_arviz_reads_the_file(report, tmp_path):
    path = report.save(tmp_path / "report.nc")
    if HAS_META:
        import arviz

        data = arviz.from_netcdf(path)
        assert len(arviz.summary(data)) == 2
    else:  # the parts of ArviZ 1.x leave reading to xarray
        import arviz_stats

        data = xr.open_datatree(path, engine="h5netcdf")
        assert len(arviz_stats.summary(data)) == 2
    assert data["ais"]["log_weight"].dims == ("replicate", "particle")


def test_split_r_hat_tells_chains_apart():
    draws = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    draws[0, :, 1] += 5
    values = split_r_hat(draws)
    assert float(values[0]) < 1.1
    assert float(values[1]) > 1.3
