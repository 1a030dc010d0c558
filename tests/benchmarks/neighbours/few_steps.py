"""DDIM and frequency averages (MASF) on the trained sequence of prior.py: quality of draws against steps.

    python -m tests.benchmarks.neighbours.few_steps runs/neighbours curve
    python -m tests.benchmarks.neighbours.few_steps runs/neighbours averages
    python -m tests.benchmarks.neighbours.few_steps runs/neighbours figure --figure docs/images/ddim_curve.png \
        --walks docs/images/ddim_draws.png

``curve`` draws with 5 to 100 steps (ancestral: to 50) and inverts test digits. ``averages`` draws with 5, 10
and 20 calls of three samplers: plain, with averages of the denoised estimates, with weights matched to the spread of the
data in each band by a closed form or by pilot draws ("calibrated"), and with the extrapolation of the second-order
multistep rule. Draws are denoised at level 0. The
Frechet distance, precision and recall are in the features of the classifier of prior.py, the sliced Wasserstein-1 distance
in pixels of range 2, all beside as many test digits. The spectra are standard deviations of the Haar coefficients of draws
over those of test digits, for the low band and the three high ones. Lines go to ``FOLDER/few_steps.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import drl_density as drl
from drl_density.sample_quality import confident_share, precision_and_recall
from drl_density.samplers import (
    DDIMSettings,
    FlowSettings,
    FrequencyAverage,
    MultistepDenoiser,
    calibrated_average,
    haar_axes,
    interpolate_codes,
    invert_ddim,
    matched_average,
    sample_averaged,
    sample_ddim,
    sample_flow,
)
from tests.benchmarks.neighbours.prior import SIDE, Prior, to_grey, to_rows
from tests.benchmarks.sample_quality import sliced_wasserstein

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_STEPS, CELL_STEPS, NUM_INVERTED = (5, 10, 20, 50, 100), (5, 10, 20), 24


def frechet(x: Tensor, y: Tensor) -> float:
    """Squared Frechet distance of the Gaussians of two sets of features."""
    a, b = x.T.cov(), y.T.cov()
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross)


class Judge:
    """Compares draws with test digits, and writes a line for each."""

    def __init__(self, prior: Prior, count: int, out: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(prior.data.test), generator=generator)
        side = math.isqrt(prior.data.test[0].numel())
        test = prior.data.test[order].reshape(-1, 1, side, side)
        self.look, self.out = prior.look, out
        self.axes, self.bands = haar_axes(side, side)
        self.real, self.rows = test[:count], to_rows(test[:count], generator)
        self.features = prior.look.apply(self.real).values
        self.spread = (self.rows.double() @ self.axes).var(0)
        self.line("curve", "test digits", "other ones", 0, to_rows(test[count : 2 * count], generator), 0.0)

    def line(
        self,
        part: str,
        sampler: str,
        rule: str,
        steps: int,
        rows: Tensor,
        seconds: float,
        more: dict[str, object] | None = None,
    ) -> None:
        """Judge flat rows of pixels, print and write, with what is known about the training."""
        drawn = self.look.apply(to_grey(rows))
        precision, recall = precision_and_recall(drawn.values, self.features)
        spread = (rows.double() @ self.axes).var(0)
        bands = [self.bands == 0, self.bands > 0]
        found = {
            "part": part,
            "sampler": sampler,
            "rule": rule,
            "steps": steps,
            "frechet": frechet(drawn.values, self.features),
            "distance": sliced_wasserstein(rows, self.rows),
            "precision": precision,
            "recall": recall,
            "confident": confident_share(drawn.log_probabilities.exp()),
            "spectrum": [float((spread[band].sum() / self.spread[band].sum()).sqrt()) for band in bands],
            "seconds": round(seconds, 1),
            **(more or {}),
        }
        with self.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)


def curve(prior: Prior, judge: Judge, count: int, folder: Path, etas: list[float]) -> None:
    """Quality against steps, inversion of test digits, and walks between two of them."""
    pictures = torch.load(folder / "pictures.pt") if (folder / "pictures.pt").exists() else {}
    for eta in etas:
        for steps in CURVE_STEPS if eta == 0 else CURVE_STEPS[:-1]:
            began = time.process_time()
            settings = DDIMSettings(num_steps=steps, eta=eta, is_denoised=True)
            generator = torch.Generator().manual_seed(1)
            rows = sample_ddim(prior.model, count, settings=settings, generator=generator).draws
            judge.line("curve", "DDIM" if eta == 0 else "ancestral", "plain", steps, rows, time.process_time() - began)
            pictures[f"{'DDIM' if eta == 0 else 'ancestral'}, {steps} steps"] = to_grey(rows[:12])
    generator = torch.Generator().manual_seed(2)
    states = prior.model.schedule.diffuse(judge.rows[:NUM_INVERTED], 0, generator=generator)
    for steps in CURVE_STEPS:
        walk = DDIMSettings(num_steps=steps)
        codes = invert_ddim(prior.model, states, settings=walk)
        again = sample_ddim(prior.model, len(codes), settings=walk, noise=codes).draws
        error = (again - states).square().mean().sqrt()
        line = {"part": "inversion", "steps": steps, "error": float(error), "norm": float(codes.square().mean().sqrt())}
        with judge.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    ways = []
    for first, second in ((0, 1), (2, 3), (4, 5)):
        between = interpolate_codes(codes[first], codes[second], torch.linspace(0, 1, 12))
        settings = DDIMSettings(num_steps=50, is_denoised=True)
        ways.append(sample_ddim(prior.model, 12, settings=settings, noise=between).draws)
    found = prior.look.apply(to_grey(torch.cat(ways)))
    print(f"interpolated: confident {confident_share(found.log_probabilities.exp()):.2f}")
    pictures |= {f"between two digits {index}": to_grey(way) for index, way in enumerate(ways)}
    torch.save(pictures, folder / "pictures.pt")


SAMPLERS = {
    "DDIM": (sample_ddim, lambda steps: DDIMSettings(steps)),
    "ancestral": (sample_ddim, lambda steps: DDIMSettings(steps, eta=1.0)),
    "Heun": (sample_flow, lambda steps: FlowSettings(max(2, steps // 2))),
}


RULES = {name: ["plain", "Haar", "matched", "calibrated"] + ["multistep"] * (name != "Heun") for name in SAMPLERS}


def average_by(prior: Prior, rule: str, settings: DDIMSettings | FlowSettings) -> FrequencyAverage:
    """Weights by Haar band: averages, less of the low band at first and less of the high ones at the end; or matched
    to the spread of the data by a closed form or by 200 pilot draws."""
    axes, bands = haar_axes(SIDE, SIDE)
    if rule == "Haar":
        return FrequencyAverage(axes, early=0.9 - 0.4 * bands, late=0.5 + 0.4 * bands)
    rows = to_rows(prior.data.train[:20_000], torch.Generator().manual_seed(0))
    shared = {"variances": (rows.double() @ axes).var(0), "bands": bands}
    if rule == "matched":
        return matched_average(prior.model, settings, axes, **shared)
    average = calibrated_average(prior.model, settings, axes, **shared, generator=torch.Generator().manual_seed(7))
    print("weights", [round(float(average.late[bands == band][0]), 2) for band in bands.unique()], flush=True)
    return average


class Erring(drl.EnergySequence):
    """A sequence whose denoised estimates have independent errors, shares of the data's spread in each Haar coefficient."""

    error = torch.tensor(0.0)

    def denoise(self, x: Tensor, level: float, **more: bool) -> Tensor:
        """The estimate with its error, from torch's global generator."""
        return super().denoise(x, level, **more) + torch.randn(x.shape) @ self.error


