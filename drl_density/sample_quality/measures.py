"""Fréchet and kernel distances, inception score, class statistics, precision and recall in one feature space."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drl_density.errors import DataError
from drl_density.sample_quality.extractors import FeatureExtractor


class Spread(NamedTuple):
    """A figure over several parts of the images.

    Attributes:
        mean: mean of the figure over the parts.
        deviation: standard deviation of the figure over the parts.
    """

    mean: float
    deviation: float


@dataclass(frozen=True)
class SampleQuality:
    """Figures of a set of samples compared with a set of real images.

    Attributes:
        extractor: name of the network whose features and classes are used.
        num_samples: number of drawn images.
        num_reference: number of real images.
        frechet_distance: Fréchet distance of Gaussians fitted to both sets of features (FID with Inception).
        kernel_distance: unbiased MMD^2 of a cubic kernel over random subsets (KID with Inception).
        inception_score: exp of the mean KL divergence of class probabilities from their mean, over ten parts of the
            samples; NaN without classes.
        class_entropy: entropy of the mean class probabilities, nats; NaN without classes.
        confident_share: share of samples with a top class probability of at least 0.9; NaN without classes.
        precision: share of samples inside the reference's manifold.
        recall: share of reference images inside the samples' manifold.
    """

    extractor: str
    num_samples: int
    num_reference: int
    frechet_distance: float
    kernel_distance: Spread
    inception_score: Spread
    class_entropy: float
    confident_share: float
    precision: float
    recall: float

    def summary(self) -> str:
        """A few lines for a reader, which begin with the sizes and the extractor's name."""
        lines = [
            f"{self.num_samples} samples against {self.num_reference} real images, in features of {self.extractor}:",
            f"Frechet distance {self.frechet_distance:.3f}, kernel distance {self.kernel_distance.mean:.5f} +- "
            f"{self.kernel_distance.deviation:.5f}, precision {self.precision:.3f}, recall {self.recall:.3f}",
        ]
        if not math.isnan(self.class_entropy):
            lines.append(
                f"inception score {self.inception_score.mean:.3f} +- {self.inception_score.deviation:.3f}, class entropy "
                f"{self.class_entropy:.3f} nats, top probability >= 0.9 for {self.confident_share:.1%}"
            )
        return "\n".join(lines)


def sample_quality(
    samples: Tensor, reference: Tensor, extractor: FeatureExtractor, *, subset_size: int = 1000, num_subsets: int = 100
) -> SampleQuality:
    """Compares drawn with real images.

    Args:
        samples: drawn 8-bit images ``(n, channels, height, width)``, grey levels 0..255.
        reference: real 8-bit images in the same layout.
        extractor: network that describes the images.
        subset_size: number of images in each subset of the kernel distance, at most the size of the smaller set.
        num_subsets: number of subsets of the kernel distance; torchmetrics draws them from torch's global generator.

    Raises:
        DataError: images that are not uint8 or differ in size, fewer than 10 of them, or a missing torchmetrics.

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
    drawn = extractor.apply(samples)
    features, log_classes = drawn.values, drawn.log_probabilities
    real_features = extractor.apply(reference).values
    frechet, kernel = _distances(features, real_features, subset_size, num_subsets)
    precision, recall = precision_and_recall(features, real_features)
    score, entropy, share = Spread(math.nan, math.nan), math.nan, math.nan
    if log_classes is not None:
        score = _inception_score(log_classes)
        entropy, share = class_entropy(log_classes.exp()), confident_share(log_classes.exp())
    counts = (len(samples), len(reference))
    return SampleQuality(extractor.name, *counts, frechet, kernel, score, entropy, share, precision, recall)


def class_entropy(probabilities: Tensor) -> float:
    """Entropy of the mean class probabilities, nats: log(classes) if all classes are equally frequent.

    Args:
        probabilities: probabilities of the classes, ``(n, classes)``, which sum to 1 in each row.

    >>> round(class_entropy(torch.eye(10)), 4)
    2.3026
    """
    mean = probabilities.double().mean(0)
    return float(torch.special.entr(mean).sum())


def confident_share(probabilities: Tensor, *, threshold: float = 0.9) -> float:
    """Share of rows whose largest class probability is at least ``threshold``.

    Args:
        probabilities: probabilities of the classes, ``(n, classes)``, which sum to 1 in each row.
        threshold: least probability, in [0, 1], that counts as confident.

    >>> confident_share(torch.tensor([[0.95, 0.05], [0.6, 0.4]]))
    0.5
    """
    return float((probabilities.amax(1) >= threshold).double().mean())


def precision_and_recall(samples: Tensor, reference: Tensor, *, num_neighbours: int = 3) -> tuple[float, float]:
    """Share of samples inside the reference's manifold, and share of reference points inside the samples' manifold.

    The manifold of a set is the union of balls around its points. The radius of each is the distance to the k-th
    nearest neighbour.

    Args:
        samples: features of the samples, ``(n, f)``.
        reference: features of the real images, ``(m, f)``.
        num_neighbours: number k of neighbours inside each ball.

    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> precision_and_recall(x, x), precision_and_recall(x + 100, x)
    ((1.0, 1.0), (0.0, 0.0))
    """
    return _inside(samples, reference, num_neighbours), _inside(reference, samples, num_neighbours)


def _inside(points: Tensor, centers: Tensor, num_neighbours: int) -> float:
    rows = centers.split(1000)
    # A centre is its own nearest neighbour, hence one more.
    radii = torch.cat([torch.cdist(part, centers).kthvalue(num_neighbours + 1, 1).values for part in rows])
    inside = [(torch.cdist(part, centers) <= radii).any(1) for part in points.split(1000)]
    return float(torch.cat(inside).double().mean())


class _Given(nn.Module):
    """Returns its input, so that torchmetrics accepts features or logits that are already computed."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, values: Tensor) -> Tensor:
        return values


def _distances(features: Tensor, real: Tensor, subset_size: int, num_subsets: int) -> tuple[float, Spread]:
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
    return float(frechet.compute()), Spread(float(mean), float(deviation))


def _inception_score(log_classes: Tensor) -> Spread:
    image = _torchmetrics()
    with _features_are_in_memory():
        score = image.inception.InceptionScore(feature=_Given(log_classes.shape[1]), splits=10)
    score.update(log_classes)
    mean, deviation = score.compute()
    return Spread(float(mean), float(deviation))


@contextlib.contextmanager
def _features_are_in_memory() -> Iterator[None]:
    """Silences torchmetrics' warning about the memory of features, which are in memory already."""
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
