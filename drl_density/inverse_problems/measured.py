r"""Draws of clean points given a noisy linear measurement, down the levels of a conditioned sequence.

A measurement :math:`y = A x + s\,\varepsilon` by an operator with orthonormal rows, :math:`A A^* = I`, is distributed as
:math:`A x_t / \alpha_t` at the level t where :math:`\sigma_t / \alpha_t = s`. So a state of that level whose measured part
is :math:`\alpha_t y`, and whose other part follows :math:`\exp F_t`, is an exact draw given y. The sampler

1. walks down the conditioned sequence to level t, by predictor and corrector steps, where the base judges the measurement;
2. enforces the measured part, and moves the rest by adjusted steps on :math:`F_t`, where the network judges everything;
3. walks down to level 0 without the measurement, which the state already contains.

An operator of another kind, or noise below that of level 0, ends with step 1 at level 0. Every predictor step goes to a draw
of the clean point: the denoised estimate, plus the deviation of a draw under the base from its mean. Steps of any length are
therefore exact where the network is zero, and the last of them gives the draws of clean points.

Source: ours; measured coordinates that are noised with the state, as in Song et al. 2021 (arXiv 2011.13456).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases import NoisedGaussianMixture
from drl_density.bases.gaussian_mixture import draw_of_each
from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.inverse_problems.conditioned_base import ConditionedBase, check_noise, condition_on_measurement
from drl_density.mcmc import DualAveraging, Tuner
from drl_density.model import EnergySequence
from drl_density.operators import LinearOperator, ProjectingOperator, check_operator
from drl_density.records.fields import NonNegativeInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.ddim import DDIMSettings, ddim_step
from drl_density.samplers.predictor_corrector import (
    PredictorCorrectorSettings,
    correct,
    sample_predictor_corrector,
)

# Two Fourier transforms in float32 are off by some 1e-6.
ORTHONORMAL = 1e-4
# The scales of the final steps are measured again after so many.
STEPS_PER_SCALE = 6
# Noise that is smaller than that of level 0 by up to 1 % (2 % of its variance, a log-SNR of 0.02) counts as equal.
AS_NOISY = 0.02


@dataclass(frozen=True)
class MeasuredSettings:
    """Steps of :func:`sample_measured`.

    Attributes:
        walk: predictor and corrector steps down the conditioned sequence. Levels given one by one are those of the model,
            and those below the level of the noise are left out where the measured part is enforced. Draws are clean points
            whether or not the walk is denoised.
        num_final_steps: adjusted steps at the level of the measurement, with the measured part enforced. Their step size,
            first that of the walk, adapts to the acceptance rate in the first half of them.
    """

    # Posteriors of images are less round than their priors, and accept about half of the corrector's usual step size.
    walk: PredictorCorrectorSettings = field(
        default_factory=lambda: PredictorCorrectorSettings(DDIMSettings(20, eta=1.0), num_corrections=1, step_size=0.5)
    )
    num_final_steps: NonNegativeInt = 60

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def sample_measured(
    model: EnergySequence,
    operator: LinearOperator,
    y: Tensor,
    num_samples: int,
    *,
    noise: float,
    settings: MeasuredSettings | None = None,
    conditioned: ConditionedBase | None = None,
    generator: torch.Generator | None = None,
) -> SampleResult:
    r"""Draws ``(num_samples, *event)`` of clean points given y = A x + noise.

    Args:
        model: the prior, whose base is a mixture of Gaussians or of factor analysers.
        operator: the linear operator A, real or complex. With a method ``project``, orthonormal rows and noise of at least
            that of level 0, the measured part is enforced at the level of the noise.
        y: one measurement, without batch dimension.
        noise: standard deviation of the measurement noise; for a complex measurement, that of its real and imaginary parts,
            or of the pixels of a real image before its transform.
        settings: numbers and sizes of the steps.
        conditioned: factorised matrices, which all measurements of one operator share; made here if not given.

    Returns:
        The draws, with the ``acceptance_rate`` of the corrector at every level, and in the last row that of the final steps
        after their step size has adapted.

    Raises:
        ValueError: see :func:`~drl_density.inverse_problems.condition_on_measurement`, or a ``num_samples`` that is not a
            positive integer.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.operators import Mask
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), event_shape=(2,))
    >>> operator, y = Mask(torch.tensor([True, False])), torch.tensor([2.0])
    >>> sample_measured(model, operator, y, 3, noise=0.1).draws.shape
    torch.Size([3, 2])
    """
    settings = given_or_default(settings, MeasuredSettings)
    check_noise(noise)
    check_operator(operator)
    level = level_of_noise(model, noise)
    is_enforced = level is not None and has_orthonormal_rows(operator, tuple(model.event_shape), device=model.device)
    if conditioned is None:
        conditioned = ConditionedBase.of(model, operator, noise=noise)
    cleanest = model.truncate(level) if is_enforced and level else model
    walk = _walk_above(settings.walk.walk, level if is_enforced and level else 0.0)
    posterior = condition_on_measurement(cleanest, operator, y, noise=noise, conditioned=conditioned)
    draw = CleanDraws(posterior, conditioned(y), generator)
    found = sample_predictor_corrector(
        posterior,
        num_samples,
        settings=dataclasses.replace(settings.walk, walk=walk),
        denoiser=draw,
        generator=generator,
    )
    x, rates = found.draws, found.stats["acceptance_rate"]
    if not is_enforced:
        return SampleResult(draw(x, 0.0), {"acceptance_rate": rates})
    x, rate = _enforced(cleanest, cast("ProjectingOperator", operator), y, x, settings, generator)
    draw = CleanDraws(model, conditioned.prior, generator)
    levels = torch.linspace(level or 0.0, 0, 1 + math.ceil(level or 0.0), dtype=torch.float64).tolist()
    for start, end in zip(levels, levels[1:], strict=False):
        x = ddim_step(model, x, draw(x, start), start=start, end=end, eta=1.0, generator=generator)
    return SampleResult(draw(x, 0.0), {"acceptance_rate": torch.cat([rates, rate[None]])})


@dataclass(frozen=True, eq=False)
class CleanDraws:
    """A denoiser that adds to the estimate the deviation of a draw of the clean point from its mean, under a mixture.

    Attributes:
        model: the sequence that estimates.
        base: its base, as a mixture with axes.
        generator: source of the draws.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> CleanDraws(model, base)(torch.zeros(3, 2).double(), 1.0).shape
    torch.Size([3, 2])
    """

    model: EnergySequence
    base: NoisedGaussianMixture
    generator: torch.Generator | None = None

    def __call__(self, x: Tensor, level: float) -> Tensor:
        """Draws of clean points ``(n, *event)`` for states ``x`` of a level."""
        log_snr = self.model.schedule.log_snr_at(level)
        scatter = clean_scatter(self.base, x.flatten(1), log_snr, generator=self.generator)
        return self.model.denoise(x, level) + scatter.reshape(x.shape)


def has_orthonormal_rows(
    operator: LinearOperator, event_shape: tuple[int, ...], *, device: torch.device | None = None
) -> bool:
    """Whether an operator has a projection, and A A* leaves measurements as they are, up to rounding.

    Args:
        operator: the operator to check, at one point.
        event_shape: shape of one point.
        device: where the operator works; the CPU when not given.

    Raises:
        ValueError: an operator with a projection whose adjoint gives complex points.

    >>> from drl_density.operators import Mask, MatrixOperator
    >>> has_orthonormal_rows(Mask(torch.tensor([True, False])), (2,))
    True
    >>> has_orthonormal_rows(MatrixOperator(torch.eye(2)), (2,))  # it has no projection
    False
    """
    if not callable(getattr(operator, "project", None)):
        return False
    point = torch.randn(1, *event_shape, generator=torch.Generator().manual_seed(0)).to(device or "cpu")
    measured = operator.forward(point)
    nearest = operator.adjoint(measured)
    if nearest.is_complex():
        raise ValueError(
            "the adjoint of the operator gives complex points, but those of the model are real: wrap it in ComplexPairs for "
            "points of two channels, or in an operator whose adjoint and project take the real part"
        )
    again = operator.forward(nearest)
    return bool((again - measured).abs().max() <= ORTHONORMAL * measured.abs().max())


def level_of_noise(model: EnergySequence, noise: float) -> float | None:
    """The level t < T where sigma_t / alpha_t is ``noise``; None if level 0 has more noise, or every one of them less.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> level_of_noise(model, float(model.schedule.sigma_at(2.0) / model.schedule.alpha_at(2.0)))
    2.0
    """
    wanted, log_snr = -2 * math.log(noise), model.schedule.log_snr.tolist()
    if log_snr[0] < wanted < log_snr[0] + AS_NOISY:
        return 0.0
    for index, (high, low) in enumerate(zip(log_snr, log_snr[1:], strict=False)):
        if low <= wanted <= high:
            level = round(index + (high - wanted) / (high - low), 9)
            return level if level < model.num_levels else None
    return None


def _walk_above(walk: DDIMSettings, level: float) -> DDIMSettings:
    """The walk down a sequence that ends at ``level``, whose states are not denoised at the end."""
    levels = walk.levels
    if levels is not None and level:
        first = math.floor(level)
        # The levels of the shorter sequence are linear in log-SNR between the same places.
        moved = (each - first if each >= first + 1 else (each - level) / (first + 1 - level) for each in levels)
        levels = (*(each for each in moved if each > 0), 0.0)
    return dataclasses.replace(walk, levels=levels, is_denoised=False)


def clean_scatter(
    base: NoisedGaussianMixture, x: Tensor, log_snr: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Deviation of a draw of the clean point from its mean under a mixture, given each noised point, ``(n, d)``.

    Args:
        base: mixture of the clean points, with axes.
        x: noised points ``(n, d)``.
        log_snr: log-SNR of the points, ``()``.

    >>> base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> clean_scatter(base, torch.zeros(5, 2), torch.tensor(4.0)).shape
    torch.Size([5, 2])
    """
    signal, noise = (torch.sigmoid(value).to(x) for value in (log_snr, -log_snr))
    assert base.axes is not None
    axes, variances, centers = base.axes.to(x), base.variances.to(x), base.centers.to(x)
    spread = signal * variances + noise
    gap = torch.einsum("nd,kde->nke", x, axes) - signal.sqrt() * centers
    heights = base.log_weights.to(x) - 0.5 * spread.log().sum(-1) - 0.5 * (gap.square() / spread).sum(-1)
    shares = heights.softmax(-1)
    clean = centers + signal.sqrt() * variances / spread * gap
    chosen = draw_of_each(heights, generator)
    own = clean[torch.arange(len(x), device=x.device), chosen]
    own = own + (variances * noise / spread)[chosen].sqrt() * normal_draws(x.shape, x, generator)
    mean = torch.einsum("nk,nke,kde->nd", shares, clean, axes)
    return torch.einsum("ne,nde->nd", own, axes[chosen]) - mean


