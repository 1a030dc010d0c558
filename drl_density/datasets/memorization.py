"""Do samples repeat training rows? Distances to the nearest training row, against those of test rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from drl_density.errors import DataError

COPY_SHARE_OF_MEDIAN = 0.05  # a sample nearer than this share of the typical test distance counts as a copy


@dataclass(frozen=True)
class MemorizationCheck:
    """What :func:`memorization_check` found; distances in standard deviations of the training columns.

    Attributes:
        sample_distance: median distance of samples to their nearest training row.
        test_distance: the same for test rows.
        ratio: ``sample_distance / test_distance``; near 1 when samples are as new as test rows.
        p_value: one-sided Mann-Whitney test that samples lie nearer than test rows.
        copied_share: share of samples nearer than a twentieth of ``test_distance``.
        num_samples: samples compared.
        num_test: test rows compared.
        verdict: one sentence for a person.
    """

    sample_distance: float
    test_distance: float
    ratio: float
    p_value: float
    copied_share: float
    num_samples: int
    num_test: int
    verdict: str


def nearest_distance(x: Tensor, rows: Tensor, *, chunk_size: int = 512) -> Tensor:
    """Distance from each row of ``x`` to its nearest among ``rows``, shape ``(len(x),)``; ``chunk_size`` bounds memory.

    >>> nearest_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [6.0, 8.0]])).tolist()
    [5.0]
    """
    nearest = []
    for part in x.split(chunk_size):
        best = part.new_full((len(part),), torch.inf)
        for block in rows.split(16 * chunk_size):
            mode = "donot_use_mm_for_euclid_dist"
            best = torch.minimum(best, torch.cdist(part, block, compute_mode=mode).amin(-1))
        nearest.append(best)
    return torch.cat(nearest)


def memorization_check(
    samples: Tensor, train: Tensor, test: Tensor, *, level: float = 0.001, chunk_size: int = 512
) -> MemorizationCheck:
    """Compare how near samples and test rows lie to the training rows.

    A model that learned the distribution draws samples as far from the training rows as test rows are; one that
    learned the rows draws nearer. Give dequantised rows for rounded or discrete columns: there, exact repeats are no
    sign of memory.

    Args:
        samples: draws of the model in data units, shape ``(n, ...)``.
        train: training rows, shape ``(m, ...)``.
        test: rows kept away from training, shape ``(k, ...)``.
        level: p-value below which nearness counts as a finding.
        chunk_size: rows compared at once.

    Raises:
        DataError: if shapes differ, there are no rows, or samples are not finite.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(300, 2, generator=generator)
    >>> memorization_check(x[:100], x[:100], x[200:]).copied_share
    1.0
    """
    samples, train, test = (part.detach().double().flatten(1) for part in (samples, train, test))
    for name, part in (("samples", samples), ("train", train), ("test", test)):
        if len(part) == 0 or part.shape[1] != train.shape[1]:
            raise DataError(f"{name} must hold rows of {train.shape[1]} numbers, got shape {tuple(part.shape)}")
        if not bool(part.isfinite().all()):
            raise DataError(f"{name} holds NaN or infinite values; remove those rows and count them as failures")
    center, scale = train.mean(0), train.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    rows = (train - center) / scale
    sampled = nearest_distance((samples - center) / scale, rows, chunk_size=chunk_size)
    tested = nearest_distance((test - center) / scale, rows, chunk_size=chunk_size)
    p_value = float(mannwhitneyu(sampled.cpu().numpy(), tested.cpu().numpy(), alternative="less").pvalue)
    sample_distance, test_distance = float(sampled.median()), float(tested.median())
    ratio = sample_distance / test_distance if test_distance > 0 else float("nan")
    copied_share = float((sampled < COPY_SHARE_OF_MEDIAN * test_distance).double().mean())
    expected = float((tested < COPY_SHARE_OF_MEDIAN * test_distance).double().mean())
    verdict = _verdict(ratio, p_value, copied_share, expected, level)
    return MemorizationCheck(
        sample_distance, test_distance, ratio, p_value, copied_share, len(samples), len(test), verdict
    )


def _verdict(ratio: float, p_value: float, copied_share: float, expected: float, level: float) -> str:
    if ratio != ratio:
        return "unknown: test rows coincide with training rows; compare dequantised rows or remove duplicates"
    if p_value < level and copied_share > expected + 0.05:
        return f"memorized: {copied_share:.0%} of the samples repeat a training row; stop earlier or shrink the network"
    if p_value < level:
        return (
            f"nearer than test rows: the median distance to training rows is {ratio:.2f} times that of test rows; the "
            "model may be overfitting, compare training with validation likelihood"
        )
    return "no sign of memorization: samples lie as far from the training rows as test rows do"
