"""A small convolutional classifier whose features serve if no pretrained network is available."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from drl_density.autograd import outside_inference_mode
from drl_density.descent import DescentRule, descend
from drl_density.errors import DataError, RunFolderError
from drl_density.records.fields import Interval, PositiveInt, check_fields

FORMAT = "drl_density image classifier, version 1"


@dataclass(frozen=True)
class ClassifierSettings:
    """Sizes of an :class:`ImageClassifier`.

    Attributes:
        event_shape: (channels, height, width) of the images, height and width at least 4.
        num_classes: number of classes that the logits cover.
        width: channels of the first convolution; the second has twice as many.
        num_features: length of the feature vector before the last layer.
    """

    event_shape: tuple[PositiveInt, Annotated[int, Interval(4)], Annotated[int, Interval(4)]]
    num_classes: PositiveInt = 10
    width: PositiveInt = 16
    num_features: PositiveInt = 64

    def __post_init__(self) -> None:
        check_fields(self)


class ImageClassifier(nn.Module):
    """Two convolutions with max-pooling, a feature layer, and one linear layer to the logits.

    >>> network = ImageClassifier(ClassifierSettings((1, 8, 8)))
    >>> network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, settings: ClassifierSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        channels, height, width = settings.event_shape
        self.first = nn.Conv2d(channels, settings.width, 3, padding=1)
        self.second = nn.Conv2d(settings.width, 2 * settings.width, 3, padding=1)
        self.project = nn.Linear(2 * settings.width * (height // 4) * (width // 4), settings.num_features)
        self.readout = nn.Linear(settings.num_features, settings.num_classes)
        for layer in (self.first, self.second, self.project, self.readout):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            assert layer.bias is not None  # layers have one by default
            nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> Tensor:
        """Features ``(n, num_features)`` of 8-bit ``images`` ``(n, channels, height, width)``, grey levels 0..255.

        Raises:
            DataError: images of another shape.
        """
        if images.shape[1:] != torch.Size(self.settings.event_shape):
            raise DataError(f"expected images of shape {self.settings.event_shape}, got {tuple(images.shape[1:])}")
        state = images.to(self.readout.weight) / 127.5 - 1
        state = functional.max_pool2d(functional.relu(self.first(state)), 2)
        state = functional.max_pool2d(functional.relu(self.second(state)), 2)
        return functional.relu(self.project(state.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, num_classes)`` of 8-bit ``images`` ``(n, channels, height, width)``."""
        return self.readout(self.features(images))


@outside_inference_mode
def train_classifier(
    classifier: ImageClassifier,
    images: Tensor,
    labels: Tensor,
    *,
    num_epochs: int = 3,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    generator: torch.Generator | None = None,
) -> None:
    """Trains a classifier in place by Adam under a learning rate that falls as a half cosine.

    Args:
        classifier: classifier to be trained in place.
        images: 8-bit grey levels, ``(n, channels, height, width)``.
        labels: class of every image, ``(n,)``.
        num_epochs: number of passes over the images.
        batch_size: number of images in each step.
        learning_rate: learning rate of the first step.

    Raises:
        TrainingFailed: a cross-entropy that is not a finite number.

    >>> classifier = ImageClassifier(ClassifierSettings((1, 8, 8), num_classes=2, width=4))
    >>> images = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
    >>> images[16:] = 255
    >>> labels = torch.arange(32) // 16
    >>> train_classifier(classifier, images, labels, num_epochs=10, batch_size=32, learning_rate=0.01)
    >>> accuracy(classifier, images, labels)
    1.0
    """
    order = (torch.randperm(len(images), generator=generator).split(batch_size) for _ in range(num_epochs))
    batches = itertools.chain.from_iterable(order)

    def loss_of() -> Tensor:
        chosen = next(batches)
        return functional.cross_entropy(classifier(images[chosen]), labels[chosen])

    num_steps = num_epochs * math.ceil(len(images) / batch_size)
    descend(classifier.parameters(), loss_of, DescentRule(num_steps, learning_rate, is_annealed=True))


def accuracy(classifier: ImageClassifier, images: Tensor, labels: Tensor) -> float:
    """Share of ``images`` ``(n, channels, height, width)`` whose largest logit is that of their label.

    Args:
        classifier: classifier to be judged.
        labels: class of every image, ``(n,)``.

    >>> classifier = ImageClassifier(ClassifierSettings((1, 8, 8), num_classes=2, width=4))
    >>> images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    >>> accuracy(classifier, images, classifier(images).argmax(1))
    1.0
    """
    with torch.no_grad():
        guesses = torch.cat([classifier(part).argmax(1) for part in images.split(1000)])
    return float((guesses == labels).double().mean())


def save_classifier(classifier: ImageClassifier, path: str | Path, *, name: str, test_accuracy: float) -> Path:
    """Writes weights, sizes, name and test accuracy to one safetensors file; returns its path.

    Args:
        classifier: trained classifier to be saved.
        path: file to be written.
        name: name of the features, which reports print.
        test_accuracy: share of test images that it classifies correctly.

    Raises:
        RunFolderError: the folder is missing or the disk is full; an earlier file keeps its content.

    >>> import tempfile
    >>> classifier = ImageClassifier(ClassifierSettings((1, 8, 8), num_classes=2, width=4))
    >>> path = save_classifier(classifier, Path(tempfile.mkdtemp()) / "own.safetensors", name="own", test_accuracy=0.9)
    >>> load_classifier(path).name
    'own'
    """
    values = {**dataclasses.asdict(classifier.settings), "name": name, "test_accuracy": test_accuracy}
    tensors = {key: value.detach().contiguous() for key, value in classifier.state_dict().items()}
    target = Path(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        save_file(tensors, part, metadata={"format": FORMAT, "values": json.dumps(values)})
        os.replace(part, target)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"cannot write {target}: {error}; a file that was there keeps its content") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return target


@dataclass(frozen=True)
class StoredClassifier:
    """A classifier as it was saved.

    Attributes:
        classifier: network in evaluation mode, with frozen weights.
        name: name of the features, which reports print.
        test_accuracy: share of test images that it classifies correctly.
    """

    classifier: ImageClassifier
    name: str
    test_accuracy: float


def load_classifier(path: str | Path) -> StoredClassifier:
    """Reads a file of :func:`save_classifier`.

    Args:
        path: file to be read.

    Raises:
        RunFolderError: a file that is missing, damaged or of another kind.

    >>> import tempfile
    >>> classifier = ImageClassifier(ClassifierSettings((1, 8, 8), num_classes=2, width=4))
    >>> path = save_classifier(classifier, Path(tempfile.mkdtemp()) / "own.safetensors", name="own", test_accuracy=0.9)
    >>> load_classifier(path).classifier.settings.num_classes
    2
    """
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise RunFolderError(f"{path}: expected a '{FORMAT}', got {metadata.get('format')!r}")
        values = json.loads(metadata["values"])
        name, test_accuracy = values.pop("name"), values.pop("test_accuracy")
        classifier = ImageClassifier(ClassifierSettings(**{**values, "event_shape": tuple(values["event_shape"])}))
        classifier.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path} is missing, damaged, or no classifier ({error})") from error
    return StoredClassifier(classifier.eval().requires_grad_(False), name, test_accuracy)
