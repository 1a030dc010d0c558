"""Larger image priors for larger_undersampled.py: digits of 28 x 28 pixels, and complex phantoms of 64 x 64.

    python -m tests.benchmarks.neighbours.larger_prior phantoms --out runs/phantoms --seconds 450
    python -m tests.benchmarks.neighbours.larger_prior "digits of many levels" --source mnist.npz --out runs/digits28 \
        --seconds 2700
    python -m tests.benchmarks.neighbours.larger_prior "digits of many levels" --source mnist.npz --out runs/digits28 \
        --seconds 2100 --resumed --rate 8e-4 --noisy 0.6

Rows of digits are x / 128 - 1 after dequantisation. Phantoms are the package's own, 8,192 of them; their rows are twice
the real and imaginary parts. The base is a mixture of factor analysers of these rows, and a U-Net energy learns the rest
by score matching. Seconds are of the processor, one thread, in float32; the learning rate falls as a half cosine over
them. Writes ``prior.safetensors`` with the averaged weights every minute; ``--resumed`` begins at these weights, and keeps
their base. ``--noisy`` is a share of the rows that are trained at noises of at least 0.5 alone.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.datasets.phantoms import ellipse_phantoms
from drl_density.networks import UNetEnergy, UNetEnergySettings
from drl_density.training import DenoisingScoreMatching
from tests.benchmarks.mri import pairs

NUM_PHANTOMS, PHANTOM_SCALE = 8192, 2.0
OBJECTIVE = DenoisingScoreMatching(classification_weight=0.0, level_balance=0.5)


@dataclass(frozen=True)
class Problem:
    """Sizes of one kind of image and of its prior.

    Attributes:
        network: sizes of the network.
        base: sizes of the mixture that it starts from.
        num_levels: number of noise levels.
        sigma_min: noise of level 0.
        batch: rows in a step.
    """

    network: UNetEnergySettings
    base: FactorSize
    num_levels: int
    sigma_min: float
    batch: int

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row: flat pixels of real images, two channels of complex ones."""
        channels, height, width = self.network.image_shape
        return (height * width,) if channels == 1 else (channels, height, width)

    def new_model(self, base: FactorAnalysers | None = None) -> drl.EnergySequence:
        """The sequence before training; without a base, one whose buffers wait for saved weights."""
        count, rank, width = self.base.num_components, self.base.num_factors, math.prod(self.event_shape)
        base = base or FactorAnalysers(
            torch.ones(count) / count, torch.zeros(count, width), torch.zeros(count, width, rank), torch.ones(count, width)
        )
        schedule = drl.NoiseSchedule.log_spaced(self.num_levels, sigma_min=self.sigma_min, sigma_max=0.999)
        network = UNetEnergy(self.network, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
        return drl.EnergySequence(schedule, network, self.event_shape, base=base)

    def load(self, path: Path) -> drl.EnergySequence:
        """The saved sequence."""
        model = self.new_model()
        model.load_state_dict(load_file(path))
        return model.requires_grad_(False)


PROBLEMS = {
    "digits": Problem(
        UNetEnergySettings((1, 28, 28), num_channels=48, multipliers=(1, 2), num_middle_blocks=3, patch_size=2),
        FactorSize(16, 12),
        num_levels=10,
        sigma_min=0.05,
        batch=16,
    ),
    "digits of many levels": Problem(
        UNetEnergySettings(
            (1, 28, 28), num_channels=48, multipliers=(1, 2), num_middle_blocks=3, patch_size=2, has_linear_readout=True
        ),
        FactorSize(48, 16),
        num_levels=14,
        sigma_min=0.01,
        batch=16,
    ),
    "small digits": Problem(
        UNetEnergySettings((1, 14, 14), num_channels=64, multipliers=(1,), num_middle_blocks=4, patch_size=2),
        FactorSize(32, 12),
        num_levels=10,
        sigma_min=0.03,
        batch=32,
    ),
    "phantoms": Problem(
        UNetEnergySettings((2, 64, 64), num_channels=48, multipliers=(1, 2), num_middle_blocks=3, patch_size=4),
        FactorSize(1, 16),
        num_levels=12,
        sigma_min=0.025,
        batch=8,
    ),
}


def phantom_rows(num_rows: int, seed: int) -> Tensor:
    """Flat rows ``(num_rows, 2 64 64)`` of random phantoms."""
    return PHANTOM_SCALE * pairs(ellipse_phantoms(num_rows, 64, generator=torch.Generator().manual_seed(seed)))


def digit_rows(source: Path, part: str, num_rows: int, seed: int) -> Tensor:
    """Dequantised rows ``(num_rows, 784)`` in [-1, 1] of the file's random training or test digits."""
    import numpy as np

    generator = torch.Generator().manual_seed(seed)
    with np.load(source) as file:
        grey = torch.from_numpy(file[f"x_{part}"]).flatten(1)
    grey = grey[torch.randperm(len(grey), generator=generator)[:num_rows]].float()
    return (grey + torch.rand(grey.shape, generator=generator)) / 128 - 1


class ScoreMatching:
    """Score matching of a sequence, in one go or in several on changing rows.

    Args:
        model: the sequence to train.
        batch: rows in a step.
        path: file of the averaged weights.
        rate: peak learning rate.
        clip: largest norm of a gradient.
        noisy: share of the rows whose noise is at least 0.5; the others are at any level.
    """

    def __init__(
        self,
        model: drl.EnergySequence,
        batch: int,
        path: Path,
        *,
        rate: float = 1e-3,
        clip: float = 20.0,
        noisy: float = 0.0,
    ) -> None:
        self.model, self.batch, self.path, self.rate, self.clip = model, batch, path, rate, clip
        self.noisy = noisy
        self.generator = torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-3)
        self.average = torch.optim.swa_utils.AveragedModel(
            model, avg_fn=lambda old, new, count: torch.lerp(old, new, max(1 / (1 + int(count) / 4), 2e-3))
        )
        self.num_steps, self.loss = 0, math.nan

    def run(self, rows: Tensor, seconds: float, *, begin: float = 0.0, end: float = 1.0) -> None:
        """Train for so many seconds of the processor, a part of the half cosine by which the learning rate falls.

        Args:
            rows: flat training rows.
            seconds: of the processor, one thread.
            begin: share of the half cosine that is already gone.
            end: share of it that is gone at the end.
        """
        started, saved = time.process_time(), 0.0
        while (now := time.process_time() - started) < seconds:
            gone = begin + (end - begin) * now / seconds
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * min(1, (self.num_steps + 1) / 200) * 0.5 * (1 + math.cos(math.pi * gone))
            self._step(rows)
            if now > saved + 60:
                saved = now
                self.save()
        self.save()

    def _step(self, rows: Tensor) -> None:
        model = self.model
        chosen = rows[torch.randint(len(rows), (self.batch,), generator=self.generator)]
        self.optimizer.zero_grad()
        value = self._loss(chosen.reshape(-1, *model.event_shape))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        self.optimizer.step()
        self.average.update_parameters(model)
        loss = float(value.detach())
        self.num_steps, self.loss = self.num_steps + 1, loss if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * loss

    def _loss(self, rows: Tensor) -> Tensor:
        model = self.model
        if not self.noisy:
            return OBJECTIVE(model, rows, torch.ones(model.num_levels), generator=self.generator).loss
        log_snr = model.schedule.log_snr
        first = int((log_snr > math.log(3)).sum())  # alpha^2 = 3 sigma^2 where sigma = 0.5
        num_noisy = round(self.noisy * len(rows))
        least = torch.tensor([first] * num_noisy + [0] * (len(rows) - num_noisy), dtype=torch.float64)
        at = torch.rand(len(rows), generator=self.generator, dtype=torch.float64)
        position = least + (model.num_levels - least) * at
        return OBJECTIVE.by_row(model, rows, position, generator=self.generator).mean()

    def averaged(self) -> drl.EnergySequence:
        """The sequence with averaged weights."""
        return cast("drl.EnergySequence", self.average.module).requires_grad_(False)

    def save(self) -> None:
        """Write the averaged weights, and print where training stands."""
        save_file({key: value.contiguous() for key, value in self.average.module.state_dict().items()}, self.path)
        print(f"{time.process_time():.0f} s, {self.num_steps} steps, mean loss {self.loss:.2f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Fit the base, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=["digits", "digits of many levels", "phantoms"])
    parser.add_argument("--source", type=Path, help="MNIST as .npz with x_train and x_test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--noisy", type=float, default=0.0, help="share of the rows whose noise is at least 0.5")
    parser.add_argument("--resumed", action="store_true", help="begin at the weights of an earlier call")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    problem = PROBLEMS[args.problem]
    is_digits = "digits" in args.problem
    rows = digit_rows(args.source, "train", 50_000, 0) if is_digits else phantom_rows(NUM_PHANTOMS, 0)
    path = args.out / "prior.safetensors"
    if args.resumed:
        model = problem.load(path)
        model.network.requires_grad_(True)
    else:
        base = fit_factor_analysers(rows, problem.base, num_passes=8, generator=torch.Generator().manual_seed(0))
        print(f"base: {time.process_time():.0f} s", flush=True)
        model = problem.new_model(base)
    ScoreMatching(model, problem.batch, path, rate=args.rate, noisy=args.noisy).run(rows, args.seconds)


if __name__ == "__main__":
    main()
