"""What depends on the noise level alone, computed once per level in place of once per row."""

from __future__ import annotations

from torch import Tensor


def distinct_levels(log_snr: Tensor) -> tuple[Tensor, Tensor | None]:
    """The distinct values of a log-SNR per row, ``(levels,)``, and which of them each row has, ``(batch,)``.

    A training batch has thousands of rows on a dozen levels. One log-SNR for all rows, ``()``, comes back as it is
    with None, and so does one per row on a device where counting them would make the host wait, or one that is to be
    differentiated.

    >>> import torch
    >>> distinct_levels(torch.tensor([3.0, -1.0, 3.0]))
    (tensor([-1.,  3.]), tensor([1, 0, 1]))
    """
    if log_snr.ndim == 0 or log_snr.device.type != "cpu" or log_snr.requires_grad:
        return log_snr, None
    return log_snr.unique(return_inverse=True)


def by_row(values: Tensor, row_level: Tensor | None) -> Tensor:
    """``values`` per level, ``(levels, ...)``, spread to the rows that have it, ``(batch, ...)``."""
    return values if row_level is None else values.index_select(0, row_level)
