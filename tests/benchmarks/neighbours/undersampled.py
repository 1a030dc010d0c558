"""Undersampled digits: posterior draws of the network of prior.py, beside exact ones of priors without a network.

    python -m tests.benchmarks.neighbours.undersampled runs/neighbours --figure docs/images/mri_network.png
    python -m tests.benchmarks.neighbours.undersampled runs/neighbours --images 2 --accelerations 4 --methods annealed

14 x 14 MNIST, real images with white noise of 0.05 in the range [-1, 1]. Frequencies are measured at random, one in R,
the central 3 x 3 always, and each together with its conjugate. Exact posteriors: a Gaussian, a mixture of 20, and the
mixture of factor analysers that the network starts from. Network: "measured", ``sample_measured``; "projected", the
method of score-MRI (predictor, two adjusted corrector steps, hard projection); "guided", diffusion posterior sampling
(DPS); "annealed", weighted particles along the noise levels and adjusted chains at level 0 (``sample_posterior``). Every
posterior gives 39 draws, whose mean is scored in grey levels from 0 to 1. Intervals reach from the second to the last but
one of the draws, which cover 0.9 if truth and draws come from one posterior. They are counted at pixels that are not
black in all training images, and once more ("strokes") at those whose truth is above a twentieth of white or whose draws
have a standard deviation of more than a fortieth. The spread is the standard deviation of the draws over the error of
their mean, root mean squares of both.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import drl_density as drl
from drl_density.inverse_problems import (
    ConditionedBase,
    DPSSettings,
    MeasuredSettings,
    gaussian_likelihood,
    sample_dps,
    sample_measured,
    sample_posterior,
    sample_projected,
)
from drl_density.operators import MaskedFourier
from drl_density.partition_function import AISSettings
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings
from tests.benchmarks.mri import ExactPosterior, fit_mixture, ssim
from tests.benchmarks.neighbours.prior import SIDE, Prior, to_rows

NOISE, NUM_DRAWS = 0.05, 39


class RealImages:
    """Measured frequencies, in conjugate pairs, of flat rows of real images."""

    def __init__(self, inner: MaskedFourier, side: int = SIDE) -> None:
        self.inner, self.side = inner, side

    def forward(self, x: Tensor) -> Tensor:
        """Measurements of flat rows ``(n, side^2)``."""
        images = x.reshape(-1, self.side, self.side)
        return self.inner.forward(torch.complex(images, torch.zeros_like(images)))

    def adjoint(self, y: Tensor) -> Tensor:
        """Flat rows of A* y, the adjoint for the real inner product."""
        return self.inner.adjoint(y).real.flatten(1)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest rows whose measured frequencies are ``y``, those of a real image."""
        images = x.reshape(-1, self.side, self.side)
        return self.inner.project(torch.complex(images, torch.zeros_like(images)), y).real.flatten(1)


def random_mask(acceleration: int, generator: torch.Generator, side: int = SIDE) -> Tensor:
    """Mask of one frequency in ``acceleration``: the central 3 x 3 ones, and random ones with their conjugates."""
    middle, mask = side // 2, torch.zeros(side, side, dtype=torch.bool)
    mask[middle - 1 : middle + 2, middle - 1 : middle + 2] = True
    for place in torch.randperm(side * side, generator=generator).tolist():
        if int(mask.sum()) >= side * side / acceleration:
            return mask
        row, column = divmod(place, side)
        mask[row, column] = mask[-row % side, -column % side] = True
    return mask


