"""Quantities that depend on the noise level alone, computed once per level instead of once per row."""

from __future__ import annotations

from torch import Tensor


def distinct_levels(log_snr: Tensor) -> tuple[Tensor, Tensor | None]:
    """Find the distinct log-SNRs of a batch.

    A training batch has thousands of rows on a dozen levels, so this saves most of the work on levels. The input comes back
    unchanged, with None, in three cases: one log-SNR for all rows; a device other than the CPU, where counting values would
    make the host wait; and a log-SNR that requires a gradient.

    Args:
        log_snr: one value for all rows ``()`` or one per row ``(batch,)``.

    Returns:
        The distinct values ``(levels,)``, and the index of each row's value among them ``(batch,)`` or None.

    >>> import torch
    >>> distinct_levels(torch.tensor([3.0, -1.0, 3.0]))
    (tensor([-1.,  3.]), tensor([1, 0, 1]))
    """
    if log_snr.ndim == 0 or log_snr.device.type != "cpu" or log_snr.requires_grad:
        return log_snr, None
    values, row_level = log_snr.unique(return_inverse=True)
    return values, row_level


def by_row(values: Tensor, row_level: Tensor | None) -> Tensor:
    """Spread values per level ``(levels, ...)`` to the rows at that level ``(batch, ...)``.

    Args:
        values: one entry for each distinct level.
        row_level: index from :func:`distinct_levels`; None returns the values unchanged.
    """
    return values if row_level is None else values.index_select(0, row_level)
