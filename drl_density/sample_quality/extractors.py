"""Feature extractors: networks that describe images, with the name that every figure carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.sample_quality.classifier import load_classifier


@dataclass(frozen=True, eq=False)
class Features:
    """Descriptions of some images.

    Attributes:
        values: features of every image, float64 ``(n, f)``.
        log_probabilities: log probabilities of the classes, float64 ``(n, classes)``, or None without classes.
    """

    values: Tensor
    log_probabilities: Tensor | None

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Maps 8-bit images to features, and to class probabilities where it has classes.

    Attributes:
        name: name of the network; figures of different extractors are not comparable.
        features: map from grey levels 0..255 ``(n, channels, height, width)`` to features ``(n, f)``.
        logits: map from the same images to logits ``(n, classes)``, or None without classes.

    >>> pixels = FeatureExtractor("raw pixels", lambda images: images.flatten(1).float())
    >>> pixels.apply(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)).values.shape
    torch.Size([3, 4])
    """

    name: str
    features: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor] | None = None

    __repr__ = brief

    def apply(self, images: Tensor, *, batch_size: int = 500) -> Features:
        """Features of 8-bit ``images`` ``(n, channels, height, width)``, computed in batches.

        Args:
            batch_size: number of images in each batch.
        """
        with torch.no_grad():
            parts = images.split(batch_size)
            features = torch.cat([self.features(part).double() for part in parts])
            if self.logits is None:
                return Features(features, None)
            return Features(features, torch.cat([self.logits(part).double().log_softmax(1) for part in parts]))


def classifier_features(path: str | Path) -> FeatureExtractor:
    """Features and classes of a classifier of this package; its name states the test accuracy.

    Args:
        path: file of :func:`save_classifier`; ``python tests/benchmarks/mnist_classifier.py`` makes one for MNIST.

    >>> import tempfile
    >>> from drl_density.sample_quality import ClassifierSettings, ImageClassifier, save_classifier
    >>> classifier = ImageClassifier(ClassifierSettings((1, 8, 8), num_classes=2, width=4))
    >>> path = save_classifier(classifier, tempfile.mkdtemp() + "/own.safetensors", name="own", test_accuracy=0.9)
    >>> classifier_features(path).name
    'own (test accuracy 90.00%; not Inception)'
    """
    stored = load_classifier(path)
    full_name = f"{stored.name} (test accuracy {stored.test_accuracy:.2%}; not Inception)"
    return FeatureExtractor(full_name, stored.classifier.features, stored.classifier)


def inception_features() -> FeatureExtractor:
    """The 2048 pool features and the classes of torch-fidelity's Inception network; nothing is downloaded.

    Raises:
        DataError: the package, or the file of its weights, is missing.
    """
    try:
        # The package is optional and not installed where types are checked.
        from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore[reportMissingImports]
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise DataError(
            "Inception features need torch-fidelity: pip install torch-fidelity, with its weights"
        ) from error
    weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if not weights.is_file():
        raise DataError(
            f"the Inception weights are not at {weights} and are not downloaded; fetch {Path(URL_INCEPTION_V3).name} there "
            "yourself, or use classifier_features(...)"
        )
    names = ["2048", "logits_unbiased"]
    network = FeatureExtractorInceptionV3("inception-v3-compat", names, feature_extractor_weights_path=str(weights))

    def both(images: Tensor) -> tuple[Tensor, Tensor]:
        whole = images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)
        return network(whole.to(torch.uint8))

    return FeatureExtractor("Inception v3 of torch-fidelity", lambda x: both(x)[0], lambda x: both(x)[1])
