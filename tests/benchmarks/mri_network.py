"""Undersampled images with a network prior: a U-Net energy learned from phantoms, its exact posterior drawn by annealing.

    python tests/benchmarks/mri_network.py --minutes 10 --weights prior.safetensors --out mri_network.jsonl
    python tests/benchmarks/mri_network.py --out mri_network.jsonl --report

Phantoms, masks, noise, seeds and figures are those of ``mri.py``. The prior is an energy sequence over pairs of real and
imaginary parts, Gaussian base and U-Net, learned by score matching in so many minutes of processor time. Its posterior
given y is drawn by particles annealed from the exact posterior of the base, in coordinates that whiten that one, and then
by adjusted chains. Beside it, on the same phantoms, total variation and the posterior mean of the base alone. One JSON
line per acceleration and phantom.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import drl_density as drl
from drl_density.datasets.phantoms import ellipse_phantoms
from drl_density.networks import NoisedGaussianMixture, UNetEnergy, UNetEnergySettings
from drl_density.operators import MaskedFourier, center_mask
from drl_density.operators.fourier import to_frequency
from drl_density.partition import AISSettings, geometric_path
from drl_density.samplers import AnnealedPosterior, sample_path
from drl_density.training import DenoisingScoreMatching

sys.path.insert(0, str(Path(__file__).parent))
import mri

SIZE, NUM_LEVELS, SIGMA_MIN, BATCH, RATE = 16, 10, 0.01, 64, 2e-3
LAMBDAS = {4: 3e-4, 8: 3e-4}
"""Of total variation, as ``mri.py`` chooses them on its validation phantoms."""


def untrained(rows: Tensor) -> drl.EnergySequence:
    """The sequence before training: the Gaussian of the rows."""
    covariance = rows.T.cov().double() + 1e-6 * torch.eye(rows.shape[1]).double()
    base = NoisedGaussianMixture(torch.ones(1), rows.mean(0)[None], covariance[None])
    sizes = UNetEnergySettings((2, SIZE, SIZE), num_channels=32, patch_size=2, num_middle_blocks=2)
    network = UNetEnergy(sizes, generator=mri.seeded(0)).to(memory_format=torch.channels_last)
    schedule = drl.NoiseSchedule.log_spaced(NUM_LEVELS, sigma_min=SIGMA_MIN)
    return drl.EnergySequence(schedule, network, (2, SIZE, SIZE), base=base)


def train(model: drl.EnergySequence, minutes: float) -> int:
    """Score matching on fresh phantoms; the exponential average of the weights stays in the model."""
    objective = DenoisingScoreMatching(0.0, 1.0, 0.5)
    generator, step, started = mri.seeded(20), 0, time.process_time()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    average = torch.optim.swa_utils.AveragedModel(
        model.network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    rows = mri.pairs(ellipse_phantoms(20_000, SIZE, generator=mri.seeded(21))).reshape(-1, 2, SIZE, SIZE)
    while (gone := (time.process_time() - started) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * gone))
        batch = rows[torch.randint(len(rows), (BATCH,), generator=generator)]
        optimizer.zero_grad()
        loss = objective(model, batch, torch.ones(NUM_LEVELS), generator=generator).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        average.update_parameters(model.network)
        step += 1
        if step % 500 == 0:
            print(f"step {step}, loss {float(loss.detach()):.3f}", flush=True)
    model.network.load_state_dict(average.module.state_dict())
    return step


def prior(weights: Path, minutes: float) -> drl.EnergySequence:
    """The trained sequence, from the file where it is there."""
    model = untrained(mri.pairs(ellipse_phantoms(4000, SIZE, generator=mri.seeded(0))))
    if weights.exists():
        model.network.load_state_dict(load_file(weights))
    else:
        steps = train(model, minutes)
        tensors = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
        save_file(tensors, weights, metadata={"steps": str(steps), "minutes": str(minutes)})
        print(f"{steps} steps", flush=True)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def posterior(
    model: drl.EnergySequence,
    gaussian: tuple[Tensor, Tensor],
    mask: Tensor,
    y: Tensor,
    args: argparse.Namespace,
    seed: int,
) -> AnnealedPosterior:
    """Draws of exp(F_0) times the likelihood ``(n, 2 size^2)``, annealed from the (mean, factor) of the base's posterior."""
    mean, factor = gaussian

    def log_density(z: Tensor) -> Tensor:
        x = (mean + z @ factor.T).reshape(-1, 2, SIZE, SIZE)
        error = ((to_frequency(torch.complex(x[:, 0], x[:, 1])) - y) * mask).abs().square().sum((1, 2))
        return model.log_density(x, 0) - 0.5 * error / mri.NOISE**2

    base = dist.Normal(torch.zeros(len(mean)), 1.0).to_event(1)
    path = geometric_path(base, log_density, num_bridges=args.bridges)
    settings = AISSettings(
        num_particles=args.draws // 2, num_replicates=2, num_transitions=args.transitions, num_pilot_particles=16
    )
    found = sample_path(
        path, args.draws, settings=settings, num_final_steps=args.final_steps, generator=mri.seeded(seed)
    )
    return dataclasses.replace(found, draws=mean + found.draws @ factor.T)


