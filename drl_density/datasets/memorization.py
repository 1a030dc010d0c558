"""Checks whether a model reproduces its training rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.transforms import binary_units


@dataclass(frozen=True)
class MemorizationCheck:
    """Distances to the nearest training row, in units of the training columns' standard deviations.

    Attributes:
        sample_distance: median distance of the samples.
        test_distance: median distance of the test rows.
        p_value: one-sided Mann-Whitney p-value of samples lying nearer to training rows than test rows do.
        conclusion: what the distances suggest, in words.
    """

    sample_distance: float
    test_distance: float
    p_value: float
    conclusion: str

    def describe(self) -> str:
        """One sentence with both distances, the p-value and the conclusion."""
        return (
            f"Nearest training row: {self.sample_distance:.3g} from samples, {self.test_distance:.3g} from test rows "
            f"(p = {self.p_value:.2g}): {self.conclusion}."
        )


def memorization_check(samples: Tensor, train: Tensor, test: Tensor, *, max_rows: int = 2000) -> MemorizationCheck:
    """Compare distances to the nearest training row between samples and test rows.

    Columns that are constant in training are left out. Samples and test rows must be treated alike beforehand: both
    rounded, or both dequantised.

    Args:
        samples: draws of the model, ``(n, d)``.
        train: rows that the model was trained on.
        test: rows that the model has not seen.
        max_rows: greatest number of samples, and of test rows, that are compared.

    Raises:
        DataError: no samples or test rows, or fewer than two training rows, which have no spread.

    >>> train, test = torch.zeros(4, 1).double() + torch.arange(4)[:, None], torch.full((9, 1), 0.5).double()
    >>> memorization_check(train.repeat(3, 1), train, test).p_value < 0.01
    True
    """
    from scipy import stats

    if not len(samples) or not len(test) or len(train) < 2:
        raise DataError(
            f"expected samples, test rows and at least two training rows, got {len(samples)}, {len(test)} and {len(train)}"
        )
    train = train.double()
    unit = binary_units(train)
    scale = (train / unit).std(0) * unit
    varies = scale > 0
    samples, train, test, scale = samples[:, varies], train[:, varies], test[:, varies], scale[varies]
    nearest = []
    for rows in (samples[:max_rows], test[:max_rows]):
        chunks = (rows.double() / scale).split(256)
        nearest.append(torch.cat([_nearest(chunk, train.double() / scale) for chunk in chunks]))
    p_value = float(stats.mannwhitneyu(nearest[0].numpy(), nearest[1].numpy(), alternative="less").pvalue)
    medians = [float(values.median()) for values in nearest]
    # Both at once, our own choice: a small p-value alone comes from any misfit once there are thousands of rows.
    copies = p_value < 1e-3 and medians[0] < 0.7 * medians[1]
    conclusion = (
        "samples lie nearer to training rows than test rows do: the model may have memorised them"
        if copies
        else "no sign of memorised rows"
    )
    return MemorizationCheck(medians[0], medians[1], p_value, conclusion)


def _nearest(rows: Tensor, train: Tensor) -> Tensor:
    best = torch.full((len(rows),), float("inf"), dtype=rows.dtype)
    for chunk in train.split(16384):
        best = best.minimum(torch.cdist(rows, chunk).amin(1))
    return best
