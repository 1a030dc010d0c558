r"""Running averages and extrapolations of denoised estimates, band by band of an orthonormal transform.

The estimates of successive levels are combined in data space, each frequency band with its own weight, because low
frequencies settle before high ones. A combination of posterior means is not a posterior mean, so no estimate of a density
uses it.

Weights in (0, 1] average, as in the paper. On Gaussian data with exact denoisers, DDIM and ancestral steps end with too
little spread at every frequency, and every average takes more of it away: the derivations prove it. Weights above 1
extrapolate, and there is one for each band that makes the spread exact. :func:`matched_average` finds it. For many even
steps it is near 1.5, the rule of :class:`~drl_density.samplers.MultistepDenoiser`.

Source: the idea of averages in bands is that of Qian et al. 2024 (arXiv 2403.17870), whose weights are not published.
Weights above 1, and their choice by the spread, are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.samplers.ddim import DDIMSettings, sample_ddim
from drl_density.samplers.flow import FlowSettings
from drl_density.samplers.walk import Denoiser, DenoisingPrior, StepRecord


@dataclass(frozen=True, eq=False)
class FrequencyAverage:
    """Moving average m <- (1 - w) m + w c of the coefficients c of each denoised estimate, starting at the first.

    A weight above 1 extrapolates: the estimate is m + w (c - m), and c becomes the next m.

    Attributes:
        axes: orthonormal transform of the flattened point ``(d, d)``; the coefficients are ``x @ axes``.
        early: weight w of each coefficient at the noisiest level, ``(d,)``; 1 keeps only the new estimate.
        late: weight of each coefficient at the cleanest level, ``(d,)``; w is linear in the level between the two.

    Raises:
        ValueError: axes that are not orthonormal, or weights that are not positive and finite.

    >>> average = FrequencyAverage(torch.eye(2), torch.ones(2), torch.full((2,), 0.5))
    >>> estimate, memory = average(torch.ones(1, 2), torch.zeros(1, 2), 1.0)
    >>> estimate
    tensor([[0.5000, 0.5000]])
    """

    axes: Tensor
    early: Tensor
    late: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        check_axes(self.axes)
        count = len(self.axes)
        for weight in (self.early, self.late):
            if weight.shape != (count,) or not bool(((weight > 0) & weight.isfinite()).all()):
                raise ValueError(f"weights must be ({count},) positive numbers, got shape {tuple(weight.shape)}")

    def __call__(self, clean: Tensor, memory: Tensor | None, progress: float) -> tuple[Tensor, Tensor]:
        """The combined estimate and the new memory, at ``progress`` from 0 (noisiest) to 1 (cleanest)."""
        coefficients = clean.flatten(1) @ self.axes.to(clean)
        weight = ((1 - progress) * self.early + progress * self.late).to(clean)
        last = coefficients if memory is None else memory
        change = torch.where(weight == 1, 0.0, (1 - weight) * (last - coefficients))
        # A weight above 1 extrapolates from the last estimate alone, which leaves no memory to average.
        memory = last + weight.clamp(max=1) * (coefficients - last)
        return clean + (change @ self.axes.to(clean).T).reshape(clean.shape), memory


class AveragedDenoiser:
    """A denoiser ``(x, level)`` that returns the combination of its estimates on a walk down the levels.

    A new walk begins at level T, without memory.

    Args:
        average: the transform and its weights.
        denoiser: ``denoiser(x, level)``, the estimate of the clean point to average.
        num_levels: level T at which the walk starts.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> average = AveragedDenoiser(moving_average(2, 0.5), model.denoise, model.num_levels)
    >>> average(torch.zeros(3, 2).double(), 8.0).shape
    torch.Size([3, 2])
    """

    def __init__(self, average: FrequencyAverage, denoiser: Denoiser, num_levels: int) -> None:
        self.average, self.denoiser, self.num_levels = average, denoiser, num_levels
        self.memory: Tensor | None = None

    def __call__(self, x: Tensor, level: float) -> Tensor:
        if level == self.num_levels:
            self.memory = None
        clean, self.memory = self.average(self.denoiser(x, level), self.memory, 1 - level / self.num_levels)
        return clean


class DenoisedSampler(Protocol):
    """A sampler that takes a denoiser: ``sample_ddim``, ``sample_ancestral``, ``sample_flow`` or the predictor-corrector."""

    def __call__(
        self,
        model: EnergySequence,
        num_samples: int,
        *,
        settings: Any = None,
        denoiser: Denoiser | None = None,
        generator: torch.Generator | None = None,
        on_step: Callable[[StepRecord], None] | None = None,
    ) -> SampleResult:
        """Draws ``(num_samples, *event)``; ``settings`` is the sampler's own record."""
        ...


