"""How fast score matching learns MNIST, by the network and its start and by the shape of a step, at equal processor time.

    python tests/benchmarks/score_matching.py mnist.npz --seconds 90 --blocks zero
    python tests/benchmarks/score_matching.py mnist.npz --seconds 90 --batch 32
    python tests/benchmarks/score_matching.py mnist.npz --seconds 300 --network unet --rate 2e-3 --balance 0.5

Prints the loss of held-out digits, summed over the levels, in nats: of the Gaussian base alone and after training, with
the same noise. A residual network of 16 channels or the U-Net of the preset, one thread; the rate falls as a half cosine
over the time.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import torch
from torch import nn

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.density.fitting.build import network_factory
from drl_density.execution import precision
from drl_density.networks import ResidualEnergy, ResidualSettings, UNetEnergy
from drl_density.networks.images.residual import NEARLY_ZERO
from drl_density.training import DenoisingScoreMatching

NUM_LEVELS, NUM_HELD_OUT = 8, 400


def residual_network(blocks: str) -> ResidualEnergy:
    """A small residual network, its blocks at random or, as the papers' and together with its readout, near zero."""
    sizes = ResidualSettings(
        (1, 28, 28),
        num_channels=16,
        multipliers=(1, 2, 2),
        num_blocks=1,
        is_normalized=False,
        activation="silu",
        starts_at_zero=True,
    )
    found = ResidualEnergy(sizes, generator=torch.Generator().manual_seed(0))
    if blocks == "zero":
        for resolution in found.resolutions:
            for block in resolution:
                block.second.kernel.weight.data *= math.sqrt(NEARLY_ZERO)
    return found.to(memory_format=torch.channels_last)


def unet() -> UNetEnergy:
    """The network of the preset."""
    settings, rows = drl.FitSettings.preset("mnist_denoising"), 60_000
    settings = settings.resolve(rows, (1, 28, 28), sigma_min=0.1)
    schedule = settings.schedule.noise_schedule()
    sizes = network_factory(settings.network, settings.objective, schedule, 28 * 28).energy
    return UNetEnergy(sizes, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


def main(arguments: list[str] | None = None) -> dict[str, object]:
    """Train for the time, print and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="MNIST as .npz or its folder of idx files")
    parser.add_argument("--seconds", type=float, default=90.0, help="of processor time")
    parser.add_argument("--network", choices=["residual", "unet"], default="residual")
    parser.add_argument("--blocks", choices=["random", "zero"], default="random", help="of the residual network")
    parser.add_argument("--balance", type=float, default=0.0, help="level_balance of training; the loss told has none")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of training")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--classified", type=float, default=0.0, help="share of the batch, 0 for none")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--limit", type=float, default=100.0, help="of the gradient's norm")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    data = drl.load_dataset(args.source, seed=0)

    def dequantised(rows: torch.Tensor) -> torch.Tensor:
        return (rows.float() + torch.rand(rows.shape, generator=generator)) / 128 - 1

    held_out, some = dequantised(data.validation[:NUM_HELD_OUT]), dequantised(data.train[:20_000])
    covariance = some.T.cov().double() + 1e-6 * torch.eye(some.shape[1]).double()
    base = NoisedGaussianMixture(torch.ones(1), some.mean(0)[None], covariance[None])
    schedule = drl.NoiseSchedule.log_spaced(NUM_LEVELS, sigma_min=0.1)
    network = unet() if args.network == "unet" else residual_network(args.blocks)
    model = drl.EnergySequence(schedule, network, tuple(some.shape[1:]), base=base, generator=generator)
    objective = DenoisingScoreMatching(float(args.classified > 0), args.classified or 1.0, args.balance)
    told = DenoisingScoreMatching()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-3)

    def loss() -> float:
        levels = torch.arange(len(held_out)).double() % NUM_LEVELS
        noise = torch.Generator().manual_seed(1)
        return NUM_LEVELS * float(told.by_row(model, held_out, levels, generator=noise).detach().mean())

    of_base, step, started = loss(), 0, time.process_time()
    while (gone := (time.process_time() - started) / args.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * gone))
        rows = dequantised(data.train[torch.randint(len(data.train), (args.batch,), generator=generator)])
        optimizer.zero_grad()
        with precision(model, getattr(torch, args.precision)):
            loss_now = objective(model, rows, torch.ones(NUM_LEVELS), generator=generator).loss
        loss_now.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.limit)
        optimizer.step()
        step += 1
    found = {**vars(args), "steps": step, "base": of_base, "loss": loss()}
    print(json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    main()
