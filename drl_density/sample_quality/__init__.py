"""Quality of drawn images against real ones: distances, scores and coverage in the features of a named network."""

from drl_density.sample_quality.classifier import (
    ClassifierSettings,
    ImageClassifier,
    accuracy,
    load_classifier,
    save_classifier,
    train_classifier,
)
from drl_density.sample_quality.extractors import FeatureExtractor, classifier_features, inception_features
from drl_density.sample_quality.measures import (
    SampleQuality,
    class_entropy,
    confident_share,
    precision_and_recall,
    sample_quality,
)

__all__ = [
    "ClassifierSettings",
    "FeatureExtractor",
    "ImageClassifier",
    "SampleQuality",
    "accuracy",
    "class_entropy",
    "classifier_features",
    "confident_share",
    "inception_features",
    "load_classifier",
    "precision_and_recall",
    "sample_quality",
    "save_classifier",
    "train_classifier",
]
