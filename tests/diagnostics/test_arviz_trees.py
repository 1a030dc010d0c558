"""Trees of draws from Pyro runs and from chains."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer import MCMC, NUTS, RandomWalkKernel

import drl_density as drl
from drl_density.diagnostics import chain_table, chains_to_groups


def test_pyro_runs_become_trees():
    def model():
        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    mcmc = MCMC(NUTS(model), num_samples=30, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    tree = drl.from_pyro_mcmc(mcmc)
    assert tree["posterior"]["x"].shape == (1, 30, 2)
    assert np.asarray(tree["sample_stats"]["diverging"]).dtype == bool
    assert drl.as_arviz(tree)["posterior"]["x"].shape == (1, 30, 2)


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


def test_chains_become_groups_with_labels():
    draws = torch.arange(24.0).reshape(4, 3, 2)  # draw, chain, feature
    groups = chains_to_groups(
        draws, {"lp": torch.arange(12.0).reshape(4, 3)}, ["a", "b"], starts=["data", "noise", "data"]
    )
    posterior = groups["posterior"]
    assert posterior["x"].dims == ("chain", "draw", "feature")
    assert float(posterior["x"].sel(chain=2, draw=1, feature="b")) == float(draws[1, 2, 1])
    assert posterior["start"].values.tolist() == ["data", "noise", "data"]
    assert float(groups["sample_stats"]["lp"].sel(chain=1, draw=3)) == 10.0
    assert "feature" not in groups["sample_stats"].coords


def test_the_table_holds_the_moments_of_the_draws():
    generator = np.random.default_rng(0)
    draws = generator.normal(2.0, 3.0, size=(4, 500))
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), draws)})})
    row = chain_table(tree)["x"]
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["mcse_mean"] == pytest.approx(
        3 / 2000**0.5, rel=0.2
    )  # independent draws: spread over root of their number
    assert 1000 < row["ess_bulk"] < 3000
    assert row["r_hat"] < 1.02
