"""Shapes of points and rows: one value per row broadcast over whole rows, the spread of few rows, how many to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """Values of rows, reshaped so that they broadcast over the rows themselves.

    Args:
        values: one value for each row ``(batch,)``, or one for all of them ``()``.
        x: rows ``(batch, *event)``, of which only the number of dimensions counts.

    Returns:
        The values with shape ``(batch, 1, ..., 1)``, or ``(1, 1, ..., 1)`` for a single one.

    >>> per_row(torch.arange(3), torch.zeros(3, 2, 4)).shape
    torch.Size([3, 1, 1])
    """
    return values.reshape((-1,) + (1,) * (x.ndim - 1))


def spread(values: Tensor, dim: int = 0) -> Tensor:
    """Standard deviation over one dimension; NaN for fewer than two values, which have none.

    >>> spread(torch.tensor([[1.0], [3.0]])), spread(torch.zeros(1, 2))
    (tensor([1.4142]), tensor([nan, nan]))
    """
    if values.shape[dim] < 2:
        return values.sum(dim).fill_(math.nan)
    return values.std(dim)


def is_integer(value: object) -> bool:
    """Whether a value is a whole number of Python or numpy; booleans are not.

    >>> import numpy as np
    >>> is_integer(3), is_integer(np.int64(3)), is_integer(True), is_integer(2.5)
    (True, True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_num_samples(num_samples: int) -> None:
    """Raises a ValueError unless ``num_samples`` is a positive integer.

    >>> check_num_samples(1)
    """
    if not is_integer(num_samples) or num_samples < 1:
        raise ValueError(f"num_samples must be a positive integer, got {num_samples!r}")


def as_event_shape(shape: Sequence[int]) -> torch.Size:
    """The shape of one point as torch has it.

    Args:
        shape: lengths of the dimensions of a point, such as ``(2,)``.

    Raises:
        ValueError: a single number, or lengths that are not whole.

    >>> as_event_shape((2,))
    torch.Size([2])
    """
    if isinstance(shape, str) or not isinstance(shape, Sequence) or not all(is_integer(length) for length in shape):
        raise ValueError(f"event_shape must be the shape of one point, such as (2,), got {shape!r}")
    return torch.Size([int(length) for length in shape])
