"""The edge to ArviZ: one code base for ArviZ 0.23, 1.x and 1.x's parts (arviz-base, arviz-stats), imported only when
called. Trees are xarray's own.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import xarray as xr


def as_arviz(tree: xr.DataTree) -> Any:
    """The tree as the installed ArviZ takes it: an ``InferenceData`` before 1.0, the tree itself from 1.0 on.

    Args:
        tree: groups such as ``posterior`` and ``sample_stats``, as reports and diagnoses hold them.

    >>> import xarray as xr
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), np.zeros((2, 5)))})})
    >>> as_arviz(tree)["posterior"]["x"].shape
    (2, 5)
    """
    arviz, is_old = _arviz()
    return arviz.InferenceData.from_datatree(tree) if is_old else tree


def chain_table(tree: xr.DataTree) -> dict[str, dict[str, float]]:
    """Split R-hat, bulk and tail ESS and Monte Carlo error of the mean of every variable of ``posterior``.

    Returns:
        variable (with the event index where there is one) -> {"mean", "r_hat", "ess_bulk", "ess_tail", "mcse_mean"}.
    """
    arviz, _ = _arviz()
    posterior = tree["posterior"].to_dataset()
    figures = {
        "mean": posterior.mean(("chain", "draw")),
        "r_hat": arviz.rhat(posterior),
        "ess_bulk": arviz.ess(posterior, method="bulk"),
        "ess_tail": arviz.ess(posterior, method="tail"),
        "mcse_mean": arviz.mcse(posterior, method="mean"),
    }
    table: dict[str, dict[str, float]] = {}
    for name in posterior.data_vars:
        arrays = {key: np.atleast_1d(np.asarray(values[name])) for key, values in figures.items()}
        for index in np.ndindex(arrays["mean"].shape):
            label = str(name) if len(posterior[name].dims) == 2 else f"{name}[{', '.join(map(str, index))}]"
            table[label] = {key: float(values[index]) for key, values in arrays.items()}
    return table


def split_r_hat(draws: torch.Tensor) -> torch.Tensor:
    """Rank-normalised split R-hat of every cell of ``draws`` ``(chain, draw, cell)``: ``(cell,)``, float64."""
    return torch.as_tensor(np.asarray(_arviz()[0].rhat(_cells(draws))["x"]))


def bulk_ess(draws: torch.Tensor) -> torch.Tensor:
    """Rank-normalised bulk effective sample size of every cell of ``draws`` ``(chain, draw, cell)``: ``(cell,)``."""
    return torch.as_tensor(np.asarray(_arviz()[0].ess(_cells(draws), method="bulk")["x"]))


def _cells(draws: torch.Tensor) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset({"x": (("chain", "draw", "cell"), draws.detach().cpu().double().numpy())})


def nested_r_hat(draws: torch.Tensor, superchains: list[Any]) -> torch.Tensor:
    r"""Nested R-hat :math:`\sqrt{1 + B / W}` of every cell: do groups of chains agree?

    B is the variance over superchains of their means; W the mean over superchains of the variance between their chains'
    means plus the mean variance within chains. With many short chains it judges what split R-hat cannot.

    Args:
        draws: ``(draw, chain, cell)``.
        superchains: label of each chain's superchain; all of one size, at least two.

    Returns:
        ``(cell,)``, float64.

    Raises:
        ValueError: fewer than two superchains, unequal sizes, or fewer than two draws.

    Source: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman 2024.

    >>> x = torch.randn(50, 8, 1, generator=torch.Generator().manual_seed(0))
    >>> bool(nested_r_hat(x, [0, 0, 0, 0, 1, 1, 1, 1]) < 1.1)
    True
    """
    names = list(dict.fromkeys(superchains))
    places = [[index for index, label in enumerate(superchains) if label == name] for name in names]
    if len(names) < 2 or len({len(place) for place in places}) > 1 or len(draws) < 2:
        raise ValueError(
            f"expected at least two superchains of equal size and two draws, got sizes {[len(p) for p in places]} and "
            f"{len(draws)} draws"
        )
    x = draws.detach().cpu().double()
    means = torch.stack([x.mean(0)[place] for place in places])
    within = torch.stack([x.var(0)[place] for place in places]).mean(1)
    if means.shape[1] > 1:
        within = within + means.var(1)
    return (1 + means.mean(1).var(0) / within.mean(0)).sqrt()


def drift_test(draws: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Do means or spreads move along the chains? First against last half of every chain, by t-tests over chains.

    Args:
        draws: ``(draw, chain, cell)``; chains are independent.

    Returns:
        shift of the mean (in spreads) and of the second moment (in variances) of every cell, ``(2, cell)``, and the smallest
        p-value times the number of tests.
    """
    from scipy import stats

    x = draws.detach().cpu().double()
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    moments = torch.stack([x, x.square()])
    middle = len(x) // 2
    by_chain = moments[:, middle:].mean(1) - moments[:, :middle].mean(1)
    shift, error = by_chain.mean(1), by_chain.std(1) / by_chain.shape[1] ** 0.5
    z = torch.where(shift == 0, 0.0, shift / error)
    p_values = 2 * stats.t.sf(z.abs().numpy(), by_chain.shape[1] - 1)
    return shift, float(min(1.0, p_values.min() * p_values.size))


def energy_distance_test(
    x: torch.Tensor, y: torch.Tensor, *, num_permutations: int = 999, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """Energy distance of two samples ``(n, d)`` and ``(m, d)``, and its permutation p-value (independent rows).

    Source: Szekely and Rizzo 2013. At most 1,000 rows of each are used.
    """
    x, y = x.flatten(1).double()[:1000], y.flatten(1).double()
    y = y[torch.randperm(len(y), generator=generator)[:1000]]
    both, first = torch.cat([x, y]), len(x)
    distances = torch.cdist(both, both)

    def statistic(order: torch.Tensor) -> float:
        own = torch.zeros(len(both), dtype=torch.float64)
        own[order[:first]] = 1 / first
        own[order[first:]] = -1 / len(y)
        return -float(own @ distances @ own)

    observed = statistic(torch.arange(len(both)))
    permuted = [statistic(torch.randperm(len(both), generator=generator)) for _ in range(num_permutations)]
    exceeding = sum(value >= observed for value in permuted)
    return observed, (1 + exceeding) / (1 + num_permutations)


def from_pyro_mcmc(mcmc: Any) -> xr.DataTree:
    """Draws and divergences of a finished Pyro MCMC run as a tree for :func:`as_arviz`.

    Args:
        mcmc: ``pyro.infer.MCMC`` after ``run``.

    Raises:
        ValueError: if it has not been run.

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
        draws: ``(draw, chain, feature)``.
        statistics: ``(draw, chain)`` each.
        names: of the features.
        starts: where each chain began, by chain.
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


def _arviz() -> tuple[Any, bool]:
    """(the module with ``rhat``, ``ess`` and ``mcse``, whether it is of the generation before 1.0)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        if importlib.util.find_spec("arviz") is None:
            import arviz_stats

            return arviz_stats, False
        import arviz

        return arviz, int(arviz.__version__.split(".")[0]) < 1
