"""Undersampled digits of 28 x 28 pixels, and phantoms of 64 x 64 with four coils, under the networks of larger_prior.py.

    python -m tests.benchmarks.neighbours.larger_undersampled phantoms runs/phantoms --figure docs/images/mri_phantoms.png
    python -m tests.benchmarks.neighbours.larger_undersampled "digits of many levels" runs/digits28 --source mnist.npz \
        --exact-base

Phantoms: columns of frequencies, one in R with the central ones, four coils, noise of 0.02 in each part. Digits: random
frequencies, one in R with the central 3 x 3, white noise of 0.05 in the range [-1, 1]. Rivals are exact posteriors: a
Gaussian of many factors, a mixture of factor analysers at least as large as the network's base, and that base.
The network's draws are those of ``sample_measured_rows``. With ``--exact-base`` they are those of ``sample_measured``, which
conditions the base exactly, one image after the other. Every posterior gives 19 draws, whose mean is scored; phantoms by its
magnitude. Intervals reach from the least to the largest draw, and cover 0.9 if truth and draws come from one posterior.
"Inside" counts pixels whose truth is not black. The spread is the standard deviation of the draws over the error of their
mean, root mean squares of both.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.inverse_problems import (
    ConditionedBase,
    DenoisingErrors,
    MeasuredRowSettings,
    MeasuredSettings,
    Measurements,
    sample_factor_posterior,
    sample_measured,
    sample_measured_rows,
)
from drl_density.operators import (
    Coils,
    ComplexPairs,
    GramBlocks,
    LinearOperator,
    MaskedFourier,
    center_mask,
    smooth_maps,
)
from tests.benchmarks.mri import images, psnr, ssim
from tests.benchmarks.neighbours.larger_prior import NUM_PHANTOMS, PHANTOM_SCALE, PROBLEMS, digit_rows, phantom_rows
from tests.benchmarks.neighbours.undersampled import RealImages, random_mask

NUM_DRAWS, CENTER = 19, {2: 0.08, 4: 0.08, 8: 0.0625}


@dataclass(frozen=True)
class Images:
    """What differs between the kinds of images.

    Attributes:
        train: rows that priors are fitted to.
        test: rows that are measured.
        noise: standard deviation of the measurement noise, in units of the rows.
        operator: the operator of an acceleration.
        groups: coordinates that it leaves apart, None for all together.
        to_image: images of rows, whose magnitudes are scored.
        rivals: sizes of the exact priors.
    """

    train: Tensor
    test: Tensor
    noise: float
    operator: Callable[[int], LinearOperator]
    groups: Tensor | None
    to_image: Callable[[Tensor], Tensor]
    rivals: dict[str, FactorSize]


def digits(source: Path, num_images: int) -> Images:
    """Real digits in [-1, 1]."""
    return Images(
        digit_rows(source, "train", 50_000, 0),
        digit_rows(source, "test", num_images, 1),
        0.05,
        lambda r: RealImages(MaskedFourier(random_mask(r, torch.Generator().manual_seed(4), 28)), 28),
        None,
        lambda rows: ((rows + 1) / 2).reshape(-1, 28, 28),
        {"Gaussian": FactorSize(1, 256), "mixture of 48": FactorSize(48, 16)},
    )


def phantoms(num_images: int) -> Images:
    """Complex phantoms."""

    def operator(r: int) -> LinearOperator:
        mask = center_mask(
            64, 64, acceleration=r, center_share=CENTER[r], generator=torch.Generator().manual_seed(4)
        )
        return ComplexPairs(Coils(smooth_maps(4, 64), MaskedFourier(mask)))

    return Images(
        phantom_rows(NUM_PHANTOMS, 0),
        phantom_rows(num_images, 2),
        0.02 * PHANTOM_SCALE,
        operator,
        torch.arange(8192).reshape(2, 64, 64).permute(1, 0, 2).reshape(64, 128),
        lambda rows: images(rows / PHANTOM_SCALE, 64),
        {"Gaussian": FactorSize(1, 64), "mixture of 8": FactorSize(8, 24)},
    )


def measure(operator: LinearOperator, truth: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Noisy measurements of images: noise of real images before the transform, of complex ones after it."""
    if isinstance(operator, RealImages):
        return operator.forward(truth + noise * torch.randn(truth.shape, generator=generator))
    y = operator.forward(truth)
    scatter = torch.complex(*(noise * torch.randn(y.shape, generator=generator) for _ in range(2)))
    return y + scatter * (y != 0)


