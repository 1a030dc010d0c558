"""Monotone rational-quadratic splines on a box, the identity outside."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HALF_WIDTH = 5.0
"""Half the side of the box: five standard deviations of a Gaussianised column."""

STEEPEST = math.log(1000.0)
"""Bound of the log slope at every knot, and of the log ratio of any two bins."""


def spline(x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    r"""Map every number through a spline of its own.

    With :math:`z` the place of x in its bin of slope :math:`s` and height h, whose ends have the slopes
    :math:`\delta_0, \delta_1`,

    .. math:: y = y_0 + h\, \frac{s z^2 + \delta_0 z (1 - z)}{s + (\delta_0 + \delta_1 - 2 s) z (1 - z)}

    Zeros in ``raw`` give the identity. Slopes are 1 at the ends of the box, so that the derivative is continuous there.

    Args:
        x: numbers of any shape ``(*shape)``.
        raw: unconstrained widths and heights of K bins, and slopes at the K - 1 inner knots, ``(3 K - 1, *shape)``.

    Returns:
        The values, and the logarithms of the slopes, both ``(*shape)``.

    Source: Durkan et al. 2019, "Neural spline flows" (arXiv 1906.04032), section 3.1; the bounds are zuko's.

    >>> y, log_slope = spline(torch.tensor([-7.0, 0.5]), torch.zeros(23, 2))
    >>> y, log_slope
    (tensor([-7.0000,  0.5000]), tensor([0., 0.]))
    """
    is_inside, place = _inside(x)
    start, size, low, high = _bin(place, raw, by=0)
    z = (place - start[0]) / size[0]
    steepness, rest = size[1] / size[0], z * (1 - z)
    below = steepness + (low + high - 2 * steepness) * rest
    y = start[1] + size[1] * (steepness * z * z + low * rest) / below
    slope = 2 * steepness * rest + low * (1 - z) ** 2 + high * z * z
    log_slope = 2 * (steepness / below).log() + slope.log()
    return torch.where(is_inside, y, x), torch.where(is_inside, log_slope, 0.0)


def trained_spline(x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Map every number as :func:`spline` does, with first derivatives in closed form, for training.

    A step forward and back takes about two thirds of the time that automatic differentiation takes. Second derivatives
    are refused with an error.

    >>> x, raw = torch.randn(4), torch.randn(23, 4, requires_grad=True)
    >>> bool(torch.allclose(trained_spline(x, raw)[0], spline(x, raw)[0], atol=1e-5))
    True
    """
    return _TrainedSpline.apply(x, raw)


class _TrainedSpline(torch.autograd.Function):
    """Values and log slopes of splines, and the gradients of their points and of their parameters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log slopes at ``x``, in the notation of :func:`spline`."""
        is_inside, place = _inside(x)
        num_bins = (len(raw) + 1) // 3
        # tanh by way of the exponential, which takes half of the time.
        bend = _tanh(raw[: 2 * num_bins] * (2 / STEEPEST))
        shares = bend.mul(STEEPEST / 2).exp_().unflatten(0, (2, num_bins))
        shares.mul_((2 * HALF_WIDTH / shares.sum(1)).unsqueeze(1))
        edges = shares.cumsum(1)
        index = (edges[0, :-1] <= place + HALF_WIDTH).sum(0)
        where = index.expand(2, 1, *index.shape)
        size = shares.gather(1, where).squeeze(1)
        start = edges.gather(1, where).squeeze(1).sub_(size)
        none = raw.new_zeros(1, *index.shape)
        knots = torch.cat([none, raw[2 * num_bins :], none])
        turn = _tanh(knots.gather(0, torch.stack([index, index + 1])).div_(STEEPEST))
        ends = turn.mul(STEEPEST).exp_()
        low, high = ends
        width, height = size
        z = (place + HALF_WIDTH - start[0]) / width
        steepness, rest = height / width, z * (1 - z)
        below = torch.addcmul(steepness, low + high - 2 * steepness, rest)
        share = torch.addcmul(steepness * z * z, low, rest) / below
        slope = 2 * steepness * rest + low * (1 - z) ** 2 + high * z * z
        ctx.save_for_backward(
            is_inside, bend, shares, index, start, size, turn, ends, z, steepness, below, share, slope
        )
        y = torch.addcmul(start[1], height, share) - HALF_WIDTH
        log_slope = ((steepness / below) ** 2 * slope).log()
        return torch.where(is_inside, y, x), torch.where(is_inside, log_slope, 0.0)

    @staticmethod
    @once_differentiable  # which hides the names of the parameters
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the points and of the parameters.

        The value and the log slope are functions of z, s, the corner and size of the bin and the slopes at its ends. The
        derivatives are those of the formulas above, gathered by what they have in common.
        """
        is_inside, bend, shares, index, start, size, turn, ends, z, s, below, share, slope = ctx.saved_tensors
        num_bins, (low, high), (width, height) = shares.shape[1], ends, size
        by_value, by_log = (gradient * is_inside for gradient in gradients)
        rest, back = z * (1 - z), 1 - 2 * z
        of_value, of_below, of_slope = by_value * height / below, 2 * by_log / below, by_log / slope
        bend_of_rest = 1 - 2 * rest
        by_steepness = of_value * (z * z - share * bend_of_rest) + 2 * by_log / s
        by_steepness = by_steepness - of_below * bend_of_rest + 2 * of_slope * rest
        by_low = (of_value * (1 - share) - of_below) * rest + of_slope * (1 - z) ** 2
        by_high = of_slope * z * z - (of_value * share + of_below) * rest
        by_z = by_value * width * (s / below) ** 2 * slope - of_below * (low + high - 2 * s) * back
        by_place = (by_z + 2 * of_slope * (high * z + s * back - low * (1 - z))) / width
        by_start = torch.stack([-by_place, by_value])
        by_size = torch.stack([-(by_place * z + by_steepness * s / width), by_value * share + by_steepness / width])
        # All shares together are the side of the box: a bin that grows shrinks the others.
        mean = (by_start * start + by_size * size) / (2 * HALF_WIDTH)
        place = torch.arange(num_bins, device=index.device).view(-1, *(1,) * index.ndim)
        by_share = torch.addcmul(-mean[:, None], (place < index).to(shares), by_start[:, None])
        by_share.scatter_add_(1, index.expand(2, 1, *index.shape), by_size[:, None])
        by_raw = shares.new_empty(3 * num_bins - 1, *index.shape)
        torch.mul(by_share.mul_(shares).flatten(0, 1), 1 - bend * bend, out=by_raw[: 2 * num_bins])
        by_knot = shares.new_zeros(num_bins + 1, *index.shape)
        by_ends = torch.stack([by_low, by_high]) * ends * (1 - turn * turn)
        by_raw[2 * num_bins :] = by_knot.scatter_(0, torch.stack([index, index + 1]), by_ends)[1:-1]
        return torch.where(is_inside, by_place, gradients[0]), by_raw


def _tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent by way of the exponential, with the same absolute error as that of 1."""
    return x.mul(2).exp_().add_(1).reciprocal_().mul_(-2).add_(1)


