"""KL(clean true density || level 0) on toys by quadrature, beside a zuko neural spline flow given the same wall time.

python tests/benchmarks/eight_gaussians.py [--names eight_gaussians checkerboard two_rings] [--seeds 0 1 2] [--without-flow]
"""

from __future__ import annotations

import argparse
import math
import time

import torch

import drl_density as drl
from drl_density.datasets import TOYS


def divergence(name: str, log_density, *, cells: int = 800, extent: float = 6.0) -> float:
    """KL(true || model) by the midpoint rule, the model as it claims to be normalised."""
    ticks = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 * extent - extent
    toy, total = TOYS[name](), 0.0
    for part in ticks.split(100):
        points = torch.cartesian_prod(part, ticks)
        truth = toy.log_density(points)
        chosen = truth > -30
        points, truth = points[chosen], truth[chosen]
        if len(points):
            total += float((truth.exp() * (truth - log_density(points))).sum())
    return total * (2 * extent / cells) ** 2


def log_mass(log_density, *, cells: int = 800, extent: float = 7.0) -> float:
    """log of the model's integral: how far its own normaliser is off."""
    ticks = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 * extent - extent
    parts = [log_density(torch.cartesian_prod(part, ticks)).logsumexp(0) for part in ticks.split(100)]
    return float(torch.stack(parts).logsumexp(0)) + 2 * math.log(2 * extent / cells)


def spline_flow(data: drl.Dataset, seconds: float, seed: int):
    """A neural spline flow trained for the given wall time on standardised rows; returns its log density."""
    import zuko

    torch.manual_seed(seed)
    mean, scale = data.train.mean(0), data.train.std(0)
    flow = zuko.flows.NSF(2, transforms=3, bins=8, hidden_features=(64, 64))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        rows = data.train[torch.randint(len(data.train), (256,))]
        loss = -flow().log_prob(((rows - mean) / scale).float()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def log_density(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return flow().log_prob(((x - mean) / scale).float()).double() - scale.log().sum()

    return log_density


def main() -> None:
    """Print one line per toy and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=["eight_gaussians", "checkerboard", "two_rings"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--without-flow", action="store_true", help="only our fit and its interval")
    parser.add_argument("--particles", type=int, default=2048, help="of the sandwich, per replicate")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{'toy':16s} seed {'seconds':>8s} {'KL ours':>8s} {'KL NSF':>8s} {'log mass':>9s} {'s.e.':>6s} rollbacks | sandwich"
    )
    for name in args.names:
        for seed in args.seeds:
            data = drl.load_dataset(name, seed=seed)
            started = time.monotonic()
            density = drl.fit(data, seed=seed, progress=False)
            seconds = time.monotonic() - started
            theirs = math.nan if args.without_flow else divergence(name, spline_flow(data, seconds, seed))
            ours, mass = divergence(name, density.log_prob), log_mass(density.log_prob)
            settings = drl.SandwichSettings(num_particles=args.particles)
            report = density.evaluate(data.test[:500], start_rows=data.train, settings=settings, seed=0)
            truth = density.estimate.log_z + mass
            print(
                f"{name:16s} {seed:4d} {seconds:8.0f} {ours:8.4f} {theirs:8.4f} {mass:9.4f} "
                f"{density.estimate.standard_error:6.4f} {sum(density.provenance.num_rollbacks.values())} | "
                f"log Z by quadrature {truth:.4f} in [{report.log_z_lower:.4f}, {report.log_z_upper:.4f}], {report.verdict}",
                flush=True,
            )


if __name__ == "__main__":
    main()
