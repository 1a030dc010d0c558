"""Draws of a fitted density by any sampler of the package, in data units."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from drl_density.distributions import SampleResult
from drl_density.errors import DataError
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    PredictorCorrectorSettings,
    ProgressiveSettings,
    RefinementSettings,
    sample_ancestral,
    sample_ddim,
    sample_flow,
    sample_predictor_corrector,
    sample_progressive,
    sample_refined,
)

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

METHODS = ("progressive", "ancestral", "ddim", "predictor-corrector", "flow")


def draw(
    density: Density,
    num_samples: int,
    *,
    method: str = "progressive",
    num_steps: int | None = None,
    eta: float | None = None,
    num_chain_steps: int = 0,
    generator: torch.Generator | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` in data units; only "progressive", or chains after it, lead to the density itself.

    Args:
        density: whose model is sampled.
        num_samples: draws.
        method: one of ``METHODS``.
        num_steps: steps of the walk from level T to 0; for "progressive" the kernel steps on each conditional.
        eta: of "ddim" and "predictor-corrector", 0 deterministic to 1 ancestral.
        num_chain_steps: adjusted steps on the density after the draws.
        generator: source of randomness.

    Raises:
        DataError: an unknown method, or an eta that the method does not have.
        ValueError: steps or eta out of range.
    """
    if method not in METHODS:
        raise DataError(f"there is no method {method!r}: choose among {', '.join(METHODS)}")
    if eta is not None and method not in ("ddim", "predictor-corrector"):
        raise DataError(f"method {method} has no eta: ddim and predictor-corrector have one")
    sampler, settings = _sampler(method, num_steps, eta)
    known = {"plan": density.plan} if method == "progressive" else {}
    found = sampler(density.model, num_samples, settings=settings, generator=generator, **known)
    if num_chain_steps:
        start = found.draws
        found = sample_refined(
            density.model,
            num_samples,
            initial=lambda count, source: start,
            settings=RefinementSettings(num_steps=num_chain_steps),
            generator=generator,
        )
    with torch.no_grad():
        x = density.transform.inv(found.draws.double().cpu().flatten(1)).reshape(-1, *density.event_shape)
    return SampleResult(x, {name: values.cpu() for name, values in found.stats.items()})


def _sampler(method: str, num_steps: int | None, eta: float | None) -> tuple[Any, Any]:
    steps = {} if num_steps is None else {"num_steps": num_steps}
    turn = {} if eta is None else {"eta": eta}
    if method == "progressive":
        return sample_progressive, ProgressiveSettings(**steps)
    if method == "ancestral":
        return sample_ancestral, AncestralSettings(**steps)
    if method == "flow":
        return sample_flow, FlowSettings(**steps)
    if method == "ddim":
        return sample_ddim, DDIMSettings(**steps, **turn)
    settings = PredictorCorrectorSettings()
    return sample_predictor_corrector, dataclasses.replace(
        settings, walk=dataclasses.replace(settings.walk, **steps, **turn)
    )
