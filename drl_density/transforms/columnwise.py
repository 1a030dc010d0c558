"""The log-Jacobian of each column by itself, for transforms that mix no columns."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.distributions.transforms import AffineTransform, ComposeTransform, Transform

from drl_density.errors import DataError
from drl_density.transforms.elementary import Logit
from drl_density.transforms.gaussianize import MarginalGaussianization


def column_log_jacobian(transform: Transform, x: Tensor) -> Tensor:
    """log |du_i / dx_i| of every column, ``(n, d)``; the sum over columns is ``log_abs_det_jacobian``.

    Args:
        transform: from data to model space.
        x: rows ``(n, d)``.

    Raises:
        DataError: for a transform that mixes columns, under which single columns have no meaning of their own.

    >>> column_log_jacobian(AffineTransform(0.0, 2.0, event_dim=1), torch.zeros(1, 3)).exp()
    tensor([[2., 2., 2.]])
    """
    if isinstance(transform, ComposeTransform):
        total = torch.zeros_like(x)
        for part in transform.parts:
            total = total + column_log_jacobian(part, x)
            x = part(x)
        return total
    if isinstance(transform, AffineTransform):
        return torch.as_tensor(transform.scale, dtype=x.dtype).abs().log().expand(x.shape)
    if isinstance(transform, Logit):
        lower, upper = transform.lower.to(x), transform.upper.to(x)
        return (upper - lower).log() - (x - lower).log() - (upper - x).log()
    if isinstance(transform, MarginalGaussianization):
        log_normal = -0.5 * transform(x).double().square() - 0.5 * math.log(2 * math.pi)
        return (transform.marginal_log_density(x) - log_normal).to(x.dtype)
    raise DataError(
        f"{type(transform).__name__} mixes columns, so columns of the data cannot be conditioned on one by one; fit with "
        'transform "gaussianize" or "standardize"'
    )


def single_column(transform: Transform, index: int) -> Transform:
    """The map of one column by itself, over vectors of length 1.

    Args:
        transform: from data to model space, over vectors of all columns.
        index: of the column.

    Raises:
        DataError: for a transform that mixes columns.

    >>> float(single_column(AffineTransform(torch.zeros(2), torch.tensor([2.0, 3.0]), event_dim=1), 1)(torch.ones(1)))
    3.0
    """
    one = slice(index, index + 1)
    if isinstance(transform, ComposeTransform):
        return ComposeTransform([single_column(part, index) for part in transform.parts])
    if isinstance(transform, AffineTransform):
        loc, scale = (torch.as_tensor(value) for value in (transform.loc, transform.scale))
        return AffineTransform(*(value[one] if value.ndim else value for value in (loc, scale)), event_dim=1)
    if isinstance(transform, Logit):
        return Logit(*(value[one] if value.ndim else value for value in (transform.lower, transform.upper)))
    if isinstance(transform, MarginalGaussianization):
        parts = {
            field.name: getattr(transform.marginals, field.name)[one]
            for field in dataclasses.fields(transform.marginals)
        }
        return MarginalGaussianization(dataclasses.replace(transform.marginals, **parts), transform.names[one])
    raise DataError(f"{type(transform).__name__} mixes columns, so no column has a map of its own")