def covered(draws: Tensor, truth: Tensor, generator: torch.Generator) -> float:
    """Share of numbers whose randomised rank among the draws is central: 90 % for any number of right draws."""
    rank = ((draws < truth).sum(0) + torch.rand(truth.shape, generator=generator)) / (len(draws) + 1)
    return float(((rank > 0.05) & (rank < 0.95)).float().mean())


def run(model: drl.EnergySequence, acceleration: int, args: argparse.Namespace) -> None:
    """One JSON line per phantom that is not in the file yet."""
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["acceleration"], line["phantom"]) for line in lines}
    test = ellipse_phantoms(50, SIZE, generator=mri.seeded(2))
    center = mri.CENTER[acceleration]
    mask = center_mask(SIZE, SIZE, acceleration=acceleration, center_share=center, generator=mri.seeded(4))
    y = mri.measure(MaskedFourier(mask), test, mri.seeded(7))
    variation = mri.total_variation(y, mask, LAMBDAS[acceleration])[0]
    rows = mri.pairs(ellipse_phantoms(4000, SIZE, generator=mri.seeded(0)))
    exact = mri.ExactPosterior(mri.fit_mixture(rows, 1, mri.seeded(3)), MaskedFourier(mask), SIZE)
    means = exact(mri.real(y), 2, 1.0, mri.seeded(8))[0]
    for index in range(args.phantoms):
        if (acceleration, index) in done:
            continue
        one, started = test[index : index + 1], time.process_time()
        found = posterior(model, (means[index], exact.factors[0]), mask, y[index], args, seed=100 + index)
        draws = found.draws
        methods = {
            "network": mri.images(draws.mean(0, keepdim=True), SIZE),
            "Gaussian": mri.images(means[index : index + 1], SIZE),
            "total variation": variation[index : index + 1],
        }
        line = {
            "acceleration": acceleration,
            "phantom": index,
            "acceptance": found.acceptance_rate,
            "log_z_error": found.estimate.standard_error,
        }
        line |= {name: [float(mri.psnr(x, one)), float(mri.ssim(x, one))] for name, x in methods.items()}
        line["coverage"] = covered(draws, mri.pairs(one)[0], mri.seeded(500 + index))
        line["spread"] = float(draws.std(0).square().mean().sqrt())
        line["distance"] = float((draws.mean(0) - mri.pairs(one)[0]).square().mean().sqrt())
        line["seconds"] = round(time.process_time() - started, 2)
        with args.out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)


def report(path: Path) -> str:
    """The table: means over phantoms, and paired differences with their standard errors."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    text = [
        "| R | phantoms | method | PSNR, dB | SSIM | network over it, dB | SSIM | 90 % intervals cover |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for acceleration in sorted({line["acceleration"] for line in lines}):
        own = [line for line in lines if line["acceleration"] == acceleration]
        figures = {name: np.array([line[name] for line in own]) for name in ("network", "Gaussian", "total variation")}
        covered = np.array([line["coverage"] for line in own])
        half = 1.96 * covered.std(ddof=1) / len(own) ** 0.5
        for name, values in figures.items():
            gap = figures["network"] - values
            errors = gap.std(0, ddof=1) / len(own) ** 0.5
            over = [
                f"{g:+.3f} +- {e:.3f}" if name != "network" else "-" for g, e in zip(gap.mean(0), errors, strict=True)
            ]
            covers = f"[{covered.mean() - half:.3f}, {covered.mean() + half:.3f}]" if name == "network" else "-"
            mean = values.mean(0)
            cells = [acceleration, len(own), name, f"{mean[0]:.2f}", f"{mean[1]:.3f}", *over, covers]
            text.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(text)


def main() -> None:
    """Train or load, reconstruct, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time for training")
    parser.add_argument("--weights", type=Path, default=Path("mri_prior.safetensors"))
    parser.add_argument("--accelerations", type=int, nargs="+", choices=tuple(LAMBDAS), default=list(LAMBDAS))
    parser.add_argument("--phantoms", type=int, default=50)
    parser.add_argument("--draws", type=int, default=48, help="and particles")
    parser.add_argument("--bridges", type=int, default=48)
    parser.add_argument("--transitions", type=int, default=2)
    parser.add_argument("--final-steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("mri_network.jsonl"))
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.report:
        model = prior(args.weights, args.minutes)
        for acceleration in args.accelerations:
            run(model, acceleration, args)
    print(report(args.out))


if __name__ == "__main__":
    main()
