"""Report trees and Pyro runs in whichever generation of ArviZ is installed: 0.23, 1.x, or 1.x's parts."""

import importlib.util
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import drl_density as drl

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