def with_errors(prior: Prior, error: float) -> drl.EnergySequence:
    """The sequence with errors of its estimates."""
    if not error:
        return prior.model
    axes, _ = haar_axes(SIDE, SIDE)
    rows = to_rows(prior.data.train[:20_000], torch.Generator().manual_seed(0))
    model = Erring(prior.model.schedule, prior.model.network, (SIDE * SIDE,), base=prior.model.base)
    model.error = (error * (rows.double() @ axes).std(0)[:, None] * axes.T).float()
    return model


def drawn_by(prior: Prior, count: int, name: str, rule: str, steps: int, error: float = 0.0) -> Tensor:
    """States of level 0 of a sampler and a rule, from the same noise for all rules."""
    model, generator = with_errors(prior, error), torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    sampler, made = SAMPLERS[name]
    shared = {"settings": made(steps), "generator": generator}
    if rule == "plain":
        return sampler(model, count, denoiser=model.denoise, **shared).draws
    if rule == "multistep":
        return sampler(model, count, denoiser=MultistepDenoiser(model, made(steps)), **shared).draws
    return sample_averaged(model, count, average=average_by(prior, rule, made(steps)), sampler=sampler, **shared).draws


def averages(prior: Prior, judge: Judge, count: int, wanted: list[str], error: float = 0.0) -> None:
    """Every sampler and number of calls, by every rule that is wanted; the last denoising step has no error."""
    for name, rules in RULES.items():
        for steps in CELL_STEPS:
            for rule in [rule for rule in rules if rule in wanted]:
                began = time.process_time()
                rows = prior.model.denoise(drawn_by(prior, count, name, rule, steps, error), 0)
                judge.line("averages", name, rule, steps, rows, time.process_time() - began, {"error": error})


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def draw_curves(path: Path, lines: list[dict]) -> None:
    """Quality against steps, one panel for each measure."""
    figure = new_figure(8, 5.6)
    axes = figure.subplots(2, 2)
    best = next(line for line in lines if line.get("sampler") == "test digits")
    keys = {
        "frechet": "Frechet distance",
        "distance": "sliced Wasserstein",
        "precision": "precision",
        "recall": "recall",
    }
    for axis, (key, measure) in zip(axes.flat, keys.items(), strict=True):
        axis.axhline(best[key], color="#8d99a6", linestyle=":", label="other test digits")
        for sampler, rule, color in (
            ("DDIM", "plain", "#1f77b4"),
            ("ancestral", "plain", "#c0392b"),
            ("DDIM", "multistep", "#2e7d32"),
            ("DDIM", "Haar", "#b8860b"),
            ("DDIM", "matched", "#8e44ad"),
        ):
            part = "curve" if rule == "plain" else "averages"
            own = [
                line for line in lines if (line.get("sampler"), line.get("rule"), line["part"]) == (sampler, rule, part)
            ]
            names = {
                "multistep": "DDIM, multistep",
                "Haar": "DDIM, averaged (MASF)",
                "matched": "DDIM, matched weights",
            }
            label = names.get(rule, sampler)
            axis.plot([line["steps"] for line in own], [line[key] for line in own], "o-", color=color, label=label)
        axis.set(xscale="log", title=measure, xticks=CURVE_STEPS, xticklabels=CURVE_STEPS)
        axis.minorticks_off()
    for axis in axes[1]:
        axis.set_xlabel("network calls per draw")
    axes[0, 0].set(yscale="log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=88)


def draw_walks(path: Path, pictures: dict[str, Tensor]) -> None:
    """Draws of some walks, and walks between two test digits."""
    named = [name for name in pictures if "between" in name or name.endswith((" 5 steps", "20 steps", "50 steps"))]
    figure = new_figure(5, 4.6)
    for axis, name in zip(figure.subplots(len(named), 1), named, strict=True):
        tiles = pictures[name][:12, 0].permute(1, 0, 2).reshape(SIDE, 12 * SIDE)
        axis.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(name, fontsize=9, pad=2)
        axis.set_axis_off()
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of prior.py")
    parser.add_argument("part", choices=["curve", "averages", "figure"])
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--etas", type=float, nargs="*", default=[0.0, 1.0], help="of the curve, 0 or 1")
    parser.add_argument("--rules", nargs="*", default=RULES["DDIM"], choices=RULES["DDIM"], help="of the averages")
    parser.add_argument("--error", type=float, default=0.0, help="of every estimate, in standard deviations of the data")
    parser.add_argument("--figure", type=Path, help="picture of the curves")
    parser.add_argument("--walks", type=Path, help="picture of the draws")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out, began = args.folder / "few_steps.jsonl", time.process_time()
    if args.part != "figure":
        prior = Prior.load(args.folder)
        judge = Judge(prior, args.count, out)
    if args.part == "curve":
        curve(prior, judge, args.count, args.folder, args.etas)
    elif args.part == "averages":
        averages(prior, judge, args.count, args.rules, args.error)
    print(f"{time.process_time() - began:.0f} s of the processor")
    if args.figure:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        draw_curves(args.figure, lines)
    if args.walks:
        draw_walks(args.walks, torch.load(args.folder / "pictures.pt"))


if __name__ == "__main__":
    main()
