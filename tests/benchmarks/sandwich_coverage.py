"""Coverage of the sandwich on systems of known log Z, with nothing that a trained model could not give it.

    python tests/benchmarks/sandwich_coverage.py --seeds 200 --out coverage.jsonl

Runs already in the file are not made again; --only-report prints the table of what is there. Data rows are draws of the
clean data, as a trained model would have; the model's own draws come from the sandwich.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
from scipy import stats

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.partition_function import sequence_sandwich
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence


def mixture(dim: int):
    """A random mixture of three, 500 data rows."""

    def run(seed: int):
        system = GaussianMixtureSequence.example(dim=dim, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        data = system.sample(500, 0, generator=generator)
        return sequence_sandwich(system.model, data=data, generator=generator), float(system.log_z(0))

    return run


def single_precision_mixture(dim: int):
    """The same random mixtures as a trained model would hold its base, in float32: log Z = 0."""

    def run(seed: int):
        system = GaussianMixtureSequence.example(dim=dim, seed=seed)
        network = NoisedGaussianMixture(system.weights.float(), system.means.float(), system.covariances.float())
        model = drl.EnergySequence(system.schedule, network, (dim,), has_base=False, is_integrable=True)
        generator = torch.Generator().manual_seed(seed)
        data = system.sample(500, 0, generator=generator).float()
        return sequence_sandwich(model, data=data, generator=generator), 0.0

    return run


def gaussian(dim: int):
    """A correlated Gaussian."""

    def run(seed: int):
        generator = torch.Generator().manual_seed(seed)
        factor = torch.randn(dim, dim, generator=generator, dtype=torch.float64) / dim**0.5
        covariance = 0.3 * torch.eye(dim).double() + 0.5 * factor @ factor.T
        system = gaussian_sequence(torch.zeros(dim).double(), covariance, drl.NoiseSchedule.log_spaced(8))
        data = system.sample(500, 0, generator=generator)
        return sequence_sandwich(system.model, data=data, generator=generator), float(system.log_z(0))

    return run


def funnel(seed: int):
    """Neal's funnel in 10 dimensions from N(0, 3^2): annealing bridges, log Z = 0."""
    constant = math.log(3) + 5 * math.log(2 * math.pi)

    def log_density(x: torch.Tensor) -> torch.Tensor:
        first, rest = x[..., 0], x[..., 1:].square().sum(-1)
        return -first.square() / 18 - 4.5 * first - 0.5 * rest * torch.exp(-first) - constant

    target = drl.EnergyDistribution.from_log_density(log_density, event_shape=(10,))
    return drl.sandwich(target, base=dist.Normal(torch.zeros(10), 3.0).to_event(1), seed=seed), 0.0


def many_well(seed: int):
    """Sixteen double wells, 32-D and 65,536 modes: log Z = 164.69568 by quadrature."""

    def log_density(x: torch.Tensor) -> torch.Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        squared = first.square()
        return (squared * (6 - squared) + 0.5 * first - 0.5 * second.square()).sum(-1)

    target = drl.EnergyDistribution.from_log_density(log_density, event_shape=(32,))
    return drl.sandwich(target, seed=seed), 164.69568


class _LostMode(torch.nn.Module):
    """Two far modes at level 0, of which the levels above know one: no path from noise reaches the other."""

    has_bounded_growth = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        means = torch.stack([torch.full((dim,), -0.5), torch.full((dim,), 0.5)])
        narrow = 0.02 * torch.eye(dim).expand(2, dim, dim)
        self.both = NoisedGaussianMixture(torch.tensor([0.5, 0.5]), means, narrow)
        self.one = NoisedGaussianMixture(torch.ones(1), means[:1], narrow[:1])
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        return torch.where(log_snr > 4.0, self.both(x, log_snr), self.one(x, log_snr))


