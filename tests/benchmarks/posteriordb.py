"""Our HMC on posteriors of posteriordb written as Pyro models: means and standard deviations beside the reference draws.

    python tests/benchmarks/posteriordb.py --data posteriordb --out posteriordb.jsonl

Chains run side by side on the unconstrained vector, whitened by the curvature at the mode. z-scores are differences over the
Monte Carlo errors of both sides: ours from the chains' effective sample size, theirs from 10,000 nearly independent draws.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from pyro.distributions import constraints

import drl_density as drl
from drl_density.diagnostics import chain_table
from drl_density.mcmc import DualAveraging

REFERENCE_DRAWS = 10_000


def flat(name: str, support: Any = constraints.real, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """A latent site with an improper uniform prior."""
    return pyro.sample(name, dist.ImproperUniform(support, (), shape))


def linear(columns: torch.Tensor, y: torch.Tensor, *, cauchy: float | None = None) -> None:
    """y ~ N(columns beta, sigma^2) with a flat prior on beta and a flat or half-Cauchy one on sigma."""
    beta = flat("beta", constraints.independent(constraints.real, 1), (columns.shape[1],))
    prior = (
        flat("sigma", constraints.positive) if cauchy is None else pyro.sample("sigma", dist.HalfCauchy(one(cauchy)))
    )
    pyro.sample("y", dist.Normal(columns @ beta, prior).to_event(1), obs=y)


def one(value: float) -> torch.Tensor:
    """A number in float64."""
    return torch.tensor(float(value), dtype=torch.float64)


def zeros(size: int) -> torch.Tensor:
    """Zeros in float64."""
    return torch.zeros(size, dtype=torch.float64)


def bayesian_regression(x: torch.Tensor, y: torch.Tensor) -> None:
    """Normal priors of scale 10 on the slopes and, halved, on sigma."""
    beta = pyro.sample("beta", dist.Normal(zeros(x.shape[1]), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(one(10.0)))
    pyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)


def autoregression(y: torch.Tensor, order: int) -> None:
    """y_t on its last ``order`` values."""
    alpha = pyro.sample("alpha", dist.Normal(one(0), 10.0))
    beta = pyro.sample("beta", dist.Normal(zeros(order), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(one(2.5)))
    past = torch.stack([y[order - lag - 1 : len(y) - lag - 1] for lag in range(order)], 1)
    pyro.sample("y", dist.Normal(alpha + past @ beta, sigma).to_event(1), obs=y[order:])


def trend(d: dict[str, Any], x: torch.Tensor, y: torch.Tensor) -> None:
    """A line with stated normal priors."""
    alpha = pyro.sample("alpha", dist.Normal(one(d["pmualpha"]), d["psalpha"]))
    beta = pyro.sample("beta", dist.Normal(one(d["pmubeta"]), d["psbeta"]))
    pyro.sample("y", dist.Normal(alpha + beta * x, flat("sigma", constraints.positive)).to_event(1), obs=y)


def two_normals(y: torch.Tensor) -> None:
    """A mixture of two ordered normals."""
    mu = flat("mu", constraints.ordered_vector, (2,))
    pyro.factor("mu prior", dist.Normal(zeros(2), 2.0).log_prob(mu).sum())
    sigma = pyro.sample("sigma", dist.HalfNormal(2.0 * torch.ones(2, dtype=torch.float64)).to_event(1))
    theta = pyro.sample("theta", dist.Beta(one(5), one(5)))
    parts = dist.Normal(mu, sigma).log_prob(y[:, None]) + torch.stack([theta.log(), (1 - theta).log()])
    pyro.factor("y", parts.logsumexp(-1).sum())


def models(data: dict[str, dict[str, Any]]) -> dict[str, Callable[[], None]]:
    """The posteriors that are written out, as Pyro models without arguments."""

    def columns(key: str, *names: str) -> tuple[torch.Tensor, ...]:
        return tuple(torch.tensor(data[key][name], dtype=torch.float64) for name in names)

    def design(*values: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.ones_like(values[0]), *values], 1)

    out: dict[str, Callable[[], None]] = {}
    score, iq, school = columns("kidiq-kidscore_interaction", "kid_score", "mom_iq", "mom_hs")
    out["kidiq-kidscore_interaction"] = lambda: linear(design(school, iq, school * iq), score, cauchy=2.5)
    worked, work = columns("kidiq_with_mom_work-kidscore_mom_work", "kid_score", "mom_work")
    jobs = design(*[(work == k).double() for k in (2, 3, 4)])
    out["kidiq_with_mom_work-kidscore_mom_work"] = lambda: linear(jobs, worked)
    earn, height = columns("earnings-earn_height", "earn", "height")
    out["earnings-earn_height"] = lambda: linear(design(height), earn)
    pay, tall, male = columns("earnings-logearn_interaction", "earn", "height", "male")
    out["earnings-logearn_interaction"] = lambda: linear(design(tall, male, tall * male), pay.log())
    for year in (1972, 1984, 2000):
        key = f"nes{year}-nes"
        party, ideology, race, school_years, gender, income, age = columns(
            key, "partyid7", "real_ideo", "race_adj", "educ1", "gender", "income", "age_discrete"
        )
        ages = [(age == k).double() for k in (2, 3, 4)]
        x = design(ideology, race, *ages, school_years, gender, income)
        out[key] = lambda x=x, y=party: linear(x, y)
    key = "mesquite-logmesquite"
    logs = [v.log() for v in columns(key, "diam1", "diam2", "canopy_height", "total_height", "density", "weight")]
    shrubs = design(*logs[:5], *columns(key, "group"))
    out[key] = lambda: linear(shrubs, logs[5])
    for key in ("sblri-blr", "sblrc-blr"):
        x, y = columns(key, "X", "y")
        out[key] = lambda x=x, y=y: bayesian_regression(x, y)
    (series,) = columns("arK-arK", "y")
    out["arK-arK"] = lambda: autoregression(series, 5)
    key = "kilpisjarvi_mod-kilpisjarvi"
    priors, (when, warmth) = data[key], columns(key, "x", "y")
    out[key] = lambda: trend(priors, when, warmth)
    (values,) = columns("low_dim_gauss_mix-low_dim_gauss_mix", "y")
    out["low_dim_gauss_mix-low_dim_gauss_mix"] = lambda: two_normals(values)
    return out


def whitened(target: drl.EnergyDistribution) -> tuple[Callable[[torch.Tensor], torch.Tensor], Callable]:
    """(log density of z, map from z to u) with u = mode + L z, L L^T the inverse curvature at the mode."""

    def loss(u: torch.Tensor) -> torch.Tensor:
        return -target.log_density(u[None])[0]

    u = torch.zeros(target.event_shape, dtype=torch.float64)
    for _ in range(200):  # Newton's steps on absolute curvatures, halved until they go down
        value, slope = loss(u), torch.autograd.functional.jacobian(loss, u)
        values, axes = torch.linalg.eigh(torch.autograd.functional.hessian(loss, u))
        step = -(axes @ ((axes.T @ slope) / values.abs()))
        if float(-(slope @ step)) < 1e-9:
            break
        while not float(loss(u + step)) < float(value) and float(step.abs().max()) > 1e-12:
            step = step / 2
        u = u + step
    if not bool((values > 0).all()):
        raise ValueError(f"no mode was found: curvatures {values.tolist()}")
    spread = axes * values.rsqrt()
    return lambda z: target.log_density(u + z @ spread.T), lambda z: u + z @ spread.T


def run_posterior(name: str, model: Callable[[], None], moments: dict[str, Any], args: argparse.Namespace) -> dict:
    """Chains, moments with errors, z-scores."""
    started = time.monotonic()
    target = drl.joint_density(model)
    log_density, to_u = whitened(target)
    generator = torch.Generator().manual_seed(args.seed)
    kernel = drl.HMC(num_leapfrog=args.leapfrog)
    start = torch.randn(args.chains, *target.event_shape, generator=generator, dtype=torch.float64)
    result = drl.run_chain(
        kernel,
        log_density,
        start,
        num_steps=args.steps,
        step_size=0.3,
        num_warmup=150,
        adaptation=DualAveraging(0.8),
        generator=generator,
    )
    sites = target.log_density.constrain(to_u(result.draws))
    flat_draws = torch.cat([value.reshape(args.steps, args.chains, -1) for value in sites.values()], -1)
    x = flat_draws.permute(1, 0, 2).numpy()
    mean, sd, kurtosis = x.mean((0, 1)), x.std((0, 1)), 0.0
    squares = (x - mean) ** 2
    kurtosis = (squares**2).mean((0, 1)) / sd**4
    tables = [chain_table(_tree(values)) for values in (x, squares)]
    error, square_error = (np.array([row["mcse_mean"] for row in table.values()]) for table in tables)
    labels = [f"{site}[{i + 1}]" if value.ndim > 2 else site for site, value in sites.items()
              for i in range(value[0, 0].numel())]  # fmt: skip
    place = [moments["params"].index(label) for label in labels]
    known_mean, known_sd = (np.array(moments[key])[place] for key in ("mean", "std"))
    z_mean = (mean - known_mean) / np.hypot(error, known_sd / math.sqrt(REFERENCE_DRAWS))
    known_error = known_sd * np.sqrt((kurtosis - 1) / REFERENCE_DRAWS) / 2
    z_sd = (sd - known_sd) / np.hypot(square_error / (2 * sd), known_error)
    return {
        "posterior": name,
        "parameters": labels,
        "z_mean": z_mean.tolist(),
        "z_sd": z_sd.tolist(),
        "max_r_hat": max(row["r_hat"] for row in tables[0].values()),
        "min_ess": min(row["ess_bulk"] for row in tables[0].values()),
        "acceptance_rate": float(result.stats["acceptance_rate"].mean()),
        "seconds": time.monotonic() - started,
    }


def _tree(x: np.ndarray) -> xr.DataTree:
    return xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw", "cell"), x)})})


def main() -> None:
    """Run what is not in the file yet, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--leapfrog", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = json.loads((args.data / "data_small.json").read_text())
    moments = json.loads((args.data / "moments.json").read_text())
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {result["posterior"]: result for result in map(json.loads, lines)}
    for name, model in models(data).items():
        if name in done or (args.only and name not in args.only):
            continue
        done[name] = run_posterior(name, model, moments[name], args)
        with args.out.open("a") as stream:
            stream.write(json.dumps(done[name]) + "\n")
        print(name, f"{done[name]['seconds']:.0f} s", flush=True)
    print("| posterior | parameters | largest abs z of means | of sds | largest R-hat | least ESS |")
    scores = []
    for name, r in done.items():
        z_mean, z_sd = np.abs(r["z_mean"]), np.abs(r["z_sd"])
        scores += [*r["z_mean"], *r["z_sd"]]
        print(f"| {name} | {len(r['parameters'])} | {z_mean.max():.2f} | {z_sd.max():.2f} | {r['max_r_hat']:.3f} "
              f"| {r['min_ess']:.0f} |")  # fmt: skip
    beyond = int((np.abs(scores) > 1.96).sum())
    print(f"{len(scores)} z-scores, {beyond} beyond 1.96, root mean square {np.sqrt(np.mean(np.square(scores))):.2f}")


if __name__ == "__main__":
    sys.exit(main())
