"""Denoising diffusion samplers beside resampled annealing with as many evaluations: ELBO, EUBO and log Z.

    python tests/benchmarks/diffusion_samplers.py --data DATA --targets funnel --seeds 0 1 2 --total --out FILE
    python tests/benchmarks/diffusion_samplers.py --data DATA --targets ionosphere spam --out FILE

DATA holds ``logreg_ionosphere/ionosphere.npz``, ``lgcp_pines/fpines.npz`` and ``adbench/35_SpamBase.npz``. One line of JSON
per target and seed is appended to FILE, those already there are left out; ``--table`` prints what FILE holds. The upper
bound (EUBO) needs draws of the target: exact ones for the funnel and the wells, HMC chains (conditional on them)
for the others. The Cox process is walked in the coordinates of its prior, x = mean + L z, which leaves log Z as it is.

Evaluations are rows that the target's log density is computed for, with or without a gradient, pilots and warm-ups
included; those of the check from the other side are counted apart. Annealing has 8 replicates of 500 particles (pines:
64), one MALA step on each bridge, and as many bridges as the evaluations allow: those of the estimate alone, and with
``--total`` those of its training too.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

import drl_density as drl
from drl_density.diffusion_sampler import DiffusionSamplerSettings, train_diffusion_sampler
from drl_density.mcmc import HMC, DualAveraging, Recording, run_chain
from drl_density.partition_function import OtherSideSettings
from drl_density.weights import LogPartitionEstimate

PUBLISHED = {  # mean log Z over 30 seeds: DDS and SMC with as many steps (Vargas et al. 2023 and its released results)
    "funnel": ("-0.176 +- 0.068", "-0.050 +- 0.44"),
    "funnel_64": ("-0.176 +- 0.099", "-0.198"),
    "many_well": ("off by 7.36 (a later list)", "-"),
    "ionosphere": ("-111.59 +- 0.14", "-111.81"),
    "spam": ("-", "-"),
    "pines": ("497.9 +- 1.0", "444.1"),
}
TRUTH = {"funnel": "0", "funnel_64": "0", "many_well": "164.696", "ionosphere": "-111.609 +- 0.002"}


class Counted:
    """A log density that counts the rows it is computed for."""

    def __init__(self, log_density: Callable[[Tensor], Tensor]) -> None:
        self.log_density, self.rows = log_density, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.log_density(x)


@dataclass(frozen=True)
class Target:
    """An unnormalised target.

    Attributes:
        log_density: over rows ``(n, d)``, float64.
        dim: d.
        draw: draws for the upper bound.
        draws_are: what these are.
        walk: sizes of the walk and its training.
        base_scale: standard deviation of the Gaussian that annealing begins at.
    """

    log_density: Callable[[Tensor], Tensor]
    dim: int
    draw: Callable[[int, torch.Generator], Tensor]
    draws_are: str
    walk: DiffusionSamplerSettings
    base_scale: float


def funnel(_: Path, num_steps: int = 256) -> Target:
    """Neal's funnel, first coordinate N(0, 3^2)."""

    def log_density(x: Tensor) -> Tensor:
        first, rest = x[..., 0], x[..., 1:]
        normal = -0.5 * (rest.square() * torch.exp(-first)[..., None]).sum(-1) - 0.5 * rest.shape[-1] * first
        return normal - first.square() / 18 - math.log(3) - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        first = 3 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
        rest = torch.randn(count, 9, generator=generator, dtype=torch.float64)
        return torch.cat([first, torch.exp(first / 2) * rest], 1)

    walk = DiffusionSamplerSettings(num_steps=num_steps, scale=3.0, num_chain_updates=1000)
    return Target(log_density, 10, draw, "exact", walk, 3.0)


def funnel_64(data: Path) -> Target:
    """The funnel in as many steps as the other targets."""
    return funnel(data, 64)


def many_well(_: Path) -> Target:
    """Sixteen double wells, 65,536 modes."""
    grid = torch.linspace(-3.5, 3.5, 20_001, dtype=torch.float64)
    mass = torch.exp(-(grid**4) + 6 * grid**2 + 0.5 * grid).cumsum(0)

    def log_density(x: Tensor) -> Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        return (-(first**4) + 6 * first**2 + 0.5 * first - 0.5 * second**2).sum(-1)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(count, 32, generator=generator, dtype=torch.float64)
        place = torch.rand(count, 16, generator=generator, dtype=torch.float64)
        x[:, 0::2] = grid[torch.searchsorted(mass / mass[-1], place)]
        return x

    walk = DiffusionSamplerSettings(
        num_steps=256,
        scale=1.5,
        num_column_features=24,
        num_chain_updates=800,
        num_restarts=2,
        gradient_scale=1000.0,
    )
    return Target(log_density, 32, draw, "exact (inverse of the tabulated distribution)", walk, 1.5)


