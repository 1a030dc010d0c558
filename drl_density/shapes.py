"""Shapes that broadcast one value per row over whole rows."""

from __future__ import annotations

from torch import Tensor


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """Values of rows, reshaped so that they broadcast over the rows themselves.

    Args:
        values: one value for each row ``(batch,)``, or one for all of them ``()``.
        x: rows ``(batch, *event)``, of which only the number of dimensions counts.

    Returns:
        The values with shape ``(batch, 1, ..., 1)``, or ``(1, 1, ..., 1)`` for a single one.

    >>> import torch
    >>> per_row(torch.arange(3), torch.zeros(3, 2, 4)).shape
    torch.Size([3, 1, 1])
    """
    return values.reshape((-1,) + (1,) * (x.ndim - 1))
