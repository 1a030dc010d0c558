"""Feature extractors: batches, names, and errors for what is not installed."""

import pytest
import torch

from drl_density.errors import DataError, RunFolderError
from drl_density.sample_quality import (
    ClassifierSettings,
    ImageClassifier,
    classifier_features,
    inception_features,
    save_classifier,
)
from tests.sample_quality.pixels import CLASSES, PIXELS, images


def test_batches_make_no_difference():
    pixels = images(25)
    whole, parts = CLASSES.apply(pixels), CLASSES.apply(pixels, batch_size=7)
    assert torch.equal(whole.values, parts.values)
    assert torch.equal(whole.log_probabilities, parts.log_probabilities)
    torch.testing.assert_close(whole.log_probabilities.exp().sum(1), torch.ones(25).double(), rtol=1e-12, atol=0)
    assert PIXELS.apply(pixels).log_probabilities is None


def test_the_name_of_a_classifier_states_its_accuracy(tmp_path):
    classifier = ImageClassifier(ClassifierSettings((1, 4, 4), 2, width=4, num_features=8))
    path = save_classifier(classifier, tmp_path / "c.safetensors", name="own", test_accuracy=0.987)
    extractor = classifier_features(path)
    assert extractor.name == "own (test accuracy 98.70%; not Inception)"
    assert extractor.apply(images(3)).values.shape == (3, 8)


BAD = {
    "no file": (lambda p: classifier_features(p / "none"), RunFolderError, "missing, damaged"),
    "no Inception": (lambda p: inception_features(), DataError, "torch-fidelity|not downloaded"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tmp_path, name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call(tmp_path)
