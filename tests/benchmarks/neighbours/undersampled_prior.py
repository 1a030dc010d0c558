"""A network that has seen undersampled digits alone, for undersampled.py: no training row is known at all frequencies.

    python -m tests.benchmarks.neighbours.undersampled_prior runs/neighbours --out runs/undersampled --seconds 150
    python -m tests.benchmarks.neighbours.undersampled runs/undersampled

Each of 12,000 training digits is measured once, with noise of 0.05, at the frequencies of one of 12 random masks: four
for each acceleration of 2, 3 and 4. Rows are completed by exact posterior draws of a Gaussian, which is fitted to its own
completions again and again (stochastic expectation maximisation), then by those of the mixture of factor analysers, in
the same way. The last mixture is the base of the network, and completions by it are the network's training rows.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

import drl_density as drl
from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.inverse_problems import ConditionedBase
from drl_density.operators import MaskedFourier
from tests.benchmarks.neighbours.prior import SIDE, factor_analysers, fit, gaussian, to_rows
from tests.benchmarks.neighbours.undersampled import NOISE, RealImages, random_mask

NUM_ROWS, MASKS_EACH, ACCELERATIONS = 12_000, 4, (2, 3, 4)


class Measured:
    """Rows that are known through their measurements alone, in groups of one mask.

    Args:
        rows: the whole rows ``(n, d)``, which are measured here and not kept.
        generator: source of the noise.
    """

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        masks = [
            random_mask(r, torch.Generator().manual_seed(100 * r + i)) for r in ACCELERATIONS for i in range(MASKS_EACH)
        ]
        self.operators = [RealImages(MaskedFourier(mask)) for mask in masks]
        noisy = rows + NOISE * torch.randn(rows.shape, generator=generator)
        parts = noisy.chunk(len(masks))
        self.measurements = [a.forward(part) for a, part in zip(self.operators, parts, strict=True)]

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


def main(arguments: list[str] | None = None) -> None:
    """Measure, fit mixtures to completions, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of prior.py, for the digits and the classifier")
    parser.add_argument("--out", type=Path, default=Path("runs/undersampled"))
    parser.add_argument("--seconds", type=float, default=150.0, help="of the network's training, of the processor")
    parser.add_argument("--gaussians", type=int, default=8, help="fits of the Gaussian")
    parser.add_argument("--mixtures", type=int, default=3, help="fits of the mixture, the last of which is the base")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("data.npz", "classifier.safetensors"):
        shutil.copyfile(args.folder / name, args.out / name)
    generator, began = torch.Generator().manual_seed(11), time.process_time()
    data = drl.load_dataset(str(args.out / "data.npz"), seed=0)
    measured = Measured(to_rows(data.train[:NUM_ROWS], generator), generator)
    rows: Tensor = measured.zero_filled()
    for index in range(args.gaussians):
        rows = measured.completed(gaussian(rows), generator)
        print(
            f"Gaussian {index}: mean variance {float(rows.var(0).mean()):.4f}, {time.process_time() - began:.0f} s",
            flush=True,
        )
    for index in range(args.mixtures - 1):
        rows = measured.completed(factor_analysers(rows), generator)
        print(
            f"mixture {index}: mean variance {float(rows.var(0).mean()):.4f}, {time.process_time() - began:.0f} s",
            flush=True,
        )
    base = factor_analysers(rows)
    rows = measured.completed(base, generator, num_draws=2)
    print(f"completed after {time.process_time() - began:.0f} s", flush=True)
    # fit() makes rows of grey levels, and adds the noise of their dequantisation again: a fiftieth of the measurement's.
    seen = cast("Any", SimpleNamespace(train=(rows + 1) * 128 - 0.5))
    fit(seen, args.out / "prior.safetensors", args.seconds, generator, base=base, rate=1e-3, clip=20.0)


if __name__ == "__main__":
    main()