@outside_inference_mode
def sample_averaged(
    model: EnergySequence,
    num_samples: int,
    *,
    average: FrequencyAverage,
    sampler: DenoisedSampler = sample_ddim,
    settings: Any = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` of any sampler that takes a denoiser, from averaged estimates.

    The noise direction of every step follows from the averaged estimate, which keeps x = alpha x_0 + sigma eps.

    Args:
        average: transform and weights of the average.
        sampler: ``sample_ddim``, ``sample_ancestral``, ``sample_predictor_corrector`` or ``sample_flow``.
        settings: record of the chosen sampler, such as :class:`DDIMSettings`.
        on_step: called with a :class:`StepRecord` after each step.

    Raises:
        ValueError: an average for points of another size, or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sample_averaged(model, 4, average=moving_average(2, 0.5), settings=DDIMSettings(num_steps=5)).draws.shape
    torch.Size([4, 2])
    """
    if len(average.axes) != model.event_shape.numel():
        raise ValueError(
            f"the average is for {len(average.axes)} coefficients, points have {model.event_shape.numel()}"
        )
    denoiser = AveragedDenoiser(average, model.denoise, model.num_levels)
    return sampler(model, num_samples, settings=settings, denoiser=denoiser, generator=generator, on_step=on_step)


def moving_average(num_features: int, weight: float) -> FrequencyAverage:
    """The plain moving average, with one weight for every coordinate at every level.

    Args:
        weight: weight of the new estimate: up to 1 for an average, above 1 for an extrapolation.

    >>> moving_average(3, 0.5).late
    tensor([0.5000, 0.5000, 0.5000])
    """
    return FrequencyAverage(torch.eye(num_features), *(torch.full((num_features,), weight) for _ in range(2)))


def final_spread(
    model: DenoisingPrior,
    settings: DDIMSettings | FlowSettings,
    variances: Tensor,
    weights: Tensor,
    *,
    error: Tensor | float = 0.0,
) -> Tensor:
    r"""Standard deviation of the draws of a walk over the true one of level 0, for Gaussian data with exact denoisers.

    Where coordinates are independent the denoiser is the factor :math:`\alpha v / (\alpha^2 v + \sigma^2)`, so the walk is a
    linear map of state and memory at every step, and their covariance obeys a recursion.

    Args:
        model: the schedule of the walk.
        settings: DDIM with any eta, or Heun steps of the flow, whose draws are states of level 0.
        variances: variance v of the data at each coefficient, ``(d,)``.
        weights: weight of the average at all levels, in a shape that broadcasts with ``variances``.
        error: standard deviation of an independent error of every estimate, as another network at each step would make.

    Returns:
        Ratios in the shape of variances and weights together; 1 is exact.

    Raises:
        ValueError: settings of another sampler or of a denoised walk, variances or errors that are negative or not finite,
            weights that are not positive and finite, or shapes that do not broadcast.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model, weights = GaussianMixtureSequence.example().model, torch.tensor([0.6, 1.0, 1.4])
    >>> [round(v, 2) for v in final_spread(model, DDIMSettings(10), torch.tensor(0.5), weights).tolist()]
    [0.75, 0.88, 0.98]
    """
    _check_walk(settings)
    errors = torch.as_tensor(error, dtype=torch.float64)
    for name, values in (("variances", variances), ("errors", errors)):
        if not bool(((values >= 0) & values.isfinite()).all()):
            raise ValueError(f"expected {name} of at least 0, all finite, got {_shown(values)}")
    if not bool(((weights > 0) & weights.isfinite()).all()):
        raise ValueError(f"expected weights that are positive and finite, got {_shown(weights)}")
    try:
        shape = torch.broadcast_shapes(weights.shape, variances.shape)
        errors = errors.square().expand(shape)
    except RuntimeError:
        shapes = ", ".join(str(tuple(values.shape)) for values in (variances, weights, errors))
        raise ValueError(f"expected variances, weights and errors that broadcast, got shapes {shapes}") from None
    weights, variances = weights.double().expand(shape), variances.double().expand(shape)
    state, memory, first, second, fresh = torch.eye(5, dtype=torch.float64).expand(*weights.shape, 5, 5).unbind(-2)
    one = torch.ones_like(weights)
    covariance = torch.diag_embed(torch.stack([one, 0 * one, errors, errors, one], -1))
    levels = settings.walk(model)

    def estimate(x: Tensor, last: Tensor, noise: Tensor, level: float, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The combined estimate and the new memory, as coefficients of state, memory, errors and noise."""
        alpha, sigma = float(model.schedule.alpha_at(level)), float(model.schedule.sigma_at(level))
        factor = alpha * variances / (alpha**2 * variances + sigma**2)
        change = factor[..., None] * x + noise - last
        return last + weight[..., None] * change, last + weight.clamp(max=1)[..., None] * change

    for start, end in zip(levels, levels[1:], strict=False):
        (alpha, sigma), (alpha_to, sigma_to) = (
            (float(model.schedule.alpha_at(level)), float(model.schedule.sigma_at(level))) for level in (start, end)
        )
        clean, kept = estimate(state, memory, first, start, one if start == levels[0] else weights)
        if isinstance(settings, DDIMSettings):
            size = settings.eta * sigma_to / sigma * math.sqrt(1 - (alpha / alpha_to) ** 2)
            direction = math.sqrt(sigma_to**2 - size**2) / sigma
            moved = alpha_to * clean + direction * (state - alpha * clean) + size * fresh
        else:
            width = float(model.schedule.log_snr_at(end) - model.schedule.log_snr_at(start))
            velocity = 0.5 * alpha * (clean - alpha * state)
            ahead = state + width * velocity
            clean, kept = estimate(ahead, kept, second, end, weights)
            moved = state + 0.5 * width * (velocity + 0.5 * alpha_to * (clean - alpha_to * ahead))
        step = torch.stack([moved, kept], -2)
        covariance = covariance.clone()
        covariance[..., :2, :2] = step @ covariance @ step.mT
    alpha, sigma = float(model.schedule.alpha_at(0.0)), float(model.schedule.sigma_at(0.0))
    return (covariance[..., 0, 0] / (alpha**2 * variances + sigma**2)).sqrt()


def matched_average(
    model: DenoisingPrior,
    settings: DDIMSettings | FlowSettings,
    axes: Tensor,
    variances: Tensor,
    *,
    bands: Tensor | None = None,
    error: Tensor | float = 0.0,
) -> FrequencyAverage:
    """The weight of each coefficient, or of each band, that brings the spread of a walk to that of the data.

    Spreads are those of :func:`final_spread`. Weights from 0.05 to 3 are compared in steps of 0.01. Of those within one
    percent of the best, the one nearest to 1 is used.

    Args:
        model: the sequence that is walked down.
        settings: the walk, as the sampler is given it.
        axes: orthonormal transform of the flattened point ``(d, d)``.
        variances: variance of the data at each coefficient ``x @ axes``, ``(d,)``.
        bands: band of each coefficient ``(d,)``. All coefficients of a band then have one weight, by their total variance.
        error: standard deviation of an independent error of every estimate.

    Raises:
        ValueError: axes that are not orthonormal, variances or bands of another number than the coefficients, and as for
            :func:`final_spread`.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> average = matched_average(model, DDIMSettings(num_steps=10), torch.eye(2), torch.tensor([0.9, 0.1]))
    >>> bool((average.late > 1.3).all())
    True
    """
    check_axes(axes)
    for name, values in (("variances", variances), ("bands", variances if bands is None else bands)):
        if values.shape != (len(axes),) or bool(values.isnan().any()):
            raise ValueError(f"expected {name} ({len(axes)},), one for each coefficient, got {_shown(values)}")
    grid = torch.linspace(0.05, 3.0, 296, dtype=torch.float64)[:, None]
    variances, ratios = variances.double(), final_spread(model, settings, variances, grid, error=error)
    if bands is not None:
        true = float(model.schedule.alpha_at(0.0)) ** 2 * variances + float(model.schedule.sigma_at(0.0)) ** 2
        for band in bands.unique():
            own = bands == band
            ratios[:, own] = ((ratios[:, own].square() * true[own]).sum(1) / true[own].sum()).sqrt()[:, None]
    gap = ratios.log().abs()
    is_good = gap <= gap.min(0).values + 0.01
    nearest = torch.where(is_good, (grid - 1).abs(), math.inf).argmin(0)
    weights = grid[nearest, 0]
    return FrequencyAverage(axes, weights, weights)


def check_axes(axes: Tensor) -> None:
    """Refuses ``axes`` that are not an orthonormal matrix ``(d, d)``.

    Raises:
        ValueError: another shape, or columns that are not orthonormal, to within 1e-5.

    >>> check_axes(torch.eye(2))
    """
    if axes.ndim != 2 or axes.shape[0] != axes.shape[1] or not axes.numel():
        raise ValueError(f"axes must be an orthonormal (d, d) matrix, got shape {tuple(axes.shape)}")
    gap = float((axes.double().T @ axes.double() - torch.eye(len(axes), dtype=torch.float64)).abs().max())
    if not gap <= 1e-5:  # NaN too
        raise ValueError(f"axes must be an orthonormal (d, d) matrix, and A^T A is off by {gap:.2g}")


def _shown(values: Tensor) -> str:
    """Shape and range of values, for messages."""
    if not values.numel():
        return f"shape {tuple(values.shape)}"
    return f"shape {tuple(values.shape)}, from {float(values.min()):.3g} to {float(values.max()):.3g}"


def _check_walk(settings: object) -> None:
    if not isinstance(settings, DDIMSettings | FlowSettings):
        raise ValueError(
            f"spreads are known for DDIMSettings and FlowSettings, got {type(settings).__name__}: ancestral steps are "
            "DDIMSettings(eta=1.0)"
        )
    if isinstance(settings, DDIMSettings) and settings.is_denoised:
        raise ValueError("spreads are those of states of level 0, got is_denoised=True: leave the walk's end as it is")


def cosine_axes(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Orthonormal cosine transform of points of ``shape``.

    Returns:
        the transform as a matrix ``(d, d)``, and each coefficient's frequency in [0, 1], ``(d,)``.

    >>> axes, frequencies = cosine_axes((4, 4))
    >>> axes.shape, float(frequencies.min()), float(frequencies.max())
    (torch.Size([16, 16]), 0.0, 1.0)
    """
    from scipy.fft import dct

    axes, frequency = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for size in shape:
        matrix = torch.as_tensor(dct(torch.eye(size, dtype=torch.float64).numpy(), norm="ortho", axis=0)).T
        axes = torch.kron(axes, matrix)
        own = torch.arange(size, dtype=torch.float64) / max(1, size - 1)
        frequency = (frequency[:, None] + own[None]).flatten()
    return axes, frequency / max(1, len(shape))


def haar_axes(height: int, width: int) -> tuple[Tensor, Tensor]:
    """One-level Haar wavelets of images ``(height, width)``.

    Returns:
        the transform as a matrix ``(d, d)``, and each coefficient's band ``(d,)``: 0 low, 1/2 mixed, 1 high.

    Raises:
        ValueError: an odd height or width.

    >>> axes, bands = haar_axes(2, 2)
    >>> sorted(bands.tolist())
    [0.0, 0.5, 0.5, 1.0]
    """
    if height % 2 or width % 2:
        raise ValueError(f"Haar wavelets need even sizes, got {height} x {width}")
    columns, bands = [], []
    for size in (height, width):
        matrix = torch.zeros(size, size, dtype=torch.float64)
        for pair in range(size // 2):
            matrix[2 * pair : 2 * pair + 2, pair] = 0.5**0.5
            matrix[2 * pair, size // 2 + pair], matrix[2 * pair + 1, size // 2 + pair] = 0.5**0.5, -(0.5**0.5)
        columns.append(matrix)
        bands.append((torch.arange(size) >= size // 2).double())
    return torch.kron(*columns), 0.5 * (bands[0][:, None] + bands[1][None]).flatten()
