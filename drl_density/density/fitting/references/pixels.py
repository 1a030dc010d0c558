"""The reference of images: an autoregressive density where validation prefers it to factor analysers."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from drl_density.bases.fitting import DrawRows, GreyLevels, affordable_pixels, fit_autoregressive_pixels
from drl_density.density.data_units import most_scored_images
from drl_density.density.fitting.bases import (
    FINE_SIGMAS,
    MOST_FACTOR_ROWS,
    NO_FLOW,
    ChosenBases,
    ReferenceTime,
    choose_factors,
    fit_gaussian,
    scores_by_noise,
    widest_noise,
)
from drl_density.errors import NumericalError

MOST_GAUSSIAN_ROWS, MOST_GAUSSIAN_COLUMNS = 2000, 1024
"""Images and pixels up to which a Gaussian of shrunk covariance is a candidate beside factor analysers: of 60 and of 230
images of 14 by 14 letters it was ahead by 24 and 16 nats."""

MOST_FACTOR_IMAGES = 10_000
"""Images that factor analysers are fitted to where they carry the noisy levels alone, which need no fine detail."""


def choose_pixels(
    draw: DrawRows,
    levels: GreyLevels,
    validation: Tensor,
    *,
    allowed: ReferenceTime = NO_FLOW,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> ChosenBases:
    """Fit factor analysers and an autoregressive density to images, and choose between them on validation.

    Up to 2,000 images a Gaussian of shrunk covariance is a rival of the factor analysers, and can take their place.
    Where the autoregressive density scores best it carries level 0, and the factor analysers carry the noisier levels.
    Factor analysers with such a density beside them are fitted to 10,000 images, which takes a fraction of the time. The
    autoregressive density is compared with them on a few rows: its score is theirs on all rows plus its paired gain.

    Args:
        draw: Rows ``(n, d)`` of the training images in model space, as :func:`choose_factors` takes them.
        levels: Grey levels of the same images.
        validation: Rows ``(m, d)`` of the validation images in model space.
        allowed: Time that the fits may take.
        seed: Seed of the fits.
        say: Called with a line about every stage.
    """
    tell, begun = say or (lambda _: None), time.monotonic()
    is_timed, generator = math.isfinite(allowed.most_pixels), torch.Generator().manual_seed(seed)
    num_images, fitted = len(levels.train), draw
    if num_images > MOST_FACTOR_IMAGES and affordable_pixels(levels, allowed.pixels, is_timed=is_timed).plan is not None:
        some = torch.randperm(num_images, generator=generator)[:MOST_FACTOR_IMAGES]
        num_images, fitted = len(some), lambda index: draw(some[index])
    quarter = dataclasses.replace(allowed, most_factors=allowed.most_factors / 4)
    tell("reference: factor analysers, which carry the noisy levels")
    found = choose_factors(fitted, num_images, validation, allowed=quarter, seed=seed)
    if num_images <= MOST_GAUSSIAN_ROWS and validation.shape[1] <= MOST_GAUSSIAN_COLUMNS:
        found = _with_gaussian(found, fitted(torch.arange(num_images)), validation)
    left = max(0.0, min(allowed.pixels, allowed.most_pixels - (time.monotonic() - begun)))
    plan, words = affordable_pixels(levels, left, is_timed=is_timed)
    if plan is None:
        return dataclasses.replace(found, remarks=(*found.remarks, words))
    tell(f"reference: autoregressive density, {words}")

    def report(step: int, score: float) -> None:
        tell(f"  {step:,} steps: {-score / math.log(2):.4f} bits per dimension on validation")

    try:
        fit = fit_autoregressive_pixels(
            levels,
            plan=plan,
            max_seconds=left if is_timed else math.inf,
            on_score=report,
            generator=generator,
        )
    except NumericalError as error:
        return dataclasses.replace(found, remarks=(*found.remarks, f"no autoregressive density: {error}"))
    few = min(most_scored_images(validation.shape[1]), len(levels.validation))  # copies with other noise say the same
    with torch.no_grad():
        others = found.best.log_prob(validation.float()).double()
        gains = fit.base.log_prob(validation[:few].float()).double() - others[:few]
    score, best = float(others.mean() + gains.mean()), max(found.scores.values())
    scores, record = {**found.scores, "autoregressive": score}, fit.record
    remark = f"autoregressive: {words}; best after {record.best_step:,} of {record.num_steps:,} steps ({record.ending})"
    remarks = (*found.remarks, remark)
    if score <= best:
        return dataclasses.replace(found, scores=scores, remarks=remarks)
    return ChosenBases({"autoregressive": fit.base}, found.sigma_min, scores, noisy=found.best, remarks=remarks)


def _with_gaussian(found: ChosenBases, rows: Tensor, validation: Tensor) -> ChosenBases:
    """A Gaussian of shrunk covariance in the place of the best base of few images, where it scores better."""
    held_out = validation[:MOST_FACTOR_ROWS]
    gaussian = fit_gaussian(rows.double())
    noises = scores_by_noise(gaussian, held_out, FINE_SIGMAS)
    scores = {**found.scores, "gaussian": max(noises.values())}
    if scores["gaussian"] <= max(found.scores.values()):
        return dataclasses.replace(found, scores=scores)
    sigma = widest_noise(noises, held_out.shape[1])
    return ChosenBases({"gaussian": gaussian}, sigma, scores, remarks=found.remarks)
