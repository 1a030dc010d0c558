"""Cooperative recovery likelihood (CDRL) on 8 x 8 digits, its ablations, and rivals of equal training time.

    python -m tests.benchmarks.neighbours.cooperative --out cooperative.jsonl --seconds 90
    python -m tests.benchmarks.neighbours.cooperative --out cooperative.jsonl --seconds 90 --arms cdrl "K = 30"

Every arm trains the same U-Net energy, over the Gaussian of the training rows, for so many seconds of the processor,
and draws as many digits as there are held-out ones. Calls are network evaluations of one draw: K gradients a level and,
with an initialiser, one proposal; the last denoising step counts too. "confident" is the share of draws to which a
classifier of the digits gives one class a probability of 0.9 or more; the distance is the sliced Wasserstein-1 distance
to held-out rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import drl_density as drl
from drl_density.mcmc import MALA, ULA
from drl_density.networks import UNet, UNetEnergy, UNetEnergySettings, UNetSettings
from drl_density.sample_quality import (
    ClassifierSettings,
    ImageClassifier,
    accuracy,
    class_entropy,
    confident_share,
    precision_and_recall,
    train_classifier,
)
from drl_density.samplers import DDIMSettings, ShortRunSettings, sample_ddim, sample_short_run
from drl_density.training import (
    CooperativeRecovery,
    DenoisingScoreMatching,
    LangevinChains,
    LangevinRecovery,
    Objective,
)
from tests.benchmarks.neighbours.prior import gaussian
from tests.benchmarks.sample_quality import sliced_wasserstein

LEVELS, FACTOR, STEPS, RATE = 6, 0.03, 6, 1e-3
NATS = LangevinChains(num_steps=STEPS, factor=FACTOR, weights="nats", kernel=MALA())
TWO = replace(NATS, num_steps=2)
PAPER = LangevinChains(num_steps=15, factor=4e-4)


@dataclass(frozen=True)
class Arm:
    """An objective, whether the sequence has an initialiser, and the steps a level of the draws."""

    objective: Objective
    has_initializer: bool
    draws: tuple[int, ...] = ()
    starts_at_base: bool = True


ARMS: dict[str, Arm] = {
    "cdrl": Arm(CooperativeRecovery(TWO), True, (0, 1, 2, STEPS)),
    "two noises": Arm(CooperativeRecovery(TWO, shares_noise=False), True, (0, 1, 2, STEPS)),
    "no initialiser": Arm(LangevinRecovery(TWO, shares_noise=True), False, (2, STEPS)),
    "initialiser from nothing, K = 6": Arm(CooperativeRecovery(NATS), True, (0, 1, 2, STEPS, 30), starts_at_base=False),
    "steps of the paper": Arm(CooperativeRecovery(PAPER), True, (0, 15), starts_at_base=False),
    "weights of the paper": Arm(
        CooperativeRecovery(replace(NATS, weights="paper")), True, (0, 2, STEPS), starts_at_base=False
    ),
    "unadjusted": Arm(CooperativeRecovery(replace(NATS, kernel=ULA())), True, (0, 2, STEPS, 30), starts_at_base=False),
    "K = 30": Arm(LangevinRecovery(replace(NATS, num_steps=30)), False, (2, STEPS, 30)),
    "score matching": Arm(DenoisingScoreMatching(classification_weight=0.0), False),
}


def digit_labels(data: drl.Dataset) -> tuple[Tensor, Tensor]:
    """Labels of the training rows and of the held-out ones, which the bundled data set does not carry."""
    images, labels = load_digits(return_X_y=True)
    known = {row.astype("uint8").tobytes(): label for row, label in zip(images, labels, strict=True)}
    parts = (data.train, torch.cat([data.validation, data.test]))
    train, held = (torch.tensor([known[row.astype("uint8").tobytes()] for row in part.numpy()]) for part in parts)
    return train, held


def to_rows(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flat rows in [-1, 1] of digits with 17 grey levels, dequantised."""
    return 2 * (images.flatten(1).float() + torch.rand(images.flatten(1).shape, generator=generator)) / 17 - 1


