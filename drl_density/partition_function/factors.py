"""Triangular factors of covariances that rounding may have left indefinite."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.errors import NumericalError

LEAST_VARIANCE = 1e-12
"""Smallest eigenvalue of a repaired correlation matrix, as a share of its largest one."""


def covariance_factor(covariance: Tensor) -> Tensor:
    r"""Lower triangular factors L with :math:`L L^T` equal to covariances ``(..., d, d)``, float64.

    Coordinates that determine each other have a covariance that rounding can leave indefinite. Such a matrix is replaced by
    the nearest correlation matrix whose eigenvalues are at least 1e-12 of the largest one, in the same standard deviations.

    Raises:
        NumericalError: entries that are not finite.

    >>> covariance_factor(torch.tensor([[4.0, 4.0], [4.0, 4.0 - 1e-9]]).double()).diagonal().min() > 0
    tensor(True)
    """
    covariance = covariance.double()
    if not bool(covariance.isfinite().all()):
        raise NumericalError("a covariance has entries that are not finite: the draws that it was fitted to diverged")
    factors, failures = torch.linalg.cholesky_ex(covariance)
    if not bool(failures.any()):
        return factors
    return torch.where((failures == 0)[..., None, None], factors, _repaired(covariance))


def _repaired(covariance: Tensor) -> Tensor:
    variances = covariance.diagonal(dim1=-2, dim2=-1)
    # A variance of 0, or below it by rounding, has no standard deviation to divide by; the smallest number stands for it.
    deviations = variances.clamp_min(torch.finfo(covariance.dtype).tiny).sqrt()
    values, vectors = torch.linalg.eigh(covariance / deviations[..., :, None] / deviations[..., None, :])
    values = torch.maximum(values, LEAST_VARIANCE * values.amax(-1, keepdim=True))
    root = deviations[..., :, None] * vectors * values.sqrt()[..., None, :]
    upper = torch.linalg.qr(root.mT, mode="r").R
    # The factor of a QR decomposition has rows of either sign; a Cholesky factor has a positive diagonal.
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper)
    return (signs[..., None] * upper).mT
