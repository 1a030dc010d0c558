"""Samples per second of two gloo processes on a core each, over one process pinned to one core; alternating, in one run.

    torchrun --standalone --nproc-per-node 2 tests/benchmarks/two_processes.py [--rounds 5] [--samples 512]

Each process draws its share of progressive samples of one model by adjusted chains, and the first gathers the draws. Needs
two cores that nothing else uses: the load average is printed beside the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch
from torch import distributed

from drl_density import NoiseSchedule
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.parallel import joined_workers
from drl_density.samplers import plan_progressive, sample_progressive


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=512)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with joined_workers() as workers:
        if workers.count != 2:
            raise SystemExit("start two processes: torchrun --standalone --nproc-per-node 2 ...")
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[workers.rank % len(cores)]})
        generator = torch.Generator().manual_seed(0)
        network = MLP(MLPSettings(64, width=256, num_blocks=2), generator=generator)
        model = EnergySequence(NoiseSchedule.log_spaced(10), network, (64,), generator=generator)
        model.eval().requires_grad_(False)
        plan = plan_progressive(model, generator=generator)
        own = torch.Generator().manual_seed(1 + workers.rank)

        def draw(count: int) -> torch.Tensor:
            return sample_progressive(model, count, plan=plan, generator=own).draws

        draw(16)
        rates: dict[str, list[float]] = {"one": [], "two": []}
        for _ in range(args.rounds):
            workers.wait()
            if workers.is_first:
                started = time.perf_counter()
                draw(args.samples)
                rates["one"].append(args.samples / (time.perf_counter() - started))
            workers.wait()
            started = time.perf_counter()
            draws = draw(args.samples)
            parts = [torch.empty_like(draws) for _ in range(2)] if workers.is_first else None
            distributed.gather(draws, parts)
            rates["two"].append(2 * args.samples / (time.perf_counter() - started))
        if workers.is_first:
            ratios = [two / one for one, two in zip(rates["one"], rates["two"], strict=True)]
            one, two = (statistics.median(rates[name]) for name in ("one", "two"))
            load = os.getloadavg()[0]
            print(
                f"one process {one:.1f} samples/s, two {two:.1f}; ratio {statistics.median(ratios):.3f} (median of "
                f"{args.rounds}, {min(ratios):.3f} to {max(ratios):.3f}); load average {load:.1f} on {len(cores)} cores"
            )


if __name__ == "__main__":
    main()
