"""Networks that have seen undersampled digits alone: no training row is known at all frequencies.

    python -m tests.benchmarks.neighbours.undersampled_prior runs/neighbours --out runs/undersampled
    python -m tests.benchmarks.neighbours.undersampled_prior runs/digits28 --out runs/undersampled28 --gaussians 6 \
        --mixtures 8 --masks-each 3 --versions 4 --energy-seconds 0

Each training digit (of 14 x 14 or 28 x 28 pixels, those of the folder) is measured once, with noise of 0.05, at the
frequencies of one of some random masks: as many for each acceleration of 2, 3 and 4. Rows are completed by exact posterior
draws of a Gaussian, which is fitted to its own completions again and again (stochastic expectation maximisation), then by
those of a mixture of factor analysers, in the same way. Then, without any completion, a network learns what the mixture
misses, from further corruption: some of the measured frequencies of a row are hidden, the mixture estimates the row from
the others, and the network corrects that estimate. Its loss counts the hidden frequencies alone, whose measurements are
known. Draws given a measurement are the corrected estimate plus the deviation of a mixture's draw from the mixture's mean,
times a factor that makes the variance right on hidden frequencies of held-out rows. These draws complete the training rows,
from which an energy sequence learns by score matching over a new mixture, unless it gets no seconds. At the end Gaussian,
mixture, corrected estimate and energy are scored on test digits, by the masks and the noise of undersampled.py. "Error" is
the mean squared error of a hidden coefficient, with the measurement's noise.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.inverse_problems import (
    DenoisingErrors,
    MeasuredRowSettings,
    Measurements,
    sample_factor_posterior,
    sample_measured_rows,
)
from drl_density.inverse_problems.measured_rows.gaussian import MeasuredGaussian
from drl_density.networks import UNet, UNetSettings
from drl_density.operators import GramBlocks, MaskedFourier
from drl_density.operators.fourier import to_frequency, to_image
from tests.benchmarks.neighbours.larger_prior import PROBLEMS, ScoreMatching
from tests.benchmarks.neighbours.prior import SIDE, factor_analysers, to_rows
from tests.benchmarks.neighbours.undersampled import (
    NOISE,
    NUM_DRAWS,
    RealImages,
    keep,
    random_mask,
    rows_of,
    score,
)

ACCELERATIONS = (2, 3, 4)
HELD_SHARE = 0.05


def side_of(rows: Tensor) -> int:
    """Height and width of the images in flat rows."""
    return math.isqrt(rows.shape[-1])


def frequencies(rows: Tensor) -> Tensor:
    """Fourier coefficients ``(n, side, side)`` of flat rows."""
    side = side_of(rows)
    return to_frequency(rows.reshape(-1, side, side).to(torch.complex64))


def rows_from(spectra: Tensor) -> Tensor:
    """Flat rows of Fourier coefficients ``(n, side, side)``."""
    return to_image(spectra).real.flatten(1)


class Measured:
    """Rows that are known through their measurements alone, in groups of one mask.

    Args:
        rows: the whole rows ``(n, d)``, which are measured here and not kept.
        masks_each: number of masks of each acceleration.
        generator: source of the noise.
    """

    def __init__(self, rows: Tensor, masks_each: int, generator: torch.Generator) -> None:
        side, seeds = side_of(rows), [100 * r + i for r in ACCELERATIONS for i in range(masks_each)]
        masks = [random_mask(seed // 100, torch.Generator().manual_seed(seed), side) for seed in seeds]
        self.operators = [RealImages(MaskedFourier(mask), side) for mask in masks]
        noisy = rows + NOISE * torch.randn(rows.shape, generator=generator)
        parts = noisy.chunk(len(masks))
        self.measurements = [a.forward(part) for a, part in zip(self.operators, parts, strict=True)]

    def zero_filled(self) -> Tensor:
        """The adjoint of every measurement."""
        return torch.cat([a.adjoint(y) for a, y in zip(self.operators, self.measurements, strict=True)])

    def completed(self, base: FactorAnalysers, generator: torch.Generator) -> Tensor:
        """An exact posterior draw of every row under a base, ``(n, d)``."""
        found = []
        for operator, y in zip(self.operators, self.measurements, strict=True):
            gram = GramBlocks(operator, (operator.side**2,))
            draws = sample_factor_posterior(base, gram, Measurements.of(gram, y), 1, noise=NOISE, generator=generator)
            found.append(draws[:, 0].float())
        return torch.cat(found)


@torch.no_grad()
def mixture_posterior(
    base: FactorAnalysers, operator: RealImages, y: Tensor, num_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Posterior means ``(n, d)`` of a mixture, and deviations of draws from them, ``(n, num_draws, d)``."""
    gram = GramBlocks(operator, (operator.side**2,))
    measured = Measurements.of(gram, y)
    laws = [MeasuredGaussian(*each, gram, noise=NOISE) for each in zip(base.loadings, base.noises, strict=True)]
    centres = base.means.double()[:, None]
    heights = [law.observed_log_density(centre, measured) for law, centre in zip(laws, centres, strict=True)]
    shares = (torch.stack(heights, 1) + base.log_weights.double()).softmax(1)
    mean = sum(shares[:, k : k + 1] * law.mean(centres[k], measured) for k, law in enumerate(laws))
    assert isinstance(mean, Tensor)
    if not num_draws:
        return mean.float(), mean.new_empty(len(y), 0, operator.side**2)
    draws = sample_factor_posterior(base, gram, measured, num_draws, noise=NOISE, generator=generator)
    return mean.float(), (draws - mean[:, None]).float()


