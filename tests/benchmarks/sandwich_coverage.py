"""Coverage of the sandwich on systems of known log Z, with nothing that a trained model could not give it.

    python tests/benchmarks/sandwich_coverage.py --seeds 40

Data rows are draws of the clean data, as a trained model would have; the model's own draws come from the sandwich.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings

import pyro.distributions as dist
import torch
from scipy import stats

import drl_density as drl
from drl_density.networks import NoisedGaussianMixture
from drl_density.partition import sequence_sandwich
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence


def mixture(dim: int):
    """A random mixture of three, 500 data rows."""

    def run(seed: int):
        system = GaussianMixtureSequence.example(dim=dim, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        data = system.sample(500, 0, generator=generator)
        return sequence_sandwich(system.model, data=data, generator=generator), float(system.log_z(0))

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

    def log_density(x: torch.Tensor) -> torch.Tensor:
        first = x[..., 0]
        rest = dist.Normal(0.0, torch.exp(first / 2)[..., None], validate_args=False).log_prob(x[..., 1:]).sum(-1)
        return dist.Normal(0.0, 3.0, validate_args=False).log_prob(first) + rest

    target = drl.EnergyDistribution.from_log_density(log_density, event_shape=(10,))
    return drl.sandwich(target, base=dist.Normal(torch.zeros(10), 3.0).to_event(1), seed=seed), 0.0


def many_well(seed: int):
    """Sixteen double wells, 32-D and 65,536 modes: log Z = 164.69568 by quadrature."""

    def log_density(x: torch.Tensor) -> torch.Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        return (-(first**4) + 6 * first**2 + 0.5 * first - 0.5 * second**2).sum(-1)

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
    "mixture, 32-D": mixture(32),
    "mixture, 128-D": mixture(128),
    "funnel, 10-D": funnel,
    "many-well, 32-D": many_well,
    "lost mode, 128-D": lost_mode,
}


def main() -> None:
    """Run all targets and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
    print(
        "| target | runs | interval covers | exact test | bracket covers | called reliable | mean width | worst | s/run |"
    )
    for name in args.targets:
        started = time.time()
        rows = [TARGETS[name](seed) for seed in range(args.seeds)]
        covers = sum(result.lower < truth < result.upper for result, truth in rows)
        bracket = sum(result.bracket[0] < truth < result.bracket[1] for result, truth in rows)
        reliable = [(result, truth) for result, truth in rows if result.verdict == "reliable"]
        widths = [result.upper - result.lower for result, _ in rows if math.isfinite(result.upper)]
        worst = max((abs(result.log_z - truth) for result, truth in reliable), default=math.nan)
        p_value = stats.binomtest(covers, len(rows), 0.95).pvalue
        print(
            f"| {name} | {len(rows)} | {covers} | p = {p_value:.2g} | {bracket} | {len(reliable)} | "
            f"{sum(widths) / max(1, len(widths)):.3f} | {worst:.3f} | {(time.time() - started) / len(rows):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