def ionosphere(data: Path) -> Target:
    """Logistic regression with a N(0, I) prior, 34 columns and an intercept."""
    with np.load(data / "logreg_ionosphere" / "ionosphere.npz") as stored:
        x, y = (torch.as_tensor(stored[name], dtype=torch.float64) for name in ("x", "y"))
    return regression(x, y > 0)


def spam(data: Path) -> Target:
    """A regression of the size of sonar, which is not bundled: 208 random rows of SpamBase, 57 columns and an intercept."""
    with np.load(data / "adbench" / "35_SpamBase.npz") as stored:
        x, y = (torch.as_tensor(stored[name], dtype=torch.float64) for name in ("X", "y"))
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:208]
    return regression(x[rows], y[rows] > 0)


def regression(x: Tensor, is_positive: Tensor) -> Target:
    """Logistic regression on standardised columns with a N(0, I) prior."""
    spread, dim = x.std(0, correction=0), x.shape[1] + 1
    rows = torch.cat([torch.ones(len(x), 1).double(), (x - x.mean(0)) / torch.where(spread > 0, spread, 1.0)], 1)
    signed = rows * torch.where(is_positive, 1.0, -1.0)[:, None]

    def log_density(w: Tensor) -> Tensor:
        prior = -0.5 * w.square().sum(-1) - 0.5 * w.shape[-1] * math.log(2 * math.pi)
        return prior + torch.nn.functional.logsigmoid(w @ signed.T).sum(-1)

    walk = DiffusionSamplerSettings(whitening="full", num_chain_updates=400)
    return Target(log_density, dim, chains(log_density, dim), "HMC chains (conditional)", walk, 1.0)


def pines(data: Path) -> Target:
    """Log-Gaussian Cox process of 126 pines on 40 x 40 cells, whitened."""
    with np.load(data / "lgcp_pines" / "fpines.npz") as stored:
        points = torch.as_tensor(stored["xy"], dtype=torch.float64)
    cells = (points * 40).floor()
    counts = torch.zeros(1600, dtype=torch.float64)
    counts.index_add_(0, (cells[:, 0] * 40 + cells[:, 1]).long(), torch.ones(len(cells), dtype=torch.float64))
    places = torch.cartesian_prod(torch.arange(40.0), torch.arange(40.0)).double()
    factor = torch.linalg.cholesky(1.91 * torch.exp(-torch.cdist(places, places) * 33 / 40)).float()
    mean = math.log(126) - 1.91 / 2

    def log_density(z: Tensor) -> Tensor:
        x = mean + (z.float() @ factor.T).double()
        prior = -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return prior + (x * counts - torch.exp(x) / 1600).sum(-1)

    walk = DiffusionSamplerSettings(num_chain_updates=500, num_chains=64, num_states=256)
    return Target(log_density, 1600, chains(log_density, 1600, num_chains=48), "HMC chains (conditional)", walk, 1.0)