def score(prior: str, acceleration: int, draws: Tensor, truth: Tensor, kind: Images) -> dict[str, object]:
    """One line of the table, from draws ``(n, draw, d)``."""
    mean = draws.mean(1)
    found, exact = kind.to_image(mean), kind.to_image(truth)
    ratio, similarity = psnr(found, exact), ssim(found, exact)
    is_covered = (truth >= draws.amin(1)) & (truth <= draws.amax(1))
    is_inside = (exact.abs() > 0.05).flatten(1).repeat(1, truth.shape[1] // exact[0].numel())
    count = math.sqrt(len(truth))
    line: dict[str, object] = {
        "R": acceleration,
        "prior": prior,
        "psnr": float(ratio.mean()),
        "ssim": float(similarity.mean()),
        "coverage": float(is_covered.float().mean()),
        "coverage_error": float(is_covered.float().mean(1).std()) / count,
        "coverage_inside": float(is_covered[is_inside].float().mean()),
        "spread_over_error": float(draws.std(1).square().mean().sqrt() / (mean - truth).square().mean().sqrt()),
        "each": [round(float(value), 2) for value in ratio],
    }
    print(json.dumps(line), flush=True)
    return line


def main(arguments: list[str] | None = None) -> None:
    """Fit the rivals, measure, reconstruct with each prior, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=["digits", "digits of many levels", "phantoms"])
    parser.add_argument("folder", type=Path, help="of larger_prior.py")
    parser.add_argument("--source", type=Path, help="MNIST as .npz with x_train and x_test")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--accelerations", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--final-steps", type=int, default=30)
    parser.add_argument("--walk-steps", type=int, default=30)
    parser.add_argument("--error-rows", type=int, default=160, help="training rows that the errors are fitted to")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--exact-base", action="store_true", help="draw by sample_measured, one image after the other")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.process_time()
    kind = phantoms(args.images) if args.problem == "phantoms" else digits(args.source, args.images)
    model = PROBLEMS[args.problem].load(args.folder / "prior.safetensors")
    assert isinstance(model.base, FactorAnalysers)
    exact = {"base": model.base}
    for name, size in {} if args.no_rivals else kind.rivals.items():
        exact[name] = fit_factor_analysers(kind.train, size, num_passes=6, generator=torch.Generator().manual_seed(0))
    print(f"priors: {time.process_time() - began:.0f} s", flush=True)
    errors = None
    if not args.exact_base:
        rows = kind.train[: args.error_rows].reshape(-1, *model.event_shape)
        errors = DenoisingErrors.fit(model, rows, num_steps=args.walk_steps, generator=torch.Generator().manual_seed(7))
        factors = [wide.shape[1] - 1 for wide in errors.loadings]
        print(f"errors: {time.process_time() - began:.0f} s, factors {factors}", flush=True)
    shown: dict[int, dict[str, Tensor]] = {}
    for acceleration in args.accelerations:
        operator = kind.operator(acceleration)
        gram = GramBlocks(operator, tuple(model.event_shape), kind.groups)
        truth = kind.test
        y = measure(
            operator,
            truth.reshape(-1, *model.event_shape),
            kind.noise,
            torch.Generator().manual_seed(acceleration),
        )
        measured, shown[acceleration] = Measurements.of(gram, y), {"zero-filled": gram.adjoint(y)[:1, None].float()}
        lines = []
        for name, base in exact.items():
            draws = sample_factor_posterior(
                base, gram, measured, NUM_DRAWS, noise=kind.noise, generator=torch.Generator().manual_seed(5)
            ).float()
            lines.append(score(name, acceleration, draws, truth, kind))
            shown[acceleration][name] = draws[0]
        started = time.process_time()
        if errors is None:
            draws, rate = one_by_one(model, operator, y, kind.noise, args.final_steps)
        else:
            found = sample_measured_rows(
                model,
                gram,
                y,
                NUM_DRAWS,
                errors=errors,
                noise=kind.noise,
                settings=MeasuredRowSettings(num_final_steps=args.final_steps, batch_size=NUM_DRAWS * 2),
                generator=torch.Generator().manual_seed(6),
            )
            draws, rate = found.draws.flatten(2), float(found.stats["acceptance_rate"].mean())
        line = score("network", acceleration, draws, truth, kind) | {"exact_base": args.exact_base}
        lines.append(line | {"seconds": round(time.process_time() - started, 1), "acceptance": round(rate, 3)})
        print(f"{lines[-1]['seconds']} s, acceptance {rate:.3f}", flush=True)
        shown[acceleration]["network"] = draws[0]
        with (args.folder / "undersampled.jsonl").open("a") as file:
            file.writelines(json.dumps(each) + "\n" for each in lines)
    print(f"{time.process_time() - began:.0f} s of the processor")
    torch.save({"truth": kind.test[:1], "shown": shown}, args.folder / "undersampled.pt")
    if args.figure:
        draw_figure(args.figure, kind, shown)


def one_by_one(
    model: drl.EnergySequence, operator: LinearOperator, y: Tensor, noise: float, num_final_steps: int
) -> tuple[Tensor, float]:
    """Draws of ``sample_measured`` ``(n, draw, d)``, and the acceptance rate of its last steps."""
    conditioned, generator = ConditionedBase.of(model, operator, noise=noise), torch.Generator().manual_seed(6)
    settings = MeasuredSettings(num_final_steps=num_final_steps)
    found = [
        sample_measured(
            model, operator, one, NUM_DRAWS, noise=noise, settings=settings, conditioned=conditioned, generator=generator
        )
        for one in y
    ]
    rates = torch.stack([each.stats["acceptance_rate"][-1] for each in found])
    return torch.stack([each.draws for each in found]), float(rates.mean())


def draw_figure(path: Path, kind: Images, shown: dict[int, dict[str, Tensor]]) -> None:
    """One image: truth, zero-filled, magnitudes of the means, and standard deviations, a row per acceleration."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in next(iter(shown.values())) if name not in ("zero-filled", "base")]
    figure = Figure(figsize=(11, 1.4 * len(shown) + 0.3), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 2 + 2 * len(names), squeeze=False)
    truth = kind.to_image(kind.test[:1])[0].abs()
    top = float(truth.max())
    for row, (acceleration, parts) in zip(axes, shown.items(), strict=True):
        means = [truth, *(kind.to_image(parts[name].mean(0)[None])[0].abs() for name in ("zero-filled", *names))]
        spreads = [kind.to_image(parts[name]).std(0) for name in names]
        for axis, image in zip(row, means, strict=False):
            axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=top)
        for axis, image in zip(row[len(means) :], spreads, strict=True):
            axis.imshow(image.numpy(), cmap="magma", vmin=0, vmax=0.15 * top)
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(f"R = {acceleration}")
    for axis, title in zip(axes[0], ["truth", "zero-filled", *names, *(f"sd, {name}" for name in names)], strict=True):
        axis.set_title(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=64)


if __name__ == "__main__":
    main()
