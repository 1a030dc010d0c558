"""Pictures of the page on concepts, from closed-form systems.

python docs/concept_pictures.py             all of them
python docs/concept_pictures.py sequence    those named

Each function draws one picture, docs/images/concept_NAME.png. All curves are exact. Intervals and verdicts are those of
``drl.sandwich``, which take about a minute of one core.
"""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import drl_density as drl
from drl_density.testing import GaussianMixtureSequence, known_target

OUT = Path(__file__).parent / "images"
MOST_BYTES = 60_000
NUM_LEVELS = 5
GRID = torch.linspace(-3.2, 3.2, 801, dtype=torch.float64)[:, None]
# Colours of Okabe and Ito, which remain apart for colour-blind readers; each line also has its own style or place.
BLUE, ORANGE, GREEN, RED, GRAY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7f7f7f"
VERDICT_COLORS = {"reliable": GREEN, "doubtful": ORANGE, "unreliable": RED, "unknown": GRAY, "improper": "#000000"}


def three_modes() -> GaussianMixtureSequence:
    """One column with three modes, and its levels of noise."""
    return GaussianMixtureSequence(
        weights=torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64),
        means=torch.tensor([[-1.6], [0.3], [1.7]], dtype=torch.float64),
        covariances=torch.tensor([[[0.03]], [[0.10]], [[0.02]]], dtype=torch.float64),
        schedule=drl.NoiseSchedule.log_spaced(NUM_LEVELS),
        offsets=(1.2, 0.1),
    )


