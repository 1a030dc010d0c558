"""The sequence that the other modules draw from: 14 x 14 MNIST by score matching, and the classifier that judges draws.

    python -m tests.benchmarks.neighbours.prior mnist.npz --out runs/neighbours --seconds 660
    python -m tests.benchmarks.neighbours.prior mnist.npz --out runs/recovery --seconds 180 --objective recovery \
        --rate 1e-3 --clip 20

Writes ``data.npz`` (block averages of the digits), ``classifier.safetensors``, and ``prior.safetensors`` with the
averaged weights. Rows are x / 128 - 1 after dequantisation. The base is a mixture of 32 factor analysers of the training
rows, and a U-Net energy learns the rest at ten noise levels. Seconds are of the processor, one thread; the learning rate
falls as a half cosine over them.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import drl_density as drl
from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.execution import precision
from drl_density.mcmc import MALA
from drl_density.networks import UNetEnergy, UNetEnergySettings
from drl_density.sample_quality import (
    ClassifierSettings,
    FeatureExtractor,
    ImageClassifier,
    accuracy,
    classifier_features,
    save_classifier,
    train_classifier,
)
from drl_density.training import DenoisingScoreMatching, Objective, RecoveryLikelihood
from tests.benchmarks.image_ladder import shrunk

SIDE, NUM_LEVELS = 14, 10
HAS_BFLOAT16 = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))
LOW = torch.bfloat16 if HAS_BFLOAT16 else None  # without such instructions bfloat16 is nine times slower than float32
BASE = FactorSize(32, 12)
OBJECTIVES: dict[str, Objective] = {
    "score": DenoisingScoreMatching(classification_weight=0.0, level_balance=0.5),
    "recovery": RecoveryLikelihood(num_steps=2, classification_share=0.25),
}
SIZES = UNetEnergySettings((1, SIDE, SIDE), num_channels=64, multipliers=(1,), num_middle_blocks=4, patch_size=2)


def to_rows(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Flat dequantised rows in [-1, 1] of 8-bit images."""
    return (grey.flatten(1).float() + torch.rand(grey.flatten(1).shape, generator=generator)) / 128 - 1


def to_grey(rows: Tensor) -> Tensor:
    """8-bit images ``(n, 1, side, side)`` of flat rows, cut off at black and white."""
    side = math.isqrt(rows.shape[-1])
    return ((rows.double() + 1) * 128 - 0.5).round().clamp(0, 255).to(torch.uint8).reshape(-1, 1, side, side)


def factor_analysers(rows: Tensor, size: FactorSize = BASE) -> FactorAnalysers:
    """The mixture of training rows that the network starts from."""
    return fit_factor_analysers(rows, size, num_passes=12, generator=torch.Generator().manual_seed(0))


def unfitted_base(size: FactorSize = BASE, width: int = SIDE * SIDE) -> FactorAnalysers:
    """A mixture of the same shapes, for saved weights."""
    count, rank = size.num_components, size.num_factors
    return FactorAnalysers(
        torch.ones(count) / count, torch.zeros(count, width), torch.zeros(count, width, rank), torch.ones(count, width)
    )


