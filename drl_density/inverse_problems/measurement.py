r"""Linear inverse problems with an energy sequence as prior: guided few-step samplers, and the likelihood of a measurement.

Diffusion posterior sampling (DPS) shifts each DDIM step along the gradient of
:math:`\lVert y - A \hat x_0(x_t) \rVert^2` through the denoiser: it is fast and biased. The consistent alternative is
:func:`~drl_density.inverse_problems.sample_posterior` with :func:`gaussian_likelihood`.

Source: Chung et al. 2023 (DPS); hard projection as in Chung and Ye 2022 (score-MRI).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.operators import LinearOperator, ProjectingOperator, check_operator
from drl_density.records.fields import NonNegativeFloat, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.ddim import DDIMSettings, ddim_step
from drl_density.samplers.predictor_corrector import PredictorCorrectorSettings, correct
from drl_density.samplers.walk import DenoisingPrior, StepRecord, starting_noise
from drl_density.shapes import per_row


@dataclass(frozen=True)
class DPSSettings:
    """Steps and strength of guidance of diffusion posterior sampling (DPS).

    Attributes:
        walk: DDIM walk down the levels.
        strength: length of each guidance step, whose direction follows from the residual. If it is too large, draws
            scatter around the measurement by about this much.
    """

    walk: DDIMSettings = field(default_factory=lambda: DDIMSettings(num_steps=200, eta=1.0))
    strength: NonNegativeFloat = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def sample_dps(
    model: DenoisingPrior,
    operator: LinearOperator,
    y: Tensor,
    num_samples: int,
    *,
    settings: DPSSettings | None = None,
    to_operand: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` guided towards A x = y by diffusion posterior sampling (DPS), which is biased.

    Args:
        model: the prior, an energy sequence or a denoiser with a schedule such as
            :class:`~drl_density.inverse_problems.AmbientPrior`.
        operator: the linear operator A.
        y: one measurement, without batch dimension.
        to_operand: differentiable map from the model's space to the space on which the operator acts; the identity by
            default.
        on_step: called with a :class:`~drl_density.samplers.StepRecord` after each step.

    Raises:
        ValueError: a measurement that does not fit the operator, or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.operators import Mask
    >>> operator, y = Mask(torch.tensor([True, False])), torch.ones(1).double()
    >>> settings = DPSSettings(DDIMSettings(num_steps=5))
    >>> sample_dps(model, operator, y, 4, settings=settings).draws.shape
    torch.Size([4, 2])
    """
    settings = given_or_default(settings, DPSSettings)
    levels = settings.walk.walk(model)
    x = starting_noise(model, num_samples, generator)
    to_operand = to_operand or (lambda clean: clean)
    _check_measurement(operator, to_operand(x), y)
    for start, end in zip(levels, levels[1:], strict=False):
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            clean = model.denoise(point, start, has_graph=True)
            residual = _norm(y - operator.forward(to_operand(clean)))
            (gradient,) = torch.autograd.grad(residual.square().sum(), point)
        length = per_row(residual.detach().to(x.device), x)
        # Where the residual vanishes so does its gradient, and their quotient is taken as 0.
        step = torch.where(length > 0, settings.strength * gradient / length, 0.0)
        eta = settings.walk.eta
        x = ddim_step(model, x, clean.detach(), start=start, end=end, eta=eta, generator=generator) - step
        if on_step is not None:
            on_step(StepRecord(end, x, math.nan))
    return SampleResult(model.denoise(x, 0.0) if settings.walk.is_denoised else x)


@outside_inference_mode
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
        operator: the linear operator A with ``project(x, y)``, the nearest point to x whose measurement is y.
        y: one noiseless measurement, without batch dimension.
        is_noised: whether noisy states are projected onto measurements of equal noise; False projects onto alpha y, as
            score-MRI does.
        on_step: called with a :class:`~drl_density.samplers.StepRecord` after each level.

    Raises:
        ValueError: an operator without ``project``, a measurement that does not fit the operator, or a ``num_samples``
            that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.operators import Mask
    >>> operator = Mask(torch.tensor([True, False]))
    >>> settings = PredictorCorrectorSettings(walk=DDIMSettings(num_steps=5))
    >>> found = sample_projected(model, operator, torch.ones(1).double(), 4, settings=settings)
    >>> found.draws.shape
    torch.Size([4, 2])
    """
    settings = given_or_default(settings, PredictorCorrectorSettings)
    if not callable(getattr(operator, "project", None)):
        raise ValueError(
            f"{type(operator).__name__} has no project(x, y): add one, or use sample_dps or sample_posterior"
        )
    x = starting_noise(model, num_samples, generator)
    _check_measurement(operator, x, y)
    nearest = operator.project(torch.zeros_like(x), y)

    def measured(level: float) -> Tensor:
        alpha = float(model.schedule.alpha_at(level))
        if not is_noised:
            return alpha * y
        return operator.forward(model.schedule.diffuse(nearest, level, generator=generator))

    levels, eta, rates = settings.walk.walk(model), settings.walk.eta, []
    for start, end in zip(levels, levels[1:], strict=False):
        x = ddim_step(model, x, model.denoise(x, start), start=start, end=end, eta=eta, generator=generator)
        here = measured(end)

        def project(state: Tensor, here: Tensor = here) -> Tensor:
            return operator.project(state, here)

        x, rate = correct(model, project(x), end, settings, generator=generator, project=project)
        rates.append(rate)
        if on_step is not None:
            on_step(StepRecord(end, x, float(rate.mean())))
    return SampleResult(operator.project(model.denoise(x, 0.0), y), {"acceptance_rate": torch.stack(rates)})


def gaussian_likelihood(
    model: EnergySequence, operator: LinearOperator, y: Tensor, *, noise: float
) -> Callable[[float], Callable[[Tensor], Tensor]]:
    r"""Log-likelihood log N(y; A x, noise^2 I) for :func:`sample_posterior`, widened at noisy levels.

    At level t the mean is :math:`A x / \alpha_t` and the variance :math:`\mathrm{noise}^2 + \sigma_t^2 / \alpha_t^2`, since
    the noise of the state adds to that of an orthonormal measurement. At level 0 they are A x and noise^2.

    Args:
        operator: the linear operator A, real or complex.
        y: one measurement, without batch dimension.
        noise: standard deviation of the measurement noise; for a complex measurement, that of its real and imaginary parts.

    Returns:
        ``likelihood_at(level)``, which gives the log-likelihood of states of that level, ``(n, *event) -> (n,)``.

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
    if not bool(y.isfinite().all()):
        raise ValueError("the measurement must be finite numbers: the operator leaves out what was not measured")
    if y.is_complex() != found.is_complex():
        raise ValueError(
            f"measurement and operator must both be real or both complex, got {y.dtype} and {found.dtype}: for complex "
            "images give real and imaginary parts as two channels and wrap the operator in ComplexPairs"
        )