def panel(height: float = 2.6, width: float = 6.4) -> tuple[Figure, Axes]:
    """A figure with one axis."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure, axis


def density(system: GaussianMixtureSequence, level: float) -> Tensor:
    """The exact density of a level on the grid."""
    return system.log_prob(GRID, level).exp()


def sequence() -> Figure:
    """The densities of all levels, one above the other."""
    system = three_modes()
    figure, axis = panel(3.2)
    for level in range(NUM_LEVELS + 1):
        base = torch.full((len(GRID),), float(NUM_LEVELS - level))
        if level < NUM_LEVELS:
            curve = density(system, level)
        else:
            curve = torch.distributions.Normal(0.0, 1.0).log_prob(GRID[:, 0]).exp()
        top = base + 0.85 * curve / curve.max()
        axis.fill_between(GRID[:, 0], base, top, color=BLUE, alpha=0.25, linewidth=0)
        axis.plot(GRID[:, 0], top, color=BLUE, linewidth=1.2)
    names = ["level 0: data", *(f"level {level}" for level in range(1, NUM_LEVELS)), f"level {NUM_LEVELS}: N(0, 1)"]
    axis.set(yticks=[NUM_LEVELS - level for level in range(NUM_LEVELS + 1)], yticklabels=names, xlabel="x")
    axis.spines["left"].set_visible(False)
    axis.tick_params(left=False)
    return figure


def level() -> Figure:
    """The model of one level before and after it is divided by its integral."""
    system = three_modes()
    figure, axis = panel()
    normalised = density(system, 1)
    axis.plot(GRID[:, 0], normalised * system.log_z(1).exp(), color=ORANGE, linestyle="--", label="exp F(x), level 1")
    axis.plot(GRID[:, 0], normalised, color=BLUE, label="p(x) = exp F(x) / Z, level 1")
    axis.set(xlabel="x", ylim=(0, None), ylabel="density")
    axis.legend(frameon=False)
    return figure


def recovery() -> Figure:
    """What is known of the cleaner state, given two noisier ones."""
    system = three_modes()
    figure, axis = panel()
    axis.fill_between(GRID[:, 0], density(system, 0), color=GRAY, alpha=0.3, linewidth=0, label="p(x), level 0")
    for given, color, style in ((-1.2, BLUE, "-"), (0.6, RED, "--")):
        conditional = system.recovery(torch.tensor([[given]], dtype=torch.float64), 0)
        curve = torch.stack([conditional.log_prob(x[None]) for x in GRID])[:, 0].exp()
        axis.plot(GRID[:, 0], curve, color=color, linestyle=style, label=f"p(x | noisier state {given})")
        axis.plot([given], [0], marker="v", color=color, markersize=8, clip_on=False)
    axis.set(xlabel="x", ylim=(0, None), ylabel="density")
    axis.legend(frameon=False)
    return figure


def tilt() -> Figure:
    """A Gaussian reference, a bounded tilt of it, and their product."""
    system = three_modes()
    x, spacing = GRID[:, 0], float(GRID[1] - GRID[0])
    exact = system.log_prob(GRID, 0)
    mean = (exact.exp() * x).sum() * spacing
    spread = ((exact.exp() * (x - mean).square()).sum() * spacing).sqrt()
    log_reference = torch.distributions.Normal(mean, spread).log_prob(x)
    bounded = 3 * torch.tanh((exact - log_reference) / 3)
    log_z = torch.logsumexp(log_reference + bounded, 0) + torch.log(GRID[1, 0] - GRID[0, 0])
    figure = Figure(figsize=(6.4, 3.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    upper.plot(x, bounded, color=ORANGE)
    upper.axhline(0, color=GRAY, linewidth=0.8)
    upper.set(ylabel="tilt g(x)", ylim=(-3.2, 3.2))
    lower.plot(x, log_reference.exp(), color=GRAY, linestyle="--", label="reference b(x)")
    lower.plot(x, (log_reference + bounded - log_z).exp(), color=BLUE, label="b(x) exp g(x) / Z")
    lower.set(xlabel="x", ylabel="density", ylim=(0, 0.85))
    lower.legend(frameon=False, ncols=2, loc="upper left")
    for axis in (upper, lower):
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure


def log_z() -> Figure:
    """The integral of an unnormalised density as an area."""
    system = three_modes()
    figure, axis = panel()
    curve = density(system, 0) * system.log_z(0).exp()
    axis.fill_between(GRID[:, 0], curve, color=ORANGE, alpha=0.35, linewidth=0)
    axis.plot(GRID[:, 0], curve, color=ORANGE)
    found = float(system.log_z(0))
    axis.text(0.02, 0.98, f"exp F(x); its area is Z,\nlog Z = {found:.2f}", transform=axis.transAxes, va="top")
    axis.set(xlabel="x", ylim=(0, 1.35 * float(curve.max())))
    return figure


def interval() -> Figure:
    """What several estimators say of one log Z, with the interval, the bracket and the truth."""
    system = GaussianMixtureSequence.example(dim=6, num_components=3, schedule=drl.NoiseSchedule.log_spaced(8))
    rows = system.sample(400, 0, generator=torch.Generator().manual_seed(1))
    found = drl.sandwich(system.model, data=rows, seed=0, settings=drl.SandwichSettings(num_particles=64))
    truth = float(system.log_z(0))
    lower, upper = found.interval()
    figure, axis = panel(2.4)
    axis.axvspan(lower - truth, upper - truth, color=BLUE, alpha=0.2, linewidth=0)
    axis.plot([value - truth for value in found.bracket], [2, 2], color=RED, marker="|", markersize=14, linewidth=2)
    axis.plot([lower - truth, upper - truth], [1, 1], color=BLUE, marker="|", markersize=14, linewidth=2)
    axis.plot([found.log_z - truth], [1], color=BLUE, marker="o")
    annealed = found.annealing
    error = 1.96 * annealed.standard_error
    axis.errorbar([annealed.log_z - truth], [0], xerr=[error], color=GRAY, marker="s", capsize=4)
    axis.axvline(0, color="black", linestyle=":", linewidth=1.2)
    axis.annotate("truth", (0, 2.65), ha="center", va="bottom", annotation_clip=False)
    axis.set(yticks=[0, 1, 2], ylim=(-0.6, 2.6), xlabel="estimate less the true log Z, nats")
    axis.set_yticklabels(["annealing, a check", "interval (95 %)", "bracket"])
    return figure


TARGETS = {
    "ring_of_eight_2d": "eight modes on a ring, 2-D",
    "pair_at_30_1d": "narrow mode 30 away, 1-D",
    "cauchy_1d": "Cauchy tails, 1-D",
    "barely_proper_1d": "tails that hardly fall, 1-D",
    "needles_10d": "five modes, two narrow, 10-D",
    "improper_oblique_3d": "infinite along a ridge, 3-D",
    "improper_flat_2d": "flat for ever, 2-D",
}
"""Targets of known log Z, with what a reader would call them."""


def verdict() -> Figure:
    """The verdict on targets of known log Z, with the interval that came with it."""
    figure, axis = panel(3.2)
    for place, (name, words) in enumerate(reversed(TARGETS.items())):
        target = known_target(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", drl.DRLDensityWarning)
            found = drl.sandwich(target.target, seed=0, settings=drl.SandwichSettings(num_particles=64))
        color = VERDICT_COLORS[str(found.verdict)]
        if target.is_proper:
            ends = [found.lower - target.log_z, found.upper - target.log_z]
            axis.plot(ends, [place, place], color=color, marker="|", markersize=9, linewidth=3)
            axis.plot([found.log_z - target.log_z], [place], color=color, marker="o")
        else:
            axis.text(0.03, place, "the integral is infinite", va="center", fontsize=9)
        axis.text(1.04, place, str(found.verdict), color=color, va="center", fontweight="bold")
        axis.text(-1.08, place, words, va="center", ha="right", fontsize=9)
    axis.axvline(0, color="black", linestyle=":", linewidth=1.2)
    axis.set(yticks=[], xlim=(-1.05, 1.0), ylim=(-0.6, len(TARGETS) - 0.4), xlabel="interval less the true log Z, nats")
    axis.spines["left"].set_visible(False)
    return figure


PICTURES = (sequence, level, recovery, tilt, log_z, interval, verdict)


def main() -> None:
    """Draw the pictures asked for and write them as PNG files of at most 60 kB."""
    torch.set_num_threads(1)
    for draw in PICTURES:
        if sys.argv[1:] and draw.__name__ not in sys.argv[1:]:
            continue
        drawn = io.BytesIO()
        draw().savefig(drawn, dpi=110)
        path = OUT / f"concept_{draw.__name__}.png"
        Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"{path} has {size} bytes, more than {MOST_BYTES}")
        print(f"{path.name}: {size // 1000} kB")


if __name__ == "__main__":
    main()
