"""A network that has seen undersampled digits alone: no training row is known at all frequencies.

    python -m tests.benchmarks.neighbours.undersampled_prior runs/neighbours --out runs/undersampled

Each training digit of 14 x 14 pixels is measured once, with noise of 0.05, at the frequencies of one of some random masks:
as many for each acceleration of 2, 3 and 4. Rows are completed by exact posterior draws of a Gaussian, which is fitted to
its own completions again and again (stochastic expectation maximisation), then by those of a mixture of factor analysers, in
the same way. The last mixture is the base of the network, and completions by it are the network's first training rows. Then
rounds follow: some rows are drawn again given their measurements, by ``sample_measured_rows`` under the network, and
training continues. ``--hidden`` is the weight of the errors at frequencies that the row's mask leaves out. With weight 0
completions are a part of what the network sees, and never of what it has to predict. At the end and at every ``--look``
rounds, the posteriors of Gaussian, mixture and network are scored on the test digits of undersampled.py. "Gain" is how far
the score-matching loss on whole test digits falls below that of the base, in nats with the weights of the objective; nothing
depends on it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

import drl_density as drl
from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.inverse_problems import (
    ConditionedBase,
    DenoisingErrors,
    MeasuredRowSettings,
    Measurements,
    sample_factor_posterior,
    sample_measured_rows,
)
from drl_density.networks.contract import NoTilt
from drl_density.operators import GramBlocks, MaskedFourier
from drl_density.operators.fourier import to_frequency
from drl_density.training.objectives.objective import level_shift, stratified_levels
from tests.benchmarks.neighbours.larger_prior import PROBLEMS, ScoreMatching
from tests.benchmarks.neighbours.prior import SIDE, factor_analysers, gaussian, to_rows
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


class Measured:
    """Rows that are known through their measurements alone, in groups of one mask.

    Args:
        rows: the whole rows ``(n, d)``, which are measured here and not kept.
        masks_each: number of masks of each acceleration.
        generator: source of the noise.
    """

    def __init__(self, rows: Tensor, masks_each: int, generator: torch.Generator) -> None:
        masks = [
            random_mask(r, torch.Generator().manual_seed(100 * r + i)) for r in ACCELERATIONS for i in range(masks_each)
        ]
        self.operators = [RealImages(MaskedFourier(mask)) for mask in masks]
        noisy = rows + NOISE * torch.randn(rows.shape, generator=generator)
        parts = noisy.chunk(len(masks))
        self.measurements = [a.forward(part) for a, part in zip(self.operators, parts, strict=True)]
        self.masks = torch.cat([mask.expand(len(part), SIDE, SIDE) for mask, part in zip(masks, parts, strict=True)])

    def zero_filled(self) -> Tensor:
        """The adjoint of every measurement."""
        return torch.cat([a.adjoint(y) for a, y in zip(self.operators, self.measurements, strict=True)])

    def completed(
        self, base: FactorAnalysers | NoisedGaussianMixture, generator: torch.Generator, num_draws: int = 1
    ) -> Tensor:
        """Exact posterior draws of every row under a base, ``(num_draws n, d)``."""
        found = []
        for operator, y in zip(self.operators, self.measurements, strict=True):
            law = ConditionedBase(base, operator, (SIDE * SIDE,), noise=NOISE)
            flat = torch.view_as_real(y).flatten(1).double()[:, law.is_measured]
            gaps = flat[:, None] - law.means @ law.matrix.T
            scaled = torch.linalg.solve_triangular(law.triangles, gaps.permute(1, 2, 0), upper=False)
            heights = law.log_weights - law.triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            shares = (heights[:, None] - 0.5 * scaled.square().sum(1)).softmax(0).T
            for _ in range(num_draws):
                chosen = torch.multinomial(shares, 1, generator=generator).squeeze(1)
                whole = torch.empty(len(y), SIDE * SIDE, dtype=torch.float64)
                for k in chosen.unique().tolist():
                    own = chosen == k
                    noise = torch.randn(int(own.sum()), SIDE * SIDE, generator=generator).double()
                    whole[own] = law.means[k] + gaps[own, k] @ law.gains[k].T
                    whole[own] += (noise * law.variances[k].sqrt()) @ law.axes[k].T
                found.append(whole.float())
        return torch.cat(found)

    def redrawn(
        self, model: drl.EnergySequence, rows: Tensor, part: int, num_parts: int, generator: torch.Generator
    ) -> Tensor:
        """The rows ``(n, d)``, one part of them drawn again given their measurements under a network."""
        chosen = torch.randperm(len(rows), generator=generator)[:384]
        errors = DenoisingErrors.fit(model, rows[chosen], num_steps=16, num_factors=(16,), generator=generator)
        found, start = rows.clone(), 0
        for operator, y in zip(self.operators, self.measurements, strict=True):
            own = torch.arange(part, len(y), num_parts)
            settings = MeasuredRowSettings(num_final_steps=4, batch_size=128)
            gram = GramBlocks(operator, (SIDE * SIDE,))
            drawn = sample_measured_rows(
                model, gram, y[own], 1, errors=errors, noise=NOISE, settings=settings, generator=generator
            ).draws.squeeze(1)
            found[start + own], start = drawn, start + len(y)
        return found


class MeasuredScoreMatching(ScoreMatching):
    """Score matching whose errors count in full at the frequencies of a row's mask, and less at the others.

    Args:
        masks: measured frequencies of each training row, ``(n, side, side)``.
        hidden: weight of the squared errors at the other frequencies.
    """

    def __init__(
        self, model: drl.EnergySequence, batch: int, path: Path, *, masks: Tensor, hidden: float, rate: float = 5e-4
    ) -> None:
        super().__init__(model, batch, path, rate=rate)
        self.masks, self.hidden = masks, hidden

    def loss_of(self, rows: Tensor, chosen: Tensor) -> Tensor:
        """The mean weighted error of these rows."""
        weights = torch.where(self.masks[chosen], 1.0, self.hidden)
        return errors_by_row(self.model, rows[chosen], weights, self.generator).mean()


def errors_by_row(model: drl.EnergySequence, rows: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of ``DenoisingScoreMatching(level_balance=0.5)`` of each row, weighted by frequency, ``(n,)``."""
    schedule, base = model.schedule, cast("FactorAnalysers", model.base)
    place = stratified_levels(len(rows), model.num_levels, generator=generator) + level_shift(generator=generator)
    alpha, sigma = (value(place).to(rows)[:, None] for value in (schedule.alpha_at, schedule.sigma_at))
    noise = torch.randn(rows.shape, generator=generator)
    error = sigma * model.score(alpha * rows + sigma * noise, place, has_graph=True) + noise
    spectrum = to_frequency(error.reshape(-1, SIDE, SIDE).to(torch.complex64)).abs().square()
    above = (place + 1).clamp(max=float(model.num_levels))
    width = (schedule.log_snr_at(place) - schedule.log_snr_at(above)).to(rows)
    levels = torch.arange(model.num_levels, dtype=place.dtype)
    at, usual = (base.expected_error(schedule.log_snr_at(value)) for value in (place, levels))
    return 0.5 * width * (at / usual.mean()).rsqrt().to(rows) * (weights * spectrum).sum((1, 2))