def _enforced(
    model: EnergySequence,
    operator: ProjectingOperator,
    y: Tensor,
    x: Tensor,
    settings: MeasuredSettings,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """States of level 0 with the measured part of y, the rest moved by adjusted steps; their acceptance rates."""
    wanted = float(model.schedule.alpha_at(0.0)) * y

    def project(state: Tensor) -> Tensor:
        return operator.project(state, wanted)

    # The first half of the steps finds the step size: what the measurement leaves open may be far less round than the prior.
    num_adapting = settings.num_final_steps // 2
    kernel = settings.walk.kernel
    tuner = Tuner(DualAveraging(kernel.target_acceptance) if kernel.is_adjusted else None, settings.walk.step_size)
    x, rates = project(x), []
    for count, is_adapting in ((num_adapting, True), (settings.num_final_steps - num_adapting, False)):
        rates = []
        for steps in torch.arange(count).split(STEPS_PER_SCALE) if count else ():
            corrector = dataclasses.replace(settings.walk, num_corrections=len(steps))
            x, rate = correct(model, x, 0.0, corrector, step_size=tuner, generator=generator, project=project)
            rates.append(rate * len(steps) / count)
        if is_adapting:
            tuner.freeze()
    return x, torch.stack(rates).sum(0) if rates else x.new_full((len(x),), math.nan)