def chains(log_density: Callable[[Tensor], Tensor], dim: int, *, num_chains: int = 200) -> Callable:
    """Ends of adjusted chains begun at N(0, 0.1^2)."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        start = 0.1 * torch.randn(num_chains, dim, generator=generator, dtype=torch.float64)
        found = run_chain(
            HMC(num_leapfrog=5),
            log_density,
            start,
            num_steps=200,
            num_warmup=200,
            step_size=0.2,
            adaptation=DualAveraging(0.8),
            recording=Recording(thin=40),
            generator=generator,
        )
        return found.draws.reshape(-1, dim)[:count]

    return draw


TARGETS = {
    "funnel": funnel,
    "funnel_64": funnel_64,
    "many_well": many_well,
    "ionosphere": ionosphere,
    "spam": spam,
    "pines": pines,
}


def annealed(target: Target, log_density: Counted, evaluations: int, generator: torch.Generator) -> dict:
    """Resampled annealing with the most bridges that so many evaluations allow."""
    base = dist.Normal(torch.zeros(target.dim, dtype=torch.float64), target.base_scale).to_event(1)
    settings = drl.AISSettings(num_particles=64 if target.dim > 100 else 500, num_replicates=8, num_transitions=1)

    def run(num_bridges: int, other_side: OtherSideSettings | None) -> tuple[LogPartitionEstimate, int]:
        before = log_density.rows
        path = drl.geometric_path(base, log_density, num_bridges=num_bridges)
        found = drl.annealed_importance_sampling(path, settings=settings, other_side=other_side, generator=generator)
        return found, log_density.rows - before

    (_, two), (_, four) = run(2, None), run(4, None)
    each = (four - two) // 2
    num_bridges = 4 + (evaluations - four) // each
    found, rows = run(num_bridges, OtherSideSettings())
    return {
        "bridges": num_bridges,
        "log_z": found.log_z,
        "error": found.standard_error,
        "verdict": found.verdict,
        "evaluations": four + (num_bridges - 4) * each,
        "check_evaluations": rows - four - (num_bridges - 4) * each,
    }


def study(name: str, data: Path, seed: int, *, total: bool) -> dict:
    """Train, bound from both sides, and anneal with as many evaluations."""
    target = TARGETS[name](data)
    log_density = Counted(target.log_density)
    generator = torch.Generator().manual_seed(seed)
    started = time.process_time()
    sampler, _ = train_diffusion_sampler(
        log_density, (target.dim,), settings=target.walk, generator=torch.Generator().manual_seed(seed)
    )
    trained, in_training = time.process_time(), log_density.rows
    few = target.dim > 100
    num_walks = 60 if few else 2000
    estimate = sampler.log_partition(num_samples=num_walks, generator=generator)
    in_walks, walked = estimate.log_weights.numel() * (target.walk.num_steps + 1), time.process_time()
    in_check = log_density.rows - in_training - in_walks
    draws = target.draw(100 if few else 1000, generator)
    with torch.no_grad():
        upper = sampler.reverse(draws, generator=generator)
    found = {
        "target": name,
        "seed": seed,
        "steps": target.walk.num_steps,
        "elbo": estimate.mean_log_weight,
        "eubo": float(upper.mean()),
        "eubo_error": float(upper.std() / len(upper) ** 0.5),
        "draws": target.draws_are,
        "log_z": estimate.log_z,
        "error": estimate.standard_error,
        "ess_share": estimate.weight_ess / num_walks,
        "pareto_k": estimate.pareto_k,
        "verdict": estimate.verdict,
        "advice": estimate.advice,
        "bennett": None if estimate.other_side is None else estimate.other_side.log_z,
        "check_evaluations": in_check,
        "train_s": round(trained - started),
        "walk_s": round(walked - trained),
        "evaluations": in_walks,
        "train_evaluations": in_training,
    }
    again = time.process_time()
    found["annealed"] = annealed(target, log_density, in_walks, generator)
    found["annealed_s"] = round(time.process_time() - again)
    if total:
        found["annealed_total"] = annealed(target, log_density, in_walks + in_training, generator)
        found["annealed_total_s"] = round(time.process_time() - again) - found["annealed_s"]
    return found


def table(lines: list[dict]) -> str:
    """The results as a table."""
    names = ("target", "seed", "steps", "truth", "ELBO", "EUBO", "log Z +- s.e., verdict", "ESS share, k")
    names += ("training, walks, s", "annealing, as many evaluations", "with those of training", "DDS, SMC published")
    rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]

    def value(found: dict | None) -> str:
        if found is None:
            return ""
        return f"{found['log_z']:.3f} +- {found['error']:.3f}, {found['verdict']} ({found['bridges']} bridges)"

    for r in lines:
        name, conditional = r["target"], "" if r["draws"].startswith("exact") else " (conditional)"
        cells = [name, r["seed"], r["steps"], TRUTH.get(name, "none settled"), f"{r['elbo']:.2f}"]
        cells += [f"{r['eubo']:.2f} +- {r['eubo_error']:.2f}{conditional}"]
        cells += [f"{r['log_z']:.3f} +- {r['error']:.3f}, {r['verdict']}", f"{r['ess_share']:.2f}, {r['pareto_k']:.2f}"]
        cells += [f"{r['train_s']}, {r['walk_s']}", value(r["annealed"]), value(r.get("annealed_total"))]
        rows.append(f"| {' | '.join(map(str, cells))} | {', '.join(PUBLISHED[name])} |")
    return "\n".join(rows)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--out", type=Path, default=Path("diffusion_samplers.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of training and walks")
    parser.add_argument("--total", action="store_true", help="anneal with the evaluations of training too, first seed")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["target"], line["seed"]) for line in lines}
    for name in args.targets:
        for seed in args.seeds:
            if args.table or (name, seed) in done:
                continue
            lines.append(study(name, args.data, seed, total=args.total and seed == args.seeds[0]))
            with args.out.open("a") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
            print(table(lines[-1:]), flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