def lost_mode(seed: int):
    """128-D: half of the data lie in a basin that nothing from noise reaches; the truth is 0, log 1/2 is what is seen."""
    model = drl.EnergySequence(
        drl.NoiseSchedule.log_spaced(6, sigma_min=0.1), _LostMode(128), (128,), has_base=False, is_integrable=True
    )
    generator = torch.Generator().manual_seed(seed)
    signs = (torch.arange(200) % 2)[:, None] - 0.5
    data = signs + 0.14 * torch.randn(200, 128, generator=generator)
    settings = drl.SandwichSettings(num_particles=128)
    return sequence_sandwich(model, data=data, settings=settings, generator=generator), 0.0


TARGETS = {
    "Gaussian, 8-D": gaussian(8),
    "mixture, 2-D": mixture(2),
    "mixture, 8-D": mixture(8),
    "lost mode, 128-D": lost_mode,
    "many-well, 32-D": many_well,
    "funnel, 10-D": funnel,
    "mixture, 32-D": mixture(32),
    "mixture, 128-D": single_precision_mixture(128),
}


def run_target(name: str, seed: int) -> dict:
    """One run as a line of the results file."""
    started = time.process_time()
    result, truth = TARGETS[name](seed)
    return {
        "target": name,
        "seed": seed,
        "truth": truth,
        "log_z": result.log_z,
        "standard_error": result.standard_error,
        "lower": result.lower,
        "upper": result.upper,
        "bracket": list(result.bracket),
        "overlap": result.overlap,
        "verdict": result.verdict,
        "advice": result.advice,
        "cpu_seconds": time.process_time() - started,
    }


def table_row(name: str, rows: list[dict]) -> str:
    """The target's line of the table."""
    count = len(rows)
    covers = sum(row["lower"] < row["truth"] < row["upper"] for row in rows)
    bracket = sum(row["bracket"][0] < row["truth"] < row["bracket"][1] for row in rows)
    reliable = [row for row in rows if row["verdict"] == "reliable"]
    flagged = sum(row["verdict"] in ("unreliable", "unknown") for row in rows)
    widths = [row["upper"] - row["lower"] for row in rows if math.isfinite(row["upper"] - row["lower"])]
    worst = max((abs(row["log_z"] - row["truth"]) for row in reliable), default=math.nan)
    exact = stats.binomtest(covers, count, 0.95).pvalue
    one_sided = stats.binomtest(bracket, count, 0.95, alternative="less").pvalue
    errors = np.array([row["log_z"] - row["truth"] for row in rows])
    z = errors / np.array([row["standard_error"] for row in rows])
    seconds = sum(row["cpu_seconds"] for row in rows) / count
    return (
        f"| {name} | {count} | {covers} (p = {exact:.2g}) | {bracket} (p = {one_sided:.2g}) | {len(reliable)} | {flagged} | "
        f"{sum(widths) / max(1, len(widths)):.3f} | {worst:.3f} | "
        f"{errors.mean():.4f} +- {errors.std():.4f} | {z.std():.2f} | {seconds:.1f} |"
    )


def main() -> None:
    """Run what the results file lacks, cheapest targets first, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40, help="runs per target, counted from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS), metavar="TARGET")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("sandwich_coverage.jsonl"), help="one JSON line per run")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many minutes")
    parser.add_argument("--only-report", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    done = {(row["target"], row["seed"]) for row in rows}
    deadline = time.monotonic() + 60 * args.minutes
    for name in args.targets:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            if args.only_report or (name, seed) in done or time.monotonic() > deadline:
                continue
            rows.append(run_target(name, seed))
            with args.out.open("a") as out:
                out.write(json.dumps(rows[-1]) + "\n")
    print(
        "| target | runs | interval covers | bracket covers | reliable | unreliable or unknown | mean width | worst | "
        "error | spread of z | CPU s/run |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for name in args.targets:
        found = [row for row in rows if row["target"] == name]
        if found:
            print(table_row(name, found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
