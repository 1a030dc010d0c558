"""Statistics and tests of Markov chains, and the edge to ArviZ."""

from drl_density.diagnostics.arviz_trees import ChainFigures, as_arviz, chain_table, chains_to_groups, from_pyro_mcmc
from drl_density.diagnostics.chain_statistics import bulk_ess, nested_r_hat, split_r_hat
from drl_density.diagnostics.hypothesis_tests import (
    DistanceTest,
    DriftTest,
    drift_test,
    energy_distance_test,
    rank_drift_test,
)

__all__ = [
    "ChainFigures",
    "DistanceTest",
    "DriftTest",
    "as_arviz",
    "bulk_ess",
    "chain_table",
    "chains_to_groups",
    "drift_test",
    "energy_distance_test",
    "from_pyro_mcmc",
    "nested_r_hat",
    "rank_drift_test",
    "split_r_hat",
]
