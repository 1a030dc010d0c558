"""Shapes of rows: one value per row broadcast over whole rows, and the number of rows to draw."""

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


def check_num_samples(num_samples: int) -> None:
    """Raises a ValueError unless ``num_samples`` is a positive integer.

    >>> check_num_samples(1)
    """
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"num_samples must be a positive integer, got {num_samples!r}")
