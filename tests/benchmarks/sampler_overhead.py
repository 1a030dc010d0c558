"""Time of K sampler steps over the time of K bare passes of the network, interleaved in one run.

A bare pass is a forward pass plus the gradient in the input, parameters frozen.

    python tests/benchmarks/sampler_overhead.py [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from drl_density.mcmc import HMC, MALA, ULA


def energy_network(width: int, depth: int, num_features: int) -> Callable[[Tensor], Tensor]:
    """A plain MLP energy with frozen parameters and a quadratic base."""
    sizes = [num_features, *[width] * depth]
    layers: list[nn.Module] = []
    for first, second in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(first, second), nn.GELU()]
    network = nn.Sequential(*layers, nn.Linear(width, 1)).requires_grad_(False)

    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)[:, 0] - 0.5 * x.square().sum(1)

    return Energy()


def bare_passes(log_density: Callable[[Tensor], Tensor], x: Tensor, count: int) -> None:
    """Forward and input gradient, ``count`` times."""
    for _ in range(count):
        point = x.detach().requires_grad_(True)
        torch.autograd.grad(log_density(point).sum(), point)


def sampler_steps(kernel, log_density: Callable[[Tensor], Tensor], x: Tensor, count: int) -> None:
    """``count`` kernel steps."""
    state = kernel.init(x, log_density)
    for _ in range(count):
        state, _ = kernel.step(state, log_density, 0.05, None)


def seconds(call: Callable[[], None], device: str) -> float:
    """Wall time of one call, with the device drained on both sides."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def one_ratio(kernel, log_density: Callable[[Tensor], Tensor], x: Tensor, count: int) -> float:
    """Sampler over bare; one more pass than steps, because the first evaluation belongs to the chain's start."""
    steps = seconds(lambda: sampler_steps(kernel, log_density, x, count), x.device.type)
    return steps / seconds(lambda: bare_passes(log_density, x, count + 1), x.device.type)


def main() -> None:
    """Print the median ratio for each network and kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{'network':10s} {'d':>3s} {'kernel':8s} {'median ratio':>12s}   (min, max over {args.rounds} rounds)")
    for width, depth, num_features in ((512, 4, 2), (512, 4, 64), (64, 2, 2)):
        log_density = energy_network(width, depth, num_features).to(args.device)
        x = torch.randn(1024, num_features, device=args.device)
        count = 20 if width == 512 else 200
        for name, kernel in (("MALA", MALA()), ("HMC(1)", HMC(1)), ("ULA", ULA())):
            ratios = [one_ratio(kernel, log_density, x, count) for _ in range(args.rounds + 1)][1:]
            spread = f"({min(ratios):.2f}, {max(ratios):.2f})"
            print(
                f"{depth}x{width:<8d} {num_features:3d} {name:8s} {statistics.median(ratios):12.3f}   {spread}",
                flush=True,
            )


if __name__ == "__main__":
    main()
