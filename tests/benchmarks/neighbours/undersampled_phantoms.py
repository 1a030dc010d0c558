"""Priors of complex phantoms of 64 x 64 pixels that have seen undersampled measurements of four coils alone.

    python -m tests.benchmarks.neighbours.undersampled_phantoms --out runs/undersampled_phantoms

Each training phantom is measured once by four coils, with noise of 0.02 in each part, at one column of frequencies in two
(or in R) with the central ones, by one of several random masks. A Gaussian, and then a mixture of factor analysers, are
fitted to their own completions of these rows, by exact posterior draws (stochastic expectation maximisation). A U-Net energy
over the mixture learns the rest from its last completions, by score matching. All three are scored as in
larger_undersampled.py, on the same test phantoms and masks, at twofold to eightfold acceleration. No training phantom is
known at all frequencies; the printed errors of completions use the true ones, and nothing else does.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.inverse_problems import (
    DenoisingErrors,
    MeasuredRowSettings,
    Measurements,
    sample_factor_posterior,
    sample_measured_rows,
)
from drl_density.operators import Coils, ComplexPairs, GramBlocks, MaskedFourier, center_mask, smooth_maps
from tests.benchmarks.neighbours.larger_prior import PROBLEMS, ScoreMatching, phantom_rows
from tests.benchmarks.neighbours.larger_undersampled import NUM_DRAWS, measure, phantoms, score

EVENT, CENTER = (2, 64, 64), 0.08
KIND = phantoms(8)
SIZES = {"Gaussian": FactorSize(1, 64), "mixture of 8": FactorSize(8, 24)}


class Measured:
    """Phantoms that are known through their measurements alone, in groups of one mask.

    Args:
        rows: the whole rows ``(n, d)``, kept for the error of completions alone.
        acceleration: one over the share of the columns that are measured.
        num_masks: number of masks, and of groups.
        generator: source of the noise.
    """

    def __init__(self, rows: Tensor, acceleration: int, num_masks: int, generator: torch.Generator) -> None:
        self.rows, self.grams, self.measurements = rows, [], []
        for index, part in enumerate(rows.chunk(num_masks)):
            random = torch.Generator().manual_seed(100 * acceleration + index)
            mask = center_mask(64, 64, acceleration=acceleration, center_share=CENTER, generator=random)
            operator = ComplexPairs(Coils(smooth_maps(4, 64), MaskedFourier(mask)))
            gram = GramBlocks(operator, EVENT, KIND.groups)
            y = measure(operator, part.reshape(-1, *EVENT), KIND.noise, generator)
            self.grams.append(gram)
            self.measurements.append(Measurements.of(gram, y))

    def zero_filled(self) -> Tensor:
        """The adjoint of every measurement, ``(n, d)``."""
        return torch.cat([measured.pulled for measured in self.measurements]).float()

    def completed(self, base: FactorAnalysers, generator: torch.Generator) -> Tensor:
        """An exact posterior draw of every row under a base, ``(n, d)``."""
        parts = [
            sample_factor_posterior(base, gram, measured, 1, noise=KIND.noise, generator=generator)[:, 0].float()
            for gram, measured in zip(self.grams, self.measurements, strict=True)
        ]
        return torch.cat(parts)

    def error(self, completed: Tensor) -> float:
        """Root mean squared error of completions."""
        return float((completed - self.rows).square().mean().sqrt())


def main(arguments: list[str] | None = None) -> None:
    """Measure, fit mixtures to completions, train an energy on them, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/undersampled_phantoms"))
    parser.add_argument("--rows", type=int, default=3072)
    parser.add_argument("--acceleration", type=int, default=2, help="of the training rows")
    parser.add_argument("--masks", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2, help="fits of the Gaussian, and of the mixture")
    parser.add_argument("--seconds", type=float, default=240.0, help="of the processor, for the energy")
    parser.add_argument("--accelerations", type=int, nargs="*", default=[2, 4, 8], help="of the test phantoms")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    generator, began = torch.Generator().manual_seed(11), time.process_time()

    def tell(what: str) -> None:
        print(f"{what}, {time.process_time() - began:.0f} s", flush=True)

    measured = Measured(phantom_rows(args.rows, 0), args.acceleration, args.masks, generator)
    rows, exact = measured.zero_filled(), {}
    tell(f"measured: error of zero-filled rows {measured.error(rows):.4f}")
    for name, size in SIZES.items():
        for index in range(args.rounds):
            exact[name] = fit_factor_analysers(rows, size, num_passes=4, generator=generator)
            rows = measured.completed(exact[name], generator)
            tell(f"{name} {index}: error {measured.error(rows):.4f}")
    problem = replace(PROBLEMS["phantoms"], base=SIZES["mixture of 8"])
    training = ScoreMatching(problem.new_model(exact["mixture of 8"]), problem.batch, args.out / "prior.safetensors")
    training.run(rows, args.seconds)
    model = training.averaged()
    errors = DenoisingErrors.fit(model, rows[:160].reshape(-1, *EVENT), generator=torch.Generator().manual_seed(7))
    tell("energy trained")
    for acceleration in args.accelerations:
        gram = GramBlocks(operator := KIND.operator(acceleration), EVENT, KIND.groups)
        truth, noise = KIND.test, KIND.noise
        y = measure(operator, truth.reshape(-1, *EVENT), noise, torch.Generator().manual_seed(acceleration))
        draws = {
            name: sample_factor_posterior(
                base,
                gram,
                Measurements.of(gram, y),
                NUM_DRAWS,
                noise=noise,
                generator=torch.Generator().manual_seed(5),
            ).float()
            for name, base in exact.items()
        }
        draws["energy"] = sample_measured_rows(
            model,
            gram,
            y,
            NUM_DRAWS,
            errors=errors,
            noise=noise,
            settings=MeasuredRowSettings(num_final_steps=30, batch_size=NUM_DRAWS * 2),
            generator=torch.Generator().manual_seed(6),
        ).draws.flatten(2)
        with (args.out / "undersampled.jsonl").open("a") as file:
            for name, each in draws.items():
                file.write(json.dumps(score(name, acceleration, each, truth, KIND)) + "\n")
    tell("scored")


if __name__ == "__main__":
    main()
