r"""Linear inverse problems with an energy sequence as prior: guidance of few-step samplers, and the exact posterior.

Diffusion posterior sampling nudges each DDIM step by the gradient of :math:`\lVert y - A \hat x_0(x_t) \rVert^2` through the
denoiser: fast and biased. :func:`~drl_density.samplers.sample_posterior` with :func:`gaussian_likelihood` is consistent, and
what the other is judged against.

Source: Chung et al. 2023 (DPS); hard projection as in Chung and Ye 2022 (score-MRI).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.operators import LinearOperator, ProjectingOperator, check_operator
from drl_density.samplers.ddim import DDIMSettings, move
from drl_density.samplers.predictor_corrector import PredictorCorrectorSettings, correct
from drl_density.samplers.progressive import StepRecord
from drl_density.shapes import per_row


@dataclass(frozen=True)
class DPSSettings:
    """Diffusion posterior sampling.

    Attributes:
        walk: of the DDIM steps.
        strength: length of the guidance step, whose direction alone is taken from the residual; too large and draws jitter
            around the measurement by this much.
    """

    walk: DDIMSettings = field(default_factory=lambda: DDIMSettings(num_steps=200, eta=1.0))
    strength: float = 0.1


def sample_dps(
    model: EnergySequence,
    operator: LinearOperator,
    y: Tensor,
    num_samples: int,
    *,
    settings: DPSSettings | None = None,
    to_operand: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` guided towards A x = y by diffusion posterior sampling; biased, see the module.

    Args:
        model: the prior: a sequence, or anything with its schedule, event shape and ``denoise``, such as
            :class:`~drl_density.training.AmbientPrior`.
        operator: A.
        y: one measurement, without batch dimension.
        num_samples: draws.
        settings: walk and strength.
        to_operand: differentiable map from the model's space to that in which the operator acts; the same when not given.
        generator: source of randomness.
        on_step: told after each step.

    Raises:
        ValueError: a measurement that does not fit the operator.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.operators import Mask
    >>> operator, y = Mask(torch.tensor([True, False])), torch.ones(1).double()
    >>> settings = DPSSettings(DDIMSettings(num_steps=5))
    >>> sample_dps(model, operator, y, 4, settings=settings).draws.shape
    torch.Size([4, 2])
    """
    settings = settings or DPSSettings()
    levels = settings.walk.walk(model)
    x = normal_draws((num_samples, *model.event_shape), model, generator)
    to_operand = to_operand or (lambda clean: clean)
    _check_measurement(operator, to_operand(x), y)
    for pair in zip(levels, levels[1:], strict=False):
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            clean = model.denoise(point, pair[0], has_graph=True)
            residual = _norm(y - operator.forward(to_operand(clean)))
            (gradient,) = torch.autograd.grad(residual.square().sum(), point)
        length = per_row(residual.detach().to(x.device), x)
        # Where the residual vanishes so does its gradient, and their quotient is taken as 0.
        step = torch.where(length > 0, settings.strength * gradient / length, 0.0)
        x = move(model, x, clean.detach(), pair, settings.walk.eta, generator) - step
        if on_step is not None:
            on_step(StepRecord(pair[1], x, math.nan))
    return SampleResult(x)


