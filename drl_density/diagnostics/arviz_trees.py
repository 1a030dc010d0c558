"""Trees of draws in the form that ArviZ reads, and the table of its statistics.

One code base serves ArviZ 0.23, 1.x and the parts of 1.x. ArviZ and xarray are imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch

from drl_density.diagnostics.arviz_versions import installed_arviz

if TYPE_CHECKING:
    import xarray as xr


class ChainFigures(TypedDict):
    """Statistics of one variable over all chains.

    Attributes:
        mean: mean over chains and draws.
        r_hat: rank-normalised split R-hat of the chains.
        ess_bulk: effective sample size in the bulk.
        ess_tail: effective sample size in the tails.
        mcse_mean: Monte Carlo standard error of the mean.

    >>> ChainFigures(mean=0.0, r_hat=1.0, ess_bulk=400.0, ess_tail=300.0, mcse_mean=0.05)["r_hat"]
    1.0
    """

    mean: float
    r_hat: float
    ess_bulk: float
    ess_tail: float
    mcse_mean: float


def as_arviz(tree: xr.DataTree) -> Any:
    """Convert a tree for the installed ArviZ: to an ``InferenceData`` before 1.0; from 1.0 on the tree is returned as it is.

    Args:
        tree: groups such as ``posterior`` and ``sample_stats``, as reports and diagnoses hold them.

    >>> import xarray as xr
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), np.zeros((2, 5)))})})
    >>> as_arviz(tree)["posterior"]["x"].shape
    (2, 5)
    """
    arviz, is_before_one = installed_arviz()
    return arviz.InferenceData.from_datatree(tree) if is_before_one else tree


def chain_table(tree: xr.DataTree) -> dict[str, ChainFigures]:
    """Split R-hat, effective sample sizes and Monte Carlo error of every variable of a tree's group ``posterior``.

    Args:
        tree: groups of a report, a diagnosis or a Pyro run.

    Returns:
        Figures by variable, with the event's index in its name where it has one.

    >>> import xarray as xr
    >>> draws = np.random.default_rng(0).normal(size=(4, 100))
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), draws)})})
    >>> chain_table(tree)["x"]["r_hat"] < 1.1
    True
    """
    arviz = installed_arviz().statistics
    posterior = tree["posterior"].to_dataset()
    figures = {
        "mean": posterior.mean(("chain", "draw")),
        "r_hat": arviz.rhat(posterior),
        "ess_bulk": arviz.ess(posterior, method="bulk"),
        "ess_tail": arviz.ess(posterior, method="tail"),
        "mcse_mean": arviz.mcse(posterior, method="mean"),
    }
    table: dict[str, ChainFigures] = {}
    for name in posterior.data_vars:
        arrays = {key: np.atleast_1d(np.asarray(values[name])) for key, values in figures.items()}
        for index in np.ndindex(arrays["mean"].shape):
            label = str(name) if len(posterior[name].dims) == 2 else f"{name}[{', '.join(map(str, index))}]"
            at = {key: float(values[index]) for key, values in arrays.items()}
            table[label] = ChainFigures(**at)
    return table


def from_pyro_mcmc(mcmc: Any) -> xr.DataTree:
    """Draws and divergences of a finished Pyro MCMC run, as a tree for :func:`as_arviz`.

    Args:
        mcmc: a ``pyro.infer.MCMC`` after ``run``.

    Raises:
        ValueError: a run that has not been made yet.

    >>> import pyro
    >>> from pyro.infer import MCMC, NUTS
    >>> kernel = NUTS(lambda: pyro.sample("x", pyro.distributions.Normal(0.0, 1.0)))
    >>> mcmc = MCMC(kernel, num_samples=6, warmup_steps=2, disable_progbar=True)
    >>> mcmc.run()
    >>> from_pyro_mcmc(mcmc)["posterior"]["x"].shape
    (1, 6)
    """
    import xarray as xr

    samples = mcmc.get_samples(group_by_chain=True)
    if not samples:
        raise ValueError("expected an MCMC object after run(), got one without samples")
    variables = {}
    for name, values in samples.items():
        array = values.detach().cpu().numpy()
        dims = ("chain", "draw", *(f"{name}_dim_{index}" for index in range(array.ndim - 2)))
        variables[name] = (dims, array)
    posterior = xr.Dataset(variables)
    posterior = posterior.assign_coords(chain=range(posterior.sizes["chain"]), draw=range(posterior.sizes["draw"]))
    groups = {"posterior": posterior}
    divergences = mcmc.diagnostics().get("divergences")
    if divergences is not None:
        diverging = np.zeros((posterior.sizes["chain"], posterior.sizes["draw"]), dtype=bool)
        for chain, steps in enumerate(divergences.values()):
            diverging[chain, [int(step) for step in steps]] = True
        groups["sample_stats"] = xr.Dataset({"diverging": (("chain", "draw"), diverging)}, coords=posterior.coords)
    return xr.DataTree.from_dict(groups)


def chains_to_groups(
    draws: torch.Tensor, statistics: dict[str, torch.Tensor], names: list[str], *, starts: list[str]
) -> dict[str, xr.Dataset]:
    """Groups ``posterior`` and ``sample_stats`` from a run of :func:`drl_density.run_chain`.

    Args:
        draws: draws of all chains, ``(draw, chain, feature)``.
        statistics: statistics by name, each ``(draw, chain)``.
        names: name of each feature.
        starts: label of the place where each chain began.

    >>> groups = chains_to_groups(torch.zeros(5, 2, 1), {"lp": torch.zeros(5, 2)}, ["x"], starts=["data", "noise"])
    >>> groups["posterior"]["x"].dims
    ('chain', 'draw', 'feature')
    """
    import xarray as xr

    coords = {
        "chain": np.arange(draws.shape[1]),
        "draw": np.arange(draws.shape[0]),
        "feature": names,
        "start": ("chain", starts),
    }
    x = draws.detach().cpu().double().permute(1, 0, 2).numpy()
    posterior = xr.Dataset({"x": (("chain", "draw", "feature"), x)}, coords=coords)
    variables = {name: (("chain", "draw"), values.cpu().T.numpy()) for name, values in statistics.items()}
    del coords["feature"]
    return {"posterior": posterior, "sample_stats": xr.Dataset(variables, coords=coords)}