def inverse_spline(y: Tensor, raw: Tensor) -> Tensor:
    """Find the numbers that :func:`spline` maps to ``y``, by the quadratic formula; arguments as there.

    Points in float64 with parameters in float32 are inverted in float64: in float32 the discriminant of a steep spline can
    be rounded below 0. Exponentials in float32 take half of the time.

    >>> x, raw = torch.randn(4, dtype=torch.float64), torch.randn(23, 4, dtype=torch.float64)
    >>> bool(torch.allclose(inverse_spline(spline(x, raw)[0], raw), x))
    True
    """
    is_inside, place = _inside(y)
    # The bin of each place is found in the precision of the parameters; what follows has that of y.
    start, size, low, high = (part.to(y) for part in _bin(place.to(raw), raw, by=1))
    steepness, height = size[1] / size[0], place - start[1]
    bend = height * (low + high - 2 * steepness)
    a, b, c = size[1] * (steepness - low) + bend, size[1] * low - bend, -steepness * height
    z = 2 * c / (-b - (b * b - 4 * a * c).sqrt())
    return torch.where(is_inside, start[0] + z * size[0], y)


def _inside(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whether numbers lie in the box, and their place in it: the centre for those outside, whose values are not used."""
    is_inside = x.abs() < HALF_WIDTH
    return is_inside, torch.where(is_inside, x, 0.0)


def _bin(place: Tensor, raw: Tensor, *, by: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Corner ``(2, *shape)`` and size ``(2, *shape)`` of the bin that holds each place, and the slopes at its two ends.

    Args:
        by: 0 for places on the horizontal axis, 1 on the vertical one.
    """
    num_bins = (len(raw) + 1) // 3
    sizes, slopes = raw[: 2 * num_bins].unflatten(0, (2, num_bins)), raw[2 * num_bins :]
    weights = ((STEEPEST / 2) * (sizes * (2 / STEEPEST)).tanh()).exp()
    shares = weights * (2 * HALF_WIDTH / weights.sum(1, keepdim=True))
    with torch.no_grad():
        edges = shares[by, :-1].cumsum(0)
        index = (edges <= place + HALF_WIDTH).sum(0)
        is_below = torch.arange(num_bins, device=raw.device).view(-1, *(1,) * place.ndim) < index
    start = (shares * is_below).sum(1) - HALF_WIDTH
    size = shares.gather(1, index.expand(2, 1, *index.shape)).squeeze(1)
    ends = torch.nn.functional.pad(slopes.flatten(1), (0, 0, 1, 1)).unflatten(1, slopes.shape[1:])
    ends = ends.gather(0, torch.stack([index, index + 1]))
    low, high = (STEEPEST * (ends / STEEPEST).tanh()).exp()
    return start, size, low, high