def new_model(base: FactorAnalysers) -> drl.EnergySequence:
    """The sequence before training."""
    schedule = drl.NoiseSchedule.log_spaced(NUM_LEVELS, sigma_min=0.05, sigma_max=0.999)
    network = UNetEnergy(SIZES, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    return drl.EnergySequence(schedule, network, (SIDE * SIDE,), base=base)


def gaussian(rows: Tensor) -> NoisedGaussianMixture:
    """The Gaussian of training rows."""
    covariance = rows.T.cov().double() + 1e-6 * torch.eye(rows.shape[1], dtype=torch.float64)
    return NoisedGaussianMixture(torch.ones(1), rows.mean(0)[None], covariance[None])


@dataclass(frozen=True)
class Prior:
    """What the other modules need: the trained sequence, the digits, and the classifier's features."""

    model: drl.EnergySequence
    data: drl.Dataset
    look: FeatureExtractor

    @classmethod
    def load(cls, folder: Path, seed: int = 0) -> Prior:
        """The files of :func:`main`."""
        data = drl.load_dataset(str(folder / "data.npz"), seed=seed)
        model = new_model(unfitted_base())
        model.load_state_dict(load_file(folder / "prior.safetensors"))
        return cls(model.requires_grad_(False), data, classifier_features(folder / "classifier.safetensors"))


def fit_classifier(data: drl.Dataset, path: Path, generator: torch.Generator) -> float:
    """Train and save the classifier; returns its test accuracy."""
    assert data.labels is not None
    side = math.isqrt(data.train[0].numel())
    train, test = (part.reshape(-1, 1, side, side) for part in (data.train, data.test))
    classifier = ImageClassifier(ClassifierSettings((1, side, side)), generator=generator)
    train_classifier(classifier, train, data.labels[0], num_epochs=4, generator=generator)
    share = accuracy(classifier, test, data.labels[2])
    save_classifier(classifier, path, name="a 14 x 14 MNIST classifier", test_accuracy=share)
    return share


def fit(
    data: drl.Dataset,
    path: Path,
    seconds: float,
    generator: torch.Generator,
    *,
    goes_on: bool = False,
    objective: str = "score",
    rate: float = 5e-4,
    clip: float = 100.0,
    base: FactorAnalysers | None = None,
) -> None:
    """Train for so many seconds of the processor, and save averaged weights every minute of it.

    The base is fitted to the training rows where none is given. A rate of 2e-3 silences every unit within a minute: the
    network then stays at zero for good.
    """
    if goes_on:
        model = new_model(unfitted_base())
        model.load_state_dict(load_file(path))
    else:
        model = new_model(base or factor_analysers(to_rows(data.train, torch.Generator().manual_seed(0))))
    peak, step_sizes = rate / 2 if goes_on else rate, torch.full((NUM_LEVELS,), 0.3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-3)
    average = torch.optim.swa_utils.AveragedModel(
        model, avg_fn=lambda old, new, count: torch.lerp(old, new, max(1 / (1 + int(count) / 4), 2e-3))
    )
    started, step, saved, shown = time.process_time(), 0, 0.0, math.nan
    while (gone := (time.process_time() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * gone))
        rows = to_rows(data.train[torch.randint(len(data.train), (32,), generator=generator)], generator)
        optimizer.zero_grad()
        with precision(model, LOW):
            value = OBJECTIVES[objective](model, rows, step_sizes, generator=generator)
        loss = value.loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        average.update_parameters(model)
        # Towards the best acceptance rate of MALA, level by level; an objective without chains has none.
        change = torch.exp(0.1 * (value.statistics.acceptance_rate.float() - MALA().target_acceptance))
        step_sizes = torch.where(change.isnan(), step_sizes, step_sizes * change)
        shown = float(loss.detach()) if math.isnan(shown) else 0.99 * shown + 0.01 * float(loss.detach())
        step += 1
        if time.process_time() - started > saved + 60:
            saved = time.process_time() - started
            save_file({key: value.contiguous() for key, value in average.module.state_dict().items()}, path)
            print(f"{saved:.0f} s, {step} steps, mean loss {shown:.2f}", flush=True)
    save_file({key: value.contiguous() for key, value in average.module.state_dict().items()}, path)
    print(f"prior: {step} steps in {time.process_time() - started:.0f} s, mean loss {shown:.2f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Shrink, train the classifier, fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="MNIST as .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, default=Path("runs/neighbours"))
    parser.add_argument("--seconds", type=float, default=660.0)
    parser.add_argument("--goes-on", action="store_true", help="begin at the saved weights, at half the rate")
    parser.add_argument("--objective", choices=list(OBJECTIVES), default="score")
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--clip", type=float, default=100.0, help="largest norm of a gradient")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not args.goes_on:
        Path(shrunk(args.source, SIDE, args.out)).replace(args.out / "data.npz")
    data = drl.load_dataset(str(args.out / "data.npz"), seed=args.seed)
    generator = torch.Generator().manual_seed(args.seed + args.goes_on)
    if not args.goes_on:
        share = fit_classifier(data, args.out / "classifier.safetensors", generator)
        print(f"classifier: test accuracy {share:.4f}", flush=True)
    fit(
        data,
        args.out / "prior.safetensors",
        args.seconds,
        generator,
        goes_on=args.goes_on,
        objective=args.objective,
        rate=args.rate,
        clip=args.clip,
    )


if __name__ == "__main__":
    main()