def to_grey(rows: Tensor) -> Tensor:
    """8-bit images ``(n, 1, 8, 8)`` of flat rows, cut off at black and white."""
    levels = ((rows + 1) / 2 * 17 - 0.5).round().clamp(0, 16)
    return (levels * 255 / 16).round().to(torch.uint8).reshape(-1, 1, 8, 8)


class StartedAtBase(nn.Module):
    """An initialiser that begins at the proposals of the Gaussian of ``rows``, the mean of a x_t given x_{t+1}.

    A residual network, of which only what it adds to its input counts, learns the rest.
    """

    def __init__(self, network: nn.Module, rows: Tensor, schedule: drl.NoiseSchedule, chains: LangevinChains) -> None:
        super().__init__()
        self.network, eye = network, torch.eye(rows.shape[1], dtype=torch.float64)
        scales, _ = schedule.langevin_steps(chains.factor, is_top_marginal=chains.is_top_marginal)
        mean, covariance, maps, shifts = rows.double().mean(0), rows.double().T.cov(), [], []
        for level, scale in enumerate(scales):
            alpha, a, s = schedule.alpha[level], schedule.step_alpha[level], schedule.step_sigma[level]
            own = alpha**2 * covariance + schedule.sigma[level] ** 2 * eye
            gain = a * torch.linalg.solve(a**2 * own + s**2 * eye, own)
            maps.append(scale * gain)
            shifts.append(scale * alpha * (mean - a * gain @ mean))
        self.register_buffer("maps", torch.stack(maps).float())
        self.register_buffer("shifts", torch.stack(shifts).float())
        self.register_buffer("log_snr", schedule.log_snr[1:].float())

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Means of proposals for noisier states of the levels with these log-SNRs."""
        level = (self.log_snr - log_snr.expand(len(x))[:, None]).abs().argmin(1)
        mean = torch.einsum("nij,nj->ni", self.maps[level], x) + self.shifts[level]
        return mean + self.network(x, log_snr) - x


def new_model(rows: Tensor, arm: Arm) -> drl.EnergySequence:
    """The sequence before training: U-Net energy, and an initialiser where the arm has one."""
    generator = torch.Generator().manual_seed(0)
    sizes = UNetEnergySettings((1, 8, 8), num_channels=32, multipliers=(1,), num_middle_blocks=3, patch_size=2)
    schedule, initializer = drl.NoiseSchedule.log_spaced(LEVELS, sigma_min=0.1), None
    if arm.has_initializer:
        own = UNetSettings((1, 8, 8), num_channels=16, multipliers=(1, 1), num_blocks=1, attention_sizes=(), dropout=0.0)
        initializer = UNet(own, generator=generator)
        if arm.starts_at_base:
            initializer = StartedAtBase(initializer, rows, schedule, arm.objective.chains)
    network = UNetEnergy(sizes, generator=generator)
    return drl.EnergySequence(schedule, network, (64,), base=gaussian(rows), initializer=initializer)


def train(model: drl.EnergySequence, objective: Objective, images: Tensor, seconds: float) -> int:
    """Train in place for so many seconds of the processor and end at averaged weights; returns the steps."""
    generator = torch.Generator().manual_seed(1)
    parts = [model.network] + ([model.initializer] if model.initializer is not None else [])
    weights = [weight for part in parts for weight in part.parameters()]
    averages = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    started, step = time.process_time(), 0
    while (gone := (time.process_time() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * max(0.02, 1 - gone)
        rows = to_rows(images[torch.randint(len(images), (64,), generator=generator)], generator)
        optimizer.zero_grad()
        value = objective(model, rows, torch.ones(LEVELS), generator=generator)
        value.loss.backward()
        for part in parts:  # the losses of energy and initialiser differ in scale
            nn.utils.clip_grad_norm_(part.parameters(), 10.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, max(1 / (1 + step / 4), 5e-3))
        step += 1
        if step % 100 == 0:  # gaps that grow without end are the sign of divergence
            found = value.statistics
            gaps, rates = found.energy_gap.nanmean().item(), found.acceptance_rate.nanmean().item()
            print(f"step {step}: gap {gaps:.2f} nats, acceptance {rates:.2f}", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(weights, averages)
    return step


Draws = Iterator[tuple[str, int, Callable[[int], Tensor]]]


def draws_of(model: drl.EnergySequence, arm: Arm) -> Draws:
    """(name, calls, function of a count) of the draws to judge."""
    for steps in arm.draws:
        settings = ShortRunSettings(replace(arm.objective.chains, num_steps=steps), is_denoised=True)

        def short(count: int, settings: ShortRunSettings = settings) -> Tensor:
            generator = torch.Generator().manual_seed(2)
            return sample_short_run(model, count, settings=settings, generator=generator).draws

        yield f"{steps} steps a level", LEVELS * (steps + arm.has_initializer) + 1, short
    for steps in (10, 18, 180) if not arm.draws else ():
        for eta in (0.0, 1.0):
            walk = DDIMSettings(num_steps=steps, eta=eta, is_denoised=True)

            def ddim(count: int, walk: DDIMSettings = walk) -> Tensor:
                return sample_ddim(model, count, settings=walk, generator=torch.Generator().manual_seed(2)).draws

            yield f"DDIM, {steps} steps, eta {eta:g}", steps + 1, ddim


def main(arguments: list[str] | None = None) -> None:
    """Train each arm, draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("cooperative.jsonl"))
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--pictures", type=Path, help="folder for sheets of draws")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = drl.load_dataset("digits", seed=0)
    train_labels, held_labels = digit_labels(data)
    generator = torch.Generator().manual_seed(0)
    held = torch.cat([data.validation, data.test])
    classifier = ImageClassifier(ClassifierSettings((1, 8, 8)), generator=generator)
    real = [to_grey(to_rows(rows, generator)) for rows in (data.train, held)]
    train_classifier(classifier, real[0], train_labels, num_epochs=40, generator=generator)
    features = classifier.eval().requires_grad_(False).features(real[1]).double()
    held_rows = to_rows(held, generator)
    print(f"classifier: accuracy on held-out digits {accuracy(classifier, real[1], held_labels):.4f}", flush=True)

    def judge(arm: str, name: str, calls: int, rows: Tensor, details: dict[str, object]) -> None:
        grey = to_grey(rows)
        chances = classifier(grey).softmax(1)
        precision, recall = precision_and_recall(classifier.features(grey).double(), features)
        line = {
            "arm": arm,
            "draws": name,
            "calls": calls,
            "confident": confident_share(chances),
            "class_entropy": class_entropy(chances),
            "precision": precision,
            "recall": recall,
            "distance": sliced_wasserstein(rows, held_rows),
        }
        with args.out.open("a") as file:
            file.write(json.dumps(line | details) + "\n")
        print(" | ".join(str(round(cell, 3) if isinstance(cell, float) else cell) for cell in line.values()), flush=True)
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            torch.save(grey[:40], args.pictures / f"{arm}, {name}.pt".replace(" ", "_"))

    rows = to_rows(data.train, generator)
    judge("data", "training rows", 0, rows[torch.randperm(len(rows), generator=generator)[: len(held)]], {})
    fixed = torch.distributions.MultivariateNormal(rows.mean(0), rows.T.cov() + 1e-4 * torch.eye(64))
    torch.manual_seed(0)
    judge("Gaussian base", "exact", 0, fixed.sample((len(held),)), {})
    for name in args.arms:
        arm, model = ARMS[name], new_model(rows, ARMS[name])
        steps = train(model, arm.objective, data.train, args.seconds)
        model.requires_grad_(False)
        for drawn, calls, call in draws_of(model, arm):
            began = time.process_time()
            found = call(len(held)).float()
            seconds = round(time.process_time() - began, 2)
            judge(name, drawn, calls, found, {"steps": steps, "trained": args.seconds, "seconds": seconds})


if __name__ == "__main__":
    main()
