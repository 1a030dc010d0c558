"""Fréchet and kernel distances, inception score, class statistics, precision and recall, all in one named feature space."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drl_density.errors import DataError
from drl_density.sample_quality.extractors import FeatureExtractor


@dataclass(frozen=True)
class SampleQuality:
    """Figures of one set of samples beside one set of real images.

    Attributes:
        extractor: name of the network whose features and classes these are.
        num_samples: drawn images.
        num_reference: real images.
        frechet_distance: between Gaussians fitted to both feature sets (FID when the extractor is Inception).
        kernel_distance: mean of the unbiased polynomial-kernel MMD^2 over subsets (KID), and its standard deviation.
        inception_score: exp of the mean KL from class probabilities to their mean, and its spread; NaN without classes.
        class_entropy: entropy of the mean class probabilities, nats; NaN without classes.
        confident_share: share of samples with a top class probability of at least 0.9; NaN without classes.
        precision: share of samples inside the reference's manifold.
        recall: share of reference images inside the samples' manifold.
    """

    extractor: str
    num_samples: int
    num_reference: int
    frechet_distance: float
    kernel_distance: tuple[float, float]
    inception_score: tuple[float, float]
    class_entropy: float
    confident_share: float
    precision: float
    recall: float

    def summary(self) -> str:
        """A few lines for a person, with the extractor's name first."""
        lines = [
            f"{self.num_samples} samples beside {self.num_reference} real images, in features of {self.extractor}:",
            f"Frechet distance {self.frechet_distance:.3f}, kernel distance {self.kernel_distance[0]:.5f} +- "
            f"{self.kernel_distance[1]:.5f}, precision {self.precision:.3f}, recall {self.recall:.3f}",
        ]
        if not math.isnan(self.class_entropy):
            lines.append(
                f"inception score {self.inception_score[0]:.3f} +- {self.inception_score[1]:.3f}, class entropy "
                f"{self.class_entropy:.3f} nats, top probability >= 0.9 for {self.confident_share:.1%}"
            )
        return "\n".join(lines)


def sample_quality(
    samples: Tensor, reference: Tensor, extractor: FeatureExtractor, *, subset_size: int = 1000, num_subsets: int = 100
) -> SampleQuality:
    """Compare drawn with real images.

    Args:
        samples: 8-bit images ``(n, channels, height, width)``, grey levels 0..255.
        reference: real images, likewise.
        extractor: the network that looks.
        subset_size: images per subset of the kernel distance, cut to the smaller set.
        num_subsets: subsets, drawn by the global generator as torchmetrics does.

    Raises:
        DataError: images that are not uint8 or of two sizes, fewer than 10, or torchmetrics is not installed.

    Source: Heusel et al. 2017 (FID), Binkowski et al. 2018 (KID), Salimans et al. 2016 (IS), all by torchmetrics;
    Kynkaanniemi et al. 2019 (precision and recall).
    """
    for name, images in (("samples", samples), ("reference", reference)):
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise DataError(
                f"{name}: expected uint8 images (n, channels, height, width), got {images.dtype} {tuple(images.shape)}; "
                "round to grey levels 0..255 first"
            )
    if samples.shape[1:] != reference.shape[1:] or min(len(samples), len(reference)) < 10:
        raise DataError(
            f"expected at least 10 images of one size, got samples {tuple(samples.shape)} and reference "
            f"{tuple(reference.shape)}"
        )
    features, log_classes = extractor.apply(samples)
    real_features, _ = extractor.apply(reference)
    frechet, kernel = _distances(features, real_features, subset_size, num_subsets)
    precision, recall = precision_and_recall(features, real_features)
    score, entropy, share = (math.nan, math.nan), math.nan, math.nan
    if log_classes is not None:
        score = _inception_score(log_classes)
        entropy, share = class_entropy(log_classes.exp()), confident_share(log_classes.exp())
    counts = (len(samples), len(reference))
    return SampleQuality(extractor.name, *counts, frechet, kernel, score, entropy, share, precision, recall)


def class_entropy(probabilities: Tensor) -> float:
    """Entropy of the mean of class probabilities ``(n, classes)``, nats: log(classes) when all classes come up equally.

    Args:
        probabilities: rows that sum to 1.

    >>> round(class_entropy(torch.eye(10)), 4)
    2.3026
    """
    mean = probabilities.double().mean(0)
    return float(torch.special.entr(mean).sum())


def confident_share(probabilities: Tensor, *, threshold: float = 0.9) -> float:
    """Share of rows whose largest class probability is at least ``threshold``.

    Args:
        probabilities: ``(n, classes)``, rows that sum to 1.
        threshold: in [0, 1].

    >>> confident_share(torch.tensor([[0.95, 0.05], [0.6, 0.4]]))
    0.5
    """
    return float((probabilities.amax(1) >= threshold).double().mean())


def precision_and_recall(samples: Tensor, reference: Tensor, *, num_neighbours: int = 3) -> tuple[float, float]:
    """(share of samples inside the reference's manifold, share of reference points inside the samples' manifold).

    A set's manifold is the union of balls around its points, each reaching to the point's k-th nearest neighbour.

    Args:
        samples: features ``(n, f)``.
        reference: features ``(m, f)``.
        num_neighbours: k.

    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> precision_and_recall(x, x), precision_and_recall(x + 100, x)
    ((1.0, 1.0), (0.0, 0.0))
    """
    return _inside(samples, reference, num_neighbours), _inside(reference, samples, num_neighbours)


def _inside(points: Tensor, centers: Tensor, num_neighbours: int) -> float:
    rows = centers.split(1000)
    # The nearest of a centre's neighbours is the centre itself.
    radii = torch.cat([torch.cdist(part, centers).kthvalue(num_neighbours + 1, 1).values for part in rows])
    inside = [(torch.cdist(part, centers) <= radii).any(1) for part in points.split(1000)]
    return float(torch.cat(inside).double().mean())


class _Given(nn.Module):
    """Hands torchmetrics what it is given: features or logits that were computed before."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, values: Tensor) -> Tensor:
        return values


def _distances(features: Tensor, real: Tensor, subset_size: int, num_subsets: int) -> tuple[float, tuple[float, float]]:
    image = _torchmetrics()
    given = _Given(features.shape[1])
    size = min(subset_size, len(features), len(real))
    frechet = image.fid.FrechetInceptionDistance(feature=given).set_dtype(torch.float64)
    with _features_are_in_memory():
        kernel = image.kid.KernelInceptionDistance(feature=given, subsets=num_subsets, subset_size=size)
    for metric in (frechet, kernel):
        metric.update(real, real=True)
        metric.update(features, real=False)
    mean, deviation = kernel.compute()
    return float(frechet.compute()), (float(mean), float(deviation))


def _inception_score(log_classes: Tensor) -> tuple[float, float]:
    image = _torchmetrics()
    with _features_are_in_memory():
        score = image.inception.InceptionScore(feature=_Given(log_classes.shape[1]), splits=10)
    score.update(log_classes)
    mean, deviation = score.compute()
    return float(mean), float(deviation)


@contextlib.contextmanager
def _features_are_in_memory() -> Iterator[None]:
    """No word of torchmetrics about the memory that features take: they were computed before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric .* will save all extracted features", UserWarning)
        yield


def _torchmetrics() -> Any:
    try:
        import torchmetrics.image.fid
        import torchmetrics.image.inception
        import torchmetrics.image.kid
    except ImportError as error:
        raise DataError("sample metrics need torchmetrics: pip install 'drl-density[images]'") from error
    return torchmetrics.image
