"""Effective draws per second on one target: our vectorised HMC, Pyro's NUTS, blackjax and NumPyro where they are installed.

    python tests/benchmarks/throughput.py

The target is a logistic regression with a normal prior; effective draws are the least bulk effective sample size over the
slopes; seconds are those of warm-up and sampling together, with JAX's compilation unless said. One thread for everybody; for
JAX set XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from pyro.infer import MCMC, NUTS

import drl_density as drl
from drl_density.diagnostics import chain_table
from drl_density.mcmc import DualAveraging


def problem(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated features and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    x = x + 0.7 * x.roll(1, 1)
    slopes = torch.randn(columns, generator=generator, dtype=torch.float64)
    y = (torch.rand(rows, generator=generator, dtype=torch.float64) < torch.sigmoid(x @ slopes)).double()
    return x, y


def regression(x: torch.Tensor, y: torch.Tensor) -> None:
    """The target as a Pyro model."""
    slopes = pyro.sample("slopes", dist.Normal(torch.zeros(x.shape[1], dtype=x.dtype), 1.0).to_event(1))
    pyro.sample("y", dist.Bernoulli(logits=x @ slopes).to_event(1), obs=y)


def least_ess(draws: np.ndarray) -> float:
    """Draws ``(chain, draw, column)``."""
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw", "column"), draws)})})
    return min(row["ess_bulk"] for row in chain_table(tree).values())


def ours(x: torch.Tensor, y: torch.Tensor, num_chains: int, density: str) -> tuple[float, float, np.ndarray]:
    """(effective draws, seconds, draws) of many HMC chains side by side."""
    if density == "joint_density of the Pyro model":
        log_density = drl.joint_density(regression, x, y).log_density
    else:

        def log_density(slopes: torch.Tensor) -> torch.Tensor:
            logits = slopes @ x.T
            fit = (logits * y - torch.nn.functional.softplus(logits)).sum(-1)
            return fit - 0.5 * slopes.square().sum(-1)

    generator = torch.Generator().manual_seed(1)
    started = time.perf_counter()
    result = drl.run_chain(
        drl.HMC(num_leapfrog=6),
        log_density,
        0.3 * torch.randn(num_chains, x.shape[1], generator=generator, dtype=torch.float64),
        num_steps=150,
        step_size=0.1,
        num_warmup=100,
        adaptation=DualAveraging(0.8),
        generator=generator,
    )
    seconds = time.perf_counter() - started
    draws = result.draws.permute(1, 0, 2).numpy()
    return least_ess(draws), seconds, draws


def by_pyro(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float, np.ndarray]:
    """One NUTS chain of Pyro."""
    pyro.set_rng_seed(0)
    started = time.perf_counter()
    mcmc = MCMC(NUTS(regression), num_samples=200, warmup_steps=150, disable_progbar=True)
    mcmc.run(x, y)
    seconds = time.perf_counter() - started
    draws = mcmc.get_samples(group_by_chain=True)["slopes"].numpy()
    return least_ess(draws), seconds, draws


def by_numpyro(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float, np.ndarray]:
    """One NUTS chain of NumPyro, compilation included; enough draws that it weighs little."""
    import jax
    import numpyro
    import numpyro.distributions as ndist
    from numpyro.infer import MCMC as NMCMC, NUTS as NNUTS

    jax.config.update("jax_enable_x64", True)

    def model(features: np.ndarray, labels: np.ndarray) -> None:
        slopes = numpyro.sample("slopes", ndist.Normal(0.0, 1.0).expand([features.shape[1]]).to_event(1))
        numpyro.sample("y", ndist.Bernoulli(logits=features @ slopes).to_event(1), obs=labels)

    mcmc = NMCMC(NNUTS(model), num_warmup=200, num_samples=1000, progress_bar=False)
    started = time.perf_counter()
    mcmc.run(jax.random.PRNGKey(1), x.numpy(), y.numpy())
    draws = np.asarray(mcmc.get_samples(group_by_chain=True)["slopes"])
    seconds = time.perf_counter() - started
    return least_ess(draws), seconds, draws


def by_blackjax(x: torch.Tensor, y: torch.Tensor, num_chains: int) -> dict[str, tuple[float, float, np.ndarray]]:
    """HMC chains side by side with the same leapfrog steps as ours, adapted on one chain; with and without compilation."""
    import blackjax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    features, labels = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())

    def log_density(slopes: jax.Array) -> jax.Array:
        logits = features @ slopes
        return (logits * labels - jax.nn.softplus(logits)).sum() - 0.5 * jnp.square(slopes).sum()

    warmup = blackjax.window_adaptation(blackjax.hmc, log_density, num_integration_steps=6)

    @jax.jit
    def run(key: jax.Array, starts: jax.Array) -> jax.Array:
        (_, parameters), _ = warmup.run(key, starts[0], num_steps=200)
        kernel = blackjax.hmc(log_density, **parameters)

        def chain(key: jax.Array, start: jax.Array) -> jax.Array:
            def step(state, key):
                state, _ = kernel.step(key, state)
                return state, state.position

            return jax.lax.scan(step, kernel.init(start), jax.random.split(key, 250))[1][100:]

        return jax.vmap(chain)(jax.random.split(key, num_chains), starts)

    starts = 0.3 * jax.random.normal(jax.random.PRNGKey(0), (num_chains, x.shape[1]))
    found = {}
    for name in ("compilation included", "compiled before"):
        started = time.perf_counter()
        draws = np.asarray(run(jax.random.PRNGKey(len(found)), starts))
        found[name] = (least_ess(draws), time.perf_counter() - started, draws)
    return found


def main() -> None:
    """Time everybody in one run and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--chains", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = problem(args.rows, args.columns)
    runs: dict[str, Callable[[], tuple[float, float, np.ndarray]]] = {
        f"drl_density HMC, {args.chains} chains": lambda: ours(x, y, args.chains, "by hand"),
        f"drl_density HMC, {args.chains} chains, joint_density": lambda: ours(
            x, y, args.chains, "joint_density of the Pyro model"
        ),
        "Pyro NUTS, 1 chain": lambda: by_pyro(x, y),
    }
    if importlib.util.find_spec("blackjax"):
        found: dict[str, tuple[float, float, np.ndarray]] = {}

        def blackjax_run(name: str) -> tuple[float, float, np.ndarray]:
            if not found:
                found.update(by_blackjax(x, y, args.chains))
            return found[name]

        for name in ("compilation included", "compiled before"):
            runs[f"blackjax HMC, {args.chains} chains, {name}"] = lambda name=name: blackjax_run(name)
    else:
        print("blackjax is not installed here: left out")
    if importlib.util.find_spec("numpyro"):
        runs["NumPyro NUTS, 1 chain"] = lambda: by_numpyro(x, y)
    else:
        print("NumPyro is not installed here: left out")
    print(
        f"logistic regression, {args.rows} rows, {args.columns} columns; ratio: effective draws a second of the first to it"
    )
    first: tuple[float, np.ndarray, np.ndarray] | None = None
    for name, run in runs.items():
        ess, seconds, draws = run()
        first = first or (ess / seconds, draws.mean((0, 1)), draws.std((0, 1)))
        off = np.abs((draws.mean((0, 1)) - first[1]) / first[2]).max()
        print(
            f"| {name} | effective draws {ess:.0f} | {seconds:.1f} s | {ess / seconds:.1f} a second | "
            f"ratio {first[0] / (ess / seconds):.2f} | means differ by at most {off:.3f} spreads |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
