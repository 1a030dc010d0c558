"""NUTS on a Pyro model whose only site is a fitted density, so that the truth is the density itself.

    python -m tests.benchmarks.density_in_pyro --tables wine digits log-normal bounds --minutes 0.5

Prints for every table: divergences, acceptance, draws and errors outside the support, effective draws per second, and
z-scores of the means and mean squares of every column in model space against draws of the density's own sampler.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyro
import torch
from pyro.infer import MCMC, NUTS
from sklearn import datasets

import drl_density as drl
from drl_density.diagnostics import bulk_ess


def wine() -> pd.DataFrame:
    """The 13 measurements of the 178 wines, as scikit-learn has them."""
    return datasets.load_wine(as_frame=True).data


def digits() -> pd.DataFrame:
    """The first 8 principal components of the 1,797 digits."""
    pixels = datasets.load_digits().data
    centered = pixels - pixels.mean(0)
    axes = np.linalg.svd(centered, full_matrices=False)[2][:8]
    return pd.DataFrame(centered @ axes.T, columns=[f"component_{index}" for index in range(8)])


def log_normal() -> pd.DataFrame:
    """Four correlated log-normal columns of log-scale 2, over eight decades."""
    noise = np.random.default_rng(0).normal(size=(600, 4))
    noise[:, 1] += noise[:, 0]
    return pd.DataFrame(np.exp(2 * noise), columns=["a", "b", "c", "d"])


def bounds() -> pd.DataFrame:
    """Shares that crowd at both ends of [0, 1], a positive length, a count and a label."""
    generator = np.random.default_rng(1)
    level = generator.normal(size=800)
    share = generator.beta(0.3, 0.4, size=800)
    other = 1 / (1 + np.exp(-2 * level - generator.normal(size=800)))
    length = np.exp(0.5 * level + 0.5 * generator.normal(size=800))
    count = generator.poisson(np.exp(1 + 0.3 * level))
    label = np.where(level + generator.normal(size=800) > 0, "late", "early")
    return pd.DataFrame({"share": share, "other": other, "length": length, "count": count, "label": label})


UNIT = {"lower": 0.0, "upper": 1.0}
TABLES: dict[str, tuple[Callable[[], pd.DataFrame], dict[str, dict[str, float]]]] = {
    "wine": (wine, {}),
    "digits": (digits, {}),
    "log-normal": (log_normal, {}),
    "bounds": (bounds, {"share": UNIT, "other": UNIT, "length": {"lower": 0.0}}),
}


def z_scores(density: drl.Density, chain: torch.Tensor, independent: torch.Tensor) -> torch.Tensor:
    """z of the mean and of the mean square of every model-space column, ``(2, d)``, in the errors of both sides.

    Args:
        density: the fit.
        chain: draws of one chain ``(n, d)`` in data units.
        independent: independent draws ``(m, d)`` in data units.
    """
    u, v = density.transform(chain), density.transform(independent)
    found = []
    for power in (1, 2):
        one, other = u**power, v**power
        error = (one.var(0) / bulk_ess(one[None]) + other.var(0) / len(other)).sqrt()
        found.append((one.mean(0) - other.mean(0)) / error)
    return torch.stack(found)


def run(name: str, *, minutes: float, num_samples: int, num_warmup: int, seed: int) -> None:
    """Fit one table, run NUTS, and print its line."""
    make, ends = TABLES[name]
    data = drl.load_dataset(make(), columns=ends, seed=seed)
    density = drl.fit(data, seed=seed, max_minutes=minutes, progress=False)
    prior = density.distribution()
    pyro.set_rng_seed(seed)
    kernel = NUTS(lambda: pyro.sample("x", prior))
    mcmc = MCMC(kernel, num_samples=num_samples, warmup_steps=num_warmup, disable_progbar=True)
    began = time.perf_counter()
    try:
        mcmc.run()
    except ValueError as error:
        print(f"{name}: SUPPORT ERROR after {time.perf_counter() - began:.0f} s: {str(error)[:200]}", flush=True)
        return
    seconds = time.perf_counter() - began
    draws, figures = mcmc.get_samples()["x"], mcmc.diagnostics()
    u = density.transform(draws)
    least = float(bulk_ess(u[None]).min())
    z = z_scores(density, draws, prior.sample((8 * num_samples,)))
    largest, rms = z.abs().amax(1).tolist(), z.square().mean(1).sqrt().tolist()
    outside = int((~prior.support.check(draws)).sum())
    print(
        f"{name}: {draws.shape[1]} columns, {len(figures['divergences']['chain 0'])} divergences, acceptance "
        f"{figures['acceptance rate']['chain 0']:.2f}, {outside} draws outside, no support error, {seconds:.0f} s, "
        f"least ESS {least:.0f} ({least / seconds:.1f} a second), largest |u| {float(u.abs().max()):.1f}, "
        f"abs z of means: largest {largest[0]:.2f}, rms {rms[0]:.2f}, of mean squares: largest {largest[1]:.2f}, "
        f"rms {rms[1]:.2f}",
        flush=True,
    )


def main() -> None:
    """Run the chosen tables in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--minutes", type=float, default=0.5, help="time of every fit")
    parser.add_argument("--num-samples", type=int, default=500)
    parser.add_argument("--num-warmup", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.tables:
        sizes = {"num_samples": options.num_samples, "num_warmup": options.num_warmup, "seed": options.seed}
        run(name, minutes=options.minutes, **sizes)


if __name__ == "__main__":
    main()
