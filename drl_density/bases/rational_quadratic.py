"""Monotone rational-quadratic splines on a box, the identity outside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


def inverse_spline(y: Tensor, raw: Tensor) -> Tensor:
    """Find the numbers that :func:`spline` maps to ``y``, by the quadratic formula; arguments as there.

    >>> x, raw = torch.randn(4, dtype=torch.float64), torch.randn(23, 4, dtype=torch.float64)
    >>> bool(torch.allclose(inverse_spline(spline(x, raw)[0], raw), x))
    True
    """
    is_inside, place = _inside(y)
    start, size, low, high = _bin(place, raw, by=1)
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
