"""Our spline flow beside zuko's of the same sizes: processor time of a training step, of a log density, and of a draw.

    python tests/benchmarks/flow_speed.py --columns 10 --rows 512

Both take turns in one run with one thread, and the median of the rounds is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import zuko

from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings
from drl_density.descent import AdamW


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    """Time both flows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--transforms", type=int, default=5)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(args.rows, args.columns, generator=torch.Generator().manual_seed(0))
    ours = AutoregressiveFlow(AutoregressiveFlowSettings(args.columns, args.transforms, width=args.width))
    theirs = zuko.flows.NSF(args.columns, transforms=args.transforms, hidden_features=(args.width,) * 2, bins=8)
    weights = [weight.requires_grad_() for weight in ours.weights()]
    optimizers = {"ours": AdamW(weights, lr=1e-3), "zuko": AdamW(theirs.parameters(), lr=1e-3)}
    densities = {"ours": ours.log_prob, "zuko": lambda rows: theirs().log_prob(rows)}
    draws = {"ours": lambda: ours.sample(args.rows), "zuko": lambda: theirs().sample((args.rows,))}

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        (-densities[name](x).mean()).backward()
        optimizers[name].step()

    def without_gradients(work: Callable[[], object]) -> None:
        with torch.no_grad():
            work()

    works: dict[str, Callable[[str], object]] = {
        "training step": step,
        "log density": lambda name: without_gradients(lambda: densities[name](x)),
        "draws": lambda name: without_gradients(draws[name]),
    }
    for label, work in works.items():
        found: dict[str, list[float]] = {"ours": [], "zuko": []}
        for place in range(args.rounds + 2):
            for name, values in found.items():
                taken = seconds(lambda name=name, work=work: work(name))
                if place > 1:  # the first two warm up
                    values.append(1e3 * taken)
        medians = {name: statistics.median(values) for name, values in found.items()}
        print(f"{label} of {args.rows} rows: " + ", ".join(f"{name} {value:.1f} ms" for name, value in medians.items()))


if __name__ == "__main__":
    main()
