"""Undersampled images: exact posteriors of learned priors beside zero filling and total variation.

    python tests/benchmarks/mri.py --out mri.json --figure docs/images/mri.png

Prior: one Gaussian, and a mixture of Gaussians, fitted to random phantoms (the fixed base of an energy sequence; no network
is trained here, so that every posterior is exact). Measurement: columns of frequencies with noise of 0.02 in each part, one
coil, or four (SENSE). Total variation: min 1/2 |A x - y|^2 + ridge/2 |x|^2 + lambda TV(x), ridge 1e-3, by primal-dual steps
to a relative duality gap of 1e-3, lambda chosen on validation phantoms; the covariance of each posterior is multiplied by
one factor, chosen on the same phantoms, so that 90 % intervals of the real and imaginary parts hold 90 %. Figures over 50
test phantoms, paired. Guided (DPS) and projected draws with the same Gaussian prior on the first phantoms, against its exact
posterior. About half a minute of one core.
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
from torch.nn import functional

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.datasets.phantoms import ellipse_phantoms
from drl_density.inverse_problems import DPSSettings, sample_dps, sample_projected
from drl_density.operators import (
    Coils,
    ComplexPairs,
    MaskedFourier,
    center_mask,
    root_sum_of_squares,
    shepp_logan,
    smooth_maps,
)
from drl_density.operators.fourier import to_frequency, to_image
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings

NOISE, RIDGE, GAP = 0.02, 1e-3, 1e-3
LAMBDAS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
CENTER = {2: 0.17, 4: 0.13, 8: 0.13}


def pairs(images: Tensor) -> Tensor:
    """Complex images as flat real rows ``(n, 2 h w)``."""
    return torch.stack([images.real, images.imag], 1).flatten(1)


def images(rows: Tensor, size: int) -> Tensor:
    """The inverse of :func:`pairs`."""
    parts = rows.reshape(-1, 2, size, size)
    return torch.complex(parts[:, 0], parts[:, 1])


def fit_mixture(rows: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and covariances of ``count`` groups found by k-means on 20 principal axes, each shrunk to the whole."""
    whole = rows.T.cov()
    if count == 1:
        return torch.ones(1), rows.mean(0)[None], whole[None] + 1e-4 * torch.eye(rows.shape[1])
    axes = torch.linalg.eigh(whole.double())[1][:, -20:].float()
    small = rows @ axes
    centers = small[torch.randperm(len(rows), generator=generator)[:count]]
    for _ in range(20):
        group = torch.cdist(small, centers).argmin(1)
        centers = torch.stack([small[group == index].mean(0) for index in range(count)])
    parts = [rows[group == index] for index in range(count)]
    shared = 0.3 * sum(len(part) / len(rows) * part.T.cov() for part in parts)
    covariances = torch.stack([0.7 * part.T.cov() + shared + 1e-4 * torch.eye(rows.shape[1]) for part in parts])
    weights = torch.tensor([len(part) / len(rows) for part in parts])
    return weights, torch.stack([part.mean(0) for part in parts]), covariances


