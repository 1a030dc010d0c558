r"""Weights of averages that bring the spread of few-step draws to that of the data, by a closed form or by pilot draws.

On Gaussian data with exact denoisers the spread of a walk obeys a recursion (:func:`final_spread`), and
:func:`matched_average` solves it for the weights. A trained network is not exact: an energy that was learned with short
chains can be too steep, so that walks end with too much spread. :func:`calibrated_average` measures the spread of pilot
draws, and corrects the recursion by what they show.

Source: ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.samplers.averages.frequency_average import DenoisedSampler, FrequencyAverage, sample_averaged
from drl_density.samplers.averages.transforms import check_axes
from drl_density.samplers.ddim import DDIMSettings, sample_ddim
from drl_density.samplers.flow import FlowSettings, sample_flow
from drl_density.samplers.walk import DenoisingPrior

GRID = torch.linspace(0.05, 3.0, 296, dtype=torch.float64)[:, None]
"""Weights to choose from, ``(n, 1)``."""


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
    variances = _checked(axes, variances, bands)
    ratios = _by_band(final_spread(model, settings, variances, GRID, error=error), _true(model, variances), bands)
    return _with(axes, _nearest(ratios))


@outside_inference_mode
def calibrated_average(
    model: EnergySequence,
    settings: DDIMSettings | FlowSettings,
    axes: Tensor,
    variances: Tensor,
    *,
    bands: Tensor | None = None,
    num_pilot_draws: int = 200,
    num_pilots: int = 4,
    generator: torch.Generator | None = None,
) -> FrequencyAverage:
    r"""The weight of each coefficient, or of each band, that brings the spread of pilot draws to that of the data.

    The first pilot has weights 1. Let :math:`r_k` be the spread of its draws over the true one, for pilot k with weights
    :math:`w_k`, and f the closed form of :func:`final_spread`. The next weights solve

    .. math:: f(w_{k+1})\, r_k / f(w_k) = 1,

    within one percent and as near to 1 as that allows. Of all pilots, a band takes the weight whose draws were nearest.

    Args:
        model: the sequence that is walked down, whose errors need not be known.
        settings: the walk, as the sampler is given it.
        axes: orthonormal transform of the flattened point ``(d, d)``.
        variances: variance of the data at each coefficient ``x @ axes``, ``(d,)``.
        bands: band of each coefficient ``(d,)``. All coefficients of a band then have one weight, by their total variance.
        num_pilot_draws: draws of each pilot.
        num_pilots: number of pilots, at least 2.
        generator: source of the draws.

    Raises:
        ValueError: fewer than two pilots or draws, and as for :func:`matched_average`.
        NumericalError: pilot draws that are not finite.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> average = calibrated_average(model, DDIMSettings(num_steps=5), torch.eye(2), torch.tensor([0.9, 0.1]))
    >>> average.late.shape
    torch.Size([2])
    """
    for name, count in (("num_pilot_draws", num_pilot_draws), ("num_pilots", num_pilots)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 2:
            raise ValueError(f"{name} must be an integer of at least 2, got {count!r}")
    variances = _checked(axes, variances, bands)
    true = _true(model, variances)
    sampler: DenoisedSampler = sample_ddim if isinstance(settings, DDIMSettings) else sample_flow
    closed = _by_band(final_spread(model, settings, variances, GRID), true, bands)
    places = torch.full((len(axes),), int((GRID - 1).abs().argmin()))
    best, gaps = places, torch.full((len(axes),), math.inf, dtype=torch.float64)
    for _ in range(num_pilots):
        average = _with(axes, places)
        draws = sample_averaged(
            model, num_pilot_draws, average=average, sampler=sampler, settings=settings, generator=generator
        ).draws
        if not bool(draws.isfinite().all()):
            raise NumericalError("the pilot draws are not finite, so that they have no spread: use more steps")
        coefficients = draws.flatten(1).double() @ axes.to(draws.device).double()
        found = _by_band((coefficients.var(0).cpu() / true).sqrt()[None], true, bands)[0]
        is_nearer = found.log().abs() < gaps
        best, gaps = torch.where(is_nearer, places, best), torch.where(is_nearer, found.log().abs(), gaps)
        places = _nearest(closed * found / closed.gather(0, places[None])[0])
    return _with(axes, best)


def _checked(axes: Tensor, variances: Tensor, bands: Tensor | None) -> Tensor:
    """The variances in float64, once all three fit together."""
    check_axes(axes)
    for name, values in (("variances", variances), ("bands", variances if bands is None else bands)):
        if values.shape != (len(axes),) or bool(values.isnan().any()):
            raise ValueError(f"expected {name} ({len(axes)},), one for each coefficient, got {_shown(values)}")
    return variances.double()


def _true(model: DenoisingPrior, variances: Tensor) -> Tensor:
    """Variances of the states of level 0, ``(d,)``."""
    return float(model.schedule.alpha_at(0.0)) ** 2 * variances + float(model.schedule.sigma_at(0.0)) ** 2


def _by_band(ratios: Tensor, true: Tensor, bands: Tensor | None) -> Tensor:
    """Ratios of spreads ``(n, d)``, with that of the whole band in the place of each coefficient of it."""
    if bands is None:
        return ratios
    found = ratios.clone()
    for band in bands.unique():
        own = bands == band
        found[:, own] = ((ratios[:, own].square() * true[own]).sum(1) / true[own].sum()).sqrt()[:, None]
    return found


def _nearest(ratios: Tensor) -> Tensor:
    """Place in the grid of each coefficient's weight, ``(d,)``, from the ratio of spreads at every weight ``(n, d)``."""
    gaps = ratios.log().abs()
    is_good = gaps <= gaps.min(0).values + 0.01
    return torch.where(is_good, (GRID - 1).abs(), math.inf).argmin(0)


def _with(axes: Tensor, places: Tensor) -> FrequencyAverage:
    """The average with weights at these places of the grid."""
    return FrequencyAverage(axes, GRID[places, 0], GRID[places, 0])


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
