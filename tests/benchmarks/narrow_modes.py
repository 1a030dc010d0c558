"""Modes a tenth and a fifth as wide as the widest one: how often a search finds them, with and without its sweep.

    python -m tests.benchmarks.narrow_modes
    python -m tests.benchmarks.narrow_modes --dims 8 --without
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from drl_density.partition_function.mode_search.search import NUM_SWEPT, search_modes
from drl_density.partition_function.target_bases.mixture import MixtureBase

WIDTHS, WEIGHTS = (1.0, 0.1, 0.2), (0.5, 0.3, 0.2)


def mixture(dim: int, distance: float, seed: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Centers and log density of three Gaussians; the narrow ones lie in random directions from the wide one."""
    generator = torch.Generator().manual_seed(1000 * dim + seed)
    directions = torch.randn(3, dim, generator=generator).double()
    centers = distance * directions / directions.norm(dim=1, keepdim=True)
    centers[0] = 0.5 * torch.randn(dim, generator=generator)
    centers[1:] += centers[0]
    widths, weights = torch.tensor(WIDTHS).double(), torch.tensor(WEIGHTS).double()
    heights = weights.log() - dim * (widths.log() + 0.5 * math.log(2 * math.pi))

    def log_density(x: Tensor) -> Tensor:
        away = ((x.double()[:, None] - centers) / widths[:, None]).square().sum(-1)
        return (heights - 0.5 * away).logsumexp(1)

    return centers, log_density


def main() -> None:
    """One line for each dimension and distance: which modes each search found, and the power of the planted ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[6, 8, 10])
    parser.add_argument("--distances", type=float, nargs="+", default=[2.5, 4.0, 6.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--without", action="store_true", help="without the sweep")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for dim in args.dims:
        base = MixtureBase(torch.ones(1), torch.zeros(1, dim), torch.eye(dim)[None], torch.zeros(1).double())
        for distance in args.distances:
            began, found = time.process_time(), []
            for seed in range(args.seeds):
                centers, log_density = mixture(dim, distance, seed)
                record = search_modes(
                    log_density,
                    base,
                    num_swept=0 if args.without else NUM_SWEPT,
                    generator=torch.Generator().manual_seed(seed),
                ).record
                seen = [
                    any(float((mode.location - center).norm()) < 3 * width for mode in record.modes)
                    for center, width in zip(centers, WIDTHS, strict=True)
                ]
                power = f" ({record.power[0].share:.2f})" if record.power else ""
                found.append("".join("01"[one] for one in seen) + power)
            print(dim, distance, found, f"{(time.process_time() - began) / args.seeds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
