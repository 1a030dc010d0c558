"""The small classifier: it learns, it is saved and read back, and damaged files are refused."""

import pytest
import torch

from drl_density.errors import DataError, RunFolderError
from drl_density.sample_quality import (
    ClassifierSettings,
    ImageClassifier,
    accuracy,
    classifier_features,
    load_classifier,
    save_classifier,
    train_classifier,
)
from drl_density.testing import seeded_generator
from tests.sample_quality.pixels import images


def test_classifier_learns_and_comes_back(tmp_path):
    """Bright left half against bright right half: learned without error in two epochs, read back to the same bits."""
    labels = torch.arange(400) % 2
    pixels = images(400, high=100)
    pixels[labels == 0, :, :, :2] += 120
    pixels[labels == 1, :, :, 2:] += 120
    classifier = ImageClassifier(
        ClassifierSettings((1, 4, 4), 2, width=4, num_features=8), generator=seeded_generator(0)
    )
    train_classifier(classifier, pixels, labels, num_epochs=4, batch_size=20, generator=seeded_generator(1))
    assert accuracy(classifier, pixels, labels) == 1.0
    path = save_classifier(classifier, tmp_path / "c.safetensors", name="halves", test_accuracy=1.0)
    extractor = classifier_features(path)
    assert extractor.name == "halves (test accuracy 100.00%; not Inception)"
    found = extractor.apply(pixels, batch_size=150)
    features, log_classes = found.values, found.log_probabilities
    assert torch.allclose(features, classifier.features(pixels).double(), rtol=1e-5, atol=1e-5)
    assert bool((log_classes.argmax(1) == labels).all())


def test_a_saved_classifier_is_the_same_network(tmp_path):
    classifier = ImageClassifier(ClassifierSettings((1, 4, 4), 2, width=4), generator=seeded_generator(0))
    path = save_classifier(classifier, tmp_path / "c.safetensors", name="halves", test_accuracy=0.75)
    stored = load_classifier(path)
    assert (stored.name, stored.test_accuracy) == ("halves", 0.75)
    assert stored.classifier.settings == classifier.settings
    assert torch.equal(stored.classifier(images(5)), classifier(images(5)))
    assert not stored.classifier.training
    assert not any(parameter.requires_grad for parameter in stored.classifier.parameters())


def test_equal_seeds_train_equal_classifiers():
    found = []
    for seed in (1, 1, 2):
        classifier = ImageClassifier(ClassifierSettings((1, 4, 4), 2, width=4), generator=seeded_generator(0))
        train_classifier(classifier, images(30), torch.arange(30) % 2, batch_size=7, generator=seeded_generator(seed))
        found.append(classifier(images(3)).detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_damaged_file_is_refused(tmp_path):
    classifier = ImageClassifier(ClassifierSettings((1, 4, 4), 2, width=4))
    path = save_classifier(classifier, tmp_path / "c.safetensors", name="halves", test_accuracy=1.0)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RunFolderError, match="missing, damaged"):
        load_classifier(path)


BAD = {
    "wrong images": (
        lambda p: ImageClassifier(ClassifierSettings((1, 8, 8)))(images(2)),
        DataError,
        r"expected images of shape \(1, 8, 8\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tmp_path, name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call(tmp_path)