def sample_projected(
    model: EnergySequence,
    operator: ProjectingOperator,
    y: Tensor,
    num_samples: int,
    *,
    is_noised: bool = True,
    settings: PredictorCorrectorSettings | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` by predictor and corrector steps, each followed by a hard projection onto the data.

    Args:
        model: the prior.
        operator: A with ``project(x, y)``, the nearest point to x that measures y.
        y: one noiseless measurement, without batch dimension.
        num_samples: draws.
        is_noised: project noisy states onto measurements of equal noise; False onto alpha y, as score-MRI does.
        settings: walk and corrector.
        generator: source of randomness.
        on_step: told after each level.

    Raises:
        ValueError: a measurement that does not fit the operator.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.operators import Mask
    >>> operator = Mask(torch.tensor([True, False]))
    >>> settings = PredictorCorrectorSettings(walk=DDIMSettings(num_steps=5))
    >>> found = sample_projected(model, operator, torch.ones(1).double(), 4, settings=settings)
    >>> found.draws.shape
    torch.Size([4, 2])
    """
    settings = settings or PredictorCorrectorSettings()
    if not callable(getattr(operator, "project", None)):
        raise ValueError(
            f"{type(operator).__name__} has no project(x, y): use sample_dps or sample_posterior, or give it one"
        )
    x = normal_draws((num_samples, *model.event_shape), model, generator)
    _check_measurement(operator, x, y)
    nearest = operator.project(torch.zeros_like(x), y)

    def measured(level: float) -> Tensor:
        alpha = float(model.schedule.alpha_at(level))
        if not is_noised:
            return alpha * y
        return operator.forward(model.schedule.diffuse(nearest, level, generator=generator))

    levels, rates = settings.walk.walk(model), []
    for pair in zip(levels, levels[1:], strict=False):
        x = move(model, x, model.denoise(x, pair[0]), pair, settings.walk.eta, generator)
        here = measured(pair[1])

        def project(state: Tensor, here: Tensor = here) -> Tensor:
            return operator.project(state, here)

        x, rate = correct(model, project(x), pair[1], settings, generator, project=project)
        rates.append(rate)
        if on_step is not None:
            on_step(StepRecord(pair[1], x, float(rate.mean())))
    return SampleResult(operator.project(model.denoise(x, 0.0), y), {"acceptance_rate": torch.stack(rates)})


def gaussian_likelihood(
    model: EnergySequence, operator: LinearOperator, y: Tensor, *, noise: float
) -> Callable[[float], Callable[[Tensor], Tensor]]:
    r"""log N(y; A x, noise^2 I) for :func:`sample_posterior`, widened at noisy levels.

    At level t the variance is :math:`\mathrm{noise}^2 + \sigma_t^2 / \alpha_t^2` around A x / alpha_t, which is what the
    noise of the state adds to an orthonormal measurement; at level 0 it is ``noise`` around A x.

    Args:
        model: the prior.
        operator: A, real or complex; a complex measurement has noise of this size in each part.
        y: one measurement, without batch dimension.
        noise: standard deviation.

    Raises:
        ValueError: noise that is not positive, or a measurement that does not fit the operator.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.operators import Mask
    >>> operator = Mask(torch.tensor([True, False]))
    >>> likelihood_at = gaussian_likelihood(model, operator, torch.ones(1).double(), noise=0.1)
    >>> likelihood_at(0.0)(torch.zeros(3, 2).double()).shape
    torch.Size([3])
    """
    if not noise > 0:
        raise ValueError(f"noise must be positive, got {noise}: exact measurements are conditioned on, not weighed")
    _check_measurement(operator, torch.zeros((1, *model.event_shape), dtype=model.dtype), y)
    count = y.numel() * (2 if y.is_complex() else 1)

    def at(level: float) -> Callable[[Tensor], Tensor]:
        alpha, sigma = (float(value(level)) for value in (model.schedule.alpha_at, model.schedule.sigma_at))
        scale, variance = (alpha, noise**2 + (sigma / alpha) ** 2) if level else (1.0, noise**2)
        constant = -0.5 * count * math.log(2 * math.pi * variance)
        return lambda x: constant - 0.5 * _norm(y - operator.forward(x / scale)).square() / variance

    return at


def _norm(residual: Tensor) -> Tensor:
    return residual.abs().square().flatten(1).sum(1).sqrt()


def _check_measurement(operator: LinearOperator, x: Tensor, y: Tensor) -> None:
    check_operator(operator)
    found = operator.forward(x[:1])
    if y.shape != found.shape[1:]:
        raise ValueError(f"expected a measurement of shape {tuple(found.shape[1:])}, got {tuple(y.shape)}")
    if y.is_complex() != found.is_complex():
        raise ValueError(
            f"measurement and operator must both be real or both complex, got {y.dtype} and {found.dtype}: for complex "
            "images give real and imaginary parts as two channels and wrap the operator in ComplexPairs"
        )
