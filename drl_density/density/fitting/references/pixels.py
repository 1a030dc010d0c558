"""The reference of images: an autoregressive density where validation prefers it to factor analysers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from drl_density.bases.fitting import DrawRows, GreyLevels, affordable_pixels, fit_autoregressive_pixels
from drl_density.density.fitting.bases import MOST_FACTOR_ROWS, NO_FLOW, ChosenBases, ReferenceTime, choose_factors
from drl_density.errors import NumericalError


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

    Where the autoregressive density scores best it carries level 0, and the factor analysers carry the noisier levels.

    Args:
        draw: Rows ``(n, d)`` of the training images in model space, as :func:`choose_factors` takes them.
        levels: Grey levels of the same images.
        validation: Rows ``(m, d)`` of the validation images in model space.
        allowed: Time that the fits may take.
        seed: Seed of the fits.
        say: Called with a line about every stage.
    """
    tell = say or (lambda _: None)
    quarter = dataclasses.replace(allowed, most_factors=allowed.most_factors / 4)
    tell("reference: factor analysers, which carry the noisy levels")
    found = choose_factors(draw, len(levels.train), validation, allowed=quarter, seed=seed)
    plan, words = affordable_pixels(levels, allowed.pixels, is_timed=math.isfinite(allowed.most_flow))
    if plan is None:
        return dataclasses.replace(found, remarks=(*found.remarks, words))
    tell(f"reference: autoregressive density, {words}")

    def report(step: int, score: float) -> None:
        tell(f"  {step:,} steps: {-score / math.log(2):.4f} bits per dimension on validation")

    try:
        fit = fit_autoregressive_pixels(
            levels,
            plan=plan,
            max_seconds=min(allowed.most_flow, allowed.most_total),
            on_score=report,
            generator=torch.Generator().manual_seed(seed),
        )
    except NumericalError as error:
        return dataclasses.replace(found, remarks=(*found.remarks, f"no autoregressive density: {error}"))
    with torch.no_grad():
        score = float(fit.base.log_prob(validation[:MOST_FACTOR_ROWS].float()).double().mean())
    scores, record = {**found.scores, "autoregressive": score}, fit.record
    remark = f"autoregressive: {words}; best after {record.best_step:,} of {record.num_steps:,} steps ({record.ending})"
    remarks = (*found.remarks, remark)
    if score <= max(found.scores.values()):
        return dataclasses.replace(found, scores=scores, remarks=remarks)
    return ChosenBases({"autoregressive": fit.base}, found.sigma_min, scores, noisy=found.best, remarks=remarks)