def rows_of(data: drl.Dataset, num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """20,000 training rows, and random test rows."""
    train = to_rows(data.train[:20_000], generator)
    order = torch.randperm(len(data.test), generator=generator)
    return train, to_rows(data.test[order[:num_images]], generator)


def grey(rows: Tensor) -> Tensor:
    """Images ``(n, side, side)`` in [0, 1] of flat rows."""
    side = math.isqrt(rows.shape[-1])
    return ((rows + 1) / 2).reshape(-1, side, side)


def score(name: str, acceleration: int, draws: Tensor, mean: Tensor, truth: Tensor, changes: Tensor) -> dict[str, object]:
    """One line of the table, from draws ``(n, draw, d)``."""
    error = (grey(mean) - grey(truth)).square().mean((1, 2))
    ratio = -10 * torch.log10(error)
    ordered = draws.sort(1).values
    is_covered = (truth >= ordered[:, 1]) & (truth <= ordered[:, -2])
    covered = is_covered[:, changes].float().mean(1)
    strokes = changes & ((truth > -0.9) | (draws.std(1) > 0.05))
    spread = draws.std(1)[:, changes].square().mean().sqrt() / (mean - truth)[:, changes].square().mean().sqrt()
    count = math.sqrt(len(truth))
    found = {
        "R": acceleration,
        "prior": name,
        "psnr": float(ratio.mean()),
        "psnr_error": float(ratio.std()) / count,
        "ssim": float(ssim(grey(mean), grey(truth)).mean()),
        "coverage": float(covered.mean()),
        "coverage_error": float(covered.std()) / count,
        "coverage_of_strokes": float(is_covered[strokes].float().mean()),
        "spread_over_error": float(spread),
        "each": [round(float(value), 2) for value in ratio],
    }
    print(json.dumps(found), flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure, reconstruct with each prior, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of prior.py")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--accelerations", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--methods", nargs="*", default=["measured"], help="or projected, guided, annealed")
    parser.add_argument("--final-steps", type=int, default=MeasuredSettings().num_final_steps, help="of measured")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--only-figure", action="store_true", help="of the draws that earlier runs left")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept = args.folder / "undersampled.pt"
    if args.only_figure:
        draw_figure(args.figure, **torch.load(kept))
        return
    prior, out, began = Prior.load(args.folder), args.folder / "undersampled.jsonl", time.process_time()
    generator = torch.Generator().manual_seed(3)
    train, truth = rows_of(prior.data, args.images, generator)
    changes = prior.data.train[:20_000].flatten(1).amax(0) > 0
    exact = {"Gaussian": fit_mixture(train, 1, generator), "mixture of 20": fit_mixture(train, 20, generator)}
    shown: dict[int, dict[str, Tensor]] = {}
    for acceleration in args.accelerations:
        mask = random_mask(acceleration, torch.Generator().manual_seed(4))
        operator = RealImages(MaskedFourier(mask))
        scatter = torch.randn(truth.shape, generator=torch.Generator().manual_seed(acceleration))
        y = operator.forward(truth + NOISE * scatter)
        for name, fitted in exact.items():
            posterior, measured = ExactPosterior(fitted, operator.forward, NOISE), torch.view_as_real(y).flatten(1)
            draws = posterior(measured, NUM_DRAWS, 1.0, torch.Generator().manual_seed(5))[1]
            keep(score(name, acceleration, draws, draws.mean(1), truth, changes), out)
            shown.setdefault(acceleration, {})[name] = draws[0]
        conditioned = ConditionedBase.of(prior.model, operator, noise=NOISE)
        generator_of_draws = torch.Generator().manual_seed(5)
        draws = torch.stack([conditioned(one).sample(NUM_DRAWS, generator=generator_of_draws) for one in y])
        keep(score("analysers", acceleration, draws, draws.mean(1), truth, changes), out)
        shown[acceleration]["analysers"] = draws[0]
        for name, call in network_calls(prior, operator, args.methods, conditioned, args.final_steps).items():
            started = time.process_time()
            draws = torch.stack([call(one) for one in y])
            line = score(f"network, {name}", acceleration, draws, draws.mean(1), truth, changes)
            keep(line | {"seconds": round(time.process_time() - started, 1)}, out)
            shown[acceleration][f"network, {name}"] = draws[0]
        shown[acceleration]["zero-filled"] = operator.adjoint(y)[:1]
    print(f"{time.process_time() - began:.0f} s of the processor")
    shown = (torch.load(kept)["shown"] if kept.exists() else {}) | shown  # accelerations may come in several runs
    torch.save({"truth": truth[0], "shown": dict(sorted(shown.items()))}, kept)
    if args.figure:
        draw_figure(args.figure, truth[0], shown)


def keep(line: dict[str, object], out: Path) -> None:
    """Append a line to the record."""
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")


def network_calls(
    prior: Prior, operator: RealImages, methods: list[str], conditioned: ConditionedBase, num_final_steps: int
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Samplers of the network's posterior given one measurement; draws are denoised at level 0."""
    model, walk = prior.model, DDIMSettings(num_steps=30, eta=1.0)

    def measured(y: Tensor) -> Tensor:
        settings, generator = MeasuredSettings(num_final_steps=num_final_steps), torch.Generator().manual_seed(6)
        return sample_measured(
            model, operator, y, NUM_DRAWS, noise=NOISE, settings=settings, conditioned=conditioned, generator=generator
        ).draws

    def projected(y: Tensor) -> Tensor:
        settings, generator = PredictorCorrectorSettings(walk), torch.Generator().manual_seed(6)
        return sample_projected(model, operator, y, NUM_DRAWS, settings=settings, generator=generator).draws

    def guided(y: Tensor) -> Tensor:
        settings, generator = DPSSettings(walk, strength=0.5), torch.Generator().manual_seed(6)
        return model.denoise(sample_dps(model, operator, y, NUM_DRAWS, settings=settings, generator=generator).draws, 0)

    def annealed(y: Tensor) -> Tensor:
        found = sample_posterior(
            model,
            gaussian_likelihood(model, operator, y, noise=NOISE),
            NUM_DRAWS,
            settings=AISSettings(num_particles=32, num_replicates=2, num_transitions=2, num_pilot_particles=32),
            steps_per_level=4,
            num_final_steps=60,
            generator=torch.Generator().manual_seed(6),
        )
        return model.denoise(found.draws, 0)

    calls = {"measured": measured, "projected": projected, "guided": guided, "annealed": annealed}
    return {name: calls[name] for name in methods}


def draw_figure(path: Path, truth: Tensor, shown: dict[int, dict[str, Tensor]]) -> None:
    """One digit: truth, zero-filled, means and standard deviations, a row per acceleration."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = ["Gaussian", "mixture of 20", "analysers", "network, measured"]
    figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 2 + 2 * len(names), squeeze=False)
    for row, (acceleration, parts) in zip(axes, shown.items(), strict=True):
        means = [truth, parts["zero-filled"][0], *(parts[name].mean(0) for name in names)]
        for axis, image in zip(row, means, strict=False):
            axis.imshow(grey(image)[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        for axis, name in zip(row[len(means) :], names, strict=True):
            axis.imshow(parts[name].std(0).reshape(SIDE, SIDE).numpy() / 2, cmap="magma", vmin=0, vmax=0.3)
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(f"R = {acceleration}", fontsize=12)
    short = ["Gaussian", "mixture\nof 20", "factor\nanalysers", "network"]
    for axis, title in zip(axes[0], ["truth", "zero-filled", *short, *short], strict=True):
        axis.set_title(title, fontsize=12)
    for axis, title in ((axes[-1][3], "means of the draws"), (axes[-1][7], "standard deviations")):
        axis.set_xlabel(title, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
