"""Orthonormal transforms of points, by whose coefficients estimates are averaged."""

from __future__ import annotations

import torch
from torch import Tensor


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