class ExactPosterior:
    """Posterior of a Gaussian mixture under y = A x + noise: again a mixture, the same covariances for every y."""

    def __init__(
        self, prior: tuple[Tensor, Tensor, Tensor], forward: Callable[[Tensor], Tensor], noise: float = NOISE
    ) -> None:
        weights, self.means, covariances = prior
        eye = torch.eye(self.means.shape[1])
        self.matrix = real(forward(eye)).T
        self.is_measured = self.matrix.abs().sum(1) > 0
        self.matrix = self.matrix[self.is_measured]
        self.factors, self.gains, self.evidence = [], [], []
        for weight, covariance in zip(weights, covariances, strict=True):
            innovation = self.matrix @ covariance @ self.matrix.T + noise**2 * torch.eye(len(self.matrix))
            factor = torch.linalg.cholesky(innovation)
            gain = torch.cholesky_solve(self.matrix @ covariance, factor).T
            left = covariance - gain @ self.matrix @ covariance
            self.gains.append(gain)
            self.factors.append(torch.linalg.cholesky(0.5 * (left + left.T) + 1e-6 * eye))
            self.evidence.append((weight.log() - factor.diagonal().log().sum(), factor))

    def __call__(self, y: Tensor, num_draws: int, factor: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(means ``(n, d)``, draws ``(n, num_draws, d)`` with covariances times ``factor``) for measurements ``(n, m)``."""
        residuals = [y[:, self.is_measured] - mean @ self.matrix.T for mean in self.means]
        logs = []
        for (constant, root), residual in zip(self.evidence, residuals, strict=True):
            logs.append(constant - 0.5 * torch.linalg.solve_triangular(root, residual.T, upper=False).square().sum(0))
        shares = torch.stack(logs, 1).softmax(1)
        centers = torch.stack([m + r @ g.T for m, r, g in zip(self.means, residuals, self.gains, strict=True)], 1)
        picked = torch.multinomial(shares, num_draws, replacement=True, generator=generator)
        noise = torch.randn(len(y), num_draws, self.means.shape[1], generator=generator)
        draws = torch.gather(centers, 1, picked[..., None].expand(noise.shape))
        for index, root in enumerate(self.factors):
            draws[picked == index] += math.sqrt(factor) * (noise[picked == index] @ root.T)
        return (shares[..., None] * centers).sum(1), draws


def real(y: Tensor) -> Tensor:
    """Complex measurements as real rows."""
    return torch.view_as_real(y).flatten(1)


def differences(x: Tensor) -> Tensor:
    """Forward differences ``(n, 2, h, w)`` of images, zero at the far edges."""
    return torch.stack([functional.pad(x.diff(dim=1), (0, 0, 0, 1)), functional.pad(x.diff(dim=2), (0, 1))], 1)


def divergence(q: Tensor) -> Tensor:
    """The negative adjoint of :func:`differences`."""
    first, second = q[:, 0, :-1], q[:, 1, :, :-1]
    down = functional.pad(first, (0, 0, 0, 1)) - functional.pad(first, (0, 0, 1, 0))
    return down + functional.pad(second, (0, 1)) - functional.pad(second, (1, 0))


def total_variation(y: Tensor, mask: Tensor, strength: float, *, max_steps: int = 4000) -> tuple[Tensor, float, int]:
    """(images, relative duality gap, steps) of the problem in the module's head, by primal-dual steps."""
    x = to_image(y)
    ahead, q = x, torch.zeros_like(differences(x))
    step = 1 / math.sqrt(8)

    def quadratic(v: Tensor, weight: float) -> Tensor:
        """argmin_x 1/2 |A x - y|^2 + ridge/2 |x|^2 + weight/2 |x - v|^2, or with weight 0 less <v, x>."""
        pull = to_frequency(v) * (weight or 1.0) + y
        return to_image(pull / (mask + RIDGE + weight))

    for index in range(1, max_steps + 1):
        q = q + step * differences(ahead)
        length = q.abs().square().sum(1, keepdim=True).sqrt()
        q = q / torch.maximum(torch.ones_like(length), length / strength)
        new = quadratic(x + step * divergence(q), 1 / step)
        ahead, x = 2 * new - x, new
        if index % 100 == 0:

            def smooth(z: Tensor) -> Tensor:
                fit = (to_frequency(z) * mask - y).abs().square().sum((1, 2))
                return 0.5 * fit + 0.5 * RIDGE * z.abs().square().sum((1, 2))

            primal = smooth(x) + strength * differences(x).abs().square().sum(1).sqrt().sum((1, 2))
            v = divergence(q)
            best = quadratic(v, 0.0)
            dual = smooth(best) - (v.conj() * best).real.sum((1, 2))
            gap = float(((primal - dual) / primal).max())
            if gap < GAP:
                break
    return x, gap, index


def psnr(found: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of magnitudes, dB, ``(n,)``."""
    error = (found.abs() - truth.abs()).square().mean((1, 2))
    return 10 * torch.log10(truth.abs().amax((1, 2)).square() / error)


def ssim(found: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of magnitudes with 7 x 7 windows and the truth's range, ``(n,)`` (Wang et al. 2004)."""
    a, b = found.abs()[:, None], truth.abs()[:, None]
    span = b.amax((1, 2, 3), keepdim=True)

    def mean(z: Tensor) -> Tensor:
        return functional.avg_pool2d(z, 7, 1)

    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    one, two = (0.01 * span) ** 2, (0.03 * span) ** 2
    return ((2 * ma * mb + one) * (2 * ab + two) / ((ma**2 + mb**2 + one) * (va + vb + two))).mean((1, 2, 3))


def coverage(draws: Tensor, truth: Tensor) -> Tensor:
    """Share of real and imaginary parts of each phantom within the central 90 % of the draws', ``(n,)``.

    Not of magnitudes: where the truth is 0 the magnitude of any draw lies above it.
    """
    lower, upper = draws.quantile(torch.tensor([0.05, 0.95]), 1)
    return ((pairs(truth) >= lower) & (pairs(truth) <= upper)).float().mean(1)


def calibrate(posterior: ExactPosterior, y: Tensor, truth: Tensor) -> float:
    """The covariance factor with which the validation phantoms are covered at 90 %, by bisection in its logarithm."""
    low, high = math.log(0.02), math.log(20.0)
    for _ in range(8):
        middle = 0.5 * (low + high)
        draws = posterior(y, 100, math.exp(middle), torch.Generator().manual_seed(1))[1]
        low, high = (middle, high) if float(coverage(draws, truth).mean()) < 0.9 else (low, middle)
    return math.exp(0.5 * (low + high))


def line(name: str, found: Tensor, truth: Tensor, reference: Tensor | None, covered: Tensor | None) -> dict:
    """One row of the table."""
    ratio, similarity = psnr(found, truth), ssim(found, truth)
    row = {"method": name, "psnr": float(ratio.mean()), "ssim": float(similarity.mean())}
    if reference is not None:
        for key, gap in (("psnr", ratio - psnr(reference, truth)), ("ssim", similarity - ssim(reference, truth))):
            row[f"{key}_over_tv"] = float(gap.mean())
            row[f"{key}_error"] = float(gap.std() / math.sqrt(len(gap)))
    if covered is not None:
        half = 1.96 * float(covered.std()) / math.sqrt(len(covered))
        row["coverage"] = [float(covered.mean()) - half, float(covered.mean()) + half]
    return row


def measure(operator: object, truth: Tensor, generator: torch.Generator) -> Tensor:
    """A x + noise on measured frequencies."""
    y = operator.forward(truth)
    noise = torch.complex(*(NOISE * torch.randn(y.shape, generator=generator) for _ in range(2)))
    fourier = getattr(operator, "fourier", operator)
    return y + noise * fourier.is_measured


def samplers(prior: tuple, y: Tensor, mask: Tensor, exact: tuple[Tensor, Tensor], size: int) -> list[dict]:
    """Guided and projected draws with the Gaussian prior, against its exact posterior on the same phantoms."""
    base = NoisedGaussianMixture(*prior)
    model = drl.EnergySequence(drl.NoiseSchedule.log_spaced(8, sigma_min=0.02), Nothing(), (2, size, size), base=base)
    operator, rows = ComplexPairs(MaskedFourier(mask)), []
    walk = DDIMSettings(num_steps=60, eta=1.0)
    calls = {
        "guided (DPS)": lambda one: sample_dps(
            model, operator, one, 16, settings=DPSSettings(walk, strength=0.1), generator=seeded(5)
        ),
        "projected": lambda one: sample_projected(
            model, operator, one, 16, settings=PredictorCorrectorSettings(walk), generator=seeded(6)
        ),
    }
    means, deviations = exact[0], exact[1].std(1)
    for name, call in calls.items():
        draws = torch.stack([call(one).draws.flatten(1) for one in y])
        bias = (draws.mean(1) - means).square().mean().sqrt() / deviations.square().mean().sqrt()
        spread = draws.std(1).square().mean().sqrt() / deviations.square().mean().sqrt()
        rows.append({"method": name, "bias_in_sd": float(bias), "spread_over_exact": float(spread)})
    return rows


class Nothing(torch.nn.Module):
    """The sequence is its base alone."""

    has_bounded_growth = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Zero for every row."""
        return self.weight.expand(len(x))


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def main() -> None:
    """Run everything, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("mri.json"))
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    size, started = args.size, time.process_time()
    train, validation, test = (
        ellipse_phantoms(count, size, generator=seeded(seed)) for count, seed in ((args.train, 0), (60, 1), (50, 2))
    )
    logan = torch.polar(shepp_logan(size), torch.linspace(-0.5, 0.5, size).expand(size, size))
    rows = pairs(train)
    priors = {
        "Gaussian prior": fit_mixture(rows, 1, seeded(3)),
        f"mixture of {args.groups}": fit_mixture(rows, args.groups, seeded(3)),
    }
    results, shown = [], {}
    for acceleration in (2, 4, 8):
        mask = center_mask(
            size, size, acceleration=acceleration, center_share=CENTER[acceleration], generator=seeded(4)
        )
        for coils in (1, 4):
            fourier = MaskedFourier(mask)
            operator = fourier if coils == 1 else Coils(smooth_maps(coils, size), fourier)
            y, held, one = (measure(operator, x, seeded(7)) for x in (test, validation, logan[None]))
            plain = operator.adjoint(y) if coils == 1 else root_sum_of_squares(fourier.adjoint(y))
            reference, block = None, []
            if coils == 1:
                scores = [float(psnr(total_variation(held, mask, s)[0], validation).mean()) for s in LAMBDAS]
                strength = LAMBDAS[scores.index(max(scores))]
                reference, gap, steps = total_variation(y, mask, strength)
                block.append(
                    line(
                        f"total variation (lambda {strength:g}, gap {gap:.1e}, {steps} steps)",
                        reference,
                        test,
                        None,
                        None,
                    )
                )
                shown[acceleration] = {"zero-filled": operator.adjoint(one)[0].abs()}
                shown[acceleration]["total variation"] = total_variation(one, mask, strength)[0][0].abs()
            block.insert(0, line("zero-filled" if coils == 1 else "root sum of squares", plain, test, reference, None))
            for name, prior in list(priors.items())[: 1 if coils > 1 else None]:
                posterior = ExactPosterior(prior, lambda rows, part=operator: part.forward(images(rows, size)))
                factor = calibrate(posterior, real(held), validation)
                mean, draws = posterior(real(y), 200, factor, seeded(8))
                covered = coverage(draws, test)
                block.append(line(f"{name} (factor {factor:.2f})", images(mean, size), test, reference, covered))
                if coils == 1 and name == "Gaussian prior" and acceleration == 4:
                    raw = posterior(real(y[:3]), 400, 1.0, seeded(9))
                    against = samplers(prior, y[:3], mask, raw, size)
            if coils == 1:
                mean, draws = posterior(real(one), 200, factor, seeded(8))
                shown[acceleration]["posterior mean"] = images(mean, size)[0].abs()
                shown[acceleration]["standard deviation"] = images(draws[0], size).abs().std(0)
            results += [{"acceleration": acceleration, "coils": coils, **row} for row in block]
    args.out.write_text(json.dumps({"rows": results, "samplers": against}, indent=1))
    print("| R | coils | method | PSNR, dB | SSIM | PSNR over TV | SSIM over TV | 90 % intervals cover |")
    print("|---|---|---|---|---|---|---|---|")
    for r in results:
        keys = ("psnr", "ssim")
        over = [f"{r[k + '_over_tv']:.3f} +- {r[k + '_error']:.3f}" if k + "_over_tv" in r else "-" for k in keys]
        covers = "[{:.3f}, {:.3f}]".format(*r["coverage"]) if "coverage" in r else "-"
        cells = (r["acceleration"], r["coils"], r["method"], f"{r['psnr']:.2f}", f"{r['ssim']:.3f}", *over, covers)
        print("| " + " | ".join(str(cell) for cell in cells) + " |")
    print("\n| sampler, R = 4, three phantoms | distance of means, posterior sd | spread over exact |\n|---|---|---|")
    for r in against:
        print(f"| {r['method']} | {r['bias_in_sd']:.3f} | {r['spread_over_exact']:.3f} |")
    print(f"{time.process_time() - started:.0f} s of processor time")
    if args.figure:
        draw(args.figure, logan.abs(), shown)


def draw(path: Path, truth: Tensor, shown: dict[int, dict[str, Tensor]]) -> None:
    """Shepp-Logan: truth, zero-filled, total variation, posterior mean and uncertainty, a row per acceleration."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 5)
    for row, (acceleration, parts) in zip(axes, shown.items(), strict=True):
        for axis, (name, image) in zip(row, {"truth": truth, **parts}.items(), strict=True):
            top = None if name == "standard deviation" else 1.0
            axis.imshow(image.numpy(), cmap="gray" if top else "magma", vmin=0, vmax=top)
            axis.set_title(f"{name}, R = {acceleration}" if name != "truth" else name, fontsize=9)
            axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