def gain(model: drl.EnergySequence, rows: Tensor) -> tuple[float, float]:
    """Mean fall of the loss below that of the base on whole rows, and its standard error."""
    found = []
    for each in (drl.EnergySequence(model.schedule, NoTilt(), (SIDE * SIDE,), base=model.base), model):
        generator = torch.Generator().manual_seed(5)
        parts = [errors_by_row(each, part, torch.ones(SIDE, SIDE), generator).detach() for part in rows.split(100)]
        found.append(torch.cat(parts))
    fall = found[0] - found[1]
    return float(fall.mean()), float(fall.std()) / len(fall) ** 0.5


def looked_at(
    model: drl.EnergySequence, exact: dict[str, FactorAnalysers], truth: Tensor, changes: Tensor, rows: Tensor
) -> list[dict[str, object]]:
    """Scores on undersampled test digits, a line for each acceleration and prior."""
    errors = DenoisingErrors.fit(model, rows[:256], generator=torch.Generator().manual_seed(7))
    lines = []
    for acceleration in (2, 4, 8):
        operator = RealImages(MaskedFourier(random_mask(acceleration, torch.Generator().manual_seed(4))))
        gram = GramBlocks(operator, (SIDE * SIDE,))
        scatter = torch.randn(truth.shape, generator=torch.Generator().manual_seed(acceleration))
        y = operator.forward(truth + NOISE * scatter)
        measured = Measurements.of(gram, y)
        for name, base in exact.items():
            draws = sample_factor_posterior(
                base, gram, measured, NUM_DRAWS, noise=NOISE, generator=torch.Generator().manual_seed(5)
            )
            lines.append(score(name, acceleration, draws.float(), draws.float().mean(1), truth, changes))
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
        draws = found.draws
        lines.append(score("network", acceleration, draws, draws.mean(1), truth, changes))
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Measure, fit mixtures to completions, train and complete in turn, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with data.npz of prior.py")
    parser.add_argument("--out", type=Path, default=Path("runs/undersampled"))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--masks-each", type=int, default=8, help="masks of each acceleration")
    parser.add_argument("--gaussians", type=int, default=15, help="fits of the Gaussian")
    parser.add_argument("--mixtures", type=int, default=40, help="fits of the mixture, the last of which is the base")
    parser.add_argument("--hidden", type=float, default=0.0, help="weight of errors at frequencies that are not measured")
    parser.add_argument("--seconds", type=float, default=200.0, help="of the processor, before the first round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds-each", type=float, default=80.0, help="of the training of a round, of the processor")
    parser.add_argument("--num-parts", type=int, default=2, help="a round draws one of so many parts of the rows again")
    parser.add_argument("--look", type=int, default=8)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--only-score", action="store_true", help="the saved weights of an earlier run")
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
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(3))
    test = to_rows(data.test[order[100:600]], torch.Generator().manual_seed(3))
    rows: Tensor = measured.zero_filled()
    for index in range(args.gaussians):
        rows = measured.completed(gaussian(rows), generator)
        tell(f"Gaussian {index}: mean variance {float(rows.var(0).mean()):.4f}")
    exact = {"Gaussian": fit_factor_analysers(rows, FactorSize(1, 96), num_passes=12, generator=generator)}
    if args.only_score:
        model = PROBLEMS["small digits"].load(args.out / "prior.safetensors")
        exact["mixture"] = cast("FactorAnalysers", model.base)
        rows = measured.completed(exact["mixture"], generator)
        for line in looked_at(model, exact, truth, changes, rows):
            keep(line, args.out / "undersampled.jsonl")
        return
    for index in range(args.mixtures - 1):
        rows = measured.completed(factor_analysers(rows), generator)
        tell(f"mixture {index}: mean variance {float(rows.var(0).mean()):.4f}")
    problem = PROBLEMS["small digits"]
    exact["mixture"] = factor_analysers(rows)
    rows = measured.completed(exact["mixture"], generator)
    model = problem.new_model(exact["mixture"])
    training = MeasuredScoreMatching(
        model, problem.batch, args.out / "prior.safetensors", masks=measured.masks, hidden=args.hidden
    )
    whole = args.seconds + args.rounds * args.seconds_each
    training.run(rows, args.seconds, end=args.seconds / whole)
    tell("completed and trained, gain {:.2f} +- {:.2f}".format(*gain(training.averaged(), test)))
    for index in range(args.rounds):
        current = training.averaged()
        redrawn = measured.redrawn(current, rows, index % args.num_parts, args.num_parts, generator)
        moved = float((redrawn - rows).square().mean().sqrt())
        rows = redrawn
        tell(f"round {index}: rows moved by {moved:.4f}")
        gone = args.seconds + index * args.seconds_each
        training.run(rows, args.seconds_each, begin=gone / whole, end=(gone + args.seconds_each) / whole)
        tell("gain {:.2f} +- {:.2f}".format(*gain(training.averaged(), test)))
        if (index + 1) % args.look == 0 or index + 1 == args.rounds:
            lines = looked_at(training.averaged(), exact, truth, changes, rows)
            for line in lines:
                keep({"round": index + 1} | line, args.out / "undersampled.jsonl")
            tell("scored")


if __name__ == "__main__":
    main()
