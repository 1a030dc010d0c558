"""Draws of a fitted density by any sampler of the package, in data units."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from drl_density.density.fitted import FittedModel
from drl_density.density.settings.objectives import CooperativeObjective, LangevinObjective
from drl_density.distributions import SampleResult
from drl_density.errors import DataError
from drl_density.networks import Ensemble
from drl_density.records.fields import NonNegativeInt, PositiveInt, Share, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    PredictorCorrectorSettings,
    ProgressiveSettings,
    RefinementSettings,
    ShortRunSettings,
    sample_ancestral,
    sample_ddim,
    sample_flow,
    sample_level_zero,
    sample_predictor_corrector,
    sample_progressive,
    sample_refined,
    sample_short_run,
)

DrawMethod = Literal["progressive", "ancestral", "ddim", "predictor-corrector", "flow", "short-run"]
WITH_ETA = ("ddim", "predictor-corrector")
"""Methods that have an eta."""


@dataclass(frozen=True)
class DrawSettings:
    """The sampler of draws; without a method, with "progressive", or with chains at the end they follow the density itself.

    Attributes:
        method: the sampler that walks from noise to data. None takes that of ``density.sample``, which
            ``density.plan.describe()`` names. "short-run" takes the short chains that the density was trained by: from the
            initialiser's proposals and with a last denoising step after cooperative training, else from the noisier state.
            It needs the objective "langevin" or "cooperative", and does not follow the density.
        num_steps: steps of the walk from level T to 0; for "progressive" and "short-run" the kernel steps on each
            conditional. None takes the sampler's own number, or that of training.
        eta: noise of "ddim" and "predictor-corrector", from 0, deterministic, to 1, ancestral.
        num_chain_steps: adjusted steps on the density itself after the walk.

    Raises:
        ValueError: an unknown method, steps without a method, an eta that the method does not have, or negative numbers of
            steps.

    >>> DrawSettings("ddim", num_steps=10).eta is None
    True
    """

    method: DrawMethod | None = None
    num_steps: PositiveInt | None = None
    eta: Share | None = None
    num_chain_steps: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method is None and self.num_steps is not None:
            raise ValueError(
                f"num_steps belongs to a method, and none is given: choose {', '.join(get_args(DrawMethod))}"
            )
        if self.eta is not None and self.method not in WITH_ETA:
            having = "without a method there is" if self.method is None else f"method {self.method} has"
            raise ValueError(f"{having} no eta: {' and '.join(WITH_ETA)} have one")


def draw(
    density: FittedModel,
    num_samples: int,
    *,
    settings: DrawSettings | None = None,
    generator: torch.Generator | None = None,
) -> SampleResult:
    """See :meth:`drl_density.density.Density.draw`."""
    settings = given_or_default(settings, DrawSettings)
    if num_samples < 1:
        raise DataError(f"num_samples must be at least 1, got {num_samples}")
    found = _walk(density, num_samples, settings, generator)
    sampler = settings.method or density.plan.method
    if settings.num_chain_steps:
        start = found.draws
        found = sample_refined(
            density.model,
            num_samples,
            initial=lambda count, source: start,
            settings=RefinementSettings(num_steps=settings.num_chain_steps),
            generator=generator,
        )
    stats = {name: values.cpu() for name, values in found.stats.items()}
    return SampleResult(density.to_points(found.draws.flatten(1)), stats, sampler)


def _walk(
    density: FittedModel, num_samples: int, settings: DrawSettings, generator: torch.Generator | None
) -> SampleResult:
    """Draws in model space by the sampler that the settings name."""
    model = density.model
    steps: dict[str, Any] = {} if settings.num_steps is None else {"num_steps": settings.num_steps}
    eta: dict[str, Any] = {} if settings.eta is None else {"eta": settings.eta}
    match settings.method:
        case None:
            return sample_level_zero(model, num_samples, plan=density.plan, generator=generator)
        case "progressive":
            # Without a stored plan, pilot chains tune the step sizes.
            plan = density.plan.progressive
            return sample_progressive(
                model, num_samples, settings=ProgressiveSettings(**steps), plan=plan, generator=generator
            )
        case "ancestral":
            return sample_ancestral(model, num_samples, settings=AncestralSettings(**steps), generator=generator)
        case "flow":
            return sample_flow(model, num_samples, settings=FlowSettings(**steps), generator=generator)
        case "ddim":
            return sample_ddim(model, num_samples, settings=DDIMSettings(**steps, **eta), generator=generator)
        case "predictor-corrector":
            usual = PredictorCorrectorSettings()
            corrector = dataclasses.replace(usual, walk=dataclasses.replace(usual.walk, **steps, **eta))
            return sample_predictor_corrector(model, num_samples, settings=corrector, generator=generator)
        case "short-run":
            chains = _short_run(density, steps)
            return sample_short_run(model, num_samples, settings=chains, generator=generator)


def _short_run(density: FittedModel, steps: dict[str, Any]) -> ShortRunSettings:
    """The chains of training, down to the reported level.

    Steps are as long as in training, though the reported sequence may begin at a noisier level, from which the papers' rule
    counts. Draws are denoised at the end where training had an initialiser, as in its paper.
    """
    objective, model = density.settings.objective, density.model
    if not isinstance(objective, LangevinObjective | CooperativeObjective):
        raise DataError(
            'method "short-run" repeats the short chains that a density was trained by, and this one was trained by the '
            f'objective "{objective.kind}": those of "{LangevinObjective.kind}" and "{CooperativeObjective.kind}" have '
            "such chains; draw by another method"
        )
    if isinstance(model.network, Ensemble):
        raise DataError(
            f'method "short-run" repeats the chains of one training, and this density averages '
            f"{len(model.network.networks)} networks, by whose mean no chain was trained: draw by another method"
        )
    if isinstance(objective, CooperativeObjective) and model.initializer is None:
        raise DataError(
            'method "short-run" starts at the proposals of the initialiser, and this density has none: the density of one '
            "label does not keep it; draw by another method"
        )
    first = density.provenance.sigma_min  # None for a density that was not fitted
    if objective.scaling == "paper" and first is not None:
        steps = {**steps, "factor": objective.langevin_factor * float(model.schedule.sigma[0]) / first}
    return ShortRunSettings(dataclasses.replace(objective.chains, **steps), is_denoised=model.initializer is not None)