def part_of(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A mask of the central frequencies and this share of the other ones of a mask, with their conjugates."""
    side, kept = len(mask), torch.zeros_like(mask)
    middle = side // 2
    kept[middle - 1 : middle + 2, middle - 1 : middle + 2] = True
    wanted = int(kept.sum()) + share * (int(mask.sum()) - int(kept.sum()))
    for place in torch.randperm(side * side, generator=generator).tolist():
        row, column = divmod(place, side)
        if int(kept.sum()) >= wanted:
            break
        if mask[row, column]:
            kept[row, column] = kept[-row % side, -column % side] = True
    return kept


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows with hidden frequencies.

    Attributes:
        means: posterior means of the mixture given the frequencies that are left, ``(n, d)``.
        deviations: of one draw of the mixture from these, ``(n, d)``.
        zero_filled: adjoints of the measurements that are left, ``(n, d)``.
        seen: mask of the frequencies that are left, ``(n, side, side)``.
        hidden: mask of the measured ones that are not, ``(n, side, side)``.
        spectra: all measured frequencies, ``(n, side, side)``.
        is_held: whether the row is left out of training, ``(n,)``.
    """

    means: Tensor
    deviations: Tensor
    zero_filled: Tensor
    seen: Tensor
    hidden: Tensor
    spectra: Tensor
    is_held: Tensor

    @classmethod
    def of(cls, measured: Measured, base: FactorAnalysers, num_versions: int, generator: torch.Generator) -> Pairs:
        """Several versions of every row, each mask with another part of it left."""
        found: list[tuple[Tensor, ...]] = []
        for operator, y in zip(measured.operators, measured.measurements, strict=True):
            mask = operator.inner.is_measured
            for _ in range(num_versions):
                seen = part_of(mask, 0.3 + 0.65 * float(torch.rand((), generator=generator)), generator)
                left, shape = RealImages(MaskedFourier(seen), len(seen)), (len(y), *seen.shape)
                mean, deviation = mixture_posterior(base, left, y * seen, 1, generator)
                is_held = torch.arange(len(y)) < HELD_SHARE * len(y)
                masks = seen.expand(shape), (mask & ~seen).expand(shape)
                found.append((mean, deviation[:, 0], left.adjoint(y * seen), *masks, y, is_held))
        return cls(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def error(self, rows: Tensor, chosen: Tensor) -> Tensor:
        """Mean squared error of a hidden coefficient of ``rows``, ``()``."""
        squares = (frequencies(rows) - self.spectra[chosen]).abs().square() * self.hidden[chosen]
        return squares.sum() / self.hidden[chosen].sum()


class Correction:
    """A network that corrects posterior means of a mixture at frequencies that are not measured.

    Args:
        base: the mixture.
        generator: source of the first weights and of the batches.
    """

    def __init__(self, base: FactorAnalysers, generator: torch.Generator) -> None:
        self.base, self.generator, self.scale = base, generator, 1.0
        self.patch = side_of(base.means) // SIDE  # pixels of larger images enter as channels
        shape = (3 * self.patch**2, SIDE, SIDE)
        sizes = UNetSettings(shape, 32, multipliers=(1, 2), num_blocks=1, attention_sizes=(), dropout=0.0)
        self.network = UNet(sizes, generator=generator).to(memory_format=torch.channels_last)
        nn.init.zeros_(self.network.leave.weight)

    def __call__(self, means: Tensor, zero_filled: Tensor, seen: Tensor) -> Tensor:
        """Corrected estimates ``(n, d)`` of rows."""
        spread = rows_from(seen.to(torch.complex64)) / 2  # the point spread function of the mask
        images = torch.stack([means, zero_filled, spread], 1).reshape(-1, 3, *seen.shape[1:])
        found = self.network(functional.pixel_unshuffle(images, self.patch), torch.zeros(len(means)))
        corrected = functional.pixel_shuffle(found[:, : self.patch**2], self.patch).flatten(1)
        return rows_from(torch.where(seen, frequencies(means), frequencies(corrected)))

    def error(self, pairs: Pairs, chosen: Tensor) -> float:
        """Mean squared error of a hidden coefficient."""
        self.network.eval()
        with torch.no_grad():
            parts = [self(pairs.means[i], pairs.zero_filled[i], pairs.seen[i]) for i in chosen.split(500)]
        self.network.train()
        return float(pairs.error(torch.cat(parts), chosen))

    def fit(self, pairs: Pairs, seconds: float, *, batch: int = 32, rate: float = 1e-3) -> None:
        """Train for so many seconds of the processor, then match the spread of draws to held-out errors."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=1e-3)
        used, held = (~pairs.is_held).nonzero().squeeze(1), pairs.is_held.nonzero().squeeze(1)
        print(f"held-out error of the mixture {float(pairs.error(pairs.means[held], held)):.4f}", flush=True)
        began, steps, shown = time.process_time(), 0, 0.0
        while (now := time.process_time() - began) < seconds:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (steps + 1) / 100) * 0.5 * (1 + math.cos(math.pi * now / seconds))
            chosen = used[torch.randint(len(used), (batch,), generator=self.generator)]
            loss = pairs.error(self(pairs.means[chosen], pairs.zero_filled[chosen], pairs.seen[chosen]), chosen)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimizer.step()
            steps += 1
            if now > shown + 30:
                shown = now
                print(f"{now:.0f} s, {steps} steps, held-out error {self.error(pairs, held):.4f}", flush=True)
        self.network.eval()
        error, last = self.error(pairs, held), used[:: max(1, len(used) // 2000)]
        print(f"{steps} steps, held-out error {error:.4f}, training error {self.error(pairs, last):.4f}", flush=True)
        self.network.eval()
        spread = float(pairs.error(rows_from(pairs.spectra[held]) + pairs.deviations[held], held))
        self.scale = math.sqrt((error - NOISE**2) / spread)
        print(f"draws deviate {self.scale:.3f} times as far as those of the mixture", flush=True)

    @torch.no_grad()
    def sample(self, operator: RealImages, y: Tensor, num_draws: int, generator: torch.Generator) -> Tensor:
        """Draws ``(n, num_draws, d)`` given measurements of one operator."""
        seen = operator.inner.is_measured
        mean, deviation = mixture_posterior(self.base, operator, y, num_draws, generator)
        estimate = self(mean, operator.adjoint(y), seen.expand(len(y), *seen.shape))
        scale = torch.where(seen, 1.0, self.scale)
        return estimate[:, None] + rows_from(scale * frequencies(deviation.flatten(0, 1))).reshape(deviation.shape)


def looked_at(
    model: drl.EnergySequence | None,
    exact: dict[str, FactorAnalysers],
    correction: Correction,
    truth: Tensor,
    changes: Tensor,
    rows: Tensor,
) -> list[dict[str, object]]:
    """Scores on undersampled test digits, a line for each acceleration and prior."""
    errors = model and DenoisingErrors.fit(model, rows[:256], generator=torch.Generator().manual_seed(7))
    side, lines = side_of(truth), list[dict[str, object]]()
    for acceleration in (2, 4, 8):
        operator = RealImages(MaskedFourier(random_mask(acceleration, torch.Generator().manual_seed(4), side)), side)
        gram = GramBlocks(operator, (side * side,))
        scatter = torch.randn(truth.shape, generator=torch.Generator().manual_seed(acceleration))
        y = operator.forward(truth + NOISE * scatter)
        measured = Measurements.of(gram, y)
        for name, base in exact.items():
            draws = sample_factor_posterior(
                base, gram, measured, NUM_DRAWS, noise=NOISE, generator=torch.Generator().manual_seed(5)
            )
            lines.append(score(name, acceleration, draws.float(), draws.float().mean(1), truth, changes))
        draws = correction.sample(operator, y, NUM_DRAWS, torch.Generator().manual_seed(5))
        lines.append(score("corrected mixture", acceleration, draws, draws.mean(1), truth, changes))
        if model is None or errors is None:
            continue
        found = sample_measured_rows(
            model,
            gram,
            y,
            NUM_DRAWS,
            errors=errors,
            noise=NOISE,
            settings=MeasuredRowSettings(num_final_steps=30),
            generator=torch.Generator().manual_seed(6),
        )
        lines.append(score("energy", acceleration, found.draws, found.draws.mean(1), truth, changes))
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Measure, fit mixtures to completions, train on hidden frequencies, complete, train an energy, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with data.npz of prior.py")
    parser.add_argument("--out", type=Path, default=Path("runs/undersampled"))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--components", type=int, default=32, help="of the mixtures")
    parser.add_argument("--factors", type=int, default=12, help="of each component")
    parser.add_argument("--gaussian-factors", type=int, default=96)
    parser.add_argument("--masks-each", type=int, default=8, help="masks of each acceleration")
    parser.add_argument("--gaussians", type=int, default=15, help="fits of the Gaussian")
    parser.add_argument("--mixtures", type=int, default=16, help="fits of the mixture")
    parser.add_argument("--versions", type=int, default=6, help="of every row, with other hidden frequencies")
    parser.add_argument("--seconds", type=float, default=240.0, help="of the processor, for the correction")
    parser.add_argument("--energy-seconds", type=float, default=150.0, help="of the processor, for the energy")
    parser.add_argument("--images", type=int, default=8)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    generator, began = torch.Generator().manual_seed(11), time.process_time()
    data = drl.load_dataset(str(args.folder / "data.npz"), seed=0)
    _, truth = rows_of(data, args.images, torch.Generator().manual_seed(3))
    changes = data.train[:20_000].flatten(1).amax(0) > 0

    def tell(what: str) -> None:
        print(f"{what}, {time.process_time() - began:.0f} s", flush=True)

    measured = Measured(to_rows(data.train[: args.rows], generator), args.masks_each, generator)
    rows: Tensor = measured.zero_filled()
    size, wide = FactorSize(args.components, args.factors), FactorSize(1, args.gaussian_factors)
    for index in range(args.gaussians):
        base = fit_factor_analysers(rows, wide, num_passes=12, generator=generator)
        rows = measured.completed(base, generator)
        tell(f"Gaussian {index}: mean variance {float(rows.var(0).mean()):.4f}")
    exact = {"Gaussian": base}
    for index in range(args.mixtures):
        base = factor_analysers(rows, size)
        rows = measured.completed(base, generator)
        tell(f"mixture {index}: mean variance {float(rows.var(0).mean()):.4f}")
    exact["mixture"] = base
    pairs = Pairs.of(measured, base, args.versions, generator)
    tell(f"{len(pairs.means)} rows with hidden frequencies")
    correction = Correction(base, generator)
    correction.fit(pairs, args.seconds)
    parts = zip(measured.operators, measured.measurements, strict=True)
    completed = torch.cat([correction.sample(operator, y, 4, generator) for operator, y in parts]).flatten(0, 1)
    exact["mixture of completions"] = factor_analysers(completed, size)
    tell("rows completed, and a mixture fitted to them")
    model = None
    if args.energy_seconds:
        problem = PROBLEMS["small digits" if side_of(rows) == SIDE else "digits"]
        training = ScoreMatching(
            problem.new_model(exact["mixture of completions"]),
            problem.batch,
            args.out / "prior.safetensors",
            rate=5e-4,
            clip=100.0,
        )
        training.run(completed, args.energy_seconds)
        model = training.averaged()
    for line in looked_at(model, exact, correction, truth, changes, completed):
        keep(line, args.out / "undersampled.jsonl")
    tell("scored")


if __name__ == "__main__":
    main()
