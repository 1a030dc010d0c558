"""Feature extractors: whatever network looks at the images, under the name that every figure then carries."""

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
class FeatureExtractor:
    """Maps 8-bit images to features, and to class probabilities where it has classes.

    Attributes:
        name: which network this is; figures made with different extractors never compare.
        features: from grey levels 0..255 ``(n, channels, height, width)`` to ``(n, f)``.
        logits: likewise to ``(n, classes)``, or None.

    >>> pixels = FeatureExtractor("raw pixels", lambda images: images.flatten(1).float())
    >>> pixels.apply(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))[0].shape
    torch.Size([3, 4])
    """

    name: str
    features: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor] | None = None

    __repr__ = brief

    def apply(self, images: Tensor, *, batch_size: int = 500) -> tuple[Tensor, Tensor | None]:
        """(features, class log probabilities or None) of all images, float64, in batches.

        Args:
            images: 8-bit grey levels ``(n, channels, height, width)``.
            batch_size: images at once.
        """
        with torch.no_grad():
            parts = images.split(batch_size)
            features = torch.cat([self.features(part).double() for part in parts])
            if self.logits is None:
                return features, None
            return features, torch.cat([self.logits(part).double().log_softmax(1) for part in parts])


def classifier_features(path: str | Path) -> FeatureExtractor:
    """Features and classes of a small classifier trained here, named as such.

    Args:
        path: file of :func:`save_classifier`; ``python tests/benchmarks/mnist_classifier.py`` makes one for MNIST.

    >>> import tempfile
    >>> from drl_density.sample_quality import ClassifierSettings, ImageClassifier, save_classifier
    >>> classifier = ImageClassifier(ClassifierSettings((1, 8, 8), num_classes=2, width=4))
    >>> path = save_classifier(classifier, tempfile.mkdtemp() + "/own.safetensors", name="own", test_accuracy=0.9)
    >>> classifier_features(path).name
    'own (test accuracy 90.00%; not Inception)'
    """
    classifier, name, test_accuracy = load_classifier(path)
    full_name = f"{name} (test accuracy {test_accuracy:.2%}; not Inception)"
    return FeatureExtractor(full_name, classifier.features, classifier)


def inception_features() -> FeatureExtractor:
    """The 2048 pool features and the classes of the Inception network of torch-fidelity, if its weights are at hand.

    Raises:
        DataError: when package or weights are not there; nothing is downloaded.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
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
